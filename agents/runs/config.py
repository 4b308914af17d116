"""Everything that determines a run, as data: the settings in `config.yaml` and of `gfnet train`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agents.algorithms.registry import AGENTS
from agents.policies.baselines import FIXED_POLICIES
from classifiers.checks import check_fraction, check_known, check_least
from classifiers.data.collection import ImageCollection
from classifiers.data.registry import collection
from classifiers.data.synthetic_gestures.clips import GestureSpec
from classifiers.data.synthetic_signs.scenes import SceneSpec
from classifiers.networks.encoders import check_encoder, clip_frames
from classifiers.networks.spec import ClassifierSpec
from classifiers.training.fit_spec import PARTS, FitSpec
from classifiers.training.object_guide import imagenet_label
from gfnet_env import EpisodeSpec


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Which images or clips. What is said of images holds for clips; how many frames a clip has, the encoder decides.

    Attributes:
        kind: a key of `classifiers.data.registry.COLLECTIONS`.
        scenes: what the scenes of `synthetic_signs` look like.
        gestures: what the clips of `synthetic_gestures` look like.
        num_train: number of scenes or drawn clips, or maximum number of files, to train on; None takes all files.
        num_val: likewise, for validation and confidence thresholds.
        num_test: likewise, for the reported results.
        root: `image_folder`: a tree with `train/` and `val/` (and `test/`, else `val/` is reported on), each with one
            folder per class; `video_folder` likewise. `torchvision`: the folder that holds torchvision's data sets;
            None takes one in the user's cache folder. `something_something_v1`, `something_something_v2`, `jester`: the
            data set's folder, see `classifiers.data.clips.label_files`.
        name: `torchvision`: a key of `classifiers.data.torchvision_sets.TORCHVISION_SETS`.
        height: height to which image files are scaled and cropped, in pixels.
        width: likewise.
        crop_pct: fraction of each side of image files that the centre crop keeps. In a config, `weights` takes what
            `initialization.weights` were trained with.
        interpolation: how image files are scaled, `"bilinear"` or `"bicubic"`. In a config, `weights` likewise, which
            is the default there.
        unreadable: `"raise"` or `"skip"` image files that can't be decoded.
        train_crop: train on random crops of image files like torchvision's RandomResizedCrop, whose area is between
            these fractions of the image's; new crops in every epoch of stages I and III, one per image in stage II.
            None trains on the same crops as the evaluation.
    """

    kind: str
    scenes: SceneSpec = field(default_factory=SceneSpec)
    gestures: GestureSpec = field(default_factory=GestureSpec)
    num_train: int | None = None
    num_val: int | None = None
    num_test: int | None = None
    root: str | None = None
    name: str | None = None
    height: int = 224
    width: int = 224
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    unreadable: str = "raise"
    train_crop: tuple[float, float] | None = None

    @property
    def collection(self) -> ImageCollection:
        """The images, not opened yet; see `RunConfig.collection` for those that the networks take."""
        return collection(self.kind, vars(self))

    @property
    def counts(self) -> dict[str, int | None]:
        """How many images each split holds at most; None: all."""
        return {"train": self.num_train, "val": self.num_val, "test": self.num_test}

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels of the images that networks and policy see."""
        return self.collection.image_size

    def __post_init__(self) -> None:
        needs_counts = self.collection.needs_counts  # checks the settings
        check_least(self, 1, "num_train", "num_val", "num_test")
        for split, count in self.counts.items():
            if count is None and needs_counts:
                raise ValueError(f"num_{split} is missing; say how many to draw")


@dataclass(frozen=True, kw_only=True)
class InitializationSpec:
    """What f_L and f_G start from (Section 3.4).

    Attributes:
        full_resolution: training of the network on full-resolution images: f_L starts from it, and it is the baseline.
        low_resolution: fine-tuning of that network on images resized to the glance's size; f_G starts from it.
        low_resolution_sides: sides in pixels, from large to small, at which the network is fine-tuned before the
            glance's; each takes the epochs of `low_resolution`. Shrinking in one step loses small objects.
        weights: pretrained weights to start from: a library's own (`"DEFAULT"`), a file, or `"package:NAME"`, see
            `classifiers.build_encoder`; None starts at random. The last layer is new, unless all classes are named by
            ImageNet's WordNet ids: the network then knows them before any training.
        networks_from: what f_L and f_G start from: `"full_resolution"`, the networks of those trainings, as in the
            paper; or `"weights"`, the pretrained weights as they are, where whole images teach little but their
            backgrounds. The new last layers then predict all classes alike, and `low_resolution` is left out.
    """

    full_resolution: FitSpec
    low_resolution: FitSpec
    low_resolution_sides: tuple[int, ...] = ()
    weights: str | None = None
    networks_from: str = "full_resolution"

    def __post_init__(self) -> None:
        check_known("networks_from", self.networks_from, ("full_resolution", "weights"))
        if self.networks_from == "weights" and self.weights is None:
            raise ValueError("networks_from=weights without weights; pass weights, such as package:efficientnet-lite0")
        if any(side < 8 for side in self.low_resolution_sides):
            raise ValueError(f"low_resolution_sides={list(self.low_resolution_sides)}; pass sides of at least 8 pixels")


@dataclass(frozen=True, kw_only=True)
class ObjectSpec:
    """What all objects of a data set have in common, see `classifiers.training.object_guide`.

    Attributes:
        imagenet_class: WordNet id of the class of ImageNet that all belong to, such as `n06794110`, street sign.
        weights: of a network pretrained on ImageNet, see `classifiers.build_encoder`.
        encoder: that network.
    """

    imagenet_class: str
    weights: str
    encoder: str

    def __post_init__(self) -> None:
        imagenet_label(self.imagenet_class)
        check_encoder(self.encoder)
        if clip_frames(self.encoder) is not None:
            raise ValueError(f"encoder={self.encoder} takes clips; pass an encoder of images, pretrained on ImageNet")


@dataclass(frozen=True, kw_only=True)
class Stage2Spec:
    """Stage II.

    Attributes:
        agent: a key of `agents.algorithms.registry.AGENTS`, or of `agents.policies.baselines.FIXED_POLICIES`, which
            need no training.
        env_steps: focus steps to train for; rounded up to whole rollouts.
        num_envs: number of parallel environments; None takes the recipe's.
        episode: the environment's rules, without `stop_action` and `size_action`: a run's evaluation, budgets and stage
            III take given numbers and sizes of looks, and its recogniser decides on them by confidence.
        options: arguments of the algorithm, which override the recipe's.
        policy_options: arguments of its policy, likewise.
        evaluations: how often the policy is evaluated during training, on the images that thresholds are found on; the
            one with the highest accuracy at t = T is kept (A.2). 0 keeps the last one.
        final_lr_fraction: the learning rate decays linearly to this fraction of its initial value.
        action_std_schedule: the standard deviation of actions at the start and at the end, in the paper's [0, 1] units.
            Differs from the paper, which fixes it at 0.1: looks must first spread widely to hit a small sign at all,
            and later be precise.
        shift_px: the policy learns on randomly shifted copies of the images, by so many pixels at most in each
            direction, see `classifiers.data.shifted_copies`; 0 shows the images themselves. Not in the paper.
        compile: whether the classifier is compiled for this stage and its evaluations (20 to 60 s once), which changes
            results by rounding only; None does so where it pays, see `agents.runs.compiling`.
    """

    env_steps: int
    agent: str = "ppo"
    num_envs: int | None = None
    episode: EpisodeSpec = field(default_factory=EpisodeSpec)
    options: dict[str, Any] = field(default_factory=dict)
    policy_options: dict[str, Any] = field(default_factory=dict)
    evaluations: int = 0
    final_lr_fraction: float = 0.1
    action_std_schedule: tuple[float, float] = (0.25, 0.04)
    shift_px: int = 0
    compile: bool | None = None

    def __post_init__(self) -> None:
        check_known("agent", self.agent, (*AGENTS, *FIXED_POLICIES))
        check_least(self, 1, "env_steps", "num_envs")
        check_least(self, 0, "evaluations", "shift_px")
        check_fraction(self, "final_lr_fraction")
        for name, verb in (("stop_action", "stop"), ("size_action", "choose sizes")):
            if getattr(self.episode, name):
                raise ValueError(
                    f"episode.{name} is not for runs, which {verb} by confidence; leave it out, or train the agent by "
                    f"agents.make_agent in an environment with {name}=True"
                )
        if min(self.action_std_schedule) <= 0:
            raise ValueError(f"action_std_schedule={list(self.action_std_schedule)}; pass two numbers above 0")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run.

    Attributes:
        seed: of everything random.
        device: where networks run: `"cpu"`, `"cuda"`, ...
        data: which images.
        classifier: the networks' architecture; a config with `start` may leave it out.
        start: a run's folder, or `"shipped"`, whose networks are taken instead of training them up to stage I. Leave
            `initialization` out then, and `stage1` unless training starts there; `classifier` is that of the run.
        start_stage: the first stage that a run with `start` trains: 1 trains its networks further with random patches,
            3 takes its policy as well.
        initialization: how the encoders are trained before stage I.
        objects: what is known of the objects, which stages I and III then attend to; None for nothing, as in the paper.
        stage1: training with random patches.
        stage2: training of the policy.
        stage3: training with the policy's patches; `epochs: 0` leaves it out.
        rounds: how often stages II and III are repeated. Differs from the paper, which runs them once: from the second
            round on, a new policy learns from networks trained on a policy's patches, whose confidence is a better
            reward.
        oracle_grid: locations along each axis that the oracle tries; 0 leaves the oracle out of the evaluation, which
            takes hours with large networks.
        fixed_place_grid: locations along each axis among which the best fixed places are chosen, on the images that
            thresholds are found on; 0 leaves that baseline out.
    """

    data: DataSpec
    classifier: ClassifierSpec
    stage2: Stage2Spec
    stage3: FitSpec
    initialization: InitializationSpec | None = None
    objects: ObjectSpec | None = None
    stage1: FitSpec | None = None
    start: str | None = None
    start_stage: int = 2
    rounds: int = 1
    seed: int = 0
    device: str = "cpu"
    oracle_grid: int = 9
    fixed_place_grid: int = 5

    @property
    def collection(self) -> ImageCollection:
        """The images, or the clips of as many frames as the encoder takes, not opened yet."""
        return self.data.collection.with_frames(self.classifier.num_frames)

    def __post_init__(self) -> None:
        try:
            self.collection  # noqa: B018 - images and clips are told apart
        except ValueError as error:
            raise ValueError(
                f"data.kind={self.data.kind} with classifier.encoder={self.classifier.encoder}: {error}"
            ) from None
        if self.objects is not None and self.classifier.num_frames is not None:
            raise ValueError(
                f"objects with classifier.encoder={self.classifier.encoder}, which takes clips; leave objects out, or "
                "pass an encoder of images"
            )
        for name in ("stage1", "stage3"):
            self._check_frozen(name, getattr(self, name))
        if self.start is None and (self.initialization is None or self.stage1 is None):
            raise ValueError("initialization or stage1 is missing; give both, or `start: RUN` to take a run's networks")
        if self.start_stage not in (1, 2, 3) or (self.start_stage == 3 and self.start in (None, "shipped")):
            raise ValueError(
                f"start_stage={self.start_stage} with start={self.start}; pass 1, 2, or 3 and a run that has a policy"
            )
        if self.start_stage == 1 and self.stage1 is None:
            raise ValueError("start_stage=1 without stage1; pass stage1: {epochs: ..., lr: ...}")
        check_least(self, 1, "rounds")
        if self.rounds > 1 and self.stage3.epochs == 0:
            raise ValueError(f"rounds={self.rounds} with stage3.epochs=0; pass 1 round, or some epochs of stage III")
        check_least(self, 0, "seed", "oracle_grid", "fixed_place_grid")
        for name, baseline in (("oracle_grid", "the oracle"), ("fixed_place_grid", "the best fixed places")):
            if getattr(self, name) == 1:
                raise ValueError(f"{name}=1; pass 2 or more, or 0 to leave {baseline} out")

    def _check_frozen(self, stage: str, fit: FitSpec | None) -> None:
        """Checks that a stage that trains has something to train, and that one network has one state."""
        if fit is None or fit.epochs == 0:
            return
        shared, frozen = self.classifier.shares_encoder, set(fit.frozen)
        if shared and len(frozen & {"global_encoder", "local_encoder"}) == 1:
            raise ValueError(
                f"{stage}.frozen={list(fit.frozen)}, but with classifier.shares_encoder the two encoders are one; name "
                "both or none"
            )
        untrainable = frozen | ({"head"} if self.classifier.head == "average" else set())
        if untrainable >= set(PARTS):
            raise ValueError(f"{stage}.frozen={list(fit.frozen)} leaves nothing to train; pass {stage}.epochs=0")
