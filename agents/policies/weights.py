"""A policy's weights as a file that is read without executing code."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from stable_baselines3.common.base_class import BaseAlgorithm

from classifiers.checkpoints import CheckpointError
from classifiers.files import write_atomically


def save_policy(path: Path, agent: BaseAlgorithm) -> None:
    """Writes a policy's weights, whole or not at all.

    Raises:
        ValueError: if the agent sees normalised observations, whose statistics are not among the weights.
    """
    if (normalizer := agent.get_vec_normalize_env()) is not None and normalizer.norm_obs:
        raise ValueError(
            "the agent sees observations that a VecNormalize has normalised, and weights alone would look elsewhere; "
            "keep agent.save() and VecNormalize.save(), or make it with norm_obs=False"
        )
    write_atomically(path, lambda temporary: save_model(agent.policy, str(temporary), {"kind": "gfnet-policy"}))


def load_policy(path: Path, agent: BaseAlgorithm) -> BaseAlgorithm:
    """Reads a policy's weights into an agent of the same shape; executes no code.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it does not hold this policy's weights.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; pass the folder of a run whose stage II is done")
    try:
        load_model(agent.policy, path, device=str(agent.device))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit this policy: {str(error).splitlines()[0]}") from error
    return agent
