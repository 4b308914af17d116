"""The figures of a run: what `metrics.json` holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from agents.baselines import Policy, centre_corner_policy, oracle_policy, random_policy
from agents.evaluation import (
    EvaluationRecord,
    accuracy_by_step,
    confidence_by_step,
    evaluate,
    full_resolution_accuracy,
    pointing_game,
)
from classifiers.datasets.image_source import ImageSource
from classifiers.frozen import FrozenClassifier
from classifiers.glance_focus import FullResolutionNetwork
from classifiers.multiply_adds import encoder_cost, glimpse_costs

POLICIES = ("random", "centre_corner", "learned", "oracle")
"""Policies that are compared, in the order of the table."""


class Reporter(Protocol):
    """Shows what a long job is doing; `agents` itself prints nothing."""

    def track(self, title: str) -> Callable[[int, int, dict[str, float]], None]:
        """A new line of progress: the result is called with (done, in all, figures to show)."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


def compare_policies(
    classifier: FrozenClassifier,
    source: ImageSource,
    learned: Policy,
    *,
    num_glimpses: int,
    seed: int,
    oracle_grid: int,
    reporter: Reporter,
) -> dict[str, EvaluationRecord]:
    """Evaluates the learned policy beside the baselines, on the same images.

    Args:
        classifier: the frozen networks.
        source: held-out images.
        learned: the learned policy.
        num_glimpses: T, the glance counted.
        seed: of the random policy.
        oracle_grid: locations along each axis that the oracle tries.
        reporter: shows progress.

    Returns:
        A record for each of `POLICIES`.
    """
    policies: dict[str, Policy] = {
        "random": random_policy(seed),
        "centre_corner": centre_corner_policy(),
        "learned": learned,
        "oracle": oracle_policy(classifier, oracle_grid),
    }
    records = {}
    for name in POLICIES:
        advance = reporter.track(f"evaluating: {name.replace('_', '-')}")
        records[name] = evaluate(
            classifier,
            source,
            policies[name],
            num_glimpses=num_glimpses,
            on_progress=lambda done, total, advance=advance: advance(done, total, {}),  # type: ignore[misc]  # default argument binds the loop variable
        )
    return records


def summarize(
    records: dict[str, EvaluationRecord],
    classifier: FrozenClassifier,
    policy_cost: int,
    network: FullResolutionNetwork | None,
    source: ImageSource,
) -> dict[str, Any]:
    """The figures of an evaluation.

    Args:
        records: for each policy.
        classifier: the frozen networks.
        policy_cost: multiply-adds of one decision of the learned policy.
        network: the full-resolution network, if there is one.
        source: the images of the records.

    Returns:
        `accuracy` and `confidence` by policy and step, `pointing_game` (the learned policy's first focus; None without
        boxes) and `pointing_game_by_policy` (within the first 1, ..., T - 1 focuses), `multiply_adds`,
        `full_resolution_accuracy` and the number of images.
    """
    pointing = {name: pointing_game(record) for name, record in records.items()}
    learned = pointing["learned"]
    steps = records["learned"].prediction.shape[1]
    return {
        "accuracy": {name: accuracy_by_step(record) for name, record in records.items()},
        "confidence": {name: confidence_by_step(record) for name, record in records.items()},
        "pointing_game": None if learned is None else learned[0],
        "pointing_game_by_policy": pointing,
        "multiply_adds": multiply_adds(classifier, policy_cost, network, source.image_size, steps),
        "full_resolution_accuracy": None if network is None else full_resolution_accuracy(network, source),
        "images": len(source),
    }


def multiply_adds(
    classifier: FrozenClassifier,
    policy_cost: int,
    network: FullResolutionNetwork | None,
    image_size: tuple[int, int],
    steps: int,
) -> dict[str, Any]:
    """Multiply-adds of each part, of the first 1 to T steps together, and of the full-resolution network.

    Step t needs t looks and t - 1 decisions of the policy.
    """
    costs = glimpse_costs(classifier)
    costs = (*costs, *[costs[-1]] * (steps - len(costs)))[:steps]
    return {
        "glance": costs[0],
        "focus": costs[1],
        "per_step": list(costs),
        "policy": policy_cost,
        "cumulative": [sum(costs[: t + 1]) + t * policy_cost for t in range(steps)],
        "full_resolution": None if network is None else encoder_cost(network.encoder, image_size, with_classifier=True),
    }
