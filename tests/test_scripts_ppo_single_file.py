"""The single-file PPO: stands alone, repeats itself, says what is wrong, and learns."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scripts import ppo_single_file
from scripts.ppo_single_file import Rollout, advantages, main, parse, train

SMALL = ("--num-envs", "8", "--num-scenes", "12", "--test-scenes", "6", "--total-steps", "48")
ROOMS_AND_LIBRARIES_IT_DOES_WITHOUT = {"classifiers", "gfnet_env", "agents", "scripts", "stable_baselines3", "rich"}


def test_it_imports_nothing_of_ours_but_through_gymnasium() -> None:
    tree = ast.parse(Path(ppo_single_file.__file__).read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }

    assert {"gymnasium", "torch", "numpy"} <= imported
    assert not imported & ROOMS_AND_LIBRARIES_IT_DOES_WITHOUT


Output = Callable[[tuple[str, ...]], str]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Output:
    """What the program prints."""

    def run(arguments: tuple[str, ...]) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out

    return run


def test_it_trains_and_evaluates_the_same_with_the_same_seed(output: Output) -> None:
    first, again, other = (output((*SMALL, "--seed", seed)) for seed in ("3", "3", "4"))

    assert first == again != other
    assert [line.split()[0] for line in first.splitlines() if "steps: return" in line] == ["24", "48"]
    rows = {name: row.split() for name, row in re.findall(r"^(random|learned) +(.+)$", first, re.MULTILINE)}
    assert set(rows) == {"random", "learned"}
    assert {len(row) for row in rows.values()} == {4}
    assert rows["random"][0] == rows["learned"][0]  # the glance is before any choice
    sixths = {f"{right / 6:.3f}" for right in range(7)}
    assert set(rows["random"]) | set(rows["learned"]) <= sixths  # of six scenes


def test_it_learns_at_several_sizes(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    """The agent reads which size comes next, so that its first layer is six numbers wider."""
    assert "learned" in output((*SMALL, "--patch-sizes", "32,48,64"))
    several = train(parse((*SMALL, "--patch-sizes", "32,48,64"))).trunk[0].in_features
    assert several == train(parse((*SMALL, "--patch-sizes", "64"))).trunk[0].in_features + 6
    assert main((*SMALL, "--patch-sizes", "32,large")) == 2
    assert "--patch-sizes 32,large; pass sides in pixels, such as 32,48,64" in capsys.readouterr().err
    assert main((*SMALL, "--patch-sizes", "48,32")) == 2
    assert "do not ascend" in capsys.readouterr().err


def _weights(*arguments: str) -> bytes:
    """All weights after training."""
    agent = train(parse(arguments))
    return b"".join(parameter.detach().numpy().tobytes() for parameter in agent.parameters())


@pytest.fixture(scope="module")
def usual_weights() -> bytes:
    return _weights(*SMALL)


@pytest.mark.parametrize(
    "change",
    [
        *("--reward contrastive", "--exit-confidence 1", "--num-glimpses 3", "--num-scenes 5", "--num-envs 7"),
        *("--learning-rate 0.1", "--epochs 1", "--minibatches 1", "--gamma 0.1", "--gae-lambda 0.5", "--clip 0.001"),
        *("--first-std 1", "--last-std 0.5", "--total-steps 24"),
    ],
)
def test_every_option_changes_what_is_learnt(change: str, usual_weights: bytes) -> None:
    assert _weights(*SMALL, *change.split()) != usual_weights


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
        (("--num-envs", "0"), "--num-envs 0; pass 1 or more"),
        (("--total-steps", "-5"), "--total-steps -5; pass 1 or more"),
        (("--num-envs", "many"), "argument --num-envs: invalid int value: 'many'"),
        (("--stepps", "5"), "unrecognized arguments: --stepps 5"),
        (("--learning-rate", "nan"), "--learning-rate nan; pass a number above 0"),
        (("--gamma", "1.5"), "--gamma 1.5; pass a number from 0 to 1"),
        (("--last-std", "0"), "--last-std 0.0; pass a number from 0.001 to 10"),
        (("--seed", "-1"), "--seed -1; pass a number from 0 to 2**32 - 1"),
        (("--num-glimpses", "1"), "--num-glimpses 1; pass 2 or more"),
        (("--minibatches", "25"), "--minibatches 25; pass at most 24, a rollout's steps"),
        (("--reward", "praise"), "reward='praise' is unknown; pass one of contrastive, increment"),
        (("--exit-confidence", "2"), "exit_confidence=2.0; pass a probability in (0, 1]"),
        (("--learning-rate", "1e30"), "the policy diverged; pass a lower --learning-rate"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exit_code_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, *arguments]) == 2

    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("ppo_single_file: ") and len(error.splitlines()) == 1


@pytest.mark.slow
def test_it_learns_where_to_look(output: Output) -> None:
    """Half the usual steps: random looks recognise 0.54 of the scenes after two looks, the best possible 0.98."""
    printed = output(("--total-steps", "25000", "--num-scenes", "2000", "--test-scenes", "500"))

    shares = {
        name: float(row.split()[1]) for name, row in re.findall(r"^(random|learned) +(.+)$", printed, re.MULTILINE)
    }
    assert shares["random"] < 0.6
    assert shares["learned"] > shares["random"] + 0.15
