"""Properties that hold for whatever Hypothesis draws.

The examples are always the same, few in the quick suite and more in the slow one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy


def examples(few: int, many: int) -> pytest.MarkDecorator:
    """Gives a test the argument `count`: how many examples to try, `few`, and `many` in the slow suite."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])


def holds(count: int, **drawn: SearchStrategy[Any]) -> Callable[[Callable[..., None]], None]:
    """Calls the decorated function at once, `count` times, with what is drawn for its arguments."""

    def run(check: Callable[..., None]) -> None:
        profile = settings(
            max_examples=count,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # a smaller example would take minutes to find
        )
        profile(given(**drawn)(check))()

    return run


def check_sentence(error: BaseException, *named: object) -> None:
    """Fails if an error is not one line, or does not name what it should."""
    text = str(error)
    assert text.strip() and "\n" not in text and len(text) < 1000, text
    assert all(str(name) in text for name in named), text
