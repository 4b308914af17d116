"""The results of a run: what `metrics.json` holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from itertools import pairwise
from typing import Any

import numpy as np

from agents.evaluation.budgets import adaptive_figures
from agents.evaluation.diagnostics import diagnose
from agents.evaluation.fixed_places import best_fixed_places
from agents.evaluation.metrics import (
    accuracy_by_step,
    class_figures,
    confusion_matrix,
    pointing_game,
    training_findings,
)
from agents.evaluation.record import EvaluationRecord, save_record
from agents.evaluation.rollout import cumulative_multiply_adds, evaluate, full_resolution_accuracy
from agents.policies.baselines import (
    FIXED_POLICIES,
    CenterCornerPolicy,
    FixedPlacesPolicy,
    OraclePolicy,
    RandomPolicy,
)
from agents.policies.protocol import LocationPolicy
from agents.runs.config import RunConfig
from agents.runs.config_files import ConfigError, dump_config
from agents.runs.folder import RunFolder, known_metrics, made_by
from agents.runs.images import RunImages, check_classes
from agents.runs.log import Reporter, curve
from agents.runs.run import LoadedRun
from agents.runs.saving import milliseconds, saving
from classifiers.checks import shortened
from classifiers.data.source import ImageSource
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.costs import encoder_cost
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.size_histories import mean_by_step

POLICIES = ("random", "center_corner", "best_fixed_place", "learned", "oracle")
"""The policies that are compared, in the order of the table."""


_NEED_GRIDS = {"oracle": "oracle_grid", "best_fixed_place": "fixed_place_grid"}
"""The policies that choose among the places of a grid, and its setting; 0 leaves them out."""

CALIBRATION_IMAGES = 5000
"""Maximum number of images that thresholds are found on."""


def evaluate_run(
    run: LoadedRun,
    images: RunImages,
    files: RunFolder,
    reporter: Reporter,
    *,
    split: str = "test",
    policies: Collection[str] | None = None,
) -> dict[str, Any]:
    """Evaluates a run's policy beside the baselines, and early exits; writes the records of `"test"`.

    Args:
        run: the networks.
        images: of the run.
        files: where the records go.
        reporter: shows progress.
        split: the images to report on.
        policies: which of `POLICIES`, the learned one always; None takes all, except those whose grid is 0.

    Returns:
        `accuracy` by policy and step; `pointing_game` by policy (within the first 1, ..., T - 1 focuses; None without
        boxes); `multiply_adds`; `full_resolution_accuracy`; the number of `images`; `fixed_places`, the T - 1 places of
        `best_fixed_place`, (row, col) in [0, 1] (None without it); `classes`, which is what
        `agents.evaluation.metrics.class_figures` makes of the learned policy; `adaptive`, which is what
        `agents.evaluation.budgets.adaptive_figures` makes (None if there are no images to find thresholds on);
        `saving` and, where there is a full-resolution network, `milliseconds`, see `agents.runs.saving`;
        `diagnostics`, see `_diagnostics`; what made them, `agents.runs.folder.made_by`; and `settings_hash`, of
        the config and the policies. With several patch sizes, accuracies and costs are means over the size histories.

    Raises:
        ValueError: if data and networks don't fit each other, or a policy is unknown.
        FileNotFoundError: if data are missing.
        OSError: if the folder can't be written.
    """
    chosen = chosen_policies(run.config, policies)
    network, source = run.full_resolution, images(split)
    check_classes(run.class_names, source, str(files.path))
    fixed = _best_fixed_places(run, images, split, reporter) if "best_fixed_place" in chosen else None
    records = compare_policies(run, source, reporter, chosen, fixed)
    costs = multiply_adds(run.classifier, run.policy.multiply_adds, network, source.image_size)
    full_accuracy = None if network is None else full_resolution_accuracy(network, source)
    metrics: dict[str, Any] = {
        "accuracy": {name: accuracy_by_step(record) for name, record in records.items()},
        "pointing_game": {name: pointing_game(record) for name, record in records.items()},
        "multiply_adds": costs,
        "full_resolution_accuracy": full_accuracy,
        "images": len(source),
        "classes": class_figures(confusion_matrix(records["learned"], len(run.class_names)), run.class_names),
        "fixed_places": None if fixed is None else fixed.places.tolist(),
        "adaptive": None,
        "diagnostics": _diagnostics(records, full_accuracy, run.config, files),
        "made_by": made_by(run.config.device),
        "settings_hash": _settings_hash(run.config, chosen),
    }
    calibration_split = images.calibration_split(split)
    calibration = _calibrate(run, images, calibration_split, reporter)
    if calibration is not None:
        records["calibration"] = calibration
        baseline = None
        if network is not None:
            there = full_resolution_accuracy(network, images(calibration_split), max_images=CALIBRATION_IMAGES)
            baseline = (there, metrics["full_resolution_accuracy"])
        metrics["adaptive"] = adaptive_figures(calibration, records["learned"], baseline, costs["full_resolution"])
    metrics["saving"] = found = saving(metrics, run.config)
    if found is not None:
        match = (metrics["adaptive"] or {}).get("match") or {}
        cost = found["full_resolution_multiply_adds"]
        metrics["milliseconds"] = milliseconds(run, source, cost, match.get("thresholds"), found["steps"])
    if split == "test":
        for name, record in records.items():
            save_record(files.record(name), record)
    return metrics


def is_evaluated(config: RunConfig, files: RunFolder) -> bool:
    """Whether a run's folder holds the results, with all records, of an evaluation with the config's settings."""
    try:
        metrics = known_metrics(files.path)
    except ValueError:
        return False  # damaged
    if metrics.get("settings_hash") != _settings_hash(config, chosen_policies(config)):
        return False
    names = [*metrics["accuracy"], *(["calibration"] if metrics["adaptive"] else [])]
    return all(files.record(name).is_file() for name in names)


def _settings_hash(config: RunConfig, policies: Collection[str]) -> str:
    """Tells evaluations with other settings, or of other policies, apart."""
    return hashlib.sha256(f"{dump_config(config)}{sorted(policies)}".encode()).hexdigest()[:16]


def _diagnostics(
    records: dict[str, EvaluationRecord], full_resolution: float | None, config: RunConfig, files: RunFolder
) -> dict[str, Any]:
    """The entry `diagnostics` of `metrics.json`.

    Returns:
        `policies`, with `spread`, `border`, `overlap` and `looks` of each, as `Diagnostics` describes them;
        `explained_variance` at the end of stage II, None if it was not trained or has no value function of the policy;
        `warning`, a sentence for each part of the training that failed: networks no better than chance, learned places
        no better than random ones, a collapsed policy; None if none did.
    """
    found = {name: diagnose(record, config.stage2.episode.exit_confidence) for name, record in records.items()}
    _, explained = curve(files.log, "stage2", "explained_variance")
    is_learned = config.stage2.agent not in FIXED_POLICIES
    warnings = training_findings(records["learned"], records.get("random") if is_learned else None, full_resolution)
    if is_learned and found["learned"].collapsed:
        warnings.append(found["learned"].explanation)
    return {
        "policies": {
            name: {"spread": each.spread, "border": each.border, "overlap": each.overlap, "looks": each.looks}
            for name, each in found.items()
        },
        "explained_variance": explained[-1] if explained else None,
        "warning": " ".join(warnings) or None,
    }


def chosen_policies(config: RunConfig, policies: Collection[str] | None = None) -> tuple[str, ...]:
    """The policies that a run is evaluated with, in the order of `POLICIES`.

    Args:
        config: the run's.
        policies: names to choose from `POLICIES`; None takes all that the config allows.

    Raises:
        ConfigError: if a name is unknown, the learned policy is missing, or the grid of one is 0.
    """
    if isinstance(policies, str):
        policies = (policies,)
    if policies is None:
        return tuple(name for name in POLICIES if name not in _NEED_GRIDS or getattr(config, _NEED_GRIDS[name]))
    unknown = [name for name in policies if name not in POLICIES]
    if unknown:
        raise ConfigError(f"policy {shortened(repr(unknown[0]))} is unknown; pass some of {', '.join(POLICIES)}")
    if "learned" not in policies:
        raise ConfigError("the policies lack 'learned'; add it: thresholds and pictures are made with it")
    for name, grid in _NEED_GRIDS.items():
        if name in policies and not getattr(config, grid):
            raise ConfigError(
                f"{grid} is 0; set {grid}={RunConfig.model_fields[grid].default} to evaluate {name}, or leave it out"
            )
    return tuple(name for name in POLICIES if name in policies)


def _calibrate(run: LoadedRun, images: RunImages, split: str, reporter: Reporter) -> EvaluationRecord | None:
    """Evaluates the images that thresholds are found on; None if there are none."""
    try:
        source = images(split)
    except FileNotFoundError as error:
        reporter.note(f"{error}; no thresholds are computed")
        return None
    if split == "train":
        reporter.note(
            "thresholds are found on training images, on which the networks are more confident than on others: budgets "
            "will be overrun; add a test/ folder to have val/ for them"
        )
    return _evaluate(run, source, "calibration", run.policy, reporter, CALIBRATION_IMAGES)


def _best_fixed_places(run: LoadedRun, images: RunImages, split: str, reporter: Reporter) -> FixedPlacesPolicy | None:
    """Chosen on validation images; None if there are none."""
    try:
        source = images.calibration(split)
    except FileNotFoundError as error:
        reporter.note(f"{error}; the best fixed places are not computed")
        return None
    advance = reporter.track("choosing fixed places")
    return best_fixed_places(
        run.classifier,
        source,
        grid=run.config.fixed_place_grid,
        on_progress=lambda done, total: advance(done, total, {}),
    )


def compare_policies(
    run: LoadedRun,
    source: ImageSource,
    reporter: Reporter,
    names: Collection[str],
    fixed: FixedPlacesPolicy | None = None,
) -> dict[str, EvaluationRecord]:
    """Evaluates policies on the same images.

    Args:
        run: the networks.
        source: held-out images.
        reporter: shows progress.
        names: some of `POLICIES`.
        fixed: the best fixed places, chosen on other images; None leaves them out.

    Returns:
        A record for each name.
    """
    policies: dict[str, Callable[[], LocationPolicy]] = {
        "random": lambda: RandomPolicy(run.config.seed),
        "center_corner": CenterCornerPolicy,
        "learned": lambda: run.policy,
        "oracle": lambda: OraclePolicy(run.classifier, run.config.oracle_grid),
    }
    if fixed is not None:
        policies["best_fixed_place"] = lambda: fixed
    return {name: _evaluate(run, source, name, policies[name](), reporter) for name in names if name in policies}


def _evaluate(
    run: LoadedRun,
    source: ImageSource,
    title: str,
    policy: LocationPolicy,
    reporter: Reporter,
    max_images: int | None = None,
) -> EvaluationRecord:
    advance = reporter.track(f"evaluating: {title.replace('_', '-')}")
    return evaluate(
        run.classifier,
        source,
        policy,
        max_images=max_images,
        on_progress=lambda done, total: advance(done, total, {}),
    )


def multiply_adds(
    classifier: FrozenClassifier,
    policy_cost: int,
    network: FullResolutionNetwork | None,
    image_size: tuple[int, int],
) -> dict[str, Any]:
    """Multiply-adds of each part, of the first 1 to T steps together, and of the full-resolution network.

    Step t needs t glimpses and t - 1 decisions of the policy. With several patch sizes, means over the size histories.
    """

    def by_step(costs: list[int]) -> list[int]:
        return [round(mean) for mean in mean_by_step(np.array(costs), len(classifier.spec.patch_sizes)).tolist()]

    looks = by_step(cumulative_multiply_adds(classifier, 0))
    return {
        "glance": looks[0],
        "focus": looks[1] - looks[0],
        "per_step": [looks[0], *(after - before for before, after in pairwise(looks))],
        "policy": policy_cost,
        "cumulative": by_step(cumulative_multiply_adds(classifier, policy_cost)),
        "full_resolution": None if network is None else encoder_cost(network.encoder, image_size, with_classifier=True),
    }
