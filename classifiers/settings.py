"""The base of all settings: pydantic models, checked when they are made by Python, `gym.make` or a YAML file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, ParamSpec, Self, TypeVar

import numpy as np
import pydantic
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from classifiers.checks import did_you_mean, shortened

P = ParamSpec("P")
T = TypeVar("T")


class Settings(pydantic.BaseModel):
    """A group of settings: immutable, without unknown names, each of its declared type.

    NumPy's numbers count as Python's, and lists as tuples. Otherwise nothing is converted: 20.0 is no whole number,
    `"false"` is not `False`, and NaN and infinity are no numbers.

    Raises:
        pydantic.ValidationError: if a setting is unknown, missing or wrong; a `ValueError`.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _plain_values(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name in given:
            if name not in cls.model_fields:
                known = {"name": str(name), "known": ", ".join(cls.model_fields)}
                raise PydanticCustomError("unknown_setting", "known are {known}", known)
        return {name: _plain(value) for name, value in given.items()}

    def replace(self, **changes: Any) -> Self:
        """The same settings with some changed, checked again."""
        return type(self)(**{**dict(self), **changes})


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return tuple(_plain(one) for one in value) if isinstance(value, list) else value


def _user_path(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # what YAML makes of a folder that is called 2024
    return Path(value).expanduser().absolute() if isinstance(value, str | Path) else value


Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""

ONE_OR_SEVERAL = BeforeValidator(lambda value: (value,) if isinstance(value, str | int) else value)
"""Lets a single text or number stand for a tuple of it alone."""

UserPath = Annotated[Path, BeforeValidator(_user_path)]
"""A path as a user writes it: text or a path, `~` for the home folder; it becomes absolute."""


def one_of(known: Collection[str]) -> AfterValidator:
    """The check that a text is a key of a table, to which users may have added their own."""

    def check(value: str) -> str:
        check_one_of(value, known)
        return value

    return AfterValidator(check)


def check_one_of(value: str, known: Collection[str]) -> None:
    """Raises, in a validator of pydantic's, that a text is no key of a table; suggests a similar one."""
    if value not in known:
        hint = did_you_mean(value, known)
        choices = {"known": ", ".join(known), "hint": f"; {hint.strip()}" if hint else ""}
        raise PydanticCustomError("one_of", "Input should be one of {known}{hint}", choices)


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Checks a function's arguments against their annotations as `Settings` checks its fields."""
    config = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    validated: Any = pydantic.validate_call(config=config)(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in kwargs.items()}
        result: T = validated(*args, **plain)
        return result

    return call


def error_sentence(error: pydantic.ValidationError, known: Collection[str] = ()) -> str:
    """The first thing that pydantic found, as one sentence.

    Args:
        error: of some settings, or of a function's arguments.
        known: names of the function's arguments, for a suggestion where one is unknown.

    Returns:
        The setting's dotted name, what it got, and what was expected.
    """
    first = error.errors(include_url=False)[0]
    name = ".".join(part for part in first["loc"] if isinstance(part, str) and not _is_type(part))
    message = first["msg"]
    if first["type"] == "unknown_setting":
        prefix, unknown = name and f"{name}.", first["ctx"]["name"]
        hint = did_you_mean(unknown, first["ctx"]["known"].split(", "), prefix)
        return f"{shortened(prefix + unknown)} is unknown: {hint}{message}"
    if first["type"] == "unexpected_keyword_argument":
        return f"{name} is unknown: {did_you_mean(name, known)}known are {', '.join(known)}"
    if first["type"] == "value_error":
        message = message.removeprefix("Value error, ")
        return f"{name}: {message}" if name else message
    if first["type"] == "missing":
        return f"{name} lacks a value" if isinstance(first["loc"][-1], int) else f"{name} is missing"
    if first["type"] == "model_type":
        message = "should be a group of settings"
    return f"{name}={shortened(repr(first['input']))} {message.removeprefix('Input ')}"


def _is_type(part: str) -> bool:
    """Whether part of a location is the member of a union that pydantic tried, and no name of a setting."""
    return part in ("bool", "float", "int", "str") or not part.isidentifier()
