"""Everything that determines a run, as data: the settings in `config.yaml` and of `gfnet train`."""

from __future__ import annotations

from collections import ChainMap
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from agents.algorithms.registry import AGENTS
from agents.policies.baselines import FIXED_POLICIES
from classifiers.data.collection import ImageCollection
from classifiers.data.registry import make_collection
from classifiers.networks.encoders import clip_frames
from classifiers.networks.pretrained import is_file_name
from classifiers.networks.spec import ClassifierSpec, EncoderName, Side
from classifiers.settings import ONE_OR_SEVERAL, Fraction, Settings, UserPath, one_of
from classifiers.training.fit_spec import PARTS, FitSpec
from classifiers.training.object_guide import imagenet_label
from gfnet_env import EpisodeSpec

OF_SEQUENCES = ("head_lr", "global_lr", "regularization", "frozen")
"""Settings of a `FitSpec` for stages I and III alone: of the classifier's parts, and of Eq. (6)."""


def _absolute_file(weights: str) -> str:
    return str(Path(weights).expanduser().absolute()) if is_file_name(weights) else weights


def _grid(count: int) -> int:
    if count == 1:
        raise ValueError("a grid of 1 has no choice; pass 2 or more, or 0 to leave it out")
    return count


WeightsName = Annotated[str, AfterValidator(_absolute_file)]
Grid = Annotated[int, Field(ge=0), AfterValidator(_grid)]
Std = Annotated[float, Field(gt=0)]


class InitializationSpec(Settings):
    """The initial weights of f_L and f_G (Section 3.4).

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
        refit_statistics: what to do where the full-resolution network learns nothing with `freeze_statistics`, as with
            drawings that are nothing like the photos the weights are from. True trains it once more, and then the
            low-resolution one, with each batch's statistics; False keeps it.
    """

    full_resolution: FitSpec
    low_resolution: FitSpec
    low_resolution_sides: Annotated[tuple[Side, ...], ONE_OR_SEVERAL] = ()
    weights: WeightsName | None = None
    networks_from: Literal["full_resolution", "weights"] = "full_resolution"
    refit_statistics: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.networks_from == "weights" and self.weights is None:
            raise ValueError("networks_from=weights without weights; pass weights, such as package:efficientnet-lite0")
        for stage in ("full_resolution", "low_resolution"):
            if self.weights is None and getattr(self, stage).frozen_stride is not None:
                raise ValueError(
                    f"{stage}.frozen_stride without weights keeps early layers as they are at random; leave it out, or "
                    "pass weights, such as package:efficientnet-lite0"
                )
            for name in OF_SEQUENCES:
                if getattr(getattr(self, stage), name) != FitSpec.model_fields[name].default:
                    raise ValueError(f"{stage}.{name} has no effect, it is for stage1 and stage3; leave it out")
        return self


class ObjectSpec(Settings):
    """The class of ImageNet that all objects belong to, see `classifiers.training.object_guide`.

    Attributes:
        imagenet_class: WordNet id of the class of ImageNet that all belong to, such as `n06794110`, street sign.
        weights: of a network pretrained on ImageNet, see `classifiers.build_encoder`.
        encoder: that network.
    """

    imagenet_class: str
    weights: WeightsName
    encoder: EncoderName

    @model_validator(mode="after")
    def _check(self) -> Self:
        imagenet_label(self.imagenet_class)
        if clip_frames(self.encoder) is not None:
            raise ValueError(f"encoder={self.encoder} takes clips; pass an encoder of images, pretrained on ImageNet")
        return self


class Stage2Spec(Settings):
    """Stage II.

    Attributes:
        agent: a key of `agents.algorithms.registry.AGENTS`, or of `agents.policies.baselines.FIXED_POLICIES`, which
            need no training.
        env_steps: focus steps to train for; rounded up to whole rollouts.
        num_envs: number of parallel environments; None takes the recipe's.
        episode: the environment's rules, without `stop_action` and `size_action`: a run's evaluation, budgets and stage
            III take given numbers and sizes of glimpses, and its recognizer decides on them by confidence.
        options: arguments of the algorithm, which override the recipe's.
        policy_options: arguments of its policy, which override the recipe's.
        evaluations: how often the policy is evaluated during training, on the images that thresholds are found on; the
            one with the highest accuracy at t = T is kept (A.2). 0 keeps the last one.
        final_lr_fraction: the learning rate decays linearly to this fraction of its initial value.
        action_std_schedule: the standard deviation of actions at the start and at the end, in the paper's [0, 1] units.
            Differs from the paper, which fixes it at 0.1: glimpses must first spread widely to hit a small sign at all,
            and later be precise.
        shift_px: the policy learns on randomly shifted copies of the images, by at most this many pixels in each
            direction, see `classifiers.data.augmentation`; 0 shows the images themselves. Not in the paper.
        compile: whether the classifier is compiled for this stage and its evaluations (20 to 60 s once), which changes
            results by rounding only; None does so where it pays, see `agents.runs.policy_training`.
    """

    env_steps: Annotated[int, Field(ge=1)]
    agent: Annotated[str, one_of(ChainMap[str, Any](FIXED_POLICIES, AGENTS))] = "ppo"
    num_envs: Annotated[int, Field(ge=1)] | None = None
    episode: EpisodeSpec = EpisodeSpec()
    options: dict[str, Any] = Field(default_factory=dict)
    policy_options: dict[str, Any] = Field(default_factory=dict)
    evaluations: Annotated[int, Field(ge=0)] = 0
    final_lr_fraction: Fraction = 0.1
    action_std_schedule: tuple[Std, Std] = (0.25, 0.04)
    shift_px: Annotated[int, Field(ge=0)] = 0
    compile: bool | None = None

    @model_validator(mode="after")
    def _check_episode(self) -> Self:
        if not isinstance(self.episode.reward, str):
            raise ValueError("episode.reward is a function; name it by gfnet_env.register_reward, and pass the name")
        for name, verb in (("stop_action", "stop"), ("size_action", "choose sizes")):
            if getattr(self.episode, name):
                raise ValueError(
                    f"episode.{name} is not for runs, which {verb} by confidence; leave it out, or train the agent by "
                    f"agents.make_agent in an environment with {name}=True"
                )
        return self


class RunConfig(Settings):
    """A whole run.

    Attributes:
        seed: of everything random.
        device: where networks run: `"cpu"`, `"cuda"`, ...
        data: which images.
        classifier: the networks' architecture; a config with `start` may leave it out.
        start: a run's folder, `"pretrained"`, or `"task"` (the classifier of `data: {kind: task}`), whose networks are
            taken instead of training them up to stage I. Leave `initialization` out then, and `stage1` unless training
            starts there; `classifier` is that of the run.
        start_stage: the first stage that a run with `start` trains: 1 trains its networks further with random patches,
            3 takes its policy as well.
        initialization: how the encoders are trained before stage I.
        objects: what is known of the objects, which stages I and III then attend to; None for nothing, as in the paper.
        stage1: training with random patches.
        stage2: training of the policy.
        stage3: training with the policy's patches; `epochs: 0` leaves it out.
        class_weight: `"balanced"` weighs the losses of all networks' trainings so that all classes count alike, however
            many training images each has; None weighs all images alike, as the paper.
        rounds: how often stages II and III are repeated. Differs from the paper, which runs them once: from the second
            round on, a new policy learns from networks trained on a policy's patches, whose confidence is a better
            reward.
        oracle_grid: locations along each axis that the oracle tries; 0 leaves the oracle out of the evaluation, which
            takes hours with large networks.
        fixed_place_grid: locations along each axis among which the best fixed places are chosen, on the images that
            thresholds are found on; 0 leaves that baseline out.
    """

    data: Annotated[SerializeAsAny[ImageCollection], BeforeValidator(make_collection)]
    classifier: ClassifierSpec
    stage2: Stage2Spec
    stage3: FitSpec
    initialization: InitializationSpec | None = None
    objects: ObjectSpec | None = None
    stage1: FitSpec | None = None
    start: Literal["pretrained", "task"] | UserPath | None = None
    start_stage: Literal[1, 2, 3] = 2
    class_weight: Literal["balanced"] | None = None
    rounds: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "cpu"
    oracle_grid: Grid = 9
    fixed_place_grid: Grid = 5

    @property
    def collection(self) -> ImageCollection:
        """The images, or the clips of as many frames as the encoder takes, not opened yet."""
        return self.data.with_frames(self.classifier.num_frames)

    @model_validator(mode="after")
    def _check_data(self) -> Self:
        encoder = self.classifier.encoder
        try:
            self.data.with_frames(self.classifier.num_frames)
        except ValueError as error:
            raise ValueError(f"data.kind={self.data.kind} with classifier.encoder={encoder}: {error}") from None
        if self.objects is not None and self.classifier.num_frames is not None:
            raise ValueError(f"objects with classifier.encoder={encoder}, which takes clips; leave objects out")
        return self

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.start is None and (self.initialization is None or self.stage1 is None):
            raise ValueError("initialization or stage1 is missing; give both, or `start: RUN` to take a run's networks")
        if self.start is None and self.start_stage != 2:
            raise ValueError(f"start_stage={self.start_stage} has no effect without start; leave it out")
        if self.start_stage == 3 and self.start in ("pretrained", "task"):
            raise ValueError(f"start_stage=3 with start={self.start}, which has no policy; pass 1 or 2")
        if self.start is not None and self.initialization is not None:
            raise ValueError("initialization has no effect, the networks come from start; leave it out")
        if self.start is not None and (self.start_stage == 1) != (self.stage1 is not None):
            raise ValueError(f"start_stage={self.start_stage}: stage1 goes with start_stage=1, and only with it")
        return self

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        for name in ("stage1", "stage3"):
            self._check_frozen(name, getattr(self, name))
        if self.rounds > 1 and self.stage3.epochs == 0:
            raise ValueError(f"rounds={self.rounds} with stage3.epochs=0; pass 1 round, or some epochs of stage III")
        return self

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
