"""How a run is shown: the table on the terminal, `glimpses.png` and a self-contained `report.html`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from matplotlib.figure import Figure
from rich.table import Table

from agents.evaluation.accuracy_bound import AccuracyBound
from agents.evaluation.budgets import apply_exit_rule, fit_exit_rule, history_table
from agents.evaluation.metrics import confusion_matrix
from agents.evaluation.record import EvaluationRecord, load_record
from agents.evaluation.stopping import CRITERIA
from agents.runs.config_files import dump_applied
from agents.runs.cost import RunCost
from agents.runs.folder import RunFolder, origin_comment, read_metrics
from agents.runs.log import curve
from agents.runs.results import POLICIES
from agents.runs.run import LoadedRun
from classifiers.data.source import ImageSource
from classifiers.files import write_text
from classifiers.networks.costs import glimpse_costs
from classifiers.networks.size_histories import count_steps, size_histories
from scripts import plots
from scripts.episodes import contact_sheet, easy_and_hard, reward_map, save_png, telling_images
from scripts.page.gallery import data_uri, gallery_episodes
from scripts.page.templates import fill_page

RESULTS = ("glimpses.png", "report.html")
"""The files of a report."""

_DRAWN_IN_FULL = ("budgeted", "anytime")  # with more lines, by `accuracy_by_budget` and `accuracy_by_step`
_LEAST_ACCURATE = 30  # classes in the report's table
_MAP_MULTIPLY_ADDS = 2e10  # of one reward map: a second or so on a processor


def terminal_table(metrics: dict[str, Any]) -> Table:
    """Accuracy by policy and step."""
    return _table(f"accuracy on {metrics['images']} held-out images", _policy_heads(metrics), _policy_rows(metrics))


def budget_table(calibration: EvaluationRecord, record: EvaluationRecord, budget: float) -> Table:
    """Early exits for a budget: the criteria of Table 7, and coordinate ascent.

    Each accuracy is also a share of `AccuracyBound`, for what was spent.

    Args:
        calibration: the record that thresholds are found on.
        record: the record that they are evaluated on.
        budget: multiply-adds per image on average.

    Returns:
        The table.

    Raises:
        ValueError: if the budget is out of range.
    """
    exact = ("coordinate_ascent", "confidence")
    ways = [exact] if len(record.patch_sizes) > 1 else [*(("geometric", criterion) for criterion in CRITERIA), exact]
    bound, rows = AccuracyBound(history_table(record)), []
    for method, criterion in ways:
        rule = fit_exit_rule(calibration, budget, criterion=criterion, method=method)
        found = apply_exit_rule(record, rule)
        share = f"{found.accuracy / max(bound.at(found.cost), 1e-9):.1%}"
        spent, steps = _mega(found.cost), f"{found.expected_length:.2f}"
        rows.append([method.replace("_", " "), criterion, f"{found.accuracy:.4f}", share, spent, steps])
    heads = ["thresholds", "by", "accuracy", "of the bound", "spent", "steps"]
    return _table(f"stopping early for {_mega(budget)} multiply-adds", heads, rows, left=2)


def cost_table(cost: RunCost) -> Table:
    """Multiply-adds of a run's networks, by step; with several patch sizes, by step and the sizes so far."""
    sides, rows = cost.patch_sizes, []
    histories = size_histories(len(sides), count_steps(len(cost.cumulative), len(sides)))
    for history, head, here, total in zip(histories, cost.head, cost.per_step, cost.cumulative, strict=True):
        encoder, policy = (cost.encoders[history[-1]], f"{cost.policy:,}") if history else (cost.glance_encoder, "-")
        sizes = [" ".join(str(sides[size]) for size in history)] if len(sides) > 1 else []
        rows.append([f"t={len(history) + 1}", *sizes, f"{encoder:,}", f"{head:,}", policy, f"{here:,}", f"{total:,}"])
    heads = ["step", *(["patches"] if len(sides) > 1 else []), "encoder", "f_C", "pi", "together", "so far"]
    table = _table("multiply-adds for one image", heads, rows, left=0)
    table.caption = (
        f"the encoder's own classifier: {cost.encoder_classifier:,}; "
        f"encoder and classifier on the whole image: {cost.full_resolution:,}"
    )
    return table


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Table:
    """A table for the terminal, its first `left` columns aligned to the left."""
    table = Table(title=title)
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index < left else "right")
    for row in rows:
        table.add_row(*row)
    return table


def summary_lines(metrics: dict[str, Any]) -> list[str]:
    """Sentences about what is not in the table."""
    lines = list(filter(None, [saving_sentence(metrics)]))
    adaptive = metrics.get("adaptive") or {}
    two = next((each for each in adaptive.get("fixed_lengths", []) if each["steps"] == 2), None)
    if two:
        exits = two["early_exits"]
        lines.append(
            f"Two steps for every image: accuracy {two['accuracy']:.4f}; stopping early within as many multiply-adds: "
            f"{exits['accuracy']:.4f} for {_mega(exits['multiply_adds'])} on average."
        )
    lines += filter(None, [_by_class(metrics)])
    if adaptive and metrics["full_resolution_accuracy"] is not None and not adaptive.get("match"):
        lines.append("No thresholds reach the full-resolution network's accuracy on the images that they are found on.")
    lines += filter(None, [training_warning(metrics)])
    lines.append(f"{metrics['env_steps']:,} environment steps; {metrics['seconds']:.0f} s in all.")
    return lines


def _by_class(metrics: dict[str, Any]) -> str | None:
    """The accuracy of the worst and the best class, and the most frequent mistake."""
    found = metrics.get("classes")
    if not found:
        return None
    tested = [each for each in zip(found["accuracy"], found["names"], strict=True) if each[0] is not None]
    (low, worst), (high, best) = min(tested), max(tested)
    line = f"Accuracy by class after all looks: {low:.3f} ({worst}) to {high:.3f} ({best})"
    if not found["confusions"]:
        return f"{line}."
    first = found["confusions"][0]
    return f"{line}; the most frequent mistake: {first['label']} taken for {first['prediction']} ({first['images']})."


def saving_sentence(metrics: dict[str, Any]) -> str | None:
    """Whether a run is as accurate as its full-resolution network, for how much less, and what to try if not."""
    found = metrics.get("saving")
    if not found:
        return None
    looks = "the glance alone" if found["steps"] == 1 else f"{found['steps']} looks"
    way = "stopping early" if found["steps"] is None else f"after {looks}"
    accuracy = f"{found['accuracy']:.3f} (the network: {found['full_resolution_accuracy']:.3f}) {way}"
    ours, whole = found["multiply_adds"], found["full_resolution_multiply_adds"]
    taken = metrics.get("milliseconds")
    advice = f" Try {', or '.join(found['advice'])}." if found["advice"] else ""
    if not found.get("has_learned", True):  # of a run before 0.4.0 nothing is known
        naive = f"{found['full_resolution_accuracy']:.3f}, where naming one class for all images has"
        naive += f" {found['most_frequent_class']:.3f}"
        return f"The full-resolution network has learned nothing: {naive}. So there is nothing to compare with.{advice}"
    if not found["is_as_accurate"]:
        error = f", a difference within the error of {metrics['images']} images" if found["is_within_error"] else ""
        time = (
            f" in {taken['milliseconds']:.1f} instead of {taken['full_resolution_milliseconds']:.1f} ms"
            if taken
            else ""
        )
        cost = f"{_mega(ours)} instead of {_mega(whole)} multiply-adds{time} an image"
        return f"Not as accurate as the full-resolution network: {accuracy}{error}, with {cost}.{advice}"
    factor, comparative = _factor(ours, whole, "fewer", "more")
    cost = f"{factor} times {comparative} multiply-adds ({_mega(ours)} instead of {_mega(whole)})"
    if taken:
        ours, whole = taken["milliseconds"], taken["full_resolution_milliseconds"]
        factor, comparative = _factor(ours, whole, "less", "more")
        cost += f" and {factor} times {comparative} time ({ours:.1f} ms instead of {whole:.1f} ms an image)"
    return f"As accurate as the full-resolution network: {accuracy}, for {cost}."


def _factor(ours: float, whole: float, lower: str, higher: str) -> tuple[str, str]:
    """How many times lower or higher, and the word for it."""
    return (f"{whole / ours:.1f}", lower) if ours <= whole else (f"{ours / whole:.1f}", higher)


def training_warning(metrics: dict[str, Any]) -> str | None:
    """What went wrong in the training, in sentences; None if nothing did."""
    warning: str | None = (metrics.get("diagnostics") or {}).get("warning")
    return warning


def write_report(run: LoadedRun, source: ImageSource, folder: Path) -> None:
    """Writes `glimpses.png`, `confusion.csv` and `report.html` of a finished run.

    Args:
        run: its networks.
        source: the held-out images.
        folder: the run's folder, with its `metrics.json` and records.

    Raises:
        FileNotFoundError: if the run is not finished.
        OSError: if the folder can't be written.
    """
    files, metrics = RunFolder(folder), read_metrics(folder)
    record = load_record(RunFolder(folder).record("learned"))
    chosen = easy_and_hard(record, 6)
    shown = list(dict.fromkeys([*telling_images(record, 2), *chosen, *easy_and_hard(record, 12)]))
    episodes = dict(zip(shown, gallery_episodes(run, source, shown), strict=True))
    sheet = contact_sheet([episodes[index].last_frame for index in chosen], columns=3)
    save_png(folder / "glimpses.png", sheet)
    matrix = confusion_matrix(record, len(run.class_names))
    write_text(folder / "confusion.csv", _confusion_csv(matrix, run.class_names))
    first_focus = record.location[:, record.largest_patches[1] - 1]
    figures = _figures(metrics, files) | {
        "heat": _heat_maps(run, source, chosen[:2] + chosen[-2:], first_focus),
        "confusions": plots.confusions(matrix, run.class_names),
    }
    page = fill_page(
        "report",
        folder.resolve().name,
        {
            "episodes": sorted((each.data for each in episodes.values()), key=_gain_of_looking, reverse=True),
            "front": budget_front(metrics),
        },
        images=metrics["images"],
        policies=(_policy_heads(metrics), _policy_rows(metrics)),
        summary=summary_lines(metrics),
        figures={name: figure and Markup(plots.as_svg(figure)) for name, figure in figures.items()},
        step_caption=_step_caption(metrics),
        adaptive=metrics.get("adaptive"),
        criteria=_criteria_table(metrics),
        classes=_class_rows(metrics),
        looks=_looks(metrics),
        sheet=data_uri(np.asarray(sheet), "png"),
        costs=_cost_rows(metrics),
        config=origin_comment(metrics.get("made_by", {})) + dump_applied(run.config),
    )
    write_text(folder / "report.html", page)


def _figures(metrics: dict[str, Any], files: RunFolder) -> dict[str, Figure | None]:
    """All figures but the heat maps; None where the run has nothing to draw."""
    steps, rewards = curve(files.log, "stage2", "reward")
    sizes = plots.sizes_by_budget(metrics)
    left_out = _DRAWN_IN_FULL if sizes is not None else (*_DRAWN_IN_FULL, "multiscale")
    compared = {
        kind: None if kind in left_out else plots.compare_runs({"learned": metrics}, kind) for kind in plots.RUN_PLOTS
    }
    has_exits = bool(metrics.get("adaptive"))
    names = [*(f"spread_t{step}" for step in _focus_steps(metrics)), "border", "overlap", "explained_variance"]
    curves = {name: curve(files.log, "stage2", name) for name in names}
    return compared | {
        "by_step": plots.accuracy_by_step(metrics),
        "by_cost": plots.accuracy_by_cost(metrics),
        "budget": plots.accuracy_by_budget(metrics) if has_exits else None,
        "exits": plots.exits_by_step(metrics) if has_exits else None,
        "sizes": sizes,
        "learning": plots.learning_curve(steps, rewards) if steps else None,
        "diagnostics": plots.diagnostics_along_training({k: line for k, line in curves.items() if len(line[0]) > 1}),
    }


def budget_front(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """What a run's most accurate thresholds give for each of some budgets, for the page's slider.

    Args:
        metrics: of a run.

    Returns:
        Of `agents.evaluation.budgets.BudgetCurve`: `budgets`, `costs`, `accuracies`, `expected_lengths` and `exits`,
        of the smallest of those budgets that give the same; `start`, the index of the smallest budget that is as
        accurate as all looks, else of the most accurate one; and `full_resolution`, the multiply-adds and the accuracy
        of that network, None without one. None if no thresholds were found for the run.
    """
    adaptive = metrics.get("adaptive")
    if not adaptive:
        return None
    curves = adaptive["curves"]
    best = curves.get("coordinate_ascent", curves["confidence"])  # with several patch sizes, these are the best ones
    accuracy = metrics["full_resolution_accuracy"]
    whole = None if accuracy is None else {"cost": metrics["multiply_adds"]["full_resolution"], "accuracy": accuracy}
    given = list(zip(best["costs"], best["accuracies"], best["exits"], strict=True))
    distinct = [index for index, each in enumerate(given) if index == 0 or each != given[index - 1]]
    front = {
        key: [best[key][index] for index in distinct]
        for key in ("budgets", "costs", "accuracies", "expected_lengths", "exits")
    }
    enough = min(metrics["accuracy"]["learned"][-1], max(front["accuracies"]))
    start = next(index for index, reached in enumerate(front["accuracies"]) if reached >= enough)
    return {**front, "start": start, "full_resolution": whole}


def _gain_of_looking(episode: dict[str, Any]) -> float:
    """What the patches added to the probability of the label, if they made a wrong prediction right; else 0."""
    first, last = episode["looks"][0], episode["looks"][-1]
    return 0.0 if first["right"] or not last["right"] else last["truth_probability"] - first["truth_probability"]


def _focus_steps(metrics: dict[str, Any]) -> range:
    return range(2, len(metrics["accuracy"]["learned"]) + 1)


def _step_caption(metrics: dict[str, Any]) -> str:
    """What the plot of accuracy by step shows, in words."""
    accuracy = metrics["accuracy"]
    learned = accuracy["learned"]
    last = len(learned)
    names = [name for name in POLICIES if name != "learned" and name in accuracy]
    others = ", ".join(f"{_dashed(name)} {accuracy[name][-1]:.3f}" for name in names)
    steps = f"{learned[0]:.3f} after the glance, {learned[1]:.3f} at t=2, {learned[-1]:.3f} at t={last}"
    return f"The learned policy: {steps}" + (f"; at t={last}: {others}." if others else ".")


def _looks(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Whether the policy looks where the image asks it to, beside the baselines; see docs/diagnosing.md."""
    found = metrics.get("diagnostics")
    if not found:
        return None
    heads = ["policy", *(f"spread t={step}" for step in _focus_steps(metrics)), "at a border", "overlap", "looks"]
    rows = []
    for name in filter(found["policies"].__contains__, POLICIES):
        each = found["policies"][name]
        overlap = "-" if each["overlap"] is None else f"{each['overlap']:.3f}"
        spread = (f"{value:.3f}" for value in each["spread"])
        rows.append([_dashed(name), *spread, f"{each['border']:.3f}", overlap, f"{each['looks']:.2f}"])
    return {
        "warning": training_warning(metrics),
        "table": (heads, rows),
        "explained_variance": found["explained_variance"],
    }


def _criteria_table(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    if not metrics.get("adaptive"):
        return [], []
    curves = metrics["adaptive"]["curves"]
    budgets = curves["confidence"]["budgets"]
    chosen = np.linspace(0, len(budgets) - 1, 7).round().astype(int)[1:-1]
    rows = [
        [plots.curve_name(name, metrics), *(f"{each['accuracies'][index]:.4f}" for index in chosen)]
        for name, each in curves.items()
    ]
    return ["budget", *(_mega(budgets[index]) for index in chosen)], rows


def _confusion_csv(matrix: np.ndarray, names: Sequence[str]) -> str:
    """A line for each class, of how many of its images are taken for each class."""
    stream = io.StringIO()
    lines = csv.writer(stream, lineterminator="\n")
    lines.writerow(["label", *names])
    lines.writerows([name, *counts] for name, counts in zip(names, matrix.tolist(), strict=True))
    return stream.getvalue()


def _class_rows(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]] | None:
    """The least accurate classes; None in the results of older runs."""
    found = metrics.get("classes")
    if not found:
        return None
    taken = {each["label"]: each for each in reversed(found["confusions"])}  # the most frequent one of each label
    tested = zip(found["names"], found["images"], found["accuracy"], strict=True)
    ordered = sorted((each for each in tested if each[1]), key=lambda each: each[2])
    rows = []
    for name, images, accuracy in ordered[:_LEAST_ACCURATE]:
        other = taken.get(name)
        mistake = f"{other['prediction']} ({other['images']})" if other else "-"
        rows.append([name, str(images), f"{accuracy:.3f}", mistake])
    return ["class", "images", "accuracy", "often taken for"], rows


def _heat_maps(run: LoadedRun, source: ImageSource, indices: list[int], first: np.ndarray) -> Figure:
    images, maps, points = [], [], []
    side = run.classifier.spec.patch_size
    rows = min(19, max(5, round(math.sqrt(_MAP_MULTIPLY_ADDS / glimpse_costs(run.classifier)[1]))))
    for index in indices:
        pixels = source.fetch(torch.tensor([index])).images[0]
        image = (pixels if pixels.ndim == 3 else pixels[len(pixels) // 2]).permute(1, 2, 0).numpy()
        values = reward_map(run, source, index, rows, round(rows * image.shape[1] / image.shape[0]))
        # a patch's center stays half its side inside the image; the rim repeats the outermost places
        rim = (
            round(values.shape[0] * side / (2 * (image.shape[0] - side + 1))),
            round(values.shape[1] * side / (2 * (image.shape[1] - side + 1))),
        )
        room = np.array(image.shape[:2]) - side
        center = np.floor(first[index] * room) + side / 2
        images.append(image)
        maps.append(np.pad(values, ((rim[0],) * 2, (rim[1],) * 2), mode="edge"))
        points.append((float(center[0]), float(center[1])))
    return plots.reward_heat_maps(images, maps, points)


def _policy_heads(metrics: dict[str, Any]) -> list[str]:
    steps = range(1, len(metrics["accuracy"]["learned"]) + 1)
    return ["policy", *(f"t={step}" for step in steps), "first focus finds it"]


def _policy_rows(metrics: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name in filter(metrics["accuracy"].__contains__, POLICIES):
        found = metrics["pointing_game"][name]
        cells = [f"{value:.3f}" for value in metrics["accuracy"][name]]
        rows.append([_dashed(name), *cells, "-" if found is None else f"{found[0]:.3f}"])
    return rows


def _cost_rows(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    costs = metrics["multiply_adds"]
    rows = {"glance (f_G, f_C)": costs["glance"], "focus (f_L, f_C)": costs["focus"], "decision (pi)": costs["policy"]}
    rows |= {f"all up to t={t}": cost for t, cost in enumerate(costs["cumulative"], 1)}
    if costs["full_resolution"] is not None:
        rows["full-resolution network"] = costs["full_resolution"]
    return ["part", "multiply-adds per image"], [[name, f"{cost:,}"] for name, cost in rows.items()]


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _mega(cost: float) -> str:
    return f"{cost / 1e6:.1f} M"
