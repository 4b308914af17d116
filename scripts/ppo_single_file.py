"""PPO in one file: learns where to look from the environment alone, with nothing but gymnasium, torch and numpy.

Read it from top to bottom; change it where your algorithm differs. What this task asks of PPO (arXiv:1707.06347):

- The policy is a Gaussian whose mean is squashed into [-1, 1] and starts at 0, the middle of the image. Its standard
  deviation is given, not learnt, and falls from step to step, so there is no entropy bonus.
- A rollout is as long as the longest episode, T - 1 steps of every row. Rows whose episode ended earlier, because the
  classifier was confident, go on with another one (autoreset SAME_STEP).
- Actions are clipped to the space when they are carried out; log-probabilities are those before.

python scripts/ppo_single_file.py --total-steps 50000 --seed 0
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn
from torch.distributions import Normal

ENV_ID = "gfnet_env:GFNet-SyntheticSigns-v0"
PROGRAM = "ppo_single_file"
VECTORS = ("hidden", "pooled", "last_size", "next_size")
Act = Callable[[dict[str, np.ndarray]], np.ndarray]
"""Observations of B rows to actions (B, 2) in [-1, 1]."""


def _option(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command-line options, `total_steps` as `--total-steps`; the help texts are the documentation."""

    total_steps: int = _option(50_000, "environment steps to learn from, rounded up to whole rollouts")
    num_envs: int = _option(256, "parallel episodes")
    num_scenes: int = _option(5000, "scenes to learn from, drawn once and kept in the cache")
    test_scenes: int = _option(800, "held-out scenes to evaluate on")
    seed: int = _option(0, "of everything random: the same seed gives the same result")
    device: str = _option("", "where all stays, such as cuda or cpu; if left out, NumPy arrays on the processor")
    num_glimpses: int = _option(4, "longest sequence T, the glance counted")
    patch_sizes: str = _option("", "sides of patches, drawn at random, such as 32,48,64; the networks' own if left out")
    reward: str = _option("increment", "increment, Eq. (4), or contrastive, Eq. (8)")
    exit_confidence: float = _option(0.7, "episodes also end once the classifier is more confident; 1: never")
    learning_rate: float = _option(2e-3, "Adam's")
    epochs: int = _option(4, "passes over a rollout")
    minibatches: int = _option(3, "parts of a rollout, one gradient step each")
    gamma: float = _option(0.7, "discount")
    gae_lambda: float = _option(1.0, "1: Monte-Carlo returns; 0: one step and the value of the next state")
    clip: float = _option(0.2, "how far the probability ratio may move away from 1")
    first_std: float = _option(0.5, "the policy's standard deviation at the start; an action spans 2")
    last_std: float = _option(0.08, "the same at the end")

    def __post_init__(self) -> None:
        for name in ("total_steps", "num_envs", "num_scenes", "test_scenes", "epochs", "minibatches"):
            self._check(name, getattr(self, name) >= 1, "1 or more")
        self._check("num_glimpses", self.num_glimpses >= 2, "2 or more: the glance is one of them")
        self._check("patch_sizes", all(part.isdecimal() for part in self._sides), "sides in pixels, such as 32,48,64")
        self._check(
            "minibatches", self.minibatches <= self.rollout_steps, f"at most {self.rollout_steps}, a rollout's steps"
        )

    @property
    def rollout_steps(self) -> int:
        """Environment steps of a rollout, all rows together."""
        return (self.num_glimpses - 1) * self.num_envs

    @property
    def sizes(self) -> dict[str, Any]:
        """The environment's keyword arguments for the sizes."""
        patches = {"patch_sizes": tuple(int(part) for part in self._sides)} if self._sides else {}
        return {"num_glimpses": self.num_glimpses, **patches}

    @property
    def _sides(self) -> list[str]:
        return self.patch_sizes.split(",") if self.patch_sizes else []

    def _check(self, name: str, fits: bool, wanted: str) -> None:
        if not fits:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}; pass {wanted}")


class Agent(nn.Module):
    """Policy and value on one trunk: a 1x1 convolution and a fully-connected layer, and beside them spatial soft
    arg-maxes, which say where on the map something is and so where to look.

    Args:
        space: the observation space of one row: `features` (C, h, w), `hidden` (F,), perhaps the patches' sizes.
        units: of the fully-connected layer.
        reduced: channels after the convolution.
        maps: number K of attention maps of which the center is taken.
    """

    places: Tensor

    def __init__(self, space: gymnasium.spaces.Dict, units: int = 256, reduced: int = 32, maps: int = 8) -> None:
        super().__init__()
        features, vectors = space["features"].shape, [space[key].shape for key in VECTORS if key in space.spaces]
        assert features is not None
        read = sum(shape[0] for shape in vectors if shape is not None)
        channels, height, width = features
        self.reduce = nn.Sequential(nn.Conv2d(channels, reduced, 1), nn.ReLU(), nn.Flatten())
        self.trunk = nn.Sequential(nn.Linear(reduced * height * width + read, units), nn.ReLU())
        self.attention = nn.Conv2d(channels, maps, 1)
        rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        self.register_buffer("places", torch.cartesian_prod(rows, columns))  # (h w, 2)
        self.mean = nn.Linear(units + 2 * maps, 2)
        self.value = nn.Linear(units + 2 * maps, 1)
        nn.init.orthogonal_(self.mean.weight, 0.01)
        nn.init.zeros_(self.mean.bias)

    def forward(self, features: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) and (B, F) to the mean action (B, 2) in [-1, 1] and the value (B,).

        Raises:
            ValueError: if an action is no number.
        """
        seen = self.trunk(torch.cat([self.reduce(features), hidden], dim=1))
        centers = self.attention(features).flatten(2).softmax(dim=2) @ self.places  # (B, K, 2)
        both = torch.cat([seen, centers.flatten(1)], dim=1)
        mean = torch.tanh(self.mean(both))
        if not mean.isfinite().all():
            raise ValueError("the policy diverged; pass a lower --learning-rate")
        return mean, self.value(both).squeeze(1)

    @torch.no_grad()
    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """The mean action for each row."""
        actions: np.ndarray = self(*(part.to(self.places.device) for part in as_tensors(observation)))[0].cpu().numpy()
        return actions


def as_tensors(observation: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """`features` (B, C, h, w), and `hidden` (B, F) with the sizes behind it where there are several."""
    vectors = [torch.as_tensor(observation[key]) for key in VECTORS if key in observation]
    return torch.as_tensor(observation["features"]), torch.cat(vectors, dim=1)


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """S steps of B rows. `done` (S, B) is 1.0 where a step ended an episode; `last_value` (B,) is that of the state
    after the last step, which cut-off episodes still have before them. `right` counts the ended episodes whose last
    prediction was the label.
    """

    features: Tensor  # (S, B, C, h, w)
    hidden: Tensor  # (S, B, F)
    actions: Tensor  # (S, B, 2), before clipping
    log_probs: Tensor  # (S, B)
    values: Tensor  # (S, B)
    rewards: Tensor  # (S, B)
    done: Tensor  # (S, B)
    last_value: Tensor  # (B,)
    right: int


Environments = VectorEnv[Any, Any, Any]
"""Of arrays, or of tensors on the agent's device (`--device`)."""


@torch.no_grad()
def collect(
    envs: Environments, agent: Agent, observation: dict[str, Any], std: float, steps: int
) -> tuple[Rollout, dict[str, Any]]:
    """Acts for some steps.

    Args:
        envs: B rows in SAME_STEP mode.
        agent: chooses the actions.
        observation: its first observation.
        std: its standard deviation.
        steps: number S of steps.

    Returns:
        The rollout and the observation after it.
    """
    taken: list[tuple[Tensor, ...]] = []
    right = 0
    for _ in range(steps):
        features, hidden = as_tensors(observation)
        mean, value = agent(features, hidden)
        policy = Normal(mean, std)
        action = policy.sample()
        log_prob = policy.log_prob(action).sum(1)
        inside = action.clamp(-1, 1)
        is_tensor = isinstance(observation["features"], Tensor)
        observation, reward, terminated, _, info = envs.step(inside if is_tensor else inside.numpy())
        if terminated.any():  # info speaks of the next episode already, final_info of the one that ended
            final = info["final_info"]
            right += int((final["prediction"] == final["label"])[terminated].sum())
        gained, ended = torch.as_tensor(reward).float(), torch.as_tensor(terminated).float()
        taken.append((features, hidden, action, log_prob, value, gained, ended))
    names = ("features", "hidden", "actions", "log_probs", "values", "rewards", "done")
    columns = {name: torch.stack(column) for name, column in zip(names, zip(*taken, strict=True), strict=True)}
    return Rollout(**columns, last_value=agent(*as_tensors(observation))[1], right=right), observation


def advantages(rollout: Rollout, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimation (arXiv:1506.02438, Eq. 16).

    Args:
        rollout: S steps of B rows.
        gamma: the discount.
        gae_lambda: the decay over further steps.

    Returns:
        (S, B) advantages, not normalized; with the values added they are the returns.
    """
    found = torch.zeros_like(rollout.rewards)
    following, next_value = torch.zeros_like(rollout.last_value), rollout.last_value
    for step in reversed(range(len(found))):
        goes_on = 1 - rollout.done[step]
        surprise = rollout.rewards[step] + gamma * goes_on * next_value - rollout.values[step]
        following = found[step] = surprise + gamma * gae_lambda * goes_on * following
        next_value = rollout.values[step]
    return found


def update(agent: Agent, optimizer: torch.optim.Optimizer, rollout: Rollout, std: float, args: Arguments) -> None:
    """Follows PPO's clipped objective for some epochs over a rollout.

    Args:
        agent: the one that learns.
        optimizer: of its weights.
        rollout: what it did, with the same standard deviation.
        std: that.
        args: the settings.
    """
    advantage = advantages(rollout, args.gamma, args.gae_lambda)
    columns = (rollout.features, rollout.hidden, rollout.actions, rollout.log_probs, advantage)
    returns = (advantage + rollout.values).flatten()
    features, hidden, actions, log_probs, gained = (column.flatten(0, 1) for column in columns)
    gained = (gained - gained.mean()) / (gained.std(correction=0) + 1e-8)
    for part in _parts(len(returns), args):
        mean, value = agent(features[part], hidden[part])
        ratio = (Normal(mean, std).log_prob(actions[part]).sum(1) - log_probs[part]).exp()
        followed = torch.min(ratio * gained[part], ratio.clamp(1 - args.clip, 1 + args.clip) * gained[part])
        loss = 0.5 * nn.functional.mse_loss(value, returns[part]) - followed.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
        optimizer.step()


def _parts(size: int, args: Arguments) -> Iterator[Tensor]:
    """Each epoch's minibatches: indices in random order."""
    for _ in range(args.epochs):
        yield from torch.randperm(size).tensor_split(args.minibatches)


def train(args: Arguments) -> Agent:
    """Trains an agent and prints its progress.

    Args:
        args: the settings.

    Returns:
        The trained agent.

    Raises:
        ValueError: if the environment rejects a setting, or the policy diverges.
    """
    torch.manual_seed(args.seed)
    tensors: dict[str, Any] = {"array": "torch", "device": args.device} if args.device else {}
    envs = gymnasium.make_vec(
        ENV_ID,
        num_envs=args.num_envs,
        autoreset_mode="SAME_STEP",
        num_scenes=args.num_scenes,
        reward=args.reward,
        exit_confidence=args.exit_confidence,
        **tensors,
        **args.sizes,
    )
    assert isinstance(envs.single_observation_space, gymnasium.spaces.Dict)
    agent = Agent(envs.single_observation_space).to(args.device or "cpu")
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    observation, _ = envs.reset(seed=args.seed)
    rollouts = math.ceil(args.total_steps / args.rollout_steps)
    reward, episodes, right = 0.0, 0, 0
    for done in range(1, rollouts + 1):
        std = args.first_std * (args.last_std / args.first_std) ** ((done - 1) / rollouts)
        rollout, observation = collect(envs, agent, observation, std, args.num_glimpses - 1)
        update(agent, optimizer, rollout, std, args)
        reward, right = reward + float(rollout.rewards.sum()), right + rollout.right
        episodes += int(rollout.done.sum())
        if done == rollouts or 10 * done // rollouts > 10 * (done - 1) // rollouts:
            steps, scored = done * args.rollout_steps, max(1, episodes)
            print(f"{steps:>8} steps: return {reward / scored:.3f}, accuracy {right / scored:.3f}", flush=True)
            reward, episodes, right = 0.0, 0, 0
    envs.close()
    return agent


def accuracies(act: Act, args: Arguments) -> list[float]:
    """The accuracy after each step on held-out scenes, one row for each.

    Args:
        act: chooses the actions.
        args: the settings; `exit_confidence` is left out, every sequence has all T steps.

    Returns:
        T shares, the glance's first.
    """
    count = args.test_scenes
    envs = gymnasium.make_vec(ENV_ID, num_envs=count, split="test", num_scenes=count, reward="increment", **args.sizes)
    observation, info = envs.reset(options={"index": np.arange(count)})
    shares = [float((info["prediction"] == info["label"]).mean())]
    for _ in range(args.num_glimpses - 1):
        observation, *_, info = envs.step(act(observation))
        shares.append(float((info["prediction"] == info["label"]).mean()))
    envs.close()
    return shares


def evaluate(agent: Agent, args: Arguments) -> None:
    """Prints the accuracy of a trained agent and that of random places."""
    rng = np.random.default_rng(args.seed)
    rows: dict[str, Act] = {
        "random": lambda _: rng.uniform(-1, 1, (args.test_scenes, 2)).astype(np.float32),
        "learned": agent.act,
    }
    print(f"\naccuracy on {args.test_scenes} held-out scenes after t glimpses")
    print("        " + "".join(f"    t={step}" for step in range(1, args.num_glimpses + 1)))
    for name, act in rows.items():
        print(f"{name:<8}" + "".join(f"  {share:.3f}" for share in accuracies(act, args)))


def parse(arguments: Sequence[str] | None) -> Arguments:
    """Reads the command line: each field of `Arguments` is an option.

    Args:
        arguments: of the command line; the process's own if None.

    Returns:
        The settings.

    Raises:
        ValueError: if a value is out of range.
    """
    parser = _Parser(prog=PROGRAM, description="PPO in one file, on generated road scenes.")
    for option in dataclasses.fields(Arguments):
        name, kind = option.name.replace("_", "-"), type(option.default)
        text = f"{option.metadata['help']} (%(default)s)"
        parser.add_argument(f"--{name}", type=kind, default=option.default, help=text, metavar=kind.__name__.upper())
    return Arguments(**vars(parser.parse_args(arguments)))


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, then evaluates against random places.

    Args:
        arguments: of the command line; the process's own if None.

    Returns:
        The exit code: 0 done, 2 after an error in an argument, which was printed.
    """
    try:
        args = parse(arguments)
        evaluate(train(args), args)
    except ValueError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
