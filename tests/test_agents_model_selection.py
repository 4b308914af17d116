"""The best of the policies that an agent goes through is kept, also by a training that was cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from agents.algorithms.make_agent import make_agent
from agents.runs.policy_training import BestCheckpoint
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task


class _Agent:
    """An agent whose accuracy is what its value's bias says."""

    def __init__(self, classifier: FrozenClassifier, scenes: ArrayImages) -> None:
        task = Task(scenes, classifier)
        env = GlanceFocusVectorEnv(task, EpisodeSpec(), num_envs=2, autoreset_mode="SAME_STEP")
        self.agent = make_agent("ppo", env, policy_kwargs={"extractor": {"conv_channels": 2, "units": 4}})
        self._value = next(m for m in self.agent.policy.modules() if isinstance(m, nn.Linear) and m.out_features == 1)
        self.asked = 0

    @torch.no_grad()
    def become(self, accuracy: float) -> None:
        self._value.bias.fill_(accuracy)

    def accuracy(self) -> float:
        self.asked += 1
        return self._value.bias.item()


@pytest.mark.parametrize(("path", "kept"), [((0.2, 0.75, 0.5, 0.25), 0.75), ((0.2, 0.25, 0.5, 0.75), 0.75)])
@pytest.mark.parametrize("cut_off", [False, True])
def test_the_best_is_kept_whenever_it_was(
    path: tuple[float, ...],
    kept: float,
    cut_off: bool,
    classifier: FrozenClassifier,
    scenes: ArrayImages,
    tmp_path: Path,
) -> None:
    trained = _Agent(classifier, scenes)
    best = BestCheckpoint(trained.agent, tmp_path, trained.accuracy, times=4)
    for index, accuracy in enumerate(path):
        trained.become(accuracy)
        best.evaluate_if_due(10 * index + 5, 40)  # not yet due for the first
        best.evaluate_if_due(10 * index + 10, 40)
        if cut_off and index == 2:
            best = BestCheckpoint(trained.agent, tmp_path, trained.accuracy, times=4)
            best.evaluate_if_due(25, 40)  # a step that was evaluated before

    assert best.restore() == kept

    assert trained.accuracy() == kept
    assert trained.asked == 4 + 1 + 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.json", "best.safetensors"]
    best.remove()  # once the policy is kept elsewhere
    assert not list(tmp_path.iterdir())
