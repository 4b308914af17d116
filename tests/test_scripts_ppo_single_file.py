"""The single-file PPO: stands alone, repeats itself, says what is wrong, and learns."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from gymnasium import spaces

from scripts import ppo_single_file
from scripts.ppo_single_file import Agent, Rollout, advantages, evaluate, main, parse, train, update

SMALL = ("--num-envs", "8", "--num-scenes", "12", "--test-scenes", "6", "--total-steps", "48")
ROW = r"^(random|learned) +(.+)$"
UNUSED = {"classifiers", "gfnet_env", "agents", "scripts", "stable_baselines3", "rich"}


def test_it_imports_nothing_of_ours_but_through_gymnasium() -> None:
    tree = ast.parse(Path(ppo_single_file.__file__).read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }

    assert {"gymnasium", "torch", "numpy"} <= imported
    assert not imported & UNUSED


def _weights(agent: Agent) -> bytes:
    return b"".join(parameter.detach().numpy().tobytes() for parameter in agent.parameters())


@pytest.fixture(scope="module")
def usual_weights() -> bytes:
    return _weights(train(parse(SMALL)))


def test_it_repeats_itself_and_evaluates(usual_weights: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    args = parse(SMALL)
    agent = train(args)
    evaluate(agent, args)

    assert _weights(agent) == usual_weights
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if "steps: return" in line] == ["24", "48"]
    rows = {name: row.split() for name, row in re.findall(ROW, printed, re.MULTILINE)}
    assert [len(rows[name]) for name in ("random", "learned")] == [4, 4]
    assert rows["random"][0] == rows["learned"][0]  # the glance is before any choice
    assert set(rows["random"]) | set(rows["learned"]) <= {f"{right / 6:.3f}" for right in range(7)}  # of six scenes


def test_it_learns_in_tensors_on_a_device() -> None:
    one, other = (_weights(train(parse((*SMALL, "--device", "cpu")))) for _ in range(2))

    assert one == other


def test_it_learns_at_several_sizes() -> None:
    """The agent reads which size was last and which comes next."""
    agent = train(parse((*SMALL, "--patch-sizes", "32,48,64")))

    (convolution, *_), (linear, _) = agent.reduce, agent.trunk
    assert linear.in_features == convolution.out_channels * len(agent.places) + 128 + 2 * 3


@pytest.mark.parametrize("change", ["--reward contrastive", "--exit-confidence 1", "--num-glimpses 3", "--seed 4"])
def test_options_change_what_is_learnt(change: str, usual_weights: bytes) -> None:
    assert _weights(train(parse((*SMALL, *change.split())))) != usual_weights


def test_options_of_an_update_change_it() -> None:
    def updated(*options: str) -> bytes:
        torch.manual_seed(0)
        space = spaces.Dict({"features": spaces.Box(-1, 1, (2, 3, 3)), "hidden": spaces.Box(-1, 1, (4,))})
        agent = Agent(space, units=8)
        args = parse((*SMALL, *options))
        features, hidden, done = torch.randn(3, 8, 2, 3, 3), torch.randn(3, 8, 4), torch.zeros(3, 8)
        actions, log_probs, values, rewards = torch.randn(3, 8, 2), -torch.rand(3, 8), *torch.randn(2, 3, 8)
        rollout = Rollout(
            features=features, hidden=hidden, actions=actions, log_probs=log_probs, values=values, rewards=rewards,
            done=done, last_value=torch.randn(8), right=0,
        )  # fmt: skip
        update(agent, torch.optim.Adam(agent.parameters(), lr=0.01), rollout, 0.5, args)
        return _weights(agent)

    usual = updated()
    assert updated() == usual
    for change in ("--epochs 1", "--minibatches 1", "--gamma 0.1", "--gae-lambda 0.5", "--clip 0.001"):
        assert updated(*change.split()) != usual, change


def test_advantages_by_hand() -> None:
    """Two steps of two rows; the first row's episode ends after the first step, so nothing crosses over to the next."""
    rollout = Rollout(
        features=torch.empty(0),
        hidden=torch.empty(0),
        actions=torch.empty(0),
        log_probs=torch.empty(0),
        values=torch.tensor([[0.5, 0.25], [1.0, 0.5]]),
        rewards=torch.tensor([[1.0, 1.0], [0.0, 2.0]]),
        done=torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
        last_value=torch.tensor([2.0, 4.0]),
        right=0,
    )

    found = advantages(rollout, gamma=0.5, gae_lambda=0.5)

    last = [0.0 + 0.5 * 2.0 - 1.0, 2.0 + 0.5 * 4.0 - 0.5]
    first = [1.0 - 0.5, 1.0 + 0.5 * 0.5 - 0.25 + 0.5 * 0.5 * last[1]]
    assert found.tolist() == [pytest.approx(first), pytest.approx(last)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--num-envs", "0"), "--num-envs 0"),
        (("--minibatches", "25"), "--minibatches 25; .* 24"),
        (("--patch-sizes", "32,large"), "--patch-sizes 32,large"),
        (("--learning-rate", "1e30"), "--learning-rate"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exit_code_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, *arguments]) == 2

    assert re.fullmatch(f"ppo_single_file: .*{message}.*\n", capsys.readouterr().err)


@pytest.mark.slow
def test_it_learns_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    """Half the usual steps: random places recognize 0.54 of the scenes at t=2, the best possible 0.98."""
    assert main(("--total-steps", "25000", "--num-scenes", "2000", "--test-scenes", "500")) == 0

    rows = re.findall(ROW, capsys.readouterr().out, re.MULTILINE)
    shares = {name: float(row.split()[1]) for name, row in rows}
    assert shares["random"] < 0.6
    assert shares["learned"] > shares["random"] + 0.15
