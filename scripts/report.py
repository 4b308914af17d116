"""How a run is shown: the table on the terminal, `glimpses.png` and a self-contained `report.html`."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.table import Table

from agents.evaluation.accuracy_bound import AccuracyBound
from agents.evaluation.budgets import apply_exit_rule, fit_exit_rule, history_table
from agents.evaluation.record import EvaluationRecord
from agents.evaluation.stopping import CRITERIA
from agents.runs.cost import RunCost
from agents.runs.fingerprint import load_run_record
from agents.runs.folder import RunFolder
from agents.runs.loaded import LoadedRun
from agents.runs.log import curve
from agents.runs.metrics_file import read_metrics
from agents.runs.results import POLICIES
from classifiers.data.source import ImageSource
from classifiers.files import write_text
from classifiers.networks.costs import glimpse_costs
from classifiers.networks.size_histories import count_steps, size_histories
from scripts import plots
from scripts.console import printable
from scripts.episodes import contact_sheet, easy_and_hard, reward_map, save_png
from scripts.page.budgets import budget_front
from scripts.page.gallery import gallery_episodes
from scripts.page.templates import fill_page

_LOOKS_CAPTION = (
    "Spread: standard deviation over images of where the policy looks, from 0 (the same place in all images) to 0.5, "
    "0.29 for random places. At a border: share of the looks within 2 % of an edge. Overlap: intersection over union "
    "of two patches of an episode. Looks: patches per episode, the glance not counted. Explained variance: how much of "
    "the variance of the returns the value function predicts, 1 at most. docs/diagnosing.md says how to read them."
)
_BUDGET_CAPTION = "Accuracy for what was spent, by what decides that an image stops; higher and further left is better."
_EXITS_CAPTION = (
    "How many images stop at each step, for three budgets: with more to spend, more images take more looks."
)
_CAPTIONS = {
    "latency": "Accuracy for the time that an image takes on average, as it was measured.",
    "expected_length": "Accuracy for the number of steps that an image takes on average.",
}
_DRAWN_IN_FULL = ("budgeted", "anytime")  # with more lines, by `accuracy_by_budget` and `accuracy_by_step`
_MAP_MULTIPLY_ADDS = 2e10  # of one reward map: a second or so on a processor


def terminal_table(metrics: dict[str, Any]) -> Table:
    """Accuracy by policy and step."""
    return _table(f"accuracy on {metrics['images']} held-out images", _policy_heads(metrics), _policy_rows(metrics))


def budget_table(calibration: EvaluationRecord, record: EvaluationRecord, budget: float) -> Table:
    """Early exits for a budget: the criteria of Table 7, and the most accurate thresholds.

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
        rows.append([method, criterion, f"{found.accuracy:.4f}", share, spent, steps])
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
    costs = metrics["multiply_adds"]
    lines = []
    if metrics["full_resolution_accuracy"] is not None:
        share = costs["full_resolution"] / costs["cumulative"][1]
        lines.append(
            f"Full-resolution network: accuracy {metrics['full_resolution_accuracy']:.3f} for "
            f"{_mega(costs['full_resolution'])} multiply-adds; two steps of the policy take "
            f"{_mega(costs['cumulative'][1])}, {share:.1f} times fewer."
        )
    adaptive = metrics.get("adaptive") or {}
    two = next((each for each in adaptive.get("fixed_lengths", []) if each["steps"] == 2), None)
    if two:
        exits = two["early_exits"]
        lines.append(
            f"Two steps for every image: accuracy {two['accuracy']:.4f}; stopping early within as many multiply-adds: "
            f"{exits['accuracy']:.4f} for {_mega(exits['multiply_adds'])} on average."
        )
    match = adaptive.get("match")
    if match:
        lines.append(
            f"Stopping early, with thresholds for the full-resolution network's accuracy: {match['accuracy']:.4f} (the "
            f"network: {match['full_resolution_accuracy']:.4f}) for {_mega(match['multiply_adds'])} multiply-adds on "
            f"average, {match['times_fewer']:.1f} times fewer."
        )
    lines += filter(None, [collapse_warning(metrics)])
    lines.append(f"{metrics['env_steps']:,} environment steps; {metrics['seconds']:.0f} s in all.")
    return lines


def collapse_warning(metrics: dict[str, Any]) -> str | None:
    """The sentence that warns of a collapsed policy; None if it has not collapsed, or nobody has looked yet."""
    warning: str | None = (metrics.get("diagnostics") or {}).get("warning")
    return warning


def write_report(run: LoadedRun, source: ImageSource, folder: Path) -> None:
    """Writes `glimpses.png` and `report.html` of a finished run.

    Args:
        run: its networks.
        source: the held-out images.
        folder: the run's folder, with its `metrics.json` and records.

    Raises:
        FileNotFoundError: if the run is not finished.
        OSError: if the folder can't be written.
    """
    files, metrics = RunFolder(folder), read_metrics(folder)
    record = load_run_record(run.config, folder, "learned")
    chosen = easy_and_hard(record, 6)
    shown = list(dict.fromkeys([*chosen, *easy_and_hard(record, 12)]))
    episodes = dict(zip(shown, gallery_episodes(run, source, shown), strict=True))
    sheet = contact_sheet([episodes[index].last_frame for index in chosen], columns=3)
    save_png(folder / "glimpses.png", sheet)
    heat = _heat_maps(run, source, chosen[:2] + chosen[-2:], record.location[:, record.largest_patches[1] - 1])
    data = {"episodes": [each.data for each in episodes.values()], "front": budget_front(metrics)}
    name = folder.resolve().name
    lead = f"<p>Run <b>{html.escape(printable(name))}</b>, {metrics['images']} held-out images.</p>"
    page = fill_page("report", name, data, lead=lead, body="\n".join(_body(metrics, files, sheet, heat)))
    write_text(folder / "report.html", page)


def _body(metrics: dict[str, Any], files: RunFolder, sheet: Image.Image, heat: str) -> list[str]:
    """All of the report that needs no script."""
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    steps, rewards = curve(files.log, "stage2", "reward")
    learning = _image(plots.learning_curve(steps, rewards), "Mean reward of an episode; dark: its running mean.")
    by_step = _image(plots.accuracy_by_step(metrics), _step_caption(metrics))
    by_cost = _image(
        plots.accuracy_by_cost(metrics), "The same accuracies against what the looks cost, decisions included."
    )
    return [
        "<h2>Accuracy by step</h2>",
        _html_table(_policy_heads(metrics), _policy_rows(metrics)),
        *(f"<p>{html.escape(line)}</p>" for line in summary_lines(metrics)),
        f"<div class=row>{by_step}{by_cost}</div>",
        *_adaptive_part(metrics),
        "<h2>Learning curve of stage II</h2>",
        learning if steps else "<p class=note>None: the policy was loaded.</p>",
        *_looks_part(metrics, files),
        "<h2>Easy and hard scenes</h2>",
        "<p class=note>After the last look. Top: right at the first focus. Bottom: took longer, or failed.</p>",
        f'<img src="{plots.png_data_uri(buffer.getvalue())}" alt="Six episodes after their last looks">',
        "<h2>Reward of the first focus, by place</h2>",
        "<p class=note>The reward of Eq. (8) for a patch centred there; the cross is the policy's choice. Of a clip, "
        "the middle frame.</p>",
        heat,
        "<h2>Multiply-adds</h2>",
        _cost_table(metrics),
        "<h2>Config</h2>",
        f"<pre>{html.escape(printable(files.config.read_text(encoding='utf-8')))}</pre>",
    ]


def _step_caption(metrics: dict[str, Any]) -> str:
    """What the plot of accuracy by step shows, in words."""
    accuracy = metrics["accuracy"]
    learned = accuracy["learned"]
    last = len(learned)
    others = [
        f"{name.replace('_', '-')} {accuracy[name][-1]:.3f}"
        for name in POLICIES
        if name != "learned" and name in accuracy
    ]
    beside = f"; at t={last}: {', '.join(others)}" if others else ""
    steps = f"{learned[0]:.3f} after the glance, {learned[1]:.3f} at t=2, {learned[-1]:.3f} at t={last}"
    return f"The learned policy: {steps}{beside}."


def _looks_part(metrics: dict[str, Any], files: RunFolder) -> list[str]:
    """Whether the policy looks where the image asks it to, beside the baselines; see docs/diagnosing.md."""
    found = metrics.get("diagnostics")
    if not found:
        return []
    steps = len(metrics["accuracy"]["learned"])
    heads = ["policy", *(f"spread t={step}" for step in range(2, steps + 1)), "at a border", "overlap", "looks"]
    rows = []
    for name in filter(found["policies"].__contains__, POLICIES):
        each = found["policies"][name]
        overlap = "-" if each["overlap"] is None else f"{each['overlap']:.3f}"
        cells = [
            *(f"{value:.3f}" for value in each["spread"]),
            f"{each['border']:.3f}",
            overlap,
            f"{each['looks']:.2f}",
        ]
        rows.append([name.replace("_", "-"), *cells])
    explained = found["explained_variance"]
    warning = collapse_warning(metrics)
    names = [*(f"spread_t{step}" for step in range(2, steps + 1)), "border", "overlap", "explained_variance"]
    curves = {name: curve(files.log, "stage2", name) for name in names}
    along = plots.diagnostics_along_training({name: line for name, line in curves.items() if len(line[0]) > 1})
    return [
        "<h2>Where the policy looks</h2>",
        *([] if warning is None else [f"<p><b>{html.escape(warning)}</b></p>"]),
        f"<p class=note>{_LOOKS_CAPTION}</p>",
        _html_table(heads, rows),
        *([] if explained is None else [f"<p>Explained variance at the end of stage II: {explained:.2f}.</p>"]),
        *(
            []
            if along is None
            else [_image(along, "These figures along stage II, on images that nothing is reported on.")]
        ),
    ]


def _adaptive_part(metrics: dict[str, Any]) -> list[str]:
    """Early exits: budgets, E(t), exits by step, and the criteria side by side (Figs. 7 and 15, Table 7)."""
    adaptive = metrics.get("adaptive")
    if not adaptive:
        return []
    drawn = {
        kind: plots.compare_runs({"learned": metrics}, kind) for kind in plots.RUN_PLOTS if kind not in _DRAWN_IN_FULL
    }
    others = [_image(figure, _CAPTIONS.get(kind, "")) for kind, figure in drawn.items() if figure is not None]
    exits = _image(plots.exits_by_step(metrics), _EXITS_CAPTION)
    return [
        "<h2>Stopping early</h2>",
        f"<p class=note>Thresholds were found on {adaptive['calibration_images']} other images.</p>",
        f"<div class=row>{_image(plots.accuracy_by_budget(metrics), _BUDGET_CAPTION)}{''.join(others)}</div>",
        f"<div class=row>{exits}{_criteria_table(adaptive['curves'])}</div>",
    ]


def _criteria_table(curves: dict[str, Any]) -> str:
    budgets = curves["confidence"]["budgets"]
    chosen = np.linspace(0, len(budgets) - 1, 7).round().astype(int)[1:-1]
    rows = [[name, *(f"{curve['accuracies'][index]:.4f}" for index in chosen)] for name, curve in curves.items()]
    return _html_table(["budget", *(_mega(budgets[index]) for index in chosen)], rows)


def _heat_maps(run: LoadedRun, source: ImageSource, indices: list[int], first: np.ndarray) -> str:
    images, maps, points = [], [], []
    side = run.classifier.spec.patch_size
    rows = min(19, max(5, round(math.sqrt(_MAP_MULTIPLY_ADDS / glimpse_costs(run.classifier)[1]))))
    for index in indices:
        pixels = source.fetch(torch.tensor([index])).images[0]
        image = (pixels if pixels.ndim == 3 else pixels[len(pixels) // 2]).permute(1, 2, 0).numpy()
        values = reward_map(run, source, index, rows, round(rows * image.shape[1] / image.shape[0]))
        # a patch's centre stays half its side inside the image; the rim repeats the outermost places
        rim = (
            round(values.shape[0] * side / (2 * (image.shape[0] - side + 1))),
            round(values.shape[1] * side / (2 * (image.shape[1] - side + 1))),
        )
        room = np.array(image.shape[:2]) - side
        centre = np.floor(first[index] * room) + side / 2
        images.append(image)
        maps.append(np.pad(values, ((rim[0],) * 2, (rim[1],) * 2), mode="edge"))
        points.append((float(centre[0]), float(centre[1])))
    return _image(plots.reward_heat_maps(images, maps, points), "Brighter places are worth more.")


def _policy_heads(metrics: dict[str, Any]) -> list[str]:
    steps = range(1, len(metrics["accuracy"]["learned"]) + 1)
    return ["policy", *(f"t={step}" for step in steps), "first focus finds it"]


def _policy_rows(metrics: dict[str, Any]) -> list[list[str]]:
    rows = []
    for name in filter(metrics["accuracy"].__contains__, POLICIES):
        found = metrics["pointing_game"][name]
        cells = [f"{value:.3f}" for value in metrics["accuracy"][name]]
        rows.append([name.replace("_", "-"), *cells, "-" if found is None else f"{found[0]:.3f}"])
    return rows


def _html_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(_html_row("td", row) for row in rows)
    return f"<div class=scroll><table>{_html_row('th', heads)}{body}</table></div>"


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _cost_table(metrics: dict[str, Any]) -> str:
    costs = metrics["multiply_adds"]
    rows = {"glance (f_G, f_C)": costs["glance"], "focus (f_L, f_C)": costs["focus"], "decision (pi)": costs["policy"]}
    rows |= {f"all up to t={t}": cost for t, cost in enumerate(costs["cumulative"], 1)}
    if costs["full_resolution"] is not None:
        rows["full-resolution network"] = costs["full_resolution"]
    return _html_table(["part", "multiply-adds per image"], [[name, f"{cost:,}"] for name, cost in rows.items()])


def _image(figure: Any, caption: str = "") -> str:
    """A figure with its caption, which is its alternative text, too."""
    words = html.escape(caption)
    below = f"<figcaption>{words}</figcaption>" if words else ""
    return f'<figure><img src="{plots.as_data_uri(figure)}" alt="{words}">{below}</figure>'


def _mega(cost: float) -> str:
    return f"{cost / 1e6:.1f} M"
