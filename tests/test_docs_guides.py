"""The guides are true: their snippets run, and their commands are commands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from conftest import SMALL_SCENES, expected_checker_warnings
from PIL import Image
from stable_baselines3 import PPO

from agents.algorithms.registry import AGENTS
from agents.leaderboard.rows import read_rows
from agents.runs.config_files import built_in_configs, load_config
from classifiers.networks.encoders import ENCODERS
from gfnet_env import REWARDS, TASKS
from scripts.cli import build_parser, main

ROOT = Path(__file__).parent.parent
DOCS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}


def _snippets(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCS[page], re.DOTALL)


def _commands(text: str) -> list[list[str]]:
    """The lines of shell blocks, continued ones joined, as words."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("page", [page for page, text in DOCS.items() if _commands(text)])
def test_commands_are_commands(page: str) -> None:
    for program, *words in _commands(DOCS[page]):
        if program == "gfnet":
            options = build_parser().parse_args(words)
            if options.command in ("train", "cost"):
                assert options.config in built_in_configs() or f"```yaml\n# {options.config}\n" in DOCS[page], words
        elif program == "python" and words[0] != "-m" and not words[0].startswith("runs/"):
            assert (ROOT / words[0]).is_file(), words
        else:
            assert program in ("python", "pip", "make", "torchrun", "OMP_NUM_THREADS=1"), program


def test_an_encoder_of_ones_own_works_as_the_guide_says(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = _snippets("own_encoder")
    try:
        exec(compile(snippet, "own_encoder.md", "exec"), {})
        config = load_config("synthetic_signs", ["classifier.encoder=depthwise"])
    finally:
        ENCODERS.pop("depthwise", None)

    assert "torch.Size([2, 128, 3, 3]) torch.Size([2, 10])" in capsys.readouterr().out
    assert config.classifier is not None and config.classifier.encoder == "depthwise"


@pytest.mark.slow
def test_algorithms_and_policies_of_ones_own_work_as_the_guide_says(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "mine"}
    try:
        for snippet in _snippets("own_algorithm"):
            exec(compile(snippet, "own_algorithm.md", "exec"), names)
        agent = names["agent"]
    finally:
        AGENTS.pop("patient_ppo", None)

    assert agent.num_timesteps == 768 and agent.policy.optimizer.param_groups[0]["lr"] < 2e-3
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[-3:]] == ["BrightestPlace", "RandomPolicy", "CenterCornerPolicy"]


@pytest.mark.slow
def test_a_task_of_ones_own_works_as_the_guide_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, use, reward = _snippets("own_task")
    (config,) = re.findall(r"```yaml\n(.*?)```", DOCS["own_task"], re.DOTALL)
    assert len([line for line in (task + use).splitlines() if line.strip()]) <= 25
    (tmp_path / "my_task.py").write_text(task + reward.split("env =")[0] + reward.splitlines()[-1])
    (tmp_path / "night.yaml").write_text(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("scripts.plots.as_svg", lambda figure: "")
    small = "policy_options={extractor: {conv_channels: 2, units: 4}}"
    few = ["data.arguments={num_scenes: 12}", "data.num_test=6", "stage2.env_steps=12", "stage2.num_envs=2"]
    few += ["stage2.options.n_steps=6", "oracle_grid=0", "fixed_place_grid=0", f"stage2.{small}", "--quiet"]

    try:
        for program, *words in _commands(DOCS["own_task"]):
            assert program == "gfnet"
            if words[0] == "train":
                words += ["--set", *few]
            elif words[0] == "benchmark":
                words += [
                    "--steps",
                    "12",
                    "--seeds",
                    "1",
                    "--set",
                    "rules.num_scenes=12",
                    "num_envs=8",
                    "options.rollout=24",
                    small,
                    "--quiet",
                ]
            assert main(words) == 0, words
        names: dict[str, Any] = {}
        exec(compile(use + reward, "own_task.md", "exec"), {**sys.modules["my_task"].__dict__}, names)
    finally:
        for registry, name in ((TASKS, "NightSigns-v0"), (REWARDS, "success"), (sys.modules, "my_task")):
            registry.pop(name, None)  # type: ignore[attr-defined]
        gymnasium.registry.pop("NightSigns-v0", None)

    assert names["agent"].num_timesteps == 768 and names["record"].num_steps == 4
    assert names["env"].unwrapped.dynamics.spec.step_cost == 0.01
    board = read_rows(tmp_path / "runs" / "board" / "rows.csv")
    assert [(row.agent, row.settings.get("rules.reward")) for row in board] == [
        *(("random", None), ("ppo", None), ("ppo_gru", None)),
        ("ppo", "success"),
    ]
    assert "success" in (tmp_path / "runs" / "success" / "report.html").read_text()
    assert (tmp_path / "runs" / "night" / "stage1" / "classifier.safetensors").is_file()


@expected_checker_warnings
@pytest.mark.parametrize("snippet", [*_snippets("used_with"), *_snippets("observations")])
def test_the_snippets_on_other_tools_run(
    snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "minari" in snippet:
        pytest.importorskip("minari")
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
        (words,) = (words for program, *words in _commands(DOCS["used_with"]) if program == "gfnet")
        assert main([*words, "--episodes", "2", "--set", "num_scenes=4", "--quiet"]) == 0
    exec(compile(snippet, "used_with.md", "exec"), {})


def test_the_error_of_stable_baselines3_is_its_own() -> None:
    env: Any = gymnasium.make_vec("GFNet-SyntheticSigns-v0", num_envs=2, num_scenes=4, autoreset_mode="SAME_STEP")
    quoted = re.sub(r"\s+", " ", DOCS["used_with"])

    with pytest.raises(ValueError, match="we expect OpenAI Gym to be installed") as error:
        PPO("MultiInputPolicy", env)

    words = re.sub(r"<class '[\w.]*\.(\w+)'>", r"\1", str(error.value))
    assert words.split(" installed")[0] in quoted


def _paper_rows() -> list[list[str]]:
    """The cells of the rows of the paper's tables and figures."""
    lines = [line for line in DOCS["paper"].splitlines() if re.match(r"\| \d", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_table_and_figure_of_the_paper_is_listed() -> None:
    tables, figures = (text.split("\n## ")[0] for text in DOCS["paper"].split("\n## Tables")[1].split("\n## Figures"))
    for text, last in ((tables, 9), (figures, 18)):
        listed = {
            int(number)
            for row in re.findall(r"^\| ([\d, a-f-]+) \|", text, re.MULTILINE)
            for number in re.findall(r"\d+", row)
        }
        assert listed == set(range(1, last + 1))


@pytest.mark.parametrize("row", _paper_rows(), ids=lambda row: f"{row[0]} {row[1]}")
def test_our_figures_stand_where_the_table_says(row: list[str]) -> None:
    _, _, command, ours, _, verdict = row
    assert verdict or not ours or "drawings" in row[1]
    linked = "".join(
        (ROOT / "docs" / target.split("#")[0]).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)]+)\)", ours)
    )
    cell = re.sub(r"\]\([^)]+\)|`[^`]*`", "", ours)
    figures = re.findall(r"\d+\.\d+(?: ± \d\.\d+)?", cell)
    assert [figure for figure in figures if figure not in linked] == []
    for program, *words in (shlex.split(part) for part in re.findall(r"`([^`]+)`", command)):
        if program == "gfnet":
            build_parser().parse_args(words)
        else:
            assert program == "python" and (ROOT / words[0]).is_file()


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`runs/demo` in the current folder, and an image."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run, "runs/demo")
    Image.new("RGB", (SMALL_SCENES.width, SMALL_SCENES.height), (90, 120, 90)).save("IMAGE.png")
    return Path("runs/demo")


@pytest.mark.slow
@pytest.mark.parametrize("page", ["budgets", "export"])
def test_guides_to_a_run_work(
    page: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if page == "export":
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for program, *words in _commands(DOCS[page]):
        words = [word.replace("PICTURES", "IMAGE.png") for word in words]
        if program == "gfnet":
            assert main([*words, "--quiet"]) == 0
        else:
            command = [sys.executable, *(word.replace("IMAGE", "IMAGE.png") for word in words)]
            assert '"class"' in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    capsys.readouterr()
    for snippet in _snippets(page):
        exec(compile(snippet, f"{page}.md", "exec"), {})

    printed = capsys.readouterr().out.splitlines()
    if page == "budgets":
        assert [line.split(":")[0] for line in printed[:3]] == ["8 M", "11 M", "20 M"]
        assert printed[3].startswith("[{'label': ")
        assert [line.split()[0] for line in printed[4:]] == ["128", "128", "44"]
    else:
        assert re.fullmatch(r"\S+ 0\.\d+ [1-4] \d+", printed[-1])
