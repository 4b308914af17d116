"""TorchRL's PPO on the environment: `pip install 'gfnet-gym[torchrl]'`.

TorchRL resets finished rows itself, so the vector environment is made with autoreset `DISABLED`: `GymWrapper` does not
accept `NEXT_STEP`, and with `SAME_STEP` the last observation of every episode would be zero. Collector, advantages and
loss are TorchRL's own; `GlimpseExtractor`, our network, reads the observation. With `--device cuda` everything stays
there (`examples/torchrl_device.py`).

python examples/torchrl_ppo.py --total-steps 50000 --seed 0
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from tensordict.nn import AddStateIndependentNormalScale, TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torchrl.collectors import Collector
from torchrl.data import Unbounded
from torchrl.envs import ExplorationType, GymWrapper, default_info_dict_reader, set_exploration_type
from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from agents import GlimpseExtractor
from examples.torchrl_device import TensorEnv

FOCUS_STEPS = 3
NUM_ENVS = 256


def make_env(num_envs: int, device: str = "", **kwargs: Any) -> GymWrapper | TensorEnv:
    """The environment for TorchRL, with label and prediction beside the observation."""
    if device:
        kwargs |= {"array": "torch", "device": device}
    envs: Any = gymnasium.make_vec(
        "gfnet_env:GFNet-SyntheticSigns-v0",
        num_envs=num_envs,
        autoreset_mode="DISABLED",
        num_glimpses=1 + FOCUS_STEPS,
        reward="increment",
        **kwargs,
    )
    if device:
        return TensorEnv(envs.unwrapped)
    whole_numbers = Unbounded((num_envs,), dtype=torch.int64)
    wrapped = GymWrapper(envs)
    wrapped.set_info_dict_reader(
        default_info_dict_reader(["label", "prediction"], spec=[whole_numbers, whole_numbers.clone()])
    )
    return wrapped


class Network(nn.Module):
    """`GlimpseExtractor` and one linear layer."""

    def __init__(self, space: spaces.Dict, outputs: int) -> None:
        super().__init__()
        self._ranks = {key: len(part.shape or ()) for key, part in space.items()}
        self.extractor = GlimpseExtractor(space, attention_maps=8)
        self.output = nn.Linear(self.extractor.features_dim, outputs)
        nn.init.orthogonal_(self.output.weight, 0.01)  # the first patches are at the center
        nn.init.zeros_(self.output.bias)

    def forward(self, *parts: Tensor) -> Tensor:
        """The parts of the observation, in the order of the space, with any batch dimensions -> (..., outputs)."""
        rows = {key: part.flatten(0, -rank - 1) for part, (key, rank) in zip(parts, self._ranks.items(), strict=True)}
        batch = parts[0].shape[: -next(iter(self._ranks.values()))]
        return self.output(self.extractor(rows)).unflatten(0, batch)


def make_policy(space: spaces.Dict) -> ProbabilisticActor:
    """A Gaussian with samples squashed into [-1, 1] by tanh; its standard deviation is learned, starting at 0.5."""
    location = TensorDictModule(Network(space, 2), in_keys=list(space), out_keys=["loc"])
    scale = AddStateIndependentNormalScale(2, scale_mapping="biased_softplus_0.5")
    both = TensorDictSequential(location, TensorDictModule(scale, in_keys=["loc"], out_keys=["loc", "scale"]))
    return ProbabilisticActor(both, in_keys=["loc", "scale"], distribution_class=TanhNormal, return_log_prob=True)


def train(total_steps: int, num_scenes: int, seed: int, device: str = "") -> ProbabilisticActor:
    """Trains a policy; prints a line for each rollout of whole episodes."""
    torch.manual_seed(seed)
    env = make_env(NUM_ENVS, device, num_scenes=num_scenes, exit_confidence=0.7)
    env.set_seed(seed)
    space = env.single_observation_space
    policy, value = make_policy(space), ValueOperator(Network(space, 1), in_keys=list(space))
    policy, value = policy.to(device or "cpu"), value.to(device or "cpu")
    advantages = GAE(gamma=0.7, lmbda=1.0, value_network=value)
    loss = ClipPPOLoss(policy, value, clip_epsilon=0.2, entropy_bonus=False, critic_coeff=0.5, normalize_advantage=True)
    optimizer = torch.optim.Adam(loss.parameters(), lr=2e-3)
    rollout = NUM_ENVS * FOCUS_STEPS
    rollouts = max(1, math.ceil(total_steps / rollout))
    for done, data in enumerate(Collector(env, policy, frames_per_batch=rollout, total_frames=rollouts * rollout), 1):
        with torch.no_grad():
            advantages(data)
        steps = data.reshape(-1)
        for _ in range(4):
            for minibatch in torch.randperm(rollout).chunk(3):
                losses = loss(steps[minibatch])
                optimizer.zero_grad()
                (losses["loss_objective"] + losses["loss_critic"]).backward()
                nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                optimizer.step()
        ended = data["next", "done"].sum().clamp(min=1)
        print(f"{done * rollout:>8} steps: return {float(data['next', 'reward'].sum() / ended):.3f}", flush=True)
    env.close()
    return policy


@torch.no_grad()
def accuracy(policy: ProbabilisticActor | None, test_scenes: int, seed: int, device: str = "") -> list[float]:
    """Accuracy on held-out scenes after t = 2 ... T glimpses; without a policy, of random places."""
    env = make_env(test_scenes, device, split="test", num_scenes=test_scenes)
    env.set_seed(seed)
    first = env.reset(options={"index": np.arange(test_scenes)})  # each scene once
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        seen = env.rollout(FOCUS_STEPS, policy, auto_reset=False, tensordict=first)
    env.close()
    return (seen["next", "prediction"] == seen["next", "label"]).float().mean(0).tolist()


def main() -> None:
    """Trains a policy and compares it with random places."""
    parser = argparse.ArgumentParser(description="TorchRL's PPO on GFNet-SyntheticSigns-v0.")
    parser.add_argument("--total-steps", type=int, default=50_000, help="rounded up to whole rollouts")
    parser.add_argument("--num-scenes", type=int, default=5000)
    parser.add_argument("--test-scenes", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--device", default="", help="where all stays, such as cuda; if left out, NumPy on the processor"
    )
    options = parser.parse_args()
    policy = train(options.total_steps, options.num_scenes, options.seed, options.device)
    for name, chosen in (("random", None), ("learned", policy)):
        shares = accuracy(chosen, options.test_scenes, options.seed, options.device)
        print(name, ", ".join(f"t={step}: {share:.3f}" for step, share in enumerate(shares, 2)))


if __name__ == "__main__":
    main()
