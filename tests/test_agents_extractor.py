"""How the policy reads feature maps: attention by step, and without the fully-connected layer on maps."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from agents import make_agent
from agents.policies.extractor import GlimpseExtractor
from classifiers.data.source import ArrayImages
from classifiers.inference.frozen import FrozenClassifier
from gfnet_env import EpisodeSpec, GlanceFocusVectorEnv, Task

_STEPS, _MAPS = 4, 3


def _space() -> spaces.Dict:
    def box(*shape: int) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, shape, np.float32)

    return spaces.Dict({"features": box(5, 8, 8), "glance": box(5, 8, 8), "hidden": box(6), "progress": box(_STEPS)})


def _observations(step: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    progress = torch.nn.functional.one_hot(torch.full((2,), step), _STEPS).float()
    return {"features": torch.randn(2, 5, 8, 8), "glance": torch.randn(2, 5, 8, 8), "hidden": torch.randn(2, 6)} | {
        "progress": progress
    }


def test_centres_of_attention_fill_the_slot_of_their_step() -> None:
    extractor = GlimpseExtractor(
        _space(), units=7, attention_maps=_MAPS, attention_layers=2, attention_by_step=True, flatten_maps=False
    )
    assert extractor.features_dim == 7 + _STEPS * 2 * 2 * _MAPS + _STEPS
    for step in range(_STEPS):
        read = extractor(_observations(step))
        assert read.shape == (2, extractor.features_dim)
        slots = read[:, 7 : -extractor.num_steps].view(2, _STEPS, -1)
        assert slots[:, step].abs().min() > 0, "no centre lies exactly in the middle"
        assert not slots[:, [other for other in range(_STEPS) if other != step]].any()


def test_without_flattened_maps_only_attention_knows_them() -> None:
    extractor = GlimpseExtractor(_space(), units=7, attention_maps=_MAPS, flatten_maps=False)
    one, other = _observations(1), {**_observations(1), "glance": torch.zeros(2, 5, 8, 8)}

    assert extractor.fully_connected.in_features == 6 + _STEPS
    assert torch.equal(extractor(one)[:, :7], extractor(other)[:, :7])
    assert not torch.equal(extractor(one)[:, 7:], extractor(other)[:, 7:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reads": ("features",), "attention_by_step": True}, "attention_by_step=True, but the policy does not read"),
        ({"flatten_maps": False}, "flatten_maps=False without attention_maps or vectors to read"),
        ({"flatten_maps": False, "attention_maps": 2, "reads": ("glance",)}, "flatten_maps=False without"),
    ],
)
def test_options_that_leave_nothing_to_read_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GlimpseExtractor(_space(), **arguments)  # type: ignore[arg-type]


def test_it_learns_in_an_agent(classifier: FrozenClassifier, scenes: ArrayImages) -> None:
    same_step = gymnasium.vector.AutoresetMode.SAME_STEP
    env = GlanceFocusVectorEnv(Task(scenes, classifier), EpisodeSpec(), num_envs=8, autoreset_mode=same_step)
    extractor = {"attention_maps": 4, "attention_layers": 1, "attention_by_step": True, "flatten_maps": False}
    agent = make_agent("ppo", env, policy_kwargs={"extractor": extractor}, n_steps=2, batch_size=16)
    before = {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}
    agent.learn(16)

    moved = [name for name, tensor in agent.policy.state_dict().items() if not torch.equal(tensor, before[name])]
    assert any("attention.before" in name for name in moved) and any("attention.score" in name for name in moved)
