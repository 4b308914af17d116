"""A run's folder: who may write to it, and with which settings a run that has begun may be continued."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from agents.runs.config_files import ConfigError, load_config, load_run_config
from agents.runs.stages import LOCK, STAGES, check_settings, claimed, locked
from scripts.cli import main

FILES = {
    "full-resolution network": "initialization/full_resolution.training.pt",
    "low-resolution network": "initialization/low_resolution_96.safetensors",
    "stage I": "stage1/classifier.training.pt",
    "stage II": "stage2/training.pt",
    "stage III": "stage3/classifier.safetensors",
}
DEPENDENT = [
    ("data.num_train=100", "full-resolution network"),
    ("data.scenes.seed=3", "full-resolution network"),
    ("seed=1", "full-resolution network"),
    ("classifier.encoder=resnet18", "full-resolution network"),
    ("initialization.full_resolution.lr=0.5", "full-resolution network"),
    ("initialization.low_resolution.epochs=9", "low-resolution network"),
    ("classifier.patch_size=40", "low-resolution network"),
    ("classifier.hidden_size=64", "stage I"),
    ("stage1.batch_size=8", "stage I"),
    ("stage2.env_steps=100", "stage II"),
    ("stage2.options.gamma=0.5", "stage II"),
    ("stage2.episode.reward=contrastive", "stage II"),
    ("rounds=2", "stage II"),
    ("stage3.lr=0.5", "stage III"),
]
FREE = ("oracle_grid=3", "device=cuda", "data.num_test=10", "data.num_val=10")


def _run(folder: Path, *stages: str) -> Path:
    with claimed(folder, load_config("synthetic_signs")):
        for stage in stages:
            (folder / FILES[stage]).parent.mkdir(parents=True, exist_ok=True)
            (folder / FILES[stage]).touch()
    return folder


@pytest.mark.parametrize(("change", "stage"), DEPENDENT)
def test_settings_may_change_until_a_stage_that_depends_on_them_begins(change: str, stage: str, tmp_path: Path) -> None:
    names = [each.name for each in STAGES]
    before = names[: names.index(stage)]
    changed = load_config("synthetic_signs", [change])
    key = change.partition("=")[0]

    run = _run(tmp_path / "before", *before)
    with claimed(run, changed):
        assert load_run_config(run) == changed

    with pytest.raises(ConfigError, match=f"a run whose {stage} has begun with {key}=.*; pass another --out, or"):
        check_settings(_run(tmp_path / "begun", *before, stage), changed)


@pytest.mark.parametrize("change", FREE)
def test_settings_of_the_evaluation_may_change_always(change: str, tmp_path: Path) -> None:
    run, changed = _run(tmp_path / "run", *FILES), load_config("synthetic_signs", [change])

    with claimed(run, changed):
        assert load_run_config(run) == changed


def test_validation_images_matter_once_they_choose_the_policy(tmp_path: Path) -> None:
    evaluated = ["stage2.evaluations=3"]
    with claimed(tmp_path, load_config("synthetic_signs", evaluated)):
        (tmp_path / "stage2").mkdir()
        (tmp_path / "stage2" / "best.json").touch()

    with pytest.raises(ConfigError, match=r"stage II has begun with data.num_val=4000, not 10"):
        check_settings(tmp_path, load_config("synthetic_signs", [*evaluated, "data.num_val=10"]))


def test_a_refused_change_leaves_the_config_alone(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", "stage I")
    before = (run / "config.yaml").read_bytes()

    with pytest.raises(ConfigError, match="stage I"), claimed(run, load_config("synthetic_signs", ["seed=9"])):
        pass

    assert (run / "config.yaml").read_bytes() == before and not (run / LOCK).exists()


def _hold(folder: str, ready: str) -> None:
    with locked(Path(folder)):
        Path(ready).touch()
        time.sleep(600)


def test_one_process_at_a_time_and_a_killed_one_holds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run(tmp_path / "run")
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(str(run), str(tmp_path / "ready")))
    holder.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)

    for command in (
        ["demo", "--out", str(run)],
        *(["import-checkpoint", str(tmp_path / "file"), "--out", str(run)], ["evaluate", str(run)]),
        *(["report", str(run)], ["render", str(run), "--out", str(run / "new" / "1.png")], ["export", str(run)]),
    ):
        assert main([*command, "--quiet"]) == 1
        assert f"{run} is locked by another process" in capsys.readouterr().err
    assert {path.name for path in run.iterdir()} == {"config.yaml", LOCK}
    assert main(["render", str(run), "--out", str(tmp_path / "1.png")]) == 1  # writes elsewhere: it may read
    assert "locked" not in capsys.readouterr().err

    holder.kill()
    holder.join()
    with locked(run):
        assert (run / LOCK).exists()
    assert not (run / LOCK).exists()


def test_a_lock_makes_no_folder_that_stays(tmp_path: Path) -> None:
    assert main(["import-checkpoint", str(tmp_path / "absent.pth.tar"), "--out", str(tmp_path / "run")]) == 1

    assert not (tmp_path / "run").exists()
