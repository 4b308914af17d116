"""Where an untrained policy looks, and how its mean is kept where it can still learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.policies.actor_critic import PenalizedTanh, initial_actions, start_at_initial_actions


def test_looks_start_at_the_centre_and_keep_apart() -> None:
    looks = initial_actions(6)
    assert looks[0].tolist() == [0.0, 0.0]
    assert looks.abs().max() <= 0.6
    assert torch.pdist(looks).min() > 0.2
    assert torch.equal(initial_actions(3), looks[:3])


def test_the_last_layer_has_a_bias_for_every_step() -> None:
    last = nn.Linear(5 + 4, 3)
    start_at_initial_actions(last, num_steps=4)
    means = torch.tanh(last(torch.cat([torch.zeros(4, 5), torch.eye(4)], dim=1)))
    assert torch.allclose(means[:3, :2], initial_actions(3), atol=1e-6)


def test_tanh_pulls_back_only_where_it_is_flat_and_only_in_training() -> None:
    inputs = torch.tensor([[0.5, 4.0], [-1.4, -4.0]], requires_grad=True)
    tanh = PenalizedTanh()
    assert torch.equal(tanh(inputs), torch.tanh(inputs))

    tanh(inputs).sum().backward()
    trained, inputs.grad = inputs.grad, None
    tanh.eval()
    tanh(inputs).sum().backward()

    assert trained is not None and inputs.grad is not None
    difference = trained - inputs.grad
    assert difference[:, 0].tolist() == [0.0, 0.0]
    assert difference[:, 1].tolist() == pytest.approx([0.125, -0.125])  # 0.1 (4 - 1.5) / 2
