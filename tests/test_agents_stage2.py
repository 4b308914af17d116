"""Stage II as it runs: rollouts continue each other, and an interrupted training ends as if it had not been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import random_classifier
from test_agents_algorithms import small_agent
from torch import Tensor

from agents.algorithms.ppo_gru import PPOGRU
from agents.algorithms.stage2 import train_agent
from agents.runs.log import RunLog
from classifiers.data.folder import FolderImages
from classifiers.data.loading import Prefetcher
from classifiers.data.source import ArrayImages, Batch, ImageSource
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task

ON_POLICY = ("ppo", "ppo_gru", "recurrent_ppo", "a2c", "trpo")
EARLY = EpisodeSpec(exit_confidence=0.1245)  # random weights: episodes of one, two or three looks
NUM_ENVS, ROLLOUTS = 6, 4
STEPS = NUM_ENVS * 3 * ROLLOUTS


class KilledError(Exception):
    pass


def _env(classifier: FrozenClassifier, source: ImageSource, episode: EpisodeSpec = EARLY) -> GlanceFocusVectorEnv:
    return GlanceFocusVectorEnv(Task(source, classifier), episode, num_envs=NUM_ENVS, autoreset_mode="SAME_STEP")


def _agent(name: str, env: GlanceFocusVectorEnv, **options: Any) -> Any:
    batch = {} if name == "a2c" else {"batch_size": 9}
    return small_agent(name, env, seed=3, **{**batch, **options})


def _train(folder: Path, agent: Any, kill_after: int | None = None) -> Any:
    """Trains with a checkpoint and a log in a folder; None if the training was killed after some rollouts."""
    log = RunLog(folder / "metrics.jsonl", folder / "tensorboard")
    steps: list[int] = []

    def on_rollout(done: int, total: int, figures: dict[str, float]) -> None:
        log.add("stage2", done, figures)
        steps.append(done)
        if len(steps) == kill_after:
            raise KilledError

    options: dict[str, Any] = {"action_std_schedule": (0.25, 0.1), "checkpoint": folder / "training.pt"}
    try:
        train_agent(agent, STEPS, seed=3, on_rollout=on_rollout, on_checkpoint=log.write, **options)
    except KilledError:
        return None
    log.write()
    return agent


def _curve(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["stage"] == "stage2"]


@pytest.fixture
def _save_every_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.algorithms.stage2._SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr("agents.algorithms.stage2._LARGEST_FRACTION", float("inf"))


@pytest.mark.usefixtures("_save_every_rollout")
@pytest.mark.parametrize("name", ON_POLICY)
def test_killed_again_and_again_it_ends_with_the_same_weights_and_curve(
    name: str, classifier: FrozenClassifier, scenes: ArrayImages, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    expected = _train(whole, _agent(name, _env(classifier, scenes)))

    for rollouts in (2, 2, None):  # one is lost by each kill
        torch.manual_seed(rollouts or 0)  # whatever a new process begins with
        found = _train(killed, _agent(name, _env(classifier, scenes)), rollouts)
        assert (found is None) == (rollouts is not None)

    weights = found.policy.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in expected.policy.state_dict().items())
    assert _curve(killed) == _curve(whole) and len(_curve(whole)) == ROLLOUTS
    assert [info["r"] for info in found.ep_info_buffer] == [info["r"] for info in expected.ep_info_buffer]


class Noting(Prefetcher):
    """Notes which images were fetched, and whether they were expected."""

    def __init__(self, source: FolderImages) -> None:
        super().__init__(source, 1)
        self.fetched: list[int] = []
        self.unexpected: list[int] = []
        self._known: set[int] = set()

    def prefetch(self, indices: np.ndarray) -> None:
        self._known = set(indices.tolist())
        super().prefetch(indices)

    def fetch(self, indices: Tensor) -> Batch:
        self.fetched += indices.tolist()
        self.unexpected += [index for index in indices.tolist() if index not in self._known]
        return super().fetch(indices)


def test_no_image_is_fetched_in_vain_and_all_but_the_first_are_prefetched(picture_tree: Path) -> None:
    spec = ClassifierSpec(encoder="small_resnet", patch_size=48, num_glimpses=4, hidden_size=16)
    classifier = frozen(random_classifier(spec, 2))
    source = Noting(FolderImages.open(picture_tree / "train", (96, 128)))
    agent = _agent("ppo", _env(classifier, source))

    train_agent(agent, STEPS, seed=0)

    episodes = agent.env.episode_count
    assert agent.num_timesteps == STEPS and episodes >= STEPS // 3
    assert len(source.fetched) == episodes + NUM_ENVS
    assert len(source.unexpected) <= NUM_ENVS and source.unexpected == source.fetched[: len(source.unexpected)]


def test_a_state_of_another_environment_is_rejected(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    env, short = _env(classifier, scenes), _env(classifier.with_spec(num_glimpses=3), scenes)
    env.reset(seed=0)
    small = GlanceFocusVectorEnv(Task(scenes, classifier), EARLY, num_envs=2)

    with pytest.raises(ValueError, match="shape"):
        short.load_state_dict(env.state_dict())
    with pytest.raises(ValueError, match="shape"):
        small.load_state_dict(env.state_dict())


def test_the_gru_recomputes_what_it_did_when_rollouts_begin_in_the_middle_of_episodes(
    classifier: FrozenClassifier, scenes: ArrayImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_steps = 4
    agent: PPOGRU = _agent("ppo_gru", _env(classifier, scenes), n_steps=n_steps, batch_size=2 * n_steps)
    begun, differences = [], []
    train = agent.train

    def checked() -> None:
        buffer: Any = agent.rollout_buffer
        log_probs, values, _ = agent.evaluate_rollout(buffer, np.arange(NUM_ENVS))
        begun.append(int((1 - buffer.episode_starts[0]).sum()))
        differences.append(float((log_probs.detach() - torch.from_numpy(buffer.log_probs)).abs().max()))
        differences.append(float((values.detach() - torch.from_numpy(buffer.values)).abs().max()))
        train()

    monkeypatch.setattr(agent, "train", checked)

    train_agent(agent, NUM_ENVS * n_steps * 3, seed=0)

    assert begun[0] == 0 and sum(begun) > 0  # rollouts began in the middle of episodes
    assert max(differences) < 1e-4


def test_gradients_of_the_gru_flow_through_the_episodes_of_a_rollout_and_not_beyond(
    classifier: FrozenClassifier, scenes: ArrayImages
) -> None:
    agent: PPOGRU = _agent("ppo_gru", _env(classifier, scenes, EpisodeSpec()), n_steps=6, batch_size=6)
    agent.learn(36)
    buffer: Any = agent.rollout_buffer
    for key, values in buffer.observations.items():
        buffer.observations[key] = torch.from_numpy(values).requires_grad_()  # read by `evaluate_rollout` as arrays are

    log_probs, _, _ = agent.evaluate_rollout(buffer, np.arange(1))
    log_probs[4].sum().backward()  # the second look of the second episode

    grads = buffer.observations["features"].grad[:, 0].flatten(1).abs().sum(dim=1)
    assert (grads[3:5] > 0).all() and (grads[[0, 1, 2, 5]] == 0).all()
