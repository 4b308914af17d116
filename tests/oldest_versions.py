"""Tests with the oldest versions of our dependencies that pyproject.toml allows, in a virtual environment of their own.

    python tests/oldest_versions.py FOLDER [--with-torch]

The environment in FOLDER has exactly the version that is the lower bound of each dependency; what is no dependency of
ours is that of the environment that runs this. So are torch and torchvision, since they take 7 GB, unless
`--with-torch` is given: `OF_TORCH` is then tested, too. Old libraries meet newer ones there and call them by names that
are deprecated: such warnings are no errors.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
REUSED = ("torch", "torchvision")
"""Dependencies too large to have twice; `--with-torch` installs their oldest versions, too."""

TESTS = (
    "tests/test_env_gymnasium.py",  # Gymnasium, timm
    "tests/test_env_contract.py",
    "tests/test_env_actions.py",
    "tests/test_env_tasks.py",  # scikit-image
    "tests/test_agents_algorithms.py",  # Stable-Baselines3, sb3-contrib
    "tests/test_agents_weight_files.py",  # safetensors
    "tests/test_data_decoding.py",  # Pillow
    "tests/test_scripts_cli.py::test_user_errors_are_one_sentence_and_exit_code_1",  # pydantic, PyYAML
    "tests/test_scripts_cli.py::test_train_writes_all_that_it_promises",  # TensorBoard, matplotlib
    "tests/test_scripts_cli.py::test_evaluate_prints_the_table",  # rich
    "tests/test_scripts_cli.py::test_render_writes_pictures_and_films",
)
"""What touches the libraries' interfaces, and a short training of all stages."""

OF_TORCH = ("tests/test_agents_onnx.py", "tests/test_classifiers_training.py", "tests/test_classifiers_encoders.py")
"""What else depends on the version of torch and torchvision."""


def oldest_versions(*, with_torch: bool = False) -> dict[str, str]:
    """The lower bounds of our dependencies, by name, those of torch and torchvision on demand."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = {}
    for requirement in map(Requirement, project["dependencies"]):
        (bound,) = (part.version for part in requirement.specifier if part.operator == ">=")
        bounds[requirement.name] = bound
    return {name: bound for name, bound in bounds.items() if with_torch or name not in REUSED}


def create(folder: Path, *, with_torch: bool = False) -> Path:
    """Makes the environment.

    Args:
        folder: its place; what is there is replaced.
        with_torch: whether torch and torchvision are installed, too.

    Returns:
        Its Python.

    Raises:
        subprocess.CalledProcessError: if pip fails.
    """
    venv.create(folder, clear=True, symlinks=True)
    python = folder / "bin" / "python"
    # the present environment comes behind the new one's own packages; pip, which it has, leaves it alone
    (site_packages,) = (folder / "lib").glob("python*/site-packages")
    paths = sysconfig.get_paths()
    (site_packages / "present.pth").write_text("\n".join({paths["purelib"], paths["platlib"]}))
    pins = [f"{name}=={version}" for name, version in oldest_versions(with_torch=with_torch).items()]
    quiet = ("--quiet", "--disable-pip-version-check", "--retries", "1", "--no-compile")
    subprocess.run([python, "-m", "pip", "install", *quiet, *pins], check=True)
    return python


def run_tests(python: Path, tests: tuple[str, ...] = TESTS) -> None:
    """Runs tests with an environment's Python.

    Raises:
        subprocess.CalledProcessError: if one fails.
    """
    # the new environment sees two versions of a library's pytest plugin, so that none is loaded by itself
    plugins = ("-p", "xdist.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    timm = "ignore:`torch.jit.interface` is deprecated:FutureWarning"  # until its 1.0.24, said by torch
    options = ("-q", "-n", "0", *plugins, "-W", "ignore::DeprecationWarning", "-W", timm)
    subprocess.run([python, "-m", "pytest", *options, *tests], cwd=ROOT, env=environment, check=True)


def main() -> None:
    """Makes the environment in the folder that was named, prints what is in it, and runs the tests."""
    with_torch = "--with-torch" in sys.argv[2:]
    python = create(Path(sys.argv[1]), with_torch=with_torch)
    program = "import sys, importlib.metadata as m; print(*(f'{n}=={m.version(n)}' for n in sys.argv[1:]), sep='\\n')"
    subprocess.run([python, "-c", program, *oldest_versions(with_torch=with_torch)], check=True)
    run_tests(python, (*TESTS, *OF_TORCH) if with_torch else TESTS)


if __name__ == "__main__":
    main()
