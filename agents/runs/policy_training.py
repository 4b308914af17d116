"""How a run trains its policy: tried out before anything trains, evaluated meanwhile, and the best one kept."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms.registry import AGENTS
from agents.algorithms.stage2 import train_agent
from agents.evaluation.diagnostics import Diagnostics, diagnose
from agents.evaluation.rollout import evaluate, final_accuracy, sampled_accuracy
from agents.policies.baselines import FIXED_POLICIES
from agents.policies.deterministic import DeterministicPolicy
from agents.policies.weights import load_policy, save_policy
from agents.runs.config import RunConfig, Stage2Spec
from agents.runs.log import RunLog
from agents.runs.results import CALIBRATION_IMAGES
from agents.runs.run import black_image, new_agent, policy_env, start_networks
from agents.runs.step_memory import agent_bytes
from classifiers.data.source import ImageSource, default_class_names
from classifiers.devices import usable_device
from classifiers.files import write_json
from classifiers.inference.compiled import has_compiler
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.costs import encoder_cost
from classifiers.networks.encoders import build_encoder
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.pretrained import imagenet_ids
from gfnet_env import Task

DIAGNOSED_IMAGES = 500
"""Images that show whether a policy has collapsed; the standard error of its spread is then some 3 %."""


_CURVE_IMAGES, _CURVE_POINTS, _CURVE_SHARE = 200, 10, 0.08
_LEAST_MULTIPLY_ADDS = 3e12
_ENVS = 2
_CLASSES = 10  # where the data are not open yet; only the shapes of observations could depend on it


def check_weights(config: RunConfig) -> None:
    """Loads the pretrained weights that the encoders start from, if any, and finds the layers that are to stay.

    Args:
        config: the run's.

    Raises:
        ValueError: if there are no such weights, they don't fit the encoder, or it has no maps of a `frozen_stride`.
        FileNotFoundError: if they are a file that does not exist.
    """
    start = config.initialization
    if start is not None and start.weights is not None:
        encoder = build_encoder(config.classifier.encoder, _CLASSES, start.weights)
        trainings = start.full_resolution, start.low_resolution, config.stage1, config.stage3
        for spec in trainings:
            if spec is not None and spec.frozen_stride is not None:
                encoder.early_layers(spec.frozen_stride)
    if config.objects is not None:
        build_encoder(config.objects.encoder, len(imagenet_ids()), config.objects.weights, may_replace_classifier=False)


def check_stage2(config: RunConfig) -> int:
    """Builds stage II's agent and has it take one small rollout and update.

    Args:
        config: the run's.

    Returns:
        Bytes of the agent in full size, see `agents.runs.step_memory.agent_bytes`; 0 if nothing is learned.

    Raises:
        ValueError: if an option of the agent is unknown, or the networks' sizes don't fit the images.
        FileNotFoundError: if the run to start from has no networks.
        Exception: what the algorithm or the policy raises.
    """
    if config.start is None:
        classifier, names = GlanceFocusClassifier(config.classifier, _CLASSES).eval(), default_class_names(_CLASSES)
    else:
        classifier, names = start_networks(config)
    networks, black = frozen(classifier.to(usable_device(config.device))), black_image(config, names)
    Task(black, networks)
    if config.stage2.agent in FIXED_POLICIES:
        return 0
    steps = networks.spec.num_glimpses - 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so small a rollout
        needed = agent_bytes(new_agent(policy_env(networks, black, config.stage2), config.stage2, config.seed))
        small = _small(config.stage2, steps)
        env = policy_env(networks, black, small)
        agent = new_agent(env, small, config.seed)
        train_agent(agent, _ENVS * steps, seed=config.seed, action_std_schedule=small.action_std_schedule)
        env.close()
    return needed


def _small(spec: Stage2Spec, steps: int) -> Stage2Spec:
    """The same stage II on two environments, its rollout, batch and replay buffer as small as can be."""
    recipe = AGENTS[spec.agent]
    caps = {
        **({"n_steps": steps} if recipe.rollout else {}),
        **{"batch_size": _ENVS * steps, "buffer_size": 64, "learning_starts": 0, "train_freq": 1, "gradient_steps": 1},
    }
    batch = {"batch_size": _ENVS * steps} if recipe.batches else {}
    has = {"n_steps": steps, **batch, **recipe.defaults, **spec.options}
    options = {**spec.options}
    for name, cap in caps.items():
        value = has.get(name)
        if isinstance(value, int):
            options[name] = min(value, cap)
    return spec.replace(num_envs=_ENVS, options=options)


class Validation:
    """Evaluates an agent on validation images while it learns.

    Args:
        agent: the agent.
        classifier: the networks that it looks through.
        images: opens the images that thresholds are found on; raises `FileNotFoundError` if there are none.
        note: takes the figures of each evaluation: `accuracy` at t = T, and those of `Diagnostics.figures`.
    """

    def __init__(
        self,
        agent: BaseAlgorithm,
        classifier: FrozenClassifier,
        images: Callable[[], ImageSource],
        note: Callable[[dict[str, float]], None],
    ) -> None:
        self._policy, self._classifier, self._images, self._note = DeterministicPolicy(agent), classifier, images, note

    def accuracy(self) -> float:
        """Accuracy at t = T; of several patch sizes, drawn at random."""
        accuracy = final_accuracy(self._classifier, self._images(), self._policy, max_images=CALIBRATION_IMAGES)
        self._note({"accuracy": accuracy})
        self.diagnose()
        return accuracy

    def diagnose(self) -> Diagnostics:
        """Where the agent looks, on some of the images."""
        record = evaluate(self._classifier, self._images(), self._policy, max_images=DIAGNOSED_IMAGES)
        found = diagnose(record)
        self._note(found.figures())
        return found


class HeldOutCurve:
    """Logs the accuracy on validation images while an agent learns, as `val/accuracy_t` for every step t.

    Up to ten times, evenly spread, on up to 200 images; less often where the training has so few steps that this would
    be more than 8 % of its glimpses. It draws none of the training's random numbers.

    Args:
        agent: the agent, while it learns.
        classifier: the networks that it looks through.
        images: opens the validation images; if it raises `FileNotFoundError`, nothing is logged.
        log: takes the accuracies.
        stage: what the log calls the training, such as `stage2` or `round_1/stage2`.
    """

    def __init__(
        self,
        agent: BaseAlgorithm,
        classifier: FrozenClassifier,
        images: Callable[[], ImageSource],
        log: RunLog,
        stage: str,
    ) -> None:
        self._policy, self._classifier, self._images, self._log = DeterministicPolicy(agent), classifier, images, log
        self._stage = stage.replace("stage2", "val")

    def evaluate_if_due(self, done: int, total: int) -> None:
        """Evaluates the agent if it is time to.

        Args:
            done: environment steps so far.
            total: environment steps in all.
        """
        glimpses = _CURVE_IMAGES * self._classifier.spec.num_glimpses
        times = min(_CURVE_POINTS, int(_CURVE_SHARE * total / glimpses))
        if done * times // total <= self._log.last_step(self._stage) * times // total:
            return
        try:
            images = self._images()
        except FileNotFoundError:
            return
        found = sampled_accuracy(self._classifier, images, self._policy, max_images=_CURVE_IMAGES)
        self._log.add(self._stage, done, {f"accuracy_{step}": value for step, value in enumerate(found, start=1)})


class BestCheckpoint:
    """Keeps the most accurate policy of an agent's training; of equally accurate ones, the first.

    It keeps the policy and its accuracy in files, so that an interrupted training ends with the same choice.

    Args:
        agent: the agent, while it learns.
        folder: where the files go.
        accuracy: evaluates the agent as it is now.
        times: number of evaluations, evenly spread over the training.
    """

    def __init__(self, agent: BaseAlgorithm, folder: Path, accuracy: Callable[[], float], times: int) -> None:
        self._agent, self._accuracy, self._times = agent, accuracy, times
        self._weights, self._facts = folder / "best.safetensors", folder / "best.json"
        self._asked, self._best = 0, -1.0
        if self._facts.is_file():
            try:
                facts = json.loads(self._facts.read_bytes())
                self._asked, self._best = int(facts["asked"]), float(facts["accuracy"])
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{self._facts} is damaged; delete {folder}, and its stage starts again") from error

    def evaluate_if_due(self, done: int, total: int) -> None:
        """Evaluates the agent if it is time to.

        Args:
            done: environment steps so far.
            total: environment steps in all.
        """
        due = done * self._times // total
        if due <= self._asked:
            return
        accuracy = self._accuracy()
        if accuracy > self._best:
            save_policy(self._weights, self._agent)
            self._best = accuracy
        self._asked = due
        write_json(self._facts, {"asked": due, "accuracy": self._best})

    def restore(self) -> float:
        """Loads the best weights, the last ones included, into the agent.

        Returns:
            Their accuracy.
        """
        last = self._accuracy()
        if self._best > last:
            load_policy(self._weights, self._agent)
        return max(self._best, last)

    def remove(self) -> None:
        """Removes the files, once the policy that was chosen is kept: a process killed before that needs them again."""
        for path in (self._facts, self._weights):
            path.unlink(missing_ok=True)


def compiles_stage2(spec: Stage2Spec, classifier: GlanceFocusClassifier) -> bool:
    """Decides whether stage II's classifier is compiled, where the config leaves it open.

    Compiling takes 20 to 60 s once. Compiled encoders save a core, which computes 5 to 20 billion multiply-adds a
    second, a fifth to a half of its time; so compiling pays from some 3 * 10^12 multiply-adds on. What counts is the
    number of steps, times the patches encoded for each (one, and one for every random crop of the contrastive reward),
    times the encoder's multiply-adds for a patch. On accelerators, where it was not measured, nothing is compiled
    unless `spec.compile` says so.

    Args:
        spec: of stage II.
        classifier: its networks.

    Returns:
        `spec.compile` where it is given, else whether compiling pays and there is a C++ compiler to do it with.
    """
    if spec.compile is not None:
        return spec.compile
    if classifier.device.type != "cpu":
        return False
    return stage2_multiply_adds(spec, classifier) >= _LEAST_MULTIPLY_ADDS and has_compiler()


def stage2_multiply_adds(spec: Stage2Spec, classifier: GlanceFocusClassifier) -> int:
    """Multiply-adds of the patches that stage II encodes, those of the reward's random crops included."""
    encoder, sides = classifier.local_encoder, classifier.spec.patch_sizes
    each = sum(encoder_cost(encoder, (side, side), with_classifier=False) for side in sides) // len(sides)
    patches = 1 + (spec.episode.reward_samples if spec.episode.draws_patches else 0)
    return spec.env_steps * patches * each
