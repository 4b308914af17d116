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
from scripts.episodes import contact_sheet, easy_and_hard, episode_frames, reward_map, save_png

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:980px;margin:2rem auto;padding:0 1rem;color:#202124}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .8rem;text-align:right;border-bottom:1px solid #dadce0}
th:first-child,td:first-child{text-align:left}img{max-width:100%}.row{display:flex;flex-wrap:wrap;gap:1rem}
.row>*{flex:1 1 420px}.note{color:#5f6368}pre{background:#f1f3f4;padding:1rem;overflow:auto}
"""


_LOOKS_CAPTION = (
    "Spread: standard deviation over images of where the policy looks, from 0 (the same place in all images) to 0.5, "
    "0.29 for random places. At a border: share of the looks within 2 % of an edge. Overlap: intersection over union "
    "of two patches of an episode. Looks: patches per episode, the glance not counted. Explained variance: how much of "
    "the variance of the returns the value function predicts, 1 at most. docs/diagnosing.md says how to read them."
)
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
    match = (metrics.get("adaptive") or {}).get("match")
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
    sheet = contact_sheet([list(episode_frames(run, source, index))[-1] for index in chosen], columns=3)
    save_png(folder / "glimpses.png", sheet)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    heat = _heat_maps(run, source, chosen[:2] + chosen[-2:], record.location[:, record.largest_patches[1] - 1])
    steps, rewards = curve(files.log, "stage2", "reward")
    body = [
        "<h1>Where to look next</h1>",
        f"<p>{metrics['images']} held-out images.</p>",
        "<h2>Accuracy by step</h2>",
        _html_table(_policy_heads(metrics), _policy_rows(metrics)),
        *(f"<p>{html.escape(line)}</p>" for line in summary_lines(metrics)),
        f"<div class=row>{_image(plots.accuracy_by_step(metrics))}{_image(plots.accuracy_by_cost(metrics))}</div>",
        *_adaptive_part(metrics),
        "<h2>Learning curve of stage II</h2>",
        _image(plots.learning_curve(steps, rewards)) if steps else "<p class=note>None: the policy was loaded.</p>",
        *_looks_part(metrics, files),
        "<h2>Easy and hard scenes</h2>",
        "<p class=note>Top: right at the first focus. Bottom: took longer, or failed. Boxes carry the step and "
        "the confidence in the true label, green where the prediction was right; a thin yellow outline is what decides "
        "the label, where that is known.</p>",
        f"<img src='{plots.png_data_uri(buffer.getvalue())}' alt='episodes'>",
        "<h2>Reward of the first focus, by place</h2>",
        "<p class=note>The reward of Eq. (8) for a patch centred there; the cross is the policy's choice. Of a clip, "
        "the middle frame.</p>",
        heat,
        "<h2>Multiply-adds</h2>",
        _cost_table(metrics),
        "<h2>Config</h2>",
        f"<pre>{html.escape(files.config.read_text(encoding='utf-8'))}</pre>",
    ]
    title = f"<title>GFNet-Gym: {html.escape(printable(folder.name))}</title>"
    head = f"<!doctype html><meta charset=utf-8>{title}<style>{_STYLE}</style>"
    write_text(folder / "report.html", head + "\n".join(body))


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
        rows.append("".join(f"<td>{cell}</td>" for cell in [name.replace("_", "-"), *cells]))
    explained = found["explained_variance"]
    warning = collapse_warning(metrics)
    names = [*(f"spread_t{step}" for step in range(2, steps + 1)), "border", "overlap", "explained_variance"]
    curves = {name: curve(files.log, "stage2", name) for name in names}
    along = plots.diagnostics_along_training({name: line for name, line in curves.items() if len(line[0]) > 1})
    return [
        "<h2>Where the policy looks</h2>",
        *([] if warning is None else [f"<p><b>{html.escape(warning)}</b></p>"]),
        f"<p class=note>{_LOOKS_CAPTION}</p>",
        f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}",
        "</table>",
        *([] if explained is None else [f"<p>Explained variance at the end of stage II: {explained:.2f}.</p>"]),
        *([] if along is None else [_image(along)]),
    ]


def _adaptive_part(metrics: dict[str, Any]) -> list[str]:
    """Early exits: budgets, E(t), exits by step, criteria side by side, sizes (Figs. 7, 10, 15 and 17, Table 7)."""
    adaptive = metrics.get("adaptive")
    if not adaptive:
        return []
    named = {"learned": metrics}
    length, latency = plots.compare_runs(named, "expected_length"), plots.compare_runs(named, "latency")
    sizes, front = plots.sizes_by_budget(metrics), plots.compare_runs(named, "multiscale")
    return [
        "<h2>Stopping early</h2>",
        f"<p class=note>Thresholds were found on {adaptive['calibration_images']} other images.</p>",
        f"<div class=row>{_image(plots.accuracy_by_budget(metrics))}{_image(length)}</div>",
        f"<div class=row>{_image(plots.exits_by_step(metrics))}{_criteria_table(adaptive['curves'])}</div>",
        *([] if latency is None else [_image(latency)]),
        *(
            []
            if sizes is None
            else ["<h2>Sizes of patches</h2>", f"<div class=row>{_image(sizes)}{_image(front)}</div>"]
        ),
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
    return _image(plots.reward_heat_maps(images, maps, points))


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
    return f"<table>{_html_row('th', heads)}{''.join(_html_row('td', row) for row in rows)}</table>"


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _cost_table(metrics: dict[str, Any]) -> str:
    costs = metrics["multiply_adds"]
    rows = {"glance (f_G, f_C)": costs["glance"], "focus (f_L, f_C)": costs["focus"], "decision (pi)": costs["policy"]}
    rows |= {f"all up to t={t}": cost for t, cost in enumerate(costs["cumulative"], 1)}
    if costs["full_resolution"] is not None:
        rows["full-resolution network"] = costs["full_resolution"]
    return _html_table(["part", "multiply-adds per image"], [[name, f"{cost:,}"] for name, cost in rows.items()])


def _image(figure: Any) -> str:
    return f"<img src='{plots.as_data_uri(figure)}' alt=''>"


def _mega(cost: float) -> str:
    return f"{cost / 1e6:.1f} M"
