"""The `gfnet` command as a person uses it, on tiny data."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import agents.runs.policy_training
from agents.algorithms.registry import AGENTS
from agents.evaluation.budgets import METHODS
from agents.evaluation.metrics import accuracy_by_step, pointing_game
from agents.evaluation.record import load_record
from agents.evaluation.rollout import final_accuracy
from agents.recognition.onnx_export import PRECISIONS
from agents.runs.config_files import CONFIGS, ConfigError, built_in_configs
from agents.runs.folder import RunFolder
from agents.runs.pipeline import Pipeline
from agents.runs.results import POLICIES
from classifiers.data.decoding import UnreadableImageError
from gfnet_env.installation import foreign_agents
from scripts.cli import _METHODS, _PRECISIONS, build_parser, main
from scripts.commands import COMMANDS
from scripts.console import format_error, is_our_own

TINY = """
data: {kind: synthetic_signs, num_train: 24, num_val: 10, num_test: 12, scenes: {height: 96, width: 128}}
classifier: {encoder: small_resnet, head: gru, patch_size: 48, num_glimpses: 4, hidden_size: 16}
initialization:
  full_resolution: {epochs: 1, batch_size: 12, optimizer: adamw, lr: 1.0e-3}
  low_resolution: {epochs: 1, batch_size: 12, optimizer: adamw, lr: 1.0e-3}
stage1: {epochs: 1, batch_size: 12, optimizer: adamw, lr: 1.0e-3}
stage2: {env_steps: 96, num_envs: 8, options: {n_steps: 15}}
stage3: {epochs: 1, batch_size: 12, optimizer: adamw, lr: 1.0e-3}
oracle_grid: 3
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY)
    assert main(["train", str(folder / "tiny.yaml"), "--out", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def _figures(run: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    for name in ("seconds", "milliseconds", "made_by"):
        metrics.pop(name)
    return metrics


def test_train_writes_all_that_it_promises(finished: Path) -> None:
    metrics = _figures(finished)

    assert tuple(metrics["accuracy"]) == POLICIES
    for name, values in metrics["accuracy"].items():
        record = load_record(RunFolder(finished).record(name))
        assert values == pytest.approx([float((step == record.label).mean()) for step in record.prediction.T])
        assert metrics["pointing_game"][name] == pointing_game(record)
    assert tuple(metrics["pointing_game"]) == POLICIES
    costs = metrics["multiply_adds"]
    assert costs["cumulative"][1] == costs["glance"] + costs["focus"] + costs["policy"]
    assert costs["full_resolution"] > costs["cumulative"][0]
    assert metrics["full_resolution_accuracy"] in {right / 12 for right in range(13)}
    assert metrics["env_steps"] == 120  # a whole rollout
    report = (finished / "report.html").read_text()
    assert report.count("<svg fill=") == 8 and report.count('src="data:image/png') == 1
    with Image.open(finished / "glimpses.png") as picture:
        assert picture.width > 1000
    assert list((finished / "tensorboard").glob("events.out.tfevents.*"))
    stages = {json.loads(line)["stage"] for line in (finished / "metrics.jsonl").read_text().splitlines()}
    assert {"full_resolution", "low_resolution_48", "stage1", "stage2", "stage3"} <= stages
    assert not list(finished.rglob("*training.pt")) and not list(finished.rglob(".*"))


def test_the_same_command_again_computes_nothing_and_another_config_is_not_mixed_in(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "run", lambda self: pytest.fail("it went on"))
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    arguments = ["train", str(finished.parent / "tiny.yaml"), "--out", str(finished)]

    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert main([*arguments, "--set", "stage1.epochs=3"]) == 1

    assert said.count("\n") == 1 and "is finished" in said
    assert str(finished / "report.html") in said and str(finished / "metrics.json") in said
    assert "stage1.epochs=1, not 3" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


LACKING = ("report.html", "stage3/classifier.safetensors", "evaluation/oracle.safetensors")


@pytest.mark.usefixtures("blank_report")
def test_a_run_that_lacks_something_is_not_finished(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    command = ["train", str(finished.parent / "tiny.yaml"), "--out", str(run)]
    started: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "run", lambda self: started.append(missing) or sys.exit())
        for missing in LACKING:
            (run / missing).rename(tmp_path / "aside")
            with pytest.raises(SystemExit):
                main(command)
            (tmp_path / "aside").rename(run / missing)
    assert tuple(started) == LACKING
    for missing in LACKING:
        (run / missing).unlink()
    capsys.readouterr()

    assert main(command) == 0

    assert _figures(run) == _figures(finished) and all((run / missing).is_file() for missing in LACKING)
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory of ")]
    assert "stage III: a step of 12 images" in said  # what is trained already needs none


@pytest.mark.usefixtures("blank_report")
def test_results_of_other_settings_are_not_the_runs(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, arguments = tmp_path / "run", ["train", str(finished.parent / "tiny.yaml")]
    shutil.copytree(finished, run)
    assert main(["evaluate", str(run), "--quiet", "--set", "oracle_grid=0", "data.num_test=6"]) == 0

    assert main([*arguments, "--out", str(run)]) == 0
    assert _figures(run) == _figures(finished)
    assert main([*arguments, "--out", str(run), "--set", "oracle_grid=0"]) == 0
    assert "oracle" not in _figures(run)["accuracy"]
    capsys.readouterr()
    assert main([*arguments, "--out", str(run), "--set", "oracle_grid=0"]) == 0
    assert "is finished" in capsys.readouterr().out


def test_evaluate_prints_the_table(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(finished), "--split", "val"]) == 0

    printed = capsys.readouterr().out
    assert "accuracy on 10 held-out images" in printed
    assert all(name in printed for name in ("random", "center-corner", "learned", "oracle"))


def test_render_writes_pictures_and_films(finished: Path, tmp_path: Path) -> None:
    assert main(["render", str(finished), "--out", str(tmp_path / "a.png"), "--images", "0", "3"]) == 0
    assert main(["render", str(finished), "--out", str(tmp_path / "a.gif"), "--images", "5", "--split", "train"]) == 0
    assert main(["render", str(finished)]) == 0

    with Image.open(tmp_path / "a.gif") as film:
        assert getattr(film, "n_frames", 1) == 4
    with Image.open(tmp_path / "a.png") as picture, Image.open(finished / "glimpses.png") as six:
        assert six.width > picture.width


@pytest.mark.slow
@pytest.mark.usefixtures("blank_report")
def test_a_second_round_is_a_run_started_from_the_first(finished: Path, tiny: Path, tmp_path: Path) -> None:
    both, second = tmp_path / "both", tmp_path / "second"
    for stage in ("initialization", "stage1"):
        shutil.copytree(finished / stage, both / stage)

    assert main(["train", str(tiny), "--out", str(both), "--quiet", "--set", "rounds=2"]) == 0
    assert main(["train", str(tiny), "--out", str(second), "--quiet", "--set", f"start={finished}"]) == 0

    for file in ("stage2/policy.safetensors", "stage3/classifier.safetensors"):
        for ours, theirs in ((both / "round_1", finished), (both, second)):
            left, right = load_file(ours / file), load_file(theirs / file)
            assert all(torch.equal(left[key], right[key]) for key in left)
    assert _figures(both)["accuracy"] == _figures(second)["accuracy"]
    stages = {json.loads(line)["stage"] for line in (both / "metrics.jsonl").read_text().splitlines()}
    assert {"round_1/stage2", "round_1/stage3", "stage2", "stage3"} <= stages


def test_env_prints_spaces_and_speed(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--num-envs", "2", "--steps", "3", "--set", "num_scenes=4", "--set", "num_glimpses=3"]
    assert main(["env", "GFNet-SyntheticSigns-v0", *options]) == 0

    printed = capsys.readouterr().out
    assert "Dict('features': Box(" in printed and "steps/s" in printed


@pytest.mark.usefixtures("blank_report")
def test_pictures_of_ones_own(picture_tree: Path, tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(re.sub("data: .*", "data: {kind: image_folder, height: 96, width: 112}", TINY))
    changes = [f"data.root={picture_tree}", "stage2.agent=ppo_gru", "oracle_grid=0", "fixed_place_grid=0"]

    assert main(["train", str(tiny), "--out", str(tmp_path / "run"), "--quiet", "--set", *changes]) == 0

    metrics = _figures(tmp_path / "run")
    assert metrics["images"] == 12 and set(metrics["pointing_game"].values()) == {None}
    assert "oracle" not in metrics["accuracy"]


@pytest.mark.usefixtures("blank_report")
def test_a_run_starts_from_another_and_keeps_its_best_policy(
    finished: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own number of glimpses, from a relative folder, and used from anywhere."""
    found: list[float] = []

    def noting(*arguments: Any, **options: Any) -> float:
        found.append(final_accuracy(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(agents.runs.policy_training, "final_accuracy", noting)
    monkeypatch.chdir(finished.parent)
    changes = [f"start={finished.name}", "stage2.options.learning_rate=0.3", "stage2.options.n_steps=2"]
    changes += ["stage2.evaluations=4", "stage3.epochs=0", "classifier.num_glimpses=3", "oracle_grid=0"]
    run = tmp_path / "run"

    assert main(["train", str(tiny), "--out", str(run), "--quiet", "--set", *changes]) == 0

    metrics, kept = _figures(run), load_record(run / "evaluation" / "calibration.safetensors")
    assert metrics["full_resolution_accuracy"] == _figures(finished)["full_resolution_accuracy"]
    assert {len(values) for values in metrics["accuracy"].values()} == {3}
    assert len(found) == 4 + 1 and accuracy_by_step(kept)[-1] == max(found)
    assert [path.name for path in (run / "stage2").iterdir()] == ["policy.safetensors"]
    assert not (run / "stage1").exists() and not (run / "stage3").exists()
    monkeypatch.chdir("/")
    assert main(["evaluate", str(run), "--quiet", "--policies", "learned"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "image_folder", "--out", "{tmp}/x", "--set", "data.root={tmp}/no"], "/no is not a folder"),
        (["train", "image_folder", "--out", "{tmp}/x", "--set", "data.root={bad}"], "/bad/train"),
        (["demo", "--out", "{tmp}/x", "--set", "seed=1", "stage2.env_step=5"], "'stage2.env_steps'"),
        (["demo", "--out", "{tmp}/x", "--set", "start={tmp}"], "{tmp}"),
        (["demo", "--out", "{tmp}/file/x"], "/file"),
        pytest.param(
            ["demo", "--out", "/proc/nothing/x"],
            "/proc/nothing",
            marks=pytest.mark.skipif(not Path("/proc").exists(), reason="no folder that can't be written here"),
        ),
        (["evaluate", "{tmp}"], "config.yaml"),
        (["env", "GFNet-Signs-v0"], "'GFNet-Signs-v0'"),
        (["env", "GFNet-SyntheticSigns-v0", "--num-envs", "0"], "--num-envs 0"),
        (["env", "GFNet-SyntheticSigns-v0", "--set", "num_glimpses=}}"], "num_glimpses=}}"),
        (["env", "GFNet-ImageFolder-v0"], "root="),
    ],
)
def test_user_errors_are_one_sentence_and_exit_code_1(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    bad = tmp_path / "bad"
    (bad / "train" / "cat").mkdir(parents=True)

    code = main([argument.format(tmp=tmp_path, bad=bad) for argument in arguments])

    error = capsys.readouterr().err
    assert code == 1
    assert message.format(tmp=tmp_path) in error
    assert "Traceback" not in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("where", ["at import", "in the agent"])
def test_what_the_users_code_raises_passes_through(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(AGENTS, "broken_agent", AGENTS["ppo"])
    (tmp_path / "broken_module.py").write_text(
        "from agents import AGENTS, AgentRecipe\n"
        "def build(*arguments, **options):\n    raise ValueError('my own fault')\n"
        + ("build()" if where == "at import" else "AGENTS['broken_agent'] = AgentRecipe(build, 'MultiInputPolicy')\n")
    )
    arguments = ["--out", str(tmp_path / "run"), "--import", "broken_module", "--set", "stage2.agent=broken_agent"]

    with pytest.raises(ValueError, match="my own fault"):
        main(["demo", *arguments, "--quiet"])
    sys.modules.pop("broken_module", None)


def test_the_traceback_of_our_own_errors_is_a_flag_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="sede"):
        main(["cost", "demo", "--set", "sede=1", "--traceback"])
    monkeypatch.setenv("GFNET_DEBUG", "1")
    with pytest.raises(ConfigError, match="sede"):
        main(["cost", "demo", "--set", "sede=1"])


def test_an_image_that_a_worker_can_not_read_is_one_sentence() -> None:
    try:
        raise UnreadableImageError("a.jpg can't be decoded")
    except UnreadableImageError:
        wrapper = torch._utils.ExceptionWrapper(where="in DataLoader worker process 0")

    with pytest.raises(UnreadableImageError) as caught:
        wrapper.reraise()  # what a DataLoader does

    assert is_our_own(caught.value) and format_error(caught.value) == "a.jpg can't be decoded"


@pytest.mark.parametrize(
    "arguments",
    [
        ["cost", "demo", "--set", "seed=1", "--set", "stage2.num_envs=8"],
        ["cost", "demo", "--set", "seed=1", "stage2.num_envs=8"],
        ["cost", "--set", "seed=1", "stage2.num_envs=8", "demo"],
        ["cost", "--set=seed=1", "stage2.num_envs=8", "--json", "demo"],
        ["cost", "--set", "seed=1", "demo", "--set", "stage2.num_envs=8"],
    ],
)
def test_settings_may_share_one_flag(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setitem(COMMANDS, "cost", lambda options, console: seen.append((options.config, options.set)))

    assert main(arguments) == 0

    assert seen == [("demo", ["seed=1", "stage2.num_envs=8"])]


def test_a_number_after_settings_is_no_setting(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "--out", str(tmp_path / "x"), "--set", "seed=1", "5"])


def test_other_images_than_the_run_was_trained_on_are_refused(
    finished: Path, tmp_path: Path, picture_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--set", f"start={finished}", "--set", f"data.root={picture_tree}", "--set", "classifier=null"]

    assert main(["train", "image_folder", "--out", str(tmp_path / "run"), "--quiet", *options]) == 1

    assert "the data set has left, right (2); pass a run of this data set" in capsys.readouterr().err


def test_a_run_that_can_not_begin_leaves_its_folder_free(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "mine"

    assert main(["train", "image_folder", "--out", str(out), "--quiet", "--set", "data.root=/nowhere"]) == 1

    assert not out.exists()
    out.mkdir()
    assert main(["train", "image_folder", "--out", str(out), "--quiet", "--set", "data.root=/nowhere"]) == 1
    assert out.is_dir() and not list(out.iterdir())


def test_what_an_interrupted_run_left_half_written_is_removed_at_the_start(tmp_path: Path) -> None:
    left = tmp_path / "run" / "stage1" / ".gfnet-abcd.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")

    assert main(["train", "image_folder", "--out", str(tmp_path / "run"), "--set", "data.root=/nowhere"]) == 1

    assert not left.exists()


@pytest.mark.slow
def test_interrupted_by_the_user(finished: Path, tmp_path: Path) -> None:
    program = (  # a process that is started in the background of a shell inherits that it ignores the signal
        "import signal, sys; from scripts.cli import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "train", str(finished.parent / "tiny.yaml"), "--quiet"]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "run")], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "config.yaml").exists():
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)

    _, error = process.communicate()
    assert process.returncode == 130
    assert error.strip() == "interrupted; the same command continues where it stopped"


@pytest.mark.parametrize(
    "agent", ["random", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dqn", "recurrent_ppo"))]
)
def test_whole_runs_of_other_algorithms(
    agent: str, finished: Path, tiny: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if agent != "random":
        request.getfixturevalue("blank_report")
    changes = (f"stage2.agent={agent}", "stage2.options={}", "stage3.epochs=0", f"start={finished}")

    assert main(["train", str(tiny), "--out", str(tmp_path / "run"), "--quiet", "--set", *changes]) == 0
    assert main(["render", str(tmp_path / "run"), "--out", str(tmp_path / "looks.png"), "--quiet"]) == 0

    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len(metrics["accuracy"]["learned"]) == len(metrics["accuracy"]["random"])
    assert (tmp_path / "looks.png").is_file() and (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["trian"]])
def test_help_version_and_usage_errors_do_not_wait_for_pytorch(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom scripts.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    print(end.code, 'torch' in sys.modules)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[-1] == ("2 False" if arguments == ["trian"] else "0 False")


def test_help_says_what_tables_and_figures_show() -> None:
    parser = build_parser()
    (commands,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    pages = [parser.format_help(), *(command.format_help() for command in commands.choices.values())]

    assert len(pages) > 12 and not any(re.search(r"\b(Table|Fig|Section|Eq)s?\b\.? ?\d", page) for page in pages)


def test_an_unknown_config_names_a_few_similar_ones_and_where_all_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, near in (("synthetic_sign", ["synthetic_signs", "synthetic_signs_hard"]), ("zzz", [])):
        assert main(["train", name, "--out", str(tmp_path / "run"), "--quiet"]) == 1

        (line,) = capsys.readouterr().err.splitlines()
        named = [each for each in re.findall(r"'([^']+)'", line) if each != name]
        assert len(named) <= 3 and set(near) <= set(named) <= set(built_in_configs()) and bool(named) == bool(near)
        assert line.endswith(str(CONFIGS)) and CONFIGS.is_dir()


def test_methods_of_the_command_are_the_librarys() -> None:
    assert _METHODS == METHODS and _PRECISIONS == PRECISIONS


def test_a_package_agents_of_others_is_named_and_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert foreign_agents() is None
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text('"""Somebody\'s agents."""\n')
    monkeypatch.delitem(sys.modules, "agents")
    monkeypatch.syspath_prepend(tmp_path)

    assert str(tmp_path / "agents") in str(foreign_agents())
    assert main(["env", "GFNet-SyntheticSigns-v0"]) == 1
