"""How a run is shown: the table on the terminal, `glimpses.png` and a self-contained `report.html`."""

from __future__ import annotations

import html
import io
import math
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
from scripts import plots
from scripts.console import printable
from scripts.episodes import contact_sheet, easy_and_hard, episode_frames, reward_map, save_png

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:980px;margin:2rem auto;padding:0 1rem;color:#202124}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .8rem;text-align:right;border-bottom:1px solid #dadce0}
th:first-child,td:first-child{text-align:left}img{max-width:100%}.row{display:flex;flex-wrap:wrap;gap:1rem}
.row>*{flex:1 1 420px}.note{color:#5f6368}pre{background:#f1f3f4;padding:1rem;overflow:auto}
"""


_MAP_MULTIPLY_ADDS = 2e10  # of one reward map: a second or so on a processor


def terminal_table(metrics: dict[str, Any]) -> Table:
    """Accuracy by policy and step."""
    table = Table(title=f"accuracy on {metrics['images']} held-out images")
    table.add_column("policy")
    for head in _step_heads(metrics):
        table.add_column(head, justify="right")
    table.add_column("first focus finds it", justify="right")
    for name, cells in _policy_rows(metrics):
        table.add_row(name, *cells)
    return table


def budget_table(calibration: EvaluationRecord, record: EvaluationRecord, budget: float) -> Table:
    """What stopping early gives for a budget: the criteria of Table 7, and the most accurate thresholds.

    Each accuracy is also a share of `AccuracyBound`, for what was spent.

    Args:
        calibration: the record that thresholds are found on.
        record: the record that they are judged on.
        budget: multiply-adds per image on average.

    Returns:
        The table.

    Raises:
        ValueError: if the budget is out of range.
    """
    table = Table(title=f"stopping early for {_mega(budget)} multiply-adds")
    for column in ("thresholds", "by", "accuracy", "of the bound", "spent", "steps"):
        table.add_column(column, justify="left" if column in ("thresholds", "by") else "right")
    exact = ("coordinate_ascent", "confidence")
    ways = [exact] if len(record.patch_sizes) > 1 else [*(("geometric", criterion) for criterion in CRITERIA), exact]
    bound = AccuracyBound(history_table(record))
    for method, criterion in ways:
        rule = fit_exit_rule(calibration, budget, criterion=criterion, method=method)
        found = apply_exit_rule(record, rule)
        share = found.accuracy / max(bound.at(found.cost), 1e-9)
        cells = f"{found.accuracy:.4f}", f"{share:.1%}", _mega(found.cost), f"{found.expected_length:.2f}"
        table.add_row(method, criterion, *cells)
    return table


def cost_table(cost: RunCost) -> Table:
    """Multiply-adds of a run's networks, by step."""
    table = Table(title="multiply-adds for one image")
    for column in ("step", "encoder", "f_C", "pi", "together", "so far"):
        table.add_column(column, justify="right")
    for step, (head, here, total) in enumerate(zip(cost.head, cost.per_step, cost.cumulative, strict=True)):
        policy = _count(cost.policy) if step else "-"
        encoder = _count(cost.encoder if step else cost.glance_encoder)
        table.add_row(f"t={step + 1}", encoder, _count(head), policy, _count(here), _count(total))
    table.caption = (
        f"the encoder's own classifier: {_count(cost.encoder_classifier)}; "
        f"encoder and classifier on the whole image: {_count(cost.full_resolution)}"
    )
    return table


def _count(number: int) -> str:
    return f"{number:,}"


def summary_lines(metrics: dict[str, Any]) -> list[str]:
    """Sentences about what the table leaves out."""
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
    lines.append(f"{metrics['env_steps']:,} environment steps; {metrics['seconds']:.0f} s in all.")
    return lines


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
    heat = _heat_maps(run, source, chosen[:2] + chosen[-2:], record.location[:, 0])
    steps, rewards = curve(files.log, "stage2", "reward")
    body = [
        "<h1>Where to look next</h1>",
        f"<p>{metrics['images']} held-out images.</p>",
        "<h2>Accuracy by step</h2>",
        _html_table(metrics),
        *(f"<p>{html.escape(line)}</p>" for line in summary_lines(metrics)),
        f"<div class=row>{_image(plots.accuracy_by_step(metrics))}{_image(plots.accuracy_by_cost(metrics))}</div>",
        *_adaptive_part(metrics),
        "<h2>Learning curve of stage II</h2>",
        _image(plots.learning_curve(steps, rewards)) if steps else "<p class=note>None: the policy was loaded.</p>",
        "<h2>Easy and hard scenes</h2>",
        "<p class=note>Top: right at the first focus. Bottom: took longer, or failed. Boxes carry the step and "
        "the confidence in the true label, green where the prediction was right.</p>",
        f"<img src='{plots.png_data_uri(buffer.getvalue())}' alt='episodes'>",
        "<h2>Reward of the first focus, by place</h2>",
        "<p class=note>The reward of Eq. (8) for a patch centred there; the cross is the policy's choice.</p>",
        heat,
        "<h2>Multiply-adds</h2>",
        _cost_table(metrics),
        "<h2>Config</h2>",
        f"<pre>{html.escape(files.config.read_text(encoding='utf-8'))}</pre>",
    ]
    title = f"<title>GFNet-Gym: {html.escape(printable(folder.name))}</title>"
    head = f"<!doctype html><meta charset=utf-8>{title}<style>{_STYLE}</style>"
    write_text(folder / "report.html", head + "\n".join(body))


def _adaptive_part(metrics: dict[str, Any]) -> list[str]:
    """Leaving early: budgets, E(t), exits, and the criteria side by side (Figs. 7 and 15, Table 7)."""
    adaptive = metrics.get("adaptive")
    if not adaptive:
        return []
    named = {"learned": metrics}
    length, latency = plots.compare_runs(named, "expected_length"), plots.compare_runs(named, "latency")
    return [
        "<h2>Stopping early</h2>",
        f"<p class=note>Thresholds were found on {adaptive['calibration_images']} other images.</p>",
        f"<div class=row>{_image(plots.accuracy_by_budget(metrics))}{_image(length)}</div>",
        f"<div class=row>{_image(plots.exits_by_step(metrics))}{_criteria_table(adaptive['curves'])}</div>",
        *([] if latency is None else [_image(latency)]),
    ]


def _criteria_table(curves: dict[str, Any]) -> str:
    budgets = curves["confidence"]["budgets"]
    chosen = np.linspace(0, len(budgets) - 1, 7).round().astype(int)[1:-1]
    heads = "".join(f"<th>{_mega(budgets[index])}</th>" for index in chosen)
    rows = []
    for name, figures in curves.items():
        cells = "".join(f"<td>{figures['accuracies'][index]:.4f}</td>" for index in chosen)
        rows.append(f"<tr><td>{name}</td>{cells}</tr>")
    return f"<table><tr><th>budget</th>{heads}</tr>{''.join(rows)}</table>"


def _heat_maps(run: LoadedRun, source: ImageSource, indices: list[int], first: np.ndarray) -> str:
    images, maps, points = [], [], []
    side = run.classifier.spec.patch_size
    rows = min(19, max(5, round(math.sqrt(_MAP_MULTIPLY_ADDS / glimpse_costs(run.classifier)[1]))))
    for index in indices:
        image = source.fetch(torch.tensor([index])).images[0].permute(1, 2, 0).numpy()
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


def _step_heads(metrics: dict[str, Any]) -> list[str]:
    return [f"t={t}" for t in range(1, len(metrics["accuracy"]["learned"]) + 1)]


def _policy_rows(metrics: dict[str, Any]) -> list[tuple[str, list[str]]]:
    rows = []
    for name in filter(metrics["accuracy"].__contains__, POLICIES):
        found = metrics["pointing_game"][name]
        cells = [f"{value:.3f}" for value in metrics["accuracy"][name]]
        rows.append((name.replace("_", "-"), [*cells, "-" if found is None else f"{found[0]:.3f}"]))
    return rows


def _html_table(metrics: dict[str, Any]) -> str:
    heads = "".join(f"<th>{head}</th>" for head in ["policy", *_step_heads(metrics), "first focus finds it"])
    rows = "".join(
        f"<tr><td>{name}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, cells in _policy_rows(metrics)
    )
    return f"<table><tr>{heads}</tr>{rows}</table>"


def _cost_table(metrics: dict[str, Any]) -> str:
    costs = metrics["multiply_adds"]
    rows = {"glance (f_G, f_C)": costs["glance"], "focus (f_L, f_C)": costs["focus"], "decision (pi)": costs["policy"]}
    rows |= {f"all up to t={t}": cost for t, cost in enumerate(costs["cumulative"], 1)}
    if costs["full_resolution"] is not None:
        rows["full-resolution network"] = costs["full_resolution"]
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{cost:,}</td></tr>" for name, cost in rows.items())
    return f"<table><tr><th>part</th><th>multiply-adds per image</th></tr>{cells}</table>"


def _image(figure: Any) -> str:
    return f"<img src='{plots.as_data_uri(figure)}' alt=''>"


def _mega(cost: float) -> str:
    return f"{cost / 1e6:.1f} M"
