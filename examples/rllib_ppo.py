"""RLlib's PPO on the environment: `pip install 'gfnet-gym[rllib]'`, in a virtual environment of its own, because RLlib
pins Gymnasium to one version, 1.2.2 in Ray 2.60.

RLlib makes the vector environment itself, from its id. `gym_env_vectorize_mode="vector_entry_point"` selects the native
one, with one encoder call for all rows; its autoreset must stay `NEXT_STEP`, the default: with `SAME_STEP` RLlib
silently loses the first step of every episode but the first. The id starts with the package's name, `gfnet_env:`,
because remote env runners are separate processes, which know a bare id only if they have imported the package.
`env_config` becomes keyword arguments of the environment; RLlib has no place for wrappers, so the module below reads
the whole observation with `GlimpseExtractor`, our network.

python examples/rllib_ppo.py --total-steps 50000 --seed 0
"""

from __future__ import annotations

import argparse
import math
import os
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule

from agents import GlimpseExtractor

ENV_ID = "gfnet_env:GFNet-SyntheticSigns-v0"
FOCUS_STEPS = 3
NUM_ENVS = 256


class GlimpseModule(TorchRLModule, ValueFunctionAPI):
    """`GlimpseExtractor`, and one linear layer each for mean action and value; the standard deviation is learned."""

    def setup(self) -> None:
        """Builds the network; RLlib calls it."""
        self.extractor = GlimpseExtractor(self.observation_space, attention_maps=8)
        self.mean = nn.Linear(self.extractor.features_dim, 2)
        self.value = nn.Linear(self.extractor.features_dim, 1)
        self.log_std = nn.Parameter(torch.full((2,), math.log(0.5)))
        nn.init.orthogonal_(self.mean.weight, 0.01)  # the first patches are at the center
        nn.init.zeros_(self.mean.bias)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        seen = self.extractor(batch[Columns.OBS])
        mean = torch.tanh(self.mean(seen))
        return {
            Columns.ACTION_DIST_INPUTS: torch.cat([mean, self.log_std.expand_as(mean)], dim=1),
            Columns.EMBEDDINGS: seen,
        }

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """(B,) values of the states."""
        seen = self.extractor(batch[Columns.OBS]) if embeddings is None else embeddings
        return self.value(seen).squeeze(-1)


def make_algorithm(num_scenes: int, seed: int, env_runners: int) -> PPO:
    """PPO on 256 rows, divided among the runners; with 0 runners, all rows are in this process."""
    rollout = FOCUS_STEPS * NUM_ENVS
    config = (
        PPOConfig()
        .environment(
            ENV_ID,
            env_config={"num_scenes": num_scenes, "reward": "increment", "exit_confidence": 0.7},
            normalize_actions=False,
            clip_actions=True,
        )
        .env_runners(
            num_env_runners=env_runners,
            num_envs_per_env_runner=NUM_ENVS // max(1, env_runners),
            gym_env_vectorize_mode="vector_entry_point",
        )
        .rl_module(rl_module_spec=RLModuleSpec(module_class=GlimpseModule))
        .training(
            train_batch_size_per_learner=rollout,
            minibatch_size=rollout // 3,
            num_epochs=4,
            lr=2e-3,
            gamma=0.7,
            lambda_=1.0,
            clip_param=0.2,
            vf_loss_coeff=0.5,
            use_kl_loss=False,
            grad_clip=0.5,
        )
        .debugging(seed=seed, log_level="ERROR")
    )
    return config.build_algo()


def accuracy(module: TorchRLModule | None, test_scenes: int, seed: int) -> list[float]:
    """Accuracy on held-out scenes after t = 2 ... T glimpses; without a module, of random places."""
    envs = gymnasium.make_vec(ENV_ID, num_envs=test_scenes, split="test", num_scenes=test_scenes)
    rng = np.random.default_rng(seed)
    observation, _ = envs.reset(seed=seed, options={"index": np.arange(test_scenes)})  # each scene once
    shares = []
    for _ in range(FOCUS_STEPS):
        action = rng.uniform(-1, 1, (test_scenes, 2)).astype(np.float32)
        if module is not None:
            rows = {key: torch.from_numpy(value) for key, value in observation.items()}
            action = module.forward_inference({Columns.OBS: rows})[Columns.ACTION_DIST_INPUTS][:, :2].numpy()
        observation, *_, info = envs.step(action)
        shares.append(float((info["prediction"] == info["label"]).mean()))
    return shares


def main() -> None:
    """Trains a policy and compares it with random places."""
    parser = argparse.ArgumentParser(description="RLlib's PPO on GFNet-SyntheticSigns-v0.")
    parser.add_argument("--total-steps", type=int, default=50_000, help="rounded up to whole rollouts")
    parser.add_argument("--num-scenes", type=int, default=5000)
    parser.add_argument("--test-scenes", type=int, default=800)
    parser.add_argument("--env-runners", type=int, default=0, help="processes with environments; 0: this one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ray.init(include_dashboard=False, log_to_driver=False)
    algorithm = make_algorithm(options.num_scenes, options.seed, options.env_runners)
    steps = 0
    while steps < options.total_steps:
        runners = algorithm.train()["env_runners"]
        steps = int(runners["num_env_steps_sampled_lifetime"])
        print(f"{steps:>8} steps: return {runners['episode_return_mean']:.3f}", flush=True)
    for name, module in (("random", None), ("learned", algorithm.get_module())):
        shares = accuracy(module, options.test_scenes, options.seed)
        print(name, ", ".join(f"t={step}: {share:.3f}" for step, share in enumerate(shares, 2)))
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
