"""What each subcommand of `gfnet` does."""

from __future__ import annotations

import argparse
import dataclasses
import time
import webbrowser
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from rich.console import Console

from agents.dataset import record_dataset
from agents.evaluation.record import load_record
from agents.evaluation.rollout import cumulative_multiply_adds, evenly_spread
from agents.evaluation.threshold_search import check_budget
from agents.leaderboard.rows import Row, read_folder, read_rows
from agents.leaderboard.schedule import make_specs, run_leaderboard
from agents.leaderboard.tables import learning_curves, markdown_tables, profiles, radar
from agents.policies.baselines import CenterCornerPolicy, RandomPolicy
from agents.policies.protocol import LocationPolicy
from agents.recognition.onnx_export import export_onnx
from agents.recognition.onnx_runner import OnnxRecognizer
from agents.recognition.ray_recognizer import recognize_with_ray
from agents.recognition.recognizer import Recognition, Recognizer
from agents.runs.config import RunConfig
from agents.runs.config_files import check_evaluation_changes, load_config, load_run_config, parse_setting
from agents.runs.cost import run_cost
from agents.runs.folder import RunFolder, known_metrics, read_metrics
from agents.runs.images import RunImages, check_classes, open_images
from agents.runs.import_published import import_checkpoint
from agents.runs.pack import push_pack, write_pack
from agents.runs.pipeline import Pipeline
from agents.runs.results import chosen_policies, evaluate_run
from agents.runs.run import load_networks, load_recognizer, load_run
from agents.runs.stages import claimed, locked
from classifiers.checks import did_you_mean
from classifiers.data.decoding import UnreadableImageError
from classifiers.files import json_text, write_json, write_text
from classifiers.training.distributed import is_first_process, process_group
from gfnet_env import TASKS, Task
from gfnet_env.registration import known_task, make_env
from scripts import plots
from scripts.console import PlainConsole
from scripts.episodes import contact_sheet, easy_and_hard, episode_frames, save_gif, save_png
from scripts.page.game import Game
from scripts.page.server import GameServer
from scripts.plots import save_figure, save_plots
from scripts.predictions import files_to_predict, kind_of_input, prediction_rows, prediction_table, save_pictures
from scripts.progress import TerminalReporter
from scripts.report import (
    RESULTS,
    budget_table,
    cost_table,
    summary_lines,
    terminal_table,
    training_warning,
    write_report,
)

_TASK = "GFNet-SyntheticSigns-v0"  # of a benchmark that names none
_IMAGES_FOR_RANGES = 100  # of what is quantized
_MOST_IMAGES_OF_EXPORT = 500  # with which the cost of a lower precision is measured
_IMAGENET_CLASSES = 1000  # where a config of Table 9 names no images


def demo(options: argparse.Namespace, console: Console) -> None:
    """Trains a policy on the built-in task, with the networks that come with the package."""
    options.config = "demo"
    train(options, console)


def train(options: argparse.Namespace, console: Console) -> None:
    """Trains a run, or continues one, evaluates it and writes its report."""
    folder: Path = options.out
    config = load_config(options.config, options.set, run=folder)
    with (
        process_group(),
        claimed(folder, config),
        TerminalReporter(console, quiet=options.quiet or not is_first_process()) as reporter,
    ):
        pipeline = Pipeline(config, folder, reporter)
        if all((folder / name).is_file() for name in RESULTS) and pipeline.is_finished():
            if is_first_process():
                console.print(
                    f"{folder} is finished: look at {folder / 'report.html'} and {folder / 'metrics.json'}; "
                    f"`gfnet evaluate {folder}` evaluates it again"
                )
            return
        metrics = pipeline.run()
        if not is_first_process():
            return
        write_report(load_networks(config, folder), pipeline.images("test"), folder)
    console.print(terminal_table(metrics))
    _print_end(console, metrics, folder)


def evaluate(options: argparse.Namespace, console: Console) -> None:
    """Evaluates a run's policy beside the baselines on a split, and prints the table."""
    is_kept = options.split == "test"
    if options.budget is not None and not is_kept:
        raise ValueError(f"--budget with --split {options.split}; leave one of them out: budgets are judged on test")
    config = _run_config(options)
    chosen_policies(config, options.policies)
    with _writing(RunFolder(options.run).metrics, options.run) if is_kept else nullcontext():
        before = known_metrics(options.run) if is_kept else {}
        run, files = load_networks(config, options.run), RunFolder(options.run)
        if options.budget is not None:
            costs = cumulative_multiply_adds(run.classifier, run.policy.multiply_adds)
            check_budget(np.array(costs), options.budget)
        with TerminalReporter(console, quiet=options.quiet) as reporter:
            images = RunImages(config, reporter)
            metrics = evaluate_run(run, images, files, reporter, split=options.split, policies=options.policies)
        if is_kept:
            write_json(files.metrics, {**before, **metrics})
    console.print(terminal_table(metrics))
    warning = training_warning(metrics)
    if warning is not None:
        console.print(warning)
    if options.budget is not None:
        if metrics["adaptive"] is None:
            raise ValueError("--budget needs images to find thresholds on; restore the run's train/ or val/")
        calibration, record = (load_record(RunFolder(options.run).record(name)) for name in ("calibration", "learned"))
        console.print(budget_table(calibration, record, options.budget))


def render(options: argparse.Namespace, console: Console) -> None:
    """Writes pictures or an animation of a run's episodes."""
    out: Path = options.out or options.run / "glimpses.png"
    if out.suffix not in (".png", ".gif"):
        raise ValueError(f"--out {out} ends in {out.suffix or 'nothing'}; pass a .png or .gif file")
    config = _run_config(options)
    with _writing(out, options.run):
        run, source = load_networks(config, options.run), open_images(config, options.split)
        check_classes(run.class_names, source, str(options.run))
        indices = options.images or easy_and_hard(load_record(RunFolder(options.run).record("learned")), 6)
        episodes = [list(episode_frames(run, source, index)) for index in indices]
        if out.suffix == ".gif":
            save_gif(out, [frame for frames in episodes for frame in frames])
        else:
            save_png(out, contact_sheet([frames[-1] for frames in episodes], columns=min(3, len(episodes))))
    console.print(f"{len(episodes)} episodes in {out}")


def report(options: argparse.Namespace, console: Console) -> None:
    """Writes a finished run's report again."""
    config = load_run_config(options.run)
    with locked(options.run):
        run, source = load_networks(config, options.run), open_images(config, "test")
        check_classes(run.class_names, source, str(options.run))
        write_report(run, source, options.run)
    console.print(str(options.run / "report.html"))


def play(options: argparse.Namespace, console: Console) -> None:
    """Serves the game in which a person places the looks, until Ctrl+C or until enough images are played."""
    if options.images is not None and options.images < 1:
        raise ValueError(f"--images {options.images}; pass 1 or more")
    game = _game(options)
    with closing(game), GameServer(game, options.port, options.images) as server:
        console.print(f"Open {server.url} in a browser on this machine; Ctrl+C ends the game")
        if options.browser:
            webbrowser.open(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever(poll_interval=0.1)
    score = game.state()["score"]
    console.print(f"{score['images']} images: you {score['person']} right, {game.opponent} {score['policy']}")


def _game(options: argparse.Namespace) -> Game:
    """The game on a run's held-out images against its policy, or on an environment's against the baseline."""
    if options.what in TASKS:
        made = _make_env(make_env, options.what, options.set)
        return Game(made.task, CenterCornerPolicy(), "the center-corner policy", options.seed)
    folder = Path(options.what)
    if not folder.is_dir():
        raise ValueError(
            f"{options.what!r} is neither a run's folder nor an environment; {did_you_mean(options.what, TASKS)}"
            f"pass one of {', '.join(TASKS)}"
        )
    if options.set:
        raise ValueError("--set with a run; leave it out, it is for an environment's arguments")
    config = load_run_config(folder)
    run, source = load_networks(config, folder), open_images(config, "test")
    check_classes(run.class_names, source, str(folder))
    return Game(Task(source, run.classifier), run.policy, "the run's policy", options.seed)


def _make_env(make: Callable[..., Any], env_id: str, changes: Sequence[str], **kwargs: Any) -> Any:
    """An environment with the arguments of `--set`."""
    return make(env_id, **kwargs, **dict(parse_setting(change) for change in changes))


def env(options: argparse.Namespace, console: Console) -> None:
    """Prints an environment's spaces and how fast it steps."""
    known_task(options.id)
    if options.num_envs < 1 or options.steps < 1:
        raise ValueError(f"--num-envs {options.num_envs}, --steps {options.steps}; pass 1 or more of each")
    vector = _make_env(gymnasium.make_vec, options.id, options.set, num_envs=options.num_envs)
    vector.reset(seed=0)
    vector.action_space.seed(0)
    actions = [vector.action_space.sample() for _ in range(options.steps + 1)]
    vector.step(actions.pop())
    started = time.perf_counter()
    for action in actions:
        vector.step(action)
    seconds = time.perf_counter() - started
    console.print(f"{options.id}, {options.num_envs} parallel episodes")
    console.print(f"observation: {vector.single_observation_space}")
    console.print(f"action:      {vector.single_action_space}")
    rate = options.num_envs * options.steps / seconds
    console.print(f"{rate:,.0f} steps/s, {1e3 * seconds / options.steps:.1f} ms a vector step")
    vector.close()


def dataset(options: argparse.Namespace, console: Console) -> None:
    """Records a policy's episodes as a Minari data set."""
    known_task(options.id)
    policy: LocationPolicy | None = None
    if options.policy == "random":
        policy = RandomPolicy()
    elif options.policy != "reference":
        if not Path(options.policy).is_dir():
            raise ValueError(f"--policy {options.policy} is no folder; pass reference, random or the folder of a run")
        policy = load_run(options.policy).policy
    recorded = _make_env(
        record_dataset,
        options.id,
        options.set,
        name=options.name,
        policy=policy,
        num_episodes=options.episodes,
        observations=options.observations,
    )
    console.print(f"{recorded.total_episodes} episodes: minari.load_dataset({options.name!r})")


def cost(options: argparse.Namespace, console: Console) -> None:
    """Prints what a config's networks cost, counted."""
    config = load_config(options.config, options.set)
    names = config.data.class_names()
    counted = run_cost(config, options.num_classes or (_IMAGENET_CLASSES if names is None else len(names)))
    if options.json:
        print(json_text(dataclasses.asdict(counted)))
        return
    console.print(cost_table(counted))


def import_published(options: argparse.Namespace, console: Console) -> None:
    """Turns a published checkpoint into a run."""
    imported = import_checkpoint(options.checkpoint, options.out)
    spec = imported.run.classifier.spec
    for name in imported.left_out:
        console.print(f"left out: {name}, which T={spec.num_glimpses} never uses")
    console.print(f"{spec.encoder}, patches of {spec.patch_size}, T={spec.num_glimpses}: a run in {options.out}")


def benchmark(options: argparse.Namespace, console: Console) -> None:
    """Trains agents on tasks over several seeds and prints their leaderboard; or prints that of stored rows."""
    if options.table is not None:
        _show_leaderboard(options.table, read_folder(options.table), console)
        return
    agents = [*options.names, *options.external]
    if not agents or options.out is None:
        raise ValueError(
            "a benchmark needs agents and --out FOLDER; pass for example `ppo random --out runs/board`, or --table "
            "FOLDER for the tables of stored rows"
        )
    changes = dict(parse_setting(change) for change in options.set)
    specs = make_specs(agents, options.task or [_TASK], steps=options.steps, seeds=options.seeds, changes=changes)
    csv = options.csv or options.out / "rows.csv"
    with TerminalReporter(console, quiet=options.quiet) as reporter:
        rows = run_leaderboard(
            specs,
            options.out,
            csv=csv,
            jobs=options.jobs,
            engine=options.engine,
            imports=options.imports,
            reporter=reporter,
        )
    if rows:
        _show_leaderboard(options.out, read_rows(csv), console)
        console.print(f"Rows: {csv}")


def _show_leaderboard(folder: Path, rows: Sequence[Row], console: Console) -> None:
    """Prints the tables of some rows, and writes them and their plots."""
    tables = markdown_tables(rows)
    write_text(folder / "tables.md", tables)
    save_figure(folder / "curves.png", plots.learning_curves(learning_curves(rows)))
    tasks, means = radar(rows)
    thresholds, shares = profiles(rows)
    if len(tasks) > 1 and shares:
        save_figure(folder / "profiles.png", plots.performance_profiles(thresholds, shares))
    if len(tasks) > 2 and means:  # fewer spokes are no radar
        save_figure(folder / "radar.png", plots.radar(tasks, means))
    console.print(tables, soft_wrap=True)
    console.print(f"Look at {folder / 'tables.md'} and {folder / 'curves.png'}")


def predict(options: argparse.Namespace, console: Console) -> None:
    """Classifies image files or clips, each with as many looks as it needs."""
    _check_engine(options)
    recognizer = _recognizer(options)
    kind = kind_of_input(recognizer)
    files = files_to_predict(options.images, clips=recognizer.num_frames is not None)
    (part, parts), total = options.shard, len(files)
    files = files[part - 1 :: parts]
    errors = PlainConsole(stderr=True)
    if not files:
        errors.print(f"gfnet: part {part} of {parts} is empty, there are {total} {kind}")
        return
    if options.engine == "ray":
        _predict_on_ray(options, files, kind, console)
        return
    skipped: dict[Path | str, str] = {}
    short: set[Path | str] = set()

    def note(path: Path | str, error: UnreadableImageError) -> None:
        if options.on_error == "raise" or (options.on_error is None and path in options.images):
            raise error
        skipped[path] = str(error)
        if options.jsonl:
            print(json_text({"file": str(path), "error": str(error)}), flush=True)

    with TerminalReporter(errors, quiet=options.quiet or not (options.jsonl or errors.is_terminal)) as reporter:
        found = _recognized(recognizer, files, options, note, lambda path, _: short.add(path), reporter)
    if skipped:
        errors.print(f"gfnet: skipped {len(skipped)} unreadable {kind}: {_some(skipped)}")
    if short:
        frames = f"fewer than {recognizer.num_frames} frames, some of which were repeated"
        errors.print(f"gfnet: {len(short)} clips have {frames}: {_some(short)}")
    files = [path for path in files if path not in skipped]
    if options.pictures is not None:
        save_pictures(options.pictures, recognizer, files, found)
    if options.json:
        print(json_text(prediction_rows(recognizer, files, found)))
    if options.json or options.jsonl:
        return
    console.print(prediction_table(recognizer, files, found, num_skipped=len(skipped)))
    if options.pictures is not None:
        console.print(f"{len(files)} pictures in {options.pictures}")


def _check_engine(options: argparse.Namespace) -> None:
    """Refuses options of one engine with the other."""
    names = {"ray": ("json", "jsonl", "pictures", "on_error", "workers"), "local": ("jobs", "out")}[options.engine]
    given = [name for name in names if getattr(options, name) is not None and getattr(options, name) is not False]
    if options.engine == "ray" and options.top_k != 1:
        given.append("top_k")
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} has no effect with --engine {options.engine}; leave it out")
    if options.engine == "ray" and options.out is None:
        raise ValueError("--engine ray writes Parquet files; pass --out FOLDER")


def _predict_on_ray(options: argparse.Namespace, files: Sequence[Path | str], kind: str, console: Console) -> None:
    failed = recognize_with_ray(
        partial(_recognizer, options),
        files,
        options.out,
        jobs=1 if options.jobs is None else options.jobs,
        imports=options.imports,
    )
    console.print(f"{len(files)} {kind} in {options.out}, {failed} of them unreadable")


def _recognized(
    recognizer: Recognizer,
    files: Sequence[Path | str],
    options: argparse.Namespace,
    on_unreadable: Callable[[Path | str, UnreadableImageError], None],
    on_short: Callable[[Path | str, int], None],
    reporter: TerminalReporter,
) -> Recognition:
    """What was found in all files that can be read; with `--jsonl`, each batch's rows are printed when it is done."""
    advance, done, parts = reporter.track("recognizing"), 0, []
    settings = {"top_k": options.top_k, "num_workers": options.workers}
    for some, found in recognizer.stream(files, on_unreadable, on_short, **settings):
        parts.append(found)
        done += len(some)
        if options.jsonl:
            print("\n".join(map(json_text, prediction_rows(recognizer, some, found))), flush=True)
        advance(done, len(files), {})
    if not parts:
        raise UnreadableImageError(f"none of the {len(files)} files can be decoded; pass image files")
    return Recognition.joined(parts)


def _some(paths: Collection[Path | str]) -> str:
    return ", ".join(sorted(map(str, paths))[:3]) + (", ..." if len(paths) > 3 else "")


def export(options: argparse.Namespace, console: Console) -> None:
    """Writes a run as ONNX graphs, with the program that runs them."""
    out: Path = options.out or options.run / options.format
    batch = for_ranges = None
    with _writing(out, options.run):
        recognizer = _recognizer(options)
        if options.precision != "fp32":
            with TerminalReporter(console, quiet=options.quiet) as reporter:
                images = RunImages(load_run_config(options.run), reporter)
                source = images.calibration("test")
                batch = source.fetch(evenly_spread(len(source), _MOST_IMAGES_OF_EXPORT))
                if options.precision == "int8-calibrated":
                    train = images("train")
                    some = train.fetch(evenly_spread(len(train), _IMAGES_FOR_RANGES)).images
                    for_ranges = some.movedim(-3, -1).numpy()
        written = export_onnx(recognizer, out, precision=options.precision, images=for_ranges)
    for path in written:
        console.print(str(path))
    if batch is not None:
        exported = OnnxRecognizer(out)
        pixels = batch.images.movedim(-3, -1).numpy()
        ours, theirs = recognizer.predict(batch.images).label, [exported.predict(each)["label"] for each in pixels]
        labels = batch.labels.numpy()
        console.print(
            f"accuracy on {len(labels)} images that thresholds are found on: {(ours == labels).mean():.3f} of the run, "
            f"{(np.array(theirs) == labels).mean():.3f} at {options.precision}"
        )


def pack(options: argparse.Namespace, console: Console) -> None:
    """Writes a run as a folder to hand on."""
    out: Path = options.out or options.run.with_name(f"{options.run.name}-pack")
    with locked(options.run):
        write_pack(options.run, _recognizer(options), out, license=options.license, onnx=options.onnx)
    console.print(f"{out}: read its README.md, then `gfnet push {out} OWNER/NAME`")


def push(options: argparse.Namespace, console: Console) -> None:
    """Uploads a pack to the Hugging Face Hub."""
    address = push_pack(options.pack, options.name, revision=options.revision, private=options.private)
    console.print(f"{address}: agents.load_run('hf://{options.name}')")


def _recognizer(options: argparse.Namespace) -> Recognizer:
    recognizer = load_recognizer(options.run)
    if all(value is None for value in (options.budget, options.thresholds, options.num_glimpses)):
        return recognizer  # a pack has thresholds of its own
    recognizer.use(
        budget=options.budget,
        thresholds=options.thresholds,
        num_glimpses=options.num_glimpses,
        criterion=options.criterion,
        method=options.method,
    )
    return recognizer


def plot(options: argparse.Namespace, console: Console) -> None:
    """Draws runs beside one another, as the paper's figures."""
    named = {folder.name: read_metrics(folder) for folder in options.runs}
    if len(named) < len(options.runs):
        raise ValueError("two runs have folders of the same name; rename one: plots are labeled by these names")
    for path in save_plots(options.out, named):
        console.print(str(path))


COMMANDS: dict[str, Callable[[argparse.Namespace, Console], None]] = {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
    "render": render,
    "report": report,
    "play": play,
    "env": env,
    "dataset": dataset,
    "export": export,
    "pack": pack,
    "push": push,
    "cost": cost,
    "benchmark": benchmark,
    "import-checkpoint": import_published,
    "plot": plot,
    "predict": predict,
}
"""The subcommands by name."""


def _writing(out: Path, run: Path) -> AbstractContextManager[None]:
    """Locks a run if what is to be written lies in its folder: a run that is being trained is not what it will be."""
    return locked(run) if out.resolve().is_relative_to(run.resolve()) and run.is_dir() else nullcontext()


def _run_config(options: argparse.Namespace) -> RunConfig:
    """The config of a finished run, with the changes that an evaluation may have."""
    config = load_run_config(options.run, options.set)
    check_evaluation_changes(load_run_config(options.run), config)
    return config


def _print_end(console: Console, metrics: dict[str, Any], folder: Path) -> None:
    for line in summary_lines(metrics):
        console.print(line)
    console.print(
        f"Look at {folder / 'report.html'} and {folder / 'glimpses.png'}; curves: tensorboard --logdir {folder}"
    )
