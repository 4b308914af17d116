"""`gfnet --print-completion`: what shells complete with its scripts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agents.runs.config_files import built_in_configs
from gfnet_env import TASKS
from scripts.cli import SHELLS, main

_BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_shtab_gfnet gfnet "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Path:
    """The script of the shell that is the test's parameter."""
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", request.param])
    assert end.value.code == 0
    path = tmp_path / f"gfnet.{request.param}"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_completes_commands_options_configs_and_tasks(script: Path, tmp_path: Path) -> None:
    (tmp_path / "demonstration.yaml").touch()

    def completed(*words: str) -> set[str]:
        program = ["bash", "-c", _BASH, "bash", str(script), "gfnet", *words]
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert completed("be") == {"benchmark"}
    assert completed("train", "demo", "--o") == {"--out"}
    assert completed("train", "demo") == {"demo", "demonstration.yaml"}
    assert completed("cost", "resnet50") == {name for name in built_in_configs() if name.startswith("resnet50")}
    assert completed("env", "GFNet-Syn") == {name for name in TASKS if name.startswith("GFNet-Syn")}
    assert completed("benchmark", "ppo", "--task", "GFNet-Image") == {"GFNet-ImageFolder-v0", "GFNet-ImageNet-v0"}
    assert completed("benchmark", "sca") == {"scan"}
    assert completed("evaluate", "run", "--policies", "or") == {"oracle"}


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish_completes_configs_and_files(script: Path, tmp_path: Path) -> None:
    (tmp_path / "demonstration.yaml").touch()
    program = ["fish", "--no-config", "-c", f"source {script}; complete -C 'gfnet train demo'"]

    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == {"demo", "demonstration.yaml"}


@pytest.mark.parametrize("script", SHELLS, indirect=True)
def test_scripts_are_of_their_shell(script: Path) -> None:
    shell = script.suffix[1:]
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")

    subprocess.run([shell, "-n", str(script)], check=True)
    assert "image_folder" in script.read_text() and "GFNet-SyntheticSigns-v0" in script.read_text()


def test_without_shtab_the_option_says_what_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "scripts.completion", raising=False)
    monkeypatch.setitem(sys.modules, "shtab", None)

    with pytest.raises(SystemExit) as end:
        main(["--print-completion", "bash"])

    assert end.value.code == 1 and "needs shtab" in capsys.readouterr().err
