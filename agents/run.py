"""A run's folder: what lies where, and loading it back.

    config.yaml                                   everything that decides the run
    initialization/full_resolution.safetensors    the baseline, where f_L starts
    initialization/low_resolution_*.safetensors   the way down to the glance's size, where f_G starts
    stage1/classifier.safetensors                 f_G, f_L, f_C after random patches
    stage2/policy.safetensors                     pi
    stage3/classifier.safetensors                 f_G, f_L, f_C after pi's patches
    evaluation/*.safetensors                      per image and step, by policy
    metrics.json, metrics.jsonl, report.html, ... results

`*/training.pt` holds an unfinished stage's state and goes when the stage is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.factory import make_agent
from agents.fixed_agents import FIXED_AGENTS, FixedAgent
from agents.recipes import AGENTS
from agents.run_config import DataSpec, PolicySpec
from classifiers.atomic_files import write_atomically
from classifiers.checkpoints import CheckpointError
from classifiers.datasets.image_folder import FolderImages, in_memory
from classifiers.datasets.image_source import ImageSource
from classifiers.datasets.images_ahead import ImagesAhead
from classifiers.datasets.loading import RandomCrops
from classifiers.datasets.scene_cache import load_scenes
from classifiers.frozen import FrozenClassifier
from gfnet_env import GlanceFocusVectorEnv, Task
from gfnet_env.tasks import SHIPPED_RUN

OnCount = Callable[[int, int], None]

_MEMORY_FOR_IMAGES = 4 << 30  # bytes; larger image folders are decoded again whenever they are looked at


@dataclass(frozen=True)
class RunFolder:
    """Where a run's files lie.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def full_resolution(self) -> Path:
        """The baseline network."""
        return self.path / "initialization" / "full_resolution.safetensors"

    def low_resolution(self, side: int) -> Path:
        """The network fine-tuned on images of this side; f_G starts from the one of the glance's."""
        return self.path / "initialization" / f"low_resolution_{side}.safetensors"

    @property
    def policy(self) -> Path:
        """The policy's weights."""
        return self.path / "stage2" / "policy.safetensors"

    @property
    def metrics(self) -> Path:
        """The results."""
        return self.path / "metrics.json"

    @property
    def latency(self) -> Path:
        """Milliseconds of one image at a time, where they were measured."""
        return self.path / "latency.json"

    @property
    def log(self) -> Path:
        """One line for each epoch and rollout."""
        return self.path / "metrics.jsonl"

    def record(self, policy: str) -> Path:
        """The evaluation record of a policy."""
        return self.path / "evaluation" / f"{policy}.safetensors"

    def classifier(self, stage: int) -> Path:
        """The classifier after stage 1 or 3."""
        return self.path / f"stage{stage}" / "classifier.safetensors"

    def round(self, number: int) -> RunFolder:
        """Where the policy and the classifier of an earlier round of stages II and III lie; the last one's lie here."""
        return RunFolder(self.path / f"round_{number}")


def open_training_images(spec: DataSpec, seed: int) -> ImageSource | None:
    """Random crops of the training files, if the run wants them; see `open_images` for what may go wrong."""
    if spec.train_crop is None:
        return None
    return RandomCrops(_open_files(spec, "train"), spec.train_crop, seed)


def calibration_split(spec: DataSpec, reported: str) -> str:
    """The split that confidence thresholds are found on, when `reported` is reported on: never the same images."""
    is_val_reported = reported == "val"
    if reported == "test" and spec.kind == "image_folder":
        is_val_reported = not (Path(spec.root or "") / "test").is_dir()
    return "train" if is_val_reported else "val"


def open_images(spec: DataSpec, split: str, on_progress: OnCount | None = None) -> ImageSource:
    """A split of a run's images.

    Args:
        spec: which images.
        split: `"train"`, `"val"` or `"test"`; an image folder without `test/` reports on `val/`.
        on_progress: told of (images read or drawn, images in all).

    Returns:
        The images, in memory where they fit.

    Raises:
        ValueError: if something about the images is wrong.
        FileNotFoundError: if there is no such folder.
    """
    count = {"train": spec.num_train, "val": spec.num_val, "test": spec.num_test}[split]
    if spec.kind == "synthetic_signs":
        assert count is not None
        return load_scenes(spec.scenes, split, count, on_progress=on_progress)
    source = _open_files(spec, split)
    if len(source) * 3 * spec.height * spec.width > _MEMORY_FOR_IMAGES:
        return source
    return in_memory(source, on_progress)


def _open_files(spec: DataSpec, split: str) -> FolderImages:
    if spec.root is None:
        raise ValueError("data.root is missing; pass --set data.root=TREE, a folder with train/ and val/ inside")
    root = Path(spec.root)
    if not root.is_dir():
        raise FileNotFoundError(f"data.root={spec.root} is not a folder; pass a folder with train/ and val/ inside")
    folder = root / ("val" if split == "test" and not (root / "test").is_dir() else split)
    source = FolderImages.open(
        folder,
        (spec.height, spec.width),
        unreadable=spec.unreadable,
        centre_share=spec.centre_share,
        interpolation=spec.interpolation,
    )
    return source.first({"train": spec.num_train, "val": spec.num_val, "test": spec.num_test}[split])


def start_folder(start: str) -> Path:
    """The run whose networks `RunConfig.start` names."""
    return SHIPPED_RUN if start == "shipped" else Path(start)


def policy_env(classifier: FrozenClassifier, source: ImageSource, spec: PolicySpec) -> GlanceFocusVectorEnv:
    """The environment that stage II trains in."""
    recipe = AGENTS.get(spec.agent)
    num_envs = spec.num_envs or (1 if recipe is None else recipe.num_envs)
    if isinstance(source, FolderImages | RandomCrops):
        source = ImagesAhead(source)
    return GlanceFocusVectorEnv(Task(source, classifier), spec.episode, num_envs=num_envs, autoreset_mode="SAME_STEP")


def new_agent(
    env: GlanceFocusVectorEnv, spec: PolicySpec, seed: int, tensorboard: Path | None = None
) -> BaseAlgorithm | FixedAgent:
    """An untrained agent for stage II."""
    if spec.agent in FIXED_AGENTS:
        return FixedAgent(spec.agent, seed)
    options = dict(spec.options)
    initial = {**AGENTS[spec.agent].defaults, **options}.get("learning_rate")
    if initial is not None:
        options["learning_rate"] = lambda left: initial * (spec.final_lr_share + (1.0 - spec.final_lr_share) * left)
    return make_agent(
        spec.agent,
        env,
        policy_kwargs=spec.policy_options,
        seed=seed,
        device=str(env.task.classifier.normalize.scale.device),
        tensorboard_log=None if tensorboard is None else str(tensorboard),
        **options,
    )


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
