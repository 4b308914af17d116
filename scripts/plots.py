"""The plots of reports, each a matplotlib figure drawn from a run's metrics."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from classifiers.files import write_bytes
from scripts.console import printable

_CYCLE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#7f7f7f")  # Okabe and Ito's, and gray

COLORS = {
    "random": "#7f7f7f",
    "center_corner": "#e69f00",
    "best_fixed_place": "#cc79a7",
    "learned": "#0072b2",
    "oracle": "#009e73",
}
"""One color for each policy, the same in every plot, told apart by color-blind people, too (Okabe and Ito)."""


def accuracy_by_step(metrics: dict[str, Any]) -> Figure:
    """Accuracy after each step, by policy, the full-resolution network as a line (anytime prediction, Fig. 16)."""
    figure, axes = _axes("step t", "accuracy")
    for name, values in metrics["accuracy"].items():
        axes.plot(range(1, len(values) + 1), values, "o-", color=COLORS[name], label=_label(name))
    _full_resolution_line(axes, metrics)
    axes.set_xticks(range(1, len(metrics["accuracy"]["learned"]) + 1))
    axes.legend()
    return figure


def accuracy_by_cost(metrics: dict[str, Any]) -> Figure:
    """Accuracy against multiply-adds beside the full-resolution network, as in Fig. 7."""
    figure, axes = _axes("multiply-adds per image", "accuracy")
    costs = metrics["multiply_adds"]
    for name in filter(metrics["accuracy"].__contains__, ("random", "center_corner", "best_fixed_place", "learned")):
        axes.plot(costs["cumulative"], metrics["accuracy"][name], "o-", color=COLORS[name], label=_label(name))
    if metrics["full_resolution_accuracy"] is not None:
        point = (costs["full_resolution"], metrics["full_resolution_accuracy"])
        axes.plot(*point, "k*", markersize=12, label="full-resolution network")
    axes.set_xscale("log")
    axes.legend()
    return figure


_CURVES = {
    "confidence": ("#0072b2", "o-"),
    "entropy": ("#e69f00", "s-"),
    "random": ("#7f7f7f", "^-"),
    "coordinate_ascent": ("#009e73", "-"),
}
"""Color and style of each curve of early exits."""


def thresholds_name(method: str, criterion: str) -> str:
    """What plots and tables call thresholds for early exits: `geometric, entropy`."""
    return f"{method.replace('_', ' ')}, {criterion}"


def curve_name(name: str, metrics: dict[str, Any]) -> str:
    """What plots and tables call a curve of early exits of a run, see `agents.evaluation.budgets.adaptive_figures`."""
    if name == "coordinate_ascent":
        return thresholds_name(name, "confidence")
    has_sizes = len(metrics["adaptive"]["patch_sizes"]) > 1
    return thresholds_name("coordinate_ascent" if has_sizes else "geometric", name)


def accuracy_by_budget(metrics: dict[str, Any]) -> Figure:
    """Accuracy against multiply-adds of one run, by criterion: budgeted classification, as in Fig. 7 and Table 7."""
    figure, axes = _axes("multiply-adds per image", "accuracy")
    for name, curve in metrics["adaptive"]["curves"].items():
        color, style = _CURVES[name]
        label = curve_name(name, metrics)
        axes.plot(curve["costs"], curve["accuracies"], style, color=color, markersize=3, label=label)
    fixed = _fixed_lengths(metrics)
    if fixed is not None:
        axes.plot(*fixed, "D", color=COLORS["learned"], markersize=7, fillstyle="none", label="fixed length")
        for steps, point in enumerate(zip(*fixed, strict=True), start=1):
            axes.annotate(f"t={steps}", point, xytext=(6, -10), textcoords="offset points", fontsize="small")
    _full_resolution_line(axes, metrics)
    axes.legend()
    return figure


def exits_by_step(metrics: dict[str, Any]) -> Figure:
    """Share of the images that exit at each step, for a few budgets, as in Fig. 15."""
    curve = metrics["adaptive"]["curves"]["confidence"]
    chosen = np.linspace(0, len(curve["budgets"]) - 1, 5).round().astype(int)[1:-1]
    figure, axes = _axes("step t", "share of the images that exit")
    steps = np.arange(1, len(curve["exits"][0]) + 1)
    for place, index in enumerate(chosen):
        label = f"{curve['budgets'][index] / 1e6:.1f} M multiply-adds"
        axes.bar(steps + (place - 1) * 0.27, curve["exits"][index], 0.25, label=label)
    axes.set_xticks(steps)
    axes.legend()
    return figure


def sizes_by_budget(metrics: dict[str, Any]) -> Figure | None:
    """Share of the focus patches that have each size, by budget (Fig. 17).

    Args:
        metrics: of a run.

    Returns:
        The figure; None if patches have one size, or there are no budgets.
    """
    adaptive = metrics.get("adaptive") or {}
    sides = adaptive.get("patch_sizes", [])
    if len(sides) < 2:
        return None
    curve = adaptive["curves"]["confidence"]
    shares = np.array(curve["size_shares"])
    drawn = shares.sum(axis=1) > 0.0  # with the glance alone there is no patch
    costs = np.array(curve["budgets"])[drawn]
    figure, axes = _axes("multiply-adds per image that are allowed", "share of the focus patches")
    colors = [f"C{index}" for index in range(len(sides))]
    axes.stackplot(costs, shares[drawn].T, labels=[f"{side}x{side}" for side in sides], colors=colors, alpha=0.8)
    axes.set_ylim(0.0, 1.0)
    axes.legend(loc="lower right")
    return figure


def compare_runs(named: dict[str, dict[str, Any]], kind: str) -> Figure | None:
    """One of the paper's figures, with a line for each run.

    Args:
        named: metrics of each run, by its name.
        kind: a key of `RUN_PLOTS`.

    Returns:
        The figure; None if no run has what it needs.
    """
    figure, axes = _axes(RUN_PLOTS[kind], "accuracy")
    for index, (name, metrics) in enumerate(named.items()):
        line = _line(metrics, kind)
        if line is None:
            continue
        label = _literal(name)
        axes.plot(*line, "o-", color=_color(index), markersize=3, label=label)
        fixed = _fixed_lengths(metrics) if kind == "budgeted" else None
        if fixed is not None:
            axes.plot(*fixed, "D", color=_color(index), fillstyle="none", label=f"{label}: fixed length")
        star = _baseline(metrics, kind)
        if star is not None:
            axes.plot(*star, "*", color=_color(index), markersize=12, label=f"{label}: full-resolution network")
    if not axes.lines:
        return None
    axes.legend()
    return figure


def save_plots(folder: Path, named: dict[str, dict[str, Any]]) -> list[Path]:
    """Writes every plot of `RUN_PLOTS` that the runs have figures for, and each run's exits by step and patch sizes.

    Args:
        folder: where to; made if missing.
        named: metrics of each run, by its name, with `latency` where it was measured.

    Returns:
        The files.

    Raises:
        OSError: if the folder can't be written.
    """
    figures = {kind: compare_runs(named, kind) for kind in RUN_PLOTS}
    if all(sizes_by_budget(metrics) is None for metrics in named.values()):
        figures["multiscale"] = None
    for name, metrics in named.items():
        figures[f"exits_{name}"] = exits_by_step(metrics) if metrics.get("adaptive") else None
        figures[f"sizes_{name}"] = sizes_by_budget(metrics)
    written = []
    for name, figure in figures.items():
        if figure is not None:
            written.append(save_figure(folder / f"{name}.png", figure))
    return written


def save_figure(path: Path, figure: Figure) -> Path:
    """Writes a figure as PNG atomically; returns its path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_bytes(path, buffer.getbuffer())
    return path


RUN_PLOTS = {
    "budgeted": "multiply-adds per image, on average",  # Fig. 7 (a-e)
    "multiscale": "multiply-adds per image, on average",  # Fig. 10: all by coordinate ascent
    "latency": "milliseconds per image, on average",  # Fig. 8
    "expected_length": "steps per image, on average",  # Fig. 15
    "anytime": "multiply-adds per image",  # Figs. 7 (f) and 16
}
"""The plots that compare the accuracy of runs, and their horizontal axes."""

Line = tuple[Any, list[float]]


def _line(metrics: dict[str, Any], kind: str) -> Line | None:
    """A run's line in a plot of `RUN_PLOTS`; None if the run lacks what it needs."""
    if kind == "anytime":
        return metrics["multiply_adds"]["cumulative"], metrics["accuracy"]["learned"]
    if not metrics.get("adaptive"):
        return None
    curves = metrics["adaptive"]["curves"]
    curve = curves["confidence"]
    if kind == "multiscale":
        curve = curves.get("coordinate_ascent", curve)  # the latter is one of them with several sizes
    if kind == "latency":
        if not metrics.get("latency"):
            return None
        return np.array(curve["exits"]) @ np.array(metrics["latency"]["cumulative_ms"]), curve["accuracies"]
    return curve["expected_lengths" if kind == "expected_length" else "costs"], curve["accuracies"]


def _baseline(metrics: dict[str, Any], kind: str) -> tuple[float, float] | None:
    """The full-resolution network's point in a plot of `RUN_PLOTS`."""
    if metrics["full_resolution_accuracy"] is None or kind == "expected_length":
        return None
    cost = (
        metrics["latency"]["full_resolution_ms"] if kind == "latency" else metrics["multiply_adds"]["full_resolution"]
    )
    return None if cost is None else (cost, metrics["full_resolution_accuracy"])


def _fixed_lengths(metrics: dict[str, Any]) -> Line | None:
    """Cost and accuracy of episodes of exactly 1, ..., T steps."""
    found = (metrics.get("adaptive") or {}).get("fixed_lengths")
    return found and ([each["multiply_adds"] for each in found], [each["accuracy"] for each in found])


def learning_curve(steps: list[int], rewards: list[float]) -> Figure:
    """Mean reward of an episode during stage II."""
    figure, axes = _axes("environment steps", "reward per episode")
    axes.plot(steps, rewards, color="#9ccfee", linewidth=1)
    if len(rewards) >= 10:
        width = max(2, len(rewards) // 20)
        smooth = np.convolve(rewards, np.ones(width) / width, mode="valid")
        axes.plot(steps[width - 1 :], smooth, color=COLORS["learned"])
    return figure


def diagnostics_along_training(curves: dict[str, tuple[list[int], list[float]]]) -> Figure | None:
    """Spread, border, overlap and explained variance along stage II.

    Args:
        curves: environment steps and values by the name in the run's log.

    Returns:
        The figure; None without curves.
    """
    if not curves:
        return None
    figure, axes = _axes("environment steps", "value")
    for name, (steps, values) in curves.items():
        axes.plot(steps, np.clip(values, -1.0, 1.0), "-" if len(steps) > 30 else "o-", markersize=3, label=_label(name))
    axes.legend(fontsize="small")
    return figure


def learning_curves(curves: dict[str, dict[str, Any]]) -> Figure:
    """Scores during the training of each agent, with intervals over seeds; a panel for each task.

    Args:
        curves: of `agents.leaderboard.tables.learning_curves`.

    Returns:
        The figure.
    """
    columns = min(3, len(curves))
    lines = -(-len(curves) // columns)
    figure = Figure(figsize=(1 + 4.6 * columns, 3.6 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    colors = {
        name: index for index, name in enumerate(dict.fromkeys(name for each in curves.values() for name in each))
    }
    for axes, (task, by_agent) in zip(panels, curves.items(), strict=False):
        for name, curve in by_agent.items():
            look: dict[str, Any] = {"color": _color(colors[name]), "label": _literal(name)}
            look["linestyle"] = "-" if colors[name] < len(_CYCLE) else "--"
            if len(curve["steps"]) < 2:  # learned nothing on the way
                axes.axhline(curve["mean"][-1], **{**look, "linestyle": ":"})
                continue
            axes.plot(curve["steps"], curve["mean"], **look)
            axes.fill_between(curve["steps"], curve["low"], curve["high"], color=look["color"], alpha=0.15, linewidth=0)
        axes.set(title=_literal(task), xlabel="environment steps", ylabel="score on validation images")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    return figure


def radar(tasks: list[str], means: dict[str, list[float]]) -> Figure:
    """The scores of the first seven agents by task, one spoke for each of three tasks or more.

    Args:
        tasks: their names.
        means: of each agent, the best one first, a score for each task, NaN where it has none.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.subplots(subplot_kw={"projection": "polar"})
    angles = np.linspace(0.0, 2.0 * np.pi, len(tasks), endpoint=False)
    for index, (name, values) in enumerate(list(means.items())[: len(_CYCLE)]):
        shown = np.clip(values, 0.0, None)
        axes.plot(
            [*angles, angles[0]], [*shown, shown[0]], "o-", markersize=3, color=_color(index), label=_literal(name)
        )
    axes.set_xticks(angles, [_literal(task.removeprefix("GFNet-")) for task in tasks])
    axes.tick_params(axis="x", pad=18)
    axes.set_yticks([0.25, 0.5, 0.75, 1.0])
    axes.set_rlabel_position(90.0 / len(tasks))  # type: ignore[attr-defined]  # of polar axes
    figure.legend(fontsize="small", loc="outside lower center", ncols=2)
    return figure


def performance_profiles(thresholds: np.ndarray, profiles: dict[str, np.ndarray]) -> Figure:
    """The share of an agent's runs whose score exceeds each threshold, mean over tasks.

    Args:
        thresholds: (M,).
        profiles: of each agent, (M,) in [0, 1].

    Returns:
        The figure.
    """
    figure, axes = _axes("score", "share of runs above it")
    for index, (name, shares) in enumerate(profiles.items()):
        axes.plot(thresholds, shares, color=_color(index), label=_literal(name))
    axes.legend(fontsize="small")
    return figure


def confusions(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """A confusion matrix: of the images of each class, a row, the share that is taken for each class, a column.

    Args:
        matrix: (K, K) counts.
        names: of the K classes; shown up to 30, counts up to 15.

    Returns:
        The figure.
    """
    count = len(names)
    side = 3.2 + 0.32 * min(count, 30)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    shown = axes.imshow(shares, vmin=0.0, vmax=1.0, cmap="Blues")
    axes.set(xlabel="prediction", ylabel="label")
    if count <= 30:
        labels = [_literal(name) for name in names]
        axes.set_xticks(range(count), labels, rotation=90, fontsize="small")
        axes.set_yticks(range(count), labels, fontsize="small")
    if count <= 15:
        for row, column in zip(*matrix.nonzero(), strict=True):
            color = "#fdfdfd" if shares[row, column] > 0.5 else "#0b0b0b"  # on the cell, in a dark page, too
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=color, fontsize="small")
    figure.colorbar(shown, ax=axes, label="share of the label's images", shrink=0.8)
    return figure


def reward_heat_maps(images: list[np.ndarray], maps: list[np.ndarray], points: list[tuple[float, float]]) -> Figure:
    """The reward of the first focus at every place, as Fig. 5, beside its image.

    Args:
        images: each (H, W, 3) uint8.
        maps: each (rows, columns), reward of a patch whose center lies there.
        points: (row, col) in pixels of the center of the patch that the policy chose.

    Returns:
        One row of pictures above one of maps.
    """
    figure = Figure(figsize=(3.2 * len(images), 4.6), layout="constrained")
    grid = figure.subplots(2, len(images), squeeze=False)
    low, high = min(m.min() for m in maps), max(m.max() for m in maps)
    for column, (image, values, point) in enumerate(zip(images, maps, points, strict=True)):
        grid[0, column].imshow(image)
        shown = grid[1, column].imshow(
            values, extent=(0, image.shape[1], image.shape[0], 0), vmin=low, vmax=high, cmap="inferno"
        )
        for axes in grid[:, column]:
            axes.plot(point[1], point[0], "+", color="#39ff6a", markersize=14, markeredgewidth=2)
            axes.set_axis_off()
    figure.colorbar(shown, ax=list(grid[1]), label="reward", shrink=0.8)
    return figure


def as_svg(figure: Figure) -> str:
    """A figure as an element `svg` of a page: without a background, its text and lines in the color of the page's text.

    Args:
        figure: drawn in black on white; its other colors are kept.

    Returns:
        The element. Legends have the page's color `--paper`.
    """
    buffer = io.StringIO()
    nobody: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nobody)
    drawn = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", buffer.getvalue(), flags=re.DOTALL)
    drawn = re.sub(r' id="[a-z._]+_\d+"', "", drawn[drawn.index("<svg") :])  # the same ones in every figure
    drawn = drawn.replace("#000000", "currentColor").replace("#ffffff", "var(--paper)")
    return drawn.replace("<svg", '<svg fill="currentColor" stroke-linejoin="round"', 1)


def _color(index: int) -> str:
    """The color of a line by its place; they repeat after seven."""
    return _CYCLE[index % len(_CYCLE)]


def _axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=_CYCLE)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    return figure, axes


def _full_resolution_line(axes: Axes, metrics: dict[str, Any]) -> None:
    if metrics["full_resolution_accuracy"] is not None:
        axes.axhline(metrics["full_resolution_accuracy"], color="k", linestyle="--", label="full-resolution network")


def _literal(name: str) -> str:
    """A name as a label: matplotlib would read `$` as mathematics and leave out labels that begin with `_`."""
    return "\u200b" + printable(name).replace("$", r"\$")


def _label(name: str) -> str:
    return name.replace("_", "-")
