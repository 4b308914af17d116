"""The options of an agent, checked against what its algorithm, policy and extractor declare."""

from __future__ import annotations

import inspect
import typing
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pydantic

from agents.algorithms.registry import AGENTS
from agents.policies.actor_critic import GlimpseActorCriticPolicy
from agents.policies.extractor import GlimpseExtractor
from agents.policies.gru import GlimpseGRUPolicy
from agents.runs.config import Stage2Spec
from agents.runs.yaml_text import ConfigError
from classifiers.checks import shortened

_LEAST: dict[str, float] = {
    **dict.fromkeys(("rollout", "batches"), 1),
    **dict.fromkeys(("n_steps", "n_epochs", "batch_size", "buffer_size", "n_delta", "n_top", "n_eval_episodes"), 1),
    **dict.fromkeys(("target_update_interval", "policy_delay", "sub_sampling_factor", "units", "conv_kernel"), 1),
    **dict.fromkeys(("learning_starts", "vf_coef", "conv_channels", "fc1_units", "attention_maps"), 0),
    "std": 1e-6,
}
_SHARES = ("gamma", "gae_lambda", "tau", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps")
_SET_BY_RUN = ("policy", "env", "policy_kwargs", "seed", "device", "tensorboard_log")
_FIXED_BY_POLICY = ("net_arch", "activation_fn", "features_extractor_class", "features_extractor_kwargs")


def check_options(spec: Stage2Spec) -> None:
    """Checks the types that an algorithm, its policy and its extractor declare, and ranges that all of them share."""
    if spec.agent not in AGENTS:
        return
    recipe = AGENTS[spec.agent]
    for name in filter(spec.options.__contains__, _SET_BY_RUN):
        raise ConfigError(f"config stage2.options.{name} is set by the run itself; leave it out")
    if recipe.policy in (GlimpseActorCriticPolicy, GlimpseGRUPolicy):
        for name in filter(spec.policy_options.__contains__, _FIXED_BY_POLICY):
            raise ConfigError(f"config stage2.policy_options.{name} changes nothing; pass `extractor` instead")
    _check_arguments("stage2.options", recipe.algorithm, spec.options)
    _check_arguments("stage2.policy_options", recipe.policy, spec.policy_options)
    extractor = spec.policy_options.get("extractor")
    if isinstance(extractor, dict):
        _check_arguments("stage2.policy_options.extractor", GlimpseExtractor, extractor)


def _check_arguments(where: str, called: Any, arguments: dict[str, Any]) -> None:
    hints = _declared_types(called)
    for name, value in arguments.items():
        shown = f"config {where}.{name}={shortened(repr(value))}"
        if name in hints and not isinstance(value, list | dict):  # a YAML list may be a tuple
            try:
                pydantic.TypeAdapter(hints[name], config={"arbitrary_types_allowed": True}).validate_python(
                    value, strict=True
                )
            except pydantic.ValidationError as error:
                raise ConfigError(f"{shown}: {error.errors()[0]['msg']}") from error
        if isinstance(value, int | float) and not isinstance(value, bool):
            if name in _SHARES and not 0 <= value <= 1:
                raise ConfigError(f"{shown}; pass a number in [0, 1]")
            if value < _LEAST.get(name, value):
                raise ConfigError(f"{shown}; pass {_LEAST[name]} or more")


def _declared_types(called: Any) -> dict[str, Any]:
    function: Any = called.__init__ if inspect.isclass(called) else called
    types: dict[str, Any] = {}
    for name, declared in getattr(function, "__annotations__", {}).items():
        alone = SimpleNamespace(__annotations__={name: declared})
        with suppress(NameError):  # a type that only type checkers see
            types.update(typing.get_type_hints(alone, getattr(function, "__globals__", {})))
    return types
