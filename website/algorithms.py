"""One page for each algorithm of `agents.AGENTS`, from its recipe, its docstring and what a few steps of it log."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import gymnasium
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import KVWriter, Logger

from agents.algorithms.make_agent import make_agent
from agents.algorithms.registry import AGENTS, AgentRecipe
from website.docstrings import arguments_of, table, text_of

MEANINGS = {
    "rollout/ep_rew_mean": "mean return of the episodes that ended lately: what the looks gained, undiscounted",
    "rollout/ep_len_mean": "their mean number of actions, T - 1 unless episodes end early",
    "rollout/success_rate": "share of them whose final prediction was right",
    "rollout/exploration_rate": "probability of a random action",
    "rollout/return_std": "standard deviation of the returns among the perturbed policies",
    "time/fps": "environment steps per second",
    "time/iterations": "rollouts so far",
    "time/episodes": "episodes so far",
    "time/time_elapsed": "seconds since the training began",
    "time/total_timesteps": "environment steps so far",
    "train/learning_rate": "the optimiser's step size",
    "train/n_updates": "passes over the data so far",
    "train/loss": "the whole loss of the last batch",
    "train/policy_gradient_loss": "the policy's part of the loss, clipped",
    "train/policy_loss": "the policy's part of the loss",
    "train/policy_objective": "the objective that the natural gradient step raises",
    "train/value_loss": "squared error of the value function",
    "train/entropy_loss": "negative entropy of the action distribution; constant where its standard deviation is fixed",
    "train/explained_variance": "share of the returns' variance that the value function explains, at most 1",
    "train/approx_kl": "estimated divergence of the new policy from the one that acted",
    "train/kl_divergence_loss": "divergence of the new policy from the one that acted",
    "train/is_line_search_success": "whether a step within `target_kl` that helps was found",
    "train/clip_fraction": "share of the actions whose probability ratio was clipped",
    "train/clip_range": "the ratio's allowed distance from 1",
    "train/std": "standard deviation of the actions",
    "train/actor_loss": "the policy's loss",
    "train/critic_loss": "squared error of the action values",
    "train/ent_coef": "weight of the entropy",
    "train/ent_coef_loss": "loss that adapts this weight",
    "train/step_size": "length of the last change of the weights",
    "train/iterations": "changes of the weights so far",
    "train/delta_std": "standard deviation of the perturbations",
}
"""What the logged figures are; `tests/test_docs_site.py` holds that each has its line."""

_TINY: dict[str, Any] = {"n_delta": 2, "n_top": 1, "n_eval_episodes": 4}


class _Names(KVWriter):
    """Collects the names of what is logged."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.found |= key_values.keys()

    def close(self) -> None:
        pass


def logged_names(name: str) -> list[str]:
    """The names of the figures that an algorithm logs, seen by training it for a few steps on the embedded task.

    Args:
        name: a key of `AGENTS`.

    Returns:
        The names, sorted.
    """
    recipe = AGENTS[name]
    options: dict[str, Any] = _TINY
    if recipe.rollout:
        options = {"rollout": 12, **({"batches": 1} if recipe.batches else {})}
    elif recipe.updates_per_step:
        options = {"learning_starts": 8, "buffer_size": 64, "batch_size": 8, "gradient_steps": 1}
    env = gymnasium.make_vec(
        "gfnet_env:GFNet-SyntheticSigns-v0", num_envs=4, num_scenes=4, reward="increment", autoreset_mode="SAME_STEP"
    )
    agent = make_agent(name, env, seed=0, **options)
    names = _Names()
    agent.set_logger(Logger(None, [names]))
    agent.learn(48, log_interval=1)
    env.close()
    return sorted(names.found)


def algorithm_pages(root: Path) -> dict[str, str]:
    """The pages of all algorithms, without `logs`, which takes a training.

    Args:
        root: the repository, for the leaderboard.

    Returns:
        Markdown by page; links are those of the site.
    """
    board = (root / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    return {f"algorithms/{name}.md": _page(name, AGENTS[name], board) for name in AGENTS}


def overview() -> str:
    """The table of all algorithms."""
    rows = [
        (f"[`{name}`]({name}.md)", _title(_class(recipe)), _kind(recipe), str(recipe.num_envs))
        for name, recipe in AGENTS.items()
    ]
    return "## All algorithms\n\n" + table(rows, ("name", "algorithm", "learns from", "parallel episodes"))


def leaderboard_row(name: str, board: str) -> str:
    """The leaderboard's header and an algorithm's row, as a table; empty if it is not in it."""
    lines = [line for line in board.splitlines() if line.startswith("|")]
    rows = [line for line in lines if line.startswith(f"| {name} |")]
    return "\n".join([*lines[:2], *rows]) + "\n" if rows else ""


def _class(recipe: AgentRecipe) -> type[BaseAlgorithm]:
    assert isinstance(recipe.algorithm, type)
    return recipe.algorithm


def _title(algorithm: type) -> str:
    """A class and its library."""
    return f"{algorithm.__name__} ({algorithm.__module__.split('.')[0]})"


def _kind(recipe: AgentRecipe) -> str:
    if recipe.rollout:
        return "rollouts of its present policy"
    return "a replay buffer" if recipe.updates_per_step else "whole episodes"


def _page(name: str, recipe: AgentRecipe, board: str) -> str:
    parts = (
        f"# {name}\n",
        _what(recipe),
        _settings(name, recipe),
        _how_to_run(name),
        _leaderboard(name, board),
    )
    return "\n".join(parts)


def _what(recipe: AgentRecipe) -> str:
    algorithm = _class(recipe)
    described: list[type] = [algorithm]
    if algorithm.__module__.startswith("agents."):  # ours, on top of a library's
        described += [base for base in algorithm.__mro__ if not base.__module__.startswith("agents.")][:1]
    texts = [f"**{_title(one)}.** {_prose(one)}" for one in described]
    policy = recipe.policy
    if isinstance(policy, type):
        texts.append(f"Policy: **{policy.__name__}**. {text_of(policy)}")
    else:
        texts.append(
            f"Policy: Stable-Baselines3's own `{policy}`, on what `agents.policies.extractor.GlimpseExtractor` makes "
            "of the observation."
        )
    forms = {
        "plain": "It takes the environment as it is.",
        "flat": "It takes observations as one flat vector, which `make_agent` sees to.",
        "grid": "It chooses from a grid of places (`gfnet_env.GridAction`), which `make_agent` sees to.",
    }
    return "\n\n".join([*texts, forms[recipe.form]]) + "\n"


def _prose(algorithm: Any) -> str:
    """A docstring of Stable-Baselines3 or of ours, its parameters left out and its papers linked."""
    text = text_of(algorithm) if algorithm.__module__.startswith("agents.") else inspect.getdoc(algorithm) or ""
    text = text.split("\n:param")[0].strip()
    text = re.sub(
        r"^(Paper|Code|Reference implementation|Introduction to \w+|Original [Pp]aper): *",
        r"\n\n\1: ",
        text,
        flags=re.MULTILINE,
    )
    return re.sub(r"(?<![<(\"])(https?://[^\s)]+)", r"<\1>", text)


def _settings(name: str, recipe: AgentRecipe) -> str:
    algorithm = _class(recipe)
    parameters = inspect.signature(algorithm).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        parameters = inspect.signature(algorithm.__mro__[1]).parameters
    rows = []
    for key, value in recipe.defaults.items():
        theirs = parameters[key].default if key in parameters else inspect.Parameter.empty
        rows.append((f"`{key}`", f"`{value!r}`", "" if theirs is inspect.Parameter.empty else f"`{theirs!r}`"))
    own = {one.name: one.text for one in arguments_of(AgentRecipe)}
    sizes = [
        (f"`{key}`", f"`{value!r}`", own[key])
        for key in ("rollout", "batches", "updates_per_step", "noise", "num_envs", "policy_kwargs")
        if (value := getattr(recipe, key))
    ]
    return (
        "## Settings\n\nArguments of the algorithm, from `agents.AGENTS["
        f'"{name}"]`:\n\n'
        + table(rows, ("argument", "here", "the library's default"))
        + "\nThe rest of the recipe:\n\n"
        + table(sizes, ("field", "value", "what"))
    )


def _how_to_run(name: str) -> str:
    return f"""## How to run it

```bash
gfnet train demo --out runs/{name} --set stage2.agent={name}
gfnet benchmark {name} --out runs/leaderboard
```

```python
import gymnasium as gym

import agents

env = gym.make_vec("gfnet_env:GFNet-SyntheticSigns-v0", num_envs=4, num_scenes=100, autoreset_mode="SAME_STEP")
agent = agents.make_agent("{name}", env, seed=0)
agent.learn(768)
```

An option is `--set stage2.options.NAME=VALUE`, or a keyword of `make_agent`.
"""


def logs(name: str) -> str:
    """The chapter on what an algorithm logs, which trains it for some steps.

    Args:
        name: a key of `AGENTS`.

    Returns:
        Markdown.

    Raises:
        KeyError: if a figure has no line in `MEANINGS`.
    """
    rows = [(f"`{key}`", MEANINGS[key]) for key in logged_names(name)]
    return (
        "\n## What it logs\n\nWith `tensorboard_log=FOLDER`, and in `tensorboard/` of a run of `gfnet train`:\n\n"
        + table(rows, ("figure", "what"))
        + "\nA run adds what [diagnosing](../diagnosing.md) reads: where looks lie, whether they depend on images.\n"
    )


def _leaderboard(name: str, board: str) -> str:
    row = leaderboard_row(name, board)
    if not row:
        return (
            "## Its place on the leaderboard\n\nNot measured yet; "
            f"`gfnet benchmark {name} --out runs/leaderboard` does. [The leaderboard](../leaderboard.md)\n"
        )
    return f"## Its place on the leaderboard\n\n{row}\n[The leaderboard](../leaderboard.md) says how it was measured.\n"
