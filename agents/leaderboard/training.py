"""One training of a leaderboard: one agent, one task, one seed; judged by playing on held-out images."""

from __future__ import annotations

import gc
import hashlib
import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.algorithms.make_agent import as_sb3
from agents.algorithms.registry import AGENTS
from agents.algorithms.stage2 import train_agent
from agents.evaluation.play import Played, play
from agents.leaderboard.rows import Point, Row, read_rows, write_rows
from agents.leaderboard.trainers import MakeEnv, load_trainer
from agents.policies.weights import save_policy
from agents.runs.config import Stage2Spec, Std
from agents.runs.folder import made_by
from agents.runs.log import Reporter
from agents.runs.run import new_agent
from agents.runs.stages import locked
from classifiers.files import remove_temporary, write_json
from classifiers.settings import Fraction, Settings

_ROWS_TO_PLAY = 128


class TrainingSpec(Settings):
    """What determines a training.

    Attributes:
        task: id of the environment, a key of `gfnet_env.TASKS`.
        agent: a key of `agents.algorithms.registry.AGENTS` or of `agents.leaderboard.trainers.TRAINERS`, or
            `"module:function"` of a training of one's own.
        seed: of everything random.
        steps: environment steps to learn from; rounded up to whole rollouts.
        options: arguments of the algorithm, which override the recipe's.
        policy_options: arguments of its policy, which override the recipe's.
        rules: arguments of `gymnasium.make_vec`, for training and test alike.
        num_envs: parallel episodes; None takes the recipe's.
        final_lr_fraction: the learning rate decays linearly to this fraction of its initial value.
        action_std_schedule: see `Stage2Spec`.
        evaluations: points of the learning curve.
        val_images: images of each of them.
        test_images: images that the result is measured on.
    """

    task: str
    agent: str
    seed: Annotated[int, Field(ge=0)]
    steps: Annotated[int, Field(ge=1)]
    options: dict[str, Any] = Field(default_factory=dict)
    policy_options: dict[str, Any] = Field(default_factory=dict)
    rules: dict[str, Any] = Field(default_factory=dict)
    num_envs: Annotated[int, Field(ge=1)] | None = None
    final_lr_fraction: Fraction = 0.1
    action_std_schedule: tuple[Std, Std] = (0.25, 0.04)
    evaluations: Annotated[int, Field(ge=1)] = 20
    val_images: Annotated[int, Field(ge=1)] = 500
    test_images: Annotated[int, Field(ge=1)] = 1000

    @property
    def settings(self) -> dict[str, Any]:
        """What differs from the defaults, by dotted name; the images of the curve, which decide nothing, left out."""
        known = ("options", "policy_options", "rules", "num_envs", "final_lr_fraction", "action_std_schedule")
        changed: dict[str, Any] = {}
        for name in (*known, "test_images"):
            value = getattr(self, name)
            if isinstance(value, dict):
                changed |= {f"{name}.{key}": each for key, each in value.items()}
            elif value != type(self).model_fields[name].default:
                changed[name] = value
        return dict(json.loads(json.dumps(changed, default=str)))

    def folder(self, out: Path) -> Path:
        """Where its files go below the leaderboard's folder: others for other settings or steps."""
        what = hashlib.sha256(json.dumps([self.steps, self.settings], sort_keys=True).encode()).hexdigest()[:8]
        return out / self.task / f"{self.agent.replace(':', '.')}-{what}" / f"seed_{self.seed}"


@dataclass(frozen=True)
class _Learned:
    policy: Any
    curve: list[Point]
    steps_taken: int
    cpu_seconds: float


def finished_row(spec: TrainingSpec, out: Path) -> Row | None:
    """The row of a training that is done; None if it is not."""
    path = spec.folder(out) / "row.csv"
    return read_rows(path)[0] if path.is_file() else None


def run_training(spec: TrainingSpec, out: Path, reporter: Reporter) -> Row:
    """Trains an agent and judges it, unless that is done; an interrupted training continues where it can.

    Algorithms that learn on policy continue from their last checkpoint, all others begin again.

    Args:
        spec: what to train.
        out: the leaderboard's folder.
        reporter: shows progress.

    Returns:
        The result.

    Raises:
        LockedError: if another process works on this training.
        ValueError: if a setting does not fit the agent or the task, or what an external training returns is no policy.
        OSError: if the folder can't be written.
    """
    folder = spec.folder(out)
    with locked(folder):
        if (done := finished_row(spec, out)) is not None:
            return done
        remove_temporary(folder)
        write_json(folder / "training.json", spec.model_dump(mode="json"))
        judge = _Judge(spec)
        learned = _train_agent(spec, folder, judge, reporter) if spec.agent in AGENTS else _train_other(spec, judge)
        row = _row(spec, judge("test", learned.policy), learned)
        if isinstance(learned.policy, BaseAlgorithm):
            save_policy(folder / "policy.safetensors", learned.policy)
        write_rows(folder / "row.csv", [row])
        for name in ("checkpoint.pt", "progress.json"):
            (folder / name).unlink(missing_ok=True)
    del learned, judge
    gc.collect()  # an agent refers to itself, and Python does not count the gigabytes of its replay buffer
    return row


class _Judge:
    """Plays a policy on held-out images; the environments are made once."""

    def __init__(self, spec: TrainingSpec) -> None:
        self._make_env = MakeEnv(spec.task, spec.rules)
        self._form = AGENTS[spec.agent].form if spec.agent in AGENTS else "plain"
        self._images = {"val": spec.val_images, "test": spec.test_images}
        self._envs: dict[str, VecEnv] = {}

    def __call__(self, split: str, policy: Any) -> Played:
        if split not in self._envs:
            self._envs[split] = as_sb3(self._make_env(_ROWS_TO_PLAY, split=split), self._form)
        env = self._envs[split]
        env.seed(0)  # random first looks, sizes and crops are the same for all policies
        return play(env, policy, max_images=self._images[split])

    def value(self, policy: Any) -> float:
        """What a learning curve shows."""
        return _value(self("val", policy))


def _value(played: Played) -> float:
    score = float(played.score.mean())
    return score if score == score else played.accuracy[-1]  # NaN without a scale


def _train_agent(spec: TrainingSpec, folder: Path, judge: _Judge, reporter: Reporter) -> _Learned:
    stage2 = Stage2Spec(
        env_steps=spec.steps,
        agent=spec.agent,
        options=spec.options,
        policy_options=spec.policy_options,
        final_lr_fraction=spec.final_lr_fraction,
    )
    env = MakeEnv(spec.task, spec.rules)(spec.num_envs or AGENTS[spec.agent].num_envs)
    agent = new_agent(env, stage2, spec.seed, prefix="")
    progress = _Progress(spec, folder, judge, agent, reporter.track(f"{spec.task} {spec.agent}, seed {spec.seed}"))
    with closing(env):
        train_agent(
            agent,
            spec.steps,
            seed=spec.seed,
            action_std_schedule=spec.action_std_schedule,
            checkpoint=folder / "checkpoint.pt",
            on_rollout=progress.on_rollout,
            on_checkpoint=progress.save,
        )
    return _Learned(agent, progress.curve, agent.num_timesteps, progress.cpu_seconds())


class _Progress:
    """The learning curve and the CPU time of a training, kept beside its checkpoint."""

    def __init__(
        self,
        spec: TrainingSpec,
        folder: Path,
        judge: _Judge,
        agent: BaseAlgorithm,
        advance: Callable[[int, int, dict[str, float]], None],
    ) -> None:
        self._path, self._judge, self._agent, self._advance = folder / "progress.json", judge, agent, advance
        self._evaluations = spec.evaluations
        self._before, self.curve = 0.0, list[Point]()
        if self._path.is_file() and (folder / "checkpoint.pt").is_file():
            kept = json.loads(self._path.read_bytes())
            self._before, self.curve = kept["cpu_seconds"], [Point(*point) for point in kept["curve"]]
        self._not_training, self._started = 0.0, time.process_time()

    def cpu_seconds(self) -> float:
        """CPU seconds of training, in all processes that worked on it."""
        return self._before + time.process_time() - self._started - self._not_training

    def on_rollout(self, done: int, total: int, figures: dict[str, float]) -> None:
        """Adds a point to the curve if it is time to."""
        self._advance(done, total, {name: value for name, value in figures.items() if name == "reward"})
        self.curve = [point for point in self.curve if point.steps < done]  # those after the checkpoint come again
        if done * self._evaluations // total > len(self.curve):
            seconds, started = self.cpu_seconds(), time.process_time()
            self.curve.append(Point(done, seconds, self._judge.value(self._agent)))
            self._not_training += time.process_time() - started

    def save(self) -> None:
        """Keeps both for a process that continues."""
        write_json(self._path, {"cpu_seconds": self.cpu_seconds(), "curve": self.curve})


def _train_other(spec: TrainingSpec, judge: _Judge) -> _Learned:
    make_env, started = MakeEnv(spec.task, spec.rules), time.process_time()
    policy = load_trainer(spec.agent)(make_env, spec.steps, spec.seed)
    seconds = time.process_time() - started
    steps = make_env.steps_taken
    return _Learned(policy, [Point(steps, seconds, judge.value(policy))], steps, seconds)


def _row(spec: TrainingSpec, played: Played, learned: _Learned) -> Row:
    return Row(
        task=spec.task,
        agent=spec.agent,
        settings=spec.settings,
        seed=spec.seed,
        steps=spec.steps,
        steps_taken=learned.steps_taken,
        accuracy=tuple(played.accuracy),
        returns=float(played.returns.mean()),
        score=float(played.score.mean()),
        looks=float(played.looks.mean()),
        multiply_adds=float(played.multiply_adds.mean()),
        cpu_seconds=learned.cpu_seconds,
        curve=tuple(learned.curve),
        **made_by("cpu"),
    )
