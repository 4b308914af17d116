"""A policy's weights as a file that is read without executing code."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from classifiers.checkpoints import distinct_tensors, load_exactly
from classifiers.tensor_files import read_tensors, write_tensors

_POLICY = "gfnet-policy"


def save_policy(path: Path | str, agent: BaseAlgorithm) -> None:
    """Writes a policy's weights, whole or not at all; equal weights give equal bytes.

    Args:
        path: the file, by custom `*.safetensors`.
        agent: whose policy it is.

    Raises:
        ValueError: if the agent sees normalized observations, whose statistics are not among the weights.
        OSError: if the file can't be written.
    """
    if (normalizer := agent.get_vec_normalize_env()) is not None and normalizer.norm_obs:
        raise ValueError(
            "the agent sees observations that a VecNormalize has normalized, and weights alone would look elsewhere; "
            "keep agent.save() and VecNormalize.save(), or make it with norm_obs=False"
        )
    write_tensors(Path(path), _POLICY, {}, distinct_tensors(agent.policy))


def load_policy(path: Path | str, agent: BaseAlgorithm) -> BaseAlgorithm:
    """Reads a policy's weights into an agent of the same shape; executes no code.

    Args:
        path: a file that `save_policy` wrote.
        agent: takes the weights.

    Returns:
        The agent itself.

    Raises:
        CheckpointError: if it does not hold this policy's weights, is damaged, or holds NaN or infinite weights.
        OSError: if there is no such file, or it can't be read.
    """
    load_exactly(agent.policy, read_tensors(Path(path), _POLICY)[1], path)
    return agent
