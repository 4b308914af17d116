"""The `gfnet` command."""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_METHODS = ("coordinate_ascent", "geometric", "genetic")  # `agents.evaluation.budgets.METHODS`, which imports PyTorch
_PRECISIONS = ("fp32", "fp16", "int8", "int8-calibrated")  # `agents.recognition.onnx_export.PRECISIONS`, likewise
SHELLS = ("bash", "zsh", "fish")
"""Shells that can complete the command line."""

_SETTING = re.compile(r"[\w.]+=")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: command-line arguments; None takes the process's own.

    Returns:
        The exit code: 0 for success, 1 after an error that was printed, 2 for a wrong command line, 130 if interrupted.

    Raises:
        Exception: what the user's code or a library raised; with `--traceback` or `GFNET_DEBUG=1`, our own errors, too.
    """
    options = build_parser().parse_args(_expand_set_args(sys.argv[1:] if arguments is None else arguments))
    from gfnet_env.installation import foreign_agents  # with PyTorch, which help and usage errors needn't wait for

    if foreign_agents() is not None:  # `gfnet_env` has said so
        return 1
    from scripts.run_command import run_command

    return run_command(options)


def _expand_set_args(arguments: Sequence[str]) -> list[str]:
    """`--set A=1 B=2` as `--set A=1 --set B=2`; what is no setting, as `demo` in `--set A=1 demo`, is left alone."""
    spread: list[str] = []
    for argument in arguments:
        follows_setting = spread[-2:-1] == ["--set"] or (spread[-1:] and spread[-1].startswith("--set="))
        if follows_setting and _SETTING.match(argument):
            spread.append("--set")
        spread.append(argument)
    return spread


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(prog="gfnet", description="Glance and Focus Networks as a Gymnasium environment.")
    parser.add_argument("--version", action="version", version=f"gfnet {_version()}")
    parser.add_argument(
        "--print-completion", action=_PrintCompletion, choices=SHELLS, help="print a script that lets a shell complete"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--quiet", action="store_true", help="print errors only")
    common.add_argument(
        "--traceback", action="store_true", help="show where an error comes from; GFNET_DEBUG=1 does, too"
    )
    common.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import this module first; it may add agents or encoders of your own",
    )

    def add(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=[common], help=help)

    _add_training(add)
    _add_use_of_runs(add)
    _add_pages(add)
    _add_tools(add)
    return parser


class _PrintCompletion(argparse.Action):
    """Prints the script and ends, as `--help` does."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        try:
            from scripts.completion import completion_script
        except ModuleNotFoundError as error:
            if error.name != "shtab":
                raise
            parser.exit(1, "gfnet: --print-completion needs shtab; run `pip install 'gfnet-gym[completion]'`\n")
        shell = args[1]
        print(completion_script(parser, shell))
        parser.exit()


def _version() -> str:
    """The installed package's version; of a source tree that is not installed there is none."""
    try:
        return importlib.metadata.version("gfnet-gym")
    except importlib.metadata.PackageNotFoundError:
        return "unknown, gfnet-gym is not installed"


Add = Callable[[str, str], argparse.ArgumentParser]


def _add_training(add: Add) -> None:
    demo = add("demo", "train a policy on the built-in task and show what it learned")
    train = add("train", "train a whole run, or continue one")
    train.add_argument(
        "config", help="a YAML file, or a built-in config, such as image_folder: one of those in agents/runs/configs"
    )
    for command, folder in ((demo, "runs/demo"), (train, None)):
        command.add_argument("--out", type=Path, default=folder, required=folder is None, help="the run's folder")
        _add_changes(command)

    published = add("import-checkpoint", "turn a checkpoint of GFNet's authors into a run")
    published.add_argument("checkpoint", type=Path, help="a published .pth.tar file")
    published.add_argument("--out", type=Path, required=True, help="the run's folder")

    _add_benchmark(add)


def _add_benchmark(add: Add) -> None:
    benchmark = add("benchmark", "a leaderboard of agents on tasks")
    benchmark.add_argument("names", nargs="*", metavar="AGENT", help="which, such as ppo, or a baseline such as random")
    benchmark.add_argument(
        "--task", nargs="+", action="extend", metavar="ID", help="environments; GFNet-SyntheticSigns-v0 if left out"
    )
    benchmark.add_argument(
        "--external",
        action="append",
        default=[],
        metavar="MODULE:FUNCTION",
        help="an algorithm of your own: function(make_env, steps, seed) returns a policy",
    )
    benchmark.add_argument("--out", type=Path, help="folder of the trainings, the tables and the curves")
    benchmark.add_argument("--csv", type=Path, help="file that the rows are appended to, OUT/rows.csv if left out")
    benchmark.add_argument("--steps", type=int, default=50_000, metavar="S", help="environment steps of each training")
    benchmark.add_argument("--seeds", type=int, default=3, metavar="N", help="how many seeds")
    benchmark.add_argument("--jobs", type=int, default=1, metavar="J", help="trainings at a time, one thread each")
    benchmark.add_argument("--engine", choices=("local", "ray"), default="local", help="where the trainings run")
    benchmark.add_argument(
        "--table", type=Path, metavar="FOLDER", help="only print the tables of the rows in FOLDER/*.csv"
    )
    _add_settings(benchmark, "change a setting, such as options.gamma or rules.reward")


def _add_use_of_runs(add: Add) -> None:
    evaluate = add("evaluate", "evaluate a finished run again")
    render = add("render", "pictures of a run's episodes")
    for command in (evaluate, render):
        command.add_argument("run", type=Path, help="the run's folder")
        command.add_argument("--split", choices=("train", "val", "test"), default="test")
        _add_changes(command)
    evaluate.add_argument(
        "--policies",
        nargs="+",
        metavar="POLICY",
        help="baselines to compare with, such as random or oracle; all if left out",
    )
    evaluate.add_argument(
        "--budget",
        type=_multiply_adds,
        metavar="B",
        help="also print the accuracy of stopping early, by each rule, within B multiply-adds per image on average",
    )
    render.add_argument(
        "--images", type=int, nargs="+", metavar="I", help="which images; six easy and hard ones if left out"
    )
    render.add_argument("--out", type=Path, help="a .png or .gif file, RUN/glimpses.png if left out")

    _add_recognition(add)

    plot = add("plot", "draw accuracy by cost, latency and steps, and when images exit, of one or more runs")
    plot.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of finished runs")
    plot.add_argument("--out", type=Path, required=True, help="folder of the pictures")


def _add_recognition(add: Add) -> None:
    predict = add("predict", "recognize image files or clips and show where the policy looked")
    predict.add_argument("run", type=_run, metavar="RUN", help="the run's or pack's folder, or hf://OWNER/NAME")
    predict.add_argument(
        "images",
        type=_path_or_address,
        nargs="+",
        metavar="IMAGE",
        help="files or folders: images, or clips; http and https addresses of images",
    )
    predict.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        help="what to do with unreadable images; by default, one named on the command line is an error, and those "
        "found in folders are skipped and counted",
    )
    _add_stop(predict)
    predict.add_argument("--top-k", type=int, default=1, metavar="K", help="show the K most probable classes")
    shown = predict.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print JSON instead of a table")
    shown.add_argument(
        "--jsonl", action="store_true", help="print a line of JSON for each image as soon as its batch is recognized"
    )
    predict.add_argument(
        "--shard", type=_shard, default=(1, 1), metavar="I/N", help="only each N-th file, beginning with the I-th"
    )
    predict.add_argument(
        "--workers", type=int, metavar="N", help="threads that read files; one for each core if left out"
    )
    predict.add_argument("--pictures", type=Path, metavar="FOLDER", help="write each image with its patches there")
    predict.add_argument("--engine", choices=("local", "ray"), default="local", help="where the networks run")
    predict.add_argument("--jobs", type=int, metavar="J", help="with --engine ray, actors; one if left out")
    predict.add_argument("--out", type=Path, metavar="FOLDER", help="with --engine ray, of the Parquet files")

    export = add("export", "write a run for machines without PyTorch")
    export.add_argument("run", type=Path, help="the run's folder")
    export.add_argument("--format", choices=("onnx",), default="onnx")
    export.add_argument(
        "--precision", choices=_PRECISIONS, default="fp32", help="of the weights; below fp32, what it costs is measured"
    )
    export.add_argument("--out", type=Path, help="folder of the files, RUN/onnx if left out")
    _add_stop(export)

    pack = add("pack", "write a run as a folder to hand on, with a model card")
    pack.add_argument("run", type=Path, help="the run's folder")
    pack.add_argument("--out", type=Path, help="the pack's folder, RUN-pack if left out")
    pack.add_argument("--license", metavar="ID", help="of the weights, by its SPDX id such as mit")
    pack.add_argument("--onnx", action="store_true", help="add ONNX graphs, as gfnet export writes them")
    _add_stop(pack)

    push = add("push", "upload a pack to the Hugging Face Hub")
    push.add_argument("pack", type=Path, help="folder of a gfnet pack")
    push.add_argument("name", metavar="OWNER/NAME", help="of the repository; made if there is none")
    push.add_argument("--revision", metavar="BRANCH", help="an existing branch; the main one if left out")
    push.add_argument("--private", action="store_true", help="make a new repository private")


def _add_pages(add: Add) -> None:
    report = add("report", "write a finished run's report.html again")
    report.add_argument("run", type=Path, help="the run's folder")

    play = add("play", "place the looks yourself, in a browser, against a policy")
    play.add_argument("what", metavar="ID_OR_RUN", help="an environment, or a run's folder to play against its policy")
    play.add_argument("--images", type=int, metavar="N", help="end after N images; with Ctrl+C if left out")
    play.add_argument("--port", type=int, default=0, help="of the page on this machine; a free one if left out")
    play.add_argument("--no-browser", dest="browser", action="store_false", help="only print the page's address")
    play.add_argument("--seed", type=int, default=0, help="of the images' order")
    _add_settings(play, "a keyword argument of the environment")


def _add_tools(add: Add) -> None:
    env = add("env", "print an environment's spaces and time its steps")
    env.add_argument("id", help="for example GFNet-SyntheticSigns-v0")
    env.add_argument("--num-envs", type=int, default=32, metavar="N")
    env.add_argument("--steps", type=int, default=20, metavar="S", help="vector steps to time")
    _add_settings(env, "a keyword argument of the environment")
    dataset = add("dataset", "record a policy's episodes as a Minari data set")
    dataset.add_argument("id", help="for example GFNet-SyntheticSigns-v0")
    dataset.add_argument(
        "--policy",
        default="reference",
        metavar="POLICY",
        help="reference (looks at the boxes), random, or a run's folder",
    )
    dataset.add_argument("--episodes", type=int, default=1000, metavar="N", help="how many, one for each image in turn")
    dataset.add_argument("--name", required=True, help="of the data set, such as gfnet/signs/reference-v0")
    dataset.add_argument(
        "--observations", action="store_true", help="record all that the agent observes, not only where it looked"
    )
    _add_settings(dataset, "a keyword argument of the environment")
    cost = add("cost", "count the multiply-adds of a config's networks")
    cost.add_argument("config", help="a YAML file, or the name of a built-in config")
    cost.add_argument("--json", action="store_true", help="print JSON instead of a table")
    cost.add_argument("--num-classes", type=int, metavar="K", help="classes; those of the data, else 1000, if left out")
    _add_changes(cost)


def _add_stop(command: argparse.ArgumentParser) -> None:
    stop = command.add_mutually_exclusive_group()
    stop.add_argument("--budget", type=_multiply_adds, metavar="B", help="multiply-adds per image, such as 12M or 1.5G")
    stop.add_argument(
        "--thresholds",
        type=_thresholds,
        metavar="E,E,...",
        help="when to stop at each step but the last: least confidence, or most negative entropy "
        "(--thresholds=-1,-.5); with several patch sizes, one for each of them at each step ('.5,.9; .6,.8')",
    )
    stop.add_argument("--num-glimpses", type=int, metavar="T", help="always take T steps; all of them if left out")
    command.add_argument("--criterion", choices=("confidence", "entropy"), default="confidence")
    command.add_argument(
        "--method",
        choices=_METHODS,
        default=_METHODS[0],
        help="how thresholds are found for a budget",
    )


def _run(text: str) -> Path | str:
    return text if text.startswith("hf://") else Path(text)


def _path_or_address(text: str) -> Path | str:
    return text if re.match("https?://", text, re.IGNORECASE) else Path(text)


def _shard(text: str) -> tuple[int, int]:
    """`2/8` is the second of eight parts."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part of a whole; pass I/N with I from 1 to N, such as 2/8")
    return int(found[1]), int(found[2])


def _multiply_adds(text: str) -> float:
    """`12M` is 12 million."""
    units = {"k": 1e3, "m": 1e6, "g": 1e9}
    unit = units.get(text[-1:].lower())
    try:
        return float(text) if unit is None else unit * float(text[:-1])
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of multiply-adds; pass one such as 12M") from None


def _thresholds(text: str) -> list[float] | list[list[float]]:
    """`0.9,0.8,-inf`, or with several patch sizes `0.5,0.9; 0.6,0.8`, steps divided by semicolons."""
    try:
        rows = [[float(part) for part in row.split(",")] for row in text.removesuffix(";").split(";")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers; pass one such as 0.9,0.8,0.7") from None
    return rows if ";" in text else rows[0]


def _add_changes(command: argparse.ArgumentParser) -> None:
    _add_settings(command, "change a key of the config")


def _add_settings(command: argparse.ArgumentParser, help: str) -> None:
    """See `_expand_set_args` for several."""
    several = f"{help}; several may follow one --set"
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=several)


if __name__ == "__main__":
    sys.exit(main())
