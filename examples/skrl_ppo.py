"""skrl's PPO on the leaderboard (`pip install skrl`): our network, any task.

gfnet benchmark ppo --external examples.skrl_ppo:train --steps 30000 --out runs/comparison
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.wrappers.vector import ClipAction
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.trainers.torch import SequentialTrainer, SequentialTrainerCfg
from skrl.utils.spaces.torch import unflatten_tensorized_space

from examples.torchrl_ppo import Network


def read(model: Any, inputs: dict[str, Any], role: str = "") -> tuple[torch.Tensor, dict[str, Any]]:
    """What a model computes."""
    parts = unflatten_tensorized_space(model.observation_space, inputs["observations"])
    return model.network(*parts.values()), {"log_std": getattr(model, "log_std", None)}


class Policy(GaussianMixin, Model):
    """A Gaussian whose standard deviation is learned."""

    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        GaussianMixin.__init__(self, clip_actions=False)
        self.network, self.log_std = Network(self.observation_space, 2), torch.nn.Parameter(torch.full((2,), -0.7))

    compute = read


class Value(DeterministicMixin, Model):
    """The value of an observation."""

    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.network = Network(self.observation_space, 1)

    compute = read


def train(make_env: Callable[..., Any], steps: int, seed: int) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Trains a policy; returns its mean action for the observations of B rows."""
    torch.manual_seed(seed)
    envs = make_env(256)  # autoreset SAME_STEP, which skrl expects
    looks, env = envs.num_glimpses - 1, wrap_env(ClipAction(envs), wrapper="gymnasium", verbose=False)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": env.device}
    # minibatches of skrl are steps in order of time, so one takes all
    fit = {"rollouts": looks, "learning_epochs": 12, "mini_batches": 1, "learning_rate": 2e-3}
    config = PPO_CFG(**fit, discount_factor=0.7, gae_lambda=1.0, value_loss_scale=0.5)
    config.experiment.write_interval = config.experiment.checkpoint_interval = 0
    models = {"policy": Policy(**spaces), "value": Value(**spaces)}
    agent = PPO(models=models, memory=RandomMemory(memory_size=looks, num_envs=256), cfg=config, **spaces)
    length = SequentialTrainerCfg(timesteps=looks * -(-steps // (256 * looks)), disable_progressbar=True, headless=True)
    SequentialTrainer(env=env, agents=agent, cfg=length).train()
    network = models["policy"].network

    @torch.no_grad()
    def act(observation: dict[str, np.ndarray]) -> np.ndarray:
        return network(*(torch.from_numpy(observation[key]) for key in env.observation_space)).clamp(-1, 1).numpy()

    return act
