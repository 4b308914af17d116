"""A trained run, ready for use; and the agent and the environment that its policy is trained with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from agents.algorithms.make_agent import make_agent
from agents.algorithms.registry import AGENTS
from agents.evaluation.record import load_record
from agents.policies.baselines import FIXED_POLICIES
from agents.policies.deterministic import DeterministicPolicy
from agents.policies.extractor import GlimpseExtractor
from agents.policies.protocol import LocationPolicy
from agents.policies.weights import load_policy
from agents.recognition.recognizer import Recognizer
from agents.runs.config import RunConfig, Stage2Spec
from agents.runs.config_files import ConfigError, load_run_config
from agents.runs.folder import RunFolder, classifier_file, full_resolution_file, start_folder
from agents.runs.pack import find_run
from classifiers.checkpoints import load_classifier, load_full_resolution
from classifiers.checks import did_you_mean
from classifiers.data.augmentation import ShiftedCopies
from classifiers.data.loading import Prefetcher
from classifiers.data.source import ArrayImages, ImageSource
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.full_resolution import FullResolutionNetwork
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.spec import ADJUSTABLE, ClassifierSpec
from gfnet_env import GlanceFocusVectorEnv, Task, TaskImages
from gfnet_env.tasks import run_weights


@dataclass(frozen=True)
class LoadedRun:
    """The networks of a run.

    Attributes:
        config: what the run was made with.
        classifier: the frozen classifier of its last stage: `glance(images)`, `focus(patches, hidden)`.
        policy: where to look, learned or not.
        full_resolution: the baseline, where the run has one.
        class_names: names of the K classes, by label.
    """

    config: RunConfig
    classifier: FrozenClassifier
    policy: LocationPolicy
    full_resolution: FullResolutionNetwork | None
    class_names: tuple[str, ...]


def load_run(folder: Path | str, *, device: str | None = None) -> LoadedRun:
    """Loads a run's networks; executes no code.

    Args:
        folder: of a `gfnet train`, a `gfnet import-checkpoint` or a `gfnet pack`; or a pack on the Hugging Face Hub,
            `hf://OWNER/NAME` or `hf://OWNER/NAME@REVISION` (extra `hub`).
        device: where the networks run; None for the run's own, which for a pack is the CPU.

    Returns:
        The networks.

    Raises:
        FileNotFoundError: if a stage is missing; or a pack, on the Hub and in the cache.
        ModuleNotFoundError: if the extra `hub` is needed and not installed.
        ValueError: if a file is not what it should be, or there is no such revision.
    """
    folder, _ = find_run(folder)
    return _load(folder, device)


def _load(folder: Path, device: str | None) -> LoadedRun:
    return load_networks(load_run_config(folder, None if device is None else f"device={device}"), folder)


def load_recognizer(
    folder: Path | str,
    *,
    budget: float | None = None,
    batch_size: int = 128,
    compile: bool = False,
    device: str | None = None,
) -> Recognizer:
    """A recognizer with the networks of a run, and with its calibration record if it was evaluated.

    Args:
        folder: of a run or a pack, see `load_run`.
        budget: multiply-adds per image, on average; see `Recognizer.use` for other ways to stop early. None takes all
            glimpses, or of a pack its own thresholds.
        batch_size: images in a forward pass.
        compile: also compile the encoders (20 to 60 s once).
        device: see `load_run`.

    Returns:
        The recognizer.

    Raises:
        FileNotFoundError: if the run, its policy or, for a budget, its evaluation is missing.
        ModuleNotFoundError: if the extra `hub` is needed and not installed.
        ValueError: if a file is not what it should be, or the budget is out of range.
    """
    folder, pack = find_run(folder)
    run = _load(folder, device)
    is_evaluated = RunFolder(folder).record("calibration").is_file()
    recognizer = Recognizer(
        frozen(run.classifier, compile=compile),
        run.policy,
        class_names=run.class_names,
        image_size=run.config.data.image_size,
        crop_pct=getattr(run.config.data, "crop_pct", 1.0),
        interpolation=getattr(run.config.data, "interpolation", "bilinear"),
        calibration=load_record(RunFolder(folder).record("calibration")) if is_evaluated else None,
        batch_size=batch_size,
    )
    if pack is not None:
        recognizer.use(thresholds=pack.rule.thresholds, criterion=pack.rule.criterion)
    if budget is not None:
        recognizer.use(budget=budget)
    return recognizer


def load_networks(config: RunConfig, folder: Path) -> LoadedRun:
    """Loads what a run trained; see `load_run`.

    Args:
        config: the run's.
        folder: the run's.

    Returns:
        The networks.
    """
    files = RunFolder(folder)
    path = classifier_file(config, folder)
    classifier, names = load_configured(path, config.classifier)
    networks = frozen(classifier.to(config.device))
    policy = run_policy(config, networks, names, files.policy)
    baseline = full_resolution_file(config, folder)
    return LoadedRun(config, networks, policy, load_full_resolution(baseline) if baseline.is_file() else None, names)


def load_configured(path: Path, spec: ClassifierSpec) -> tuple[GlanceFocusClassifier, tuple[str, ...]]:
    """Loads a run's classifier with the sizes and the number of glimpses that its config asks for.

    Args:
        path: the classifier's file.
        spec: what the config asks for.

    Returns:
        The classifier and its class names.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the networks differ in something that is decided when they are trained.
    """
    classifier, names = load_classifier(path)
    return _as_configured(classifier, spec, str(path)), names


def start_networks(config: RunConfig) -> tuple[GlanceFocusClassifier, tuple[str, ...]]:
    """The networks that a config with `start` begins with; see `load_configured`.

    Args:
        config: the run's.

    Returns:
        The classifier and its class names.
    """
    assert config.start is not None
    if config.start != "task":
        return load_configured(run_weights(start_folder(config.start)), config.classifier)
    assert isinstance(config.data, TaskImages)
    return _as_configured(config.data.networks(), config.classifier, config.data.id), config.data.class_names()


def _as_configured(classifier: GlanceFocusClassifier, spec: ClassifierSpec, where: str) -> GlanceFocusClassifier:
    is_same_glance = (spec.patch_sizes, spec.glance_side) == (classifier.spec.patch_sizes, classifier.spec.glance_side)
    twin = classifier.with_spec(
        patch_sizes=spec.patch_sizes,
        patch_scales=spec.scales,
        glance_size=None if is_same_glance else spec.glance_side,
        num_glimpses=spec.num_glimpses,
        feature_stride=spec.feature_stride,
    )
    for name in ClassifierSpec.model_fields:
        asked, found = getattr(spec, name), getattr(twin.spec, name)
        if name not in set(ADJUSTABLE) - {"feature_stride"} and asked != found:  # None keeps a stride
            raise ValueError(
                f"classifier.{name}={asked!r}, but {where} has {found!r}; pass that, or train new networks"
            )
    return twin


def run_policy(
    config: RunConfig, classifier: FrozenClassifier, names: tuple[str, ...], weights: Path | None
) -> LocationPolicy:
    """The policy that a config describes, learned or fixed.

    Args:
        config: of the run.
        classifier: its networks.
        names: of the classes.
        weights: file of a learned policy's weights; None leaves it untrained.

    Returns:
        The policy.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it does not hold this policy's weights.
    """
    if config.stage2.agent in FIXED_POLICIES:
        return FIXED_POLICIES[config.stage2.agent](config.seed)
    agent = blank_agent(config, classifier, names)
    return DeterministicPolicy(agent if weights is None else load_policy(weights, agent))


def blank_agent(config: RunConfig, classifier: FrozenClassifier, names: tuple[str, ...]) -> BaseAlgorithm:
    """An untrained agent of a run, for its weights to be loaded into: only the environment's spaces matter to it."""
    recipe, policy_options = AGENTS[config.stage2.agent], dict(config.stage2.policy_options)
    options = {key: value for key, value in config.stage2.options.items() if key not in ("n_steps", "batch_size")}
    if recipe.updates_per_step:
        options["buffer_size"] = 1
    if isinstance(recipe.policy, type) and issubclass(recipe.policy, ActorCriticPolicy):
        policy_options["ortho_init"] = False  # orthogonal matrices take seconds, and are not used
    spec = config.stage2.replace(num_envs=1, options=options, policy_options=policy_options)
    return new_agent(policy_env(classifier, black_image(config, names), spec), spec, config.seed)


def black_image(config: RunConfig, names: tuple[str, ...]) -> ArrayImages:
    """One black image or clip of the size of a run's."""
    frames = () if config.classifier.num_frames is None else (config.classifier.num_frames,)
    return ArrayImages(
        torch.zeros(1, *frames, 3, *config.data.image_size, dtype=torch.uint8),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, 1, 4, dtype=torch.int64),
        names,
    )


def policy_env(classifier: FrozenClassifier, source: ImageSource, spec: Stage2Spec) -> GlanceFocusVectorEnv:
    """Builds the environment that stage II trains in; image files are prefetched."""
    num_envs = spec.num_envs or AGENTS[spec.agent].num_envs
    if source.decodes_files:
        source = Prefetcher(source)
    if spec.shift_px:
        source = ShiftedCopies(source, spec.shift_px)
    return GlanceFocusVectorEnv(Task(source, classifier), spec.episode, num_envs=num_envs, autoreset_mode="SAME_STEP")


def new_agent(env: GlanceFocusVectorEnv, spec: Stage2Spec, seed: int, *, prefix: str = "stage2.") -> BaseAlgorithm:
    """Builds an untrained agent for stage II, its learning rate decaying linearly if it has one.

    Args:
        env: what it acts in.
        spec: its settings; the rules and the number of episodes are those of `env`.
        seed: of its weights and actions.
        prefix: of its options' names in errors.

    Returns:
        The agent.

    Raises:
        ConfigError: if the algorithm, its policy or the extractor has no such option.
    """
    recipe, options = AGENTS[spec.agent], dict(spec.options)
    of_policy, of_extractor = f"{prefix}policy_options", f"{prefix}policy_options.extractor"
    _check_names(f"{prefix}options", recipe.algorithm, spec.options, ("rollout", "batches"))
    _check_names(of_policy, recipe.policy, spec.policy_options, ("extractor",))
    _check_names(of_extractor, GlimpseExtractor, spec.policy_options.get("extractor"))
    initial = {**recipe.defaults, **options}.get("learning_rate")
    if initial is not None:
        options["learning_rate"] = lambda left: (
            initial * (spec.final_lr_fraction + (1.0 - spec.final_lr_fraction) * left)
        )
    return make_agent(
        spec.agent,
        env,
        policy_kwargs=spec.policy_options,
        seed=seed,
        device=str(env.task.classifier.device),
        **options,
    )


def _check_names(group: str, called: Callable[..., Any] | str, options: Any, ours: tuple[str, ...] = ()) -> None:
    """Rejects an option that nothing takes, with the near miss; what a class passes on is not known here."""
    if not isinstance(options, dict) or isinstance(called, str):
        return
    parameters = inspect.signature(called).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [*parameters, *ours]
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known, f"{group}.")
            raise ConfigError(f"config {group}.{name} is unknown: {hint}known are {', '.join(known)}")
