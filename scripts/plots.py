"""The report's plots, each a matplotlib figure made from figures alone."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"random": "#9aa0a6", "centre_corner": "#c58b2a", "learned": "#1967d2", "oracle": "#188038"}
"""One colour for each policy, the same in every plot."""


def accuracy_by_step(metrics: dict[str, Any]) -> Figure:
    """Accuracy after each step, by policy, the full-resolution network as a line (anytime prediction, Fig. 16)."""
    figure, axes = _axes("step t", "accuracy")
    for name, values in metrics["accuracy"].items():
        axes.plot(range(1, len(values) + 1), values, "o-", color=COLOURS[name], label=_label(name))
    _full_resolution_line(axes, metrics)
    axes.set_xticks(range(1, len(metrics["accuracy"]["learned"]) + 1))
    axes.legend()
    return figure


def accuracy_by_cost(metrics: dict[str, Any]) -> Figure:
    """Accuracy against multiply-adds beside the full-resolution network, as Fig. 7."""
    figure, axes = _axes("multiply-adds per image", "accuracy")
    costs = metrics["multiply_adds"]
    for name in ("random", "centre_corner", "learned"):
        axes.plot(costs["cumulative"], metrics["accuracy"][name], "o-", color=COLOURS[name], label=_label(name))
    if metrics["full_resolution_accuracy"] is not None:
        point = (costs["full_resolution"], metrics["full_resolution_accuracy"])
        axes.plot(*point, "k*", markersize=12, label="full-resolution network")
    axes.set_xscale("log")
    axes.legend()
    return figure


def learning_curve(steps: list[int], rewards: list[float]) -> Figure:
    """Mean reward of an episode along stage II."""
    figure, axes = _axes("environment steps", "reward per episode")
    axes.plot(steps, rewards, color="#c6dafc", linewidth=1)
    if len(rewards) >= 10:
        width = max(2, len(rewards) // 20)
        smooth = np.convolve(rewards, np.ones(width) / width, mode="valid")
        axes.plot(steps[width - 1 :], smooth, color=COLOURS["learned"])
    return figure


def reward_heat_maps(images: list[np.ndarray], maps: list[np.ndarray], points: list[tuple[float, float]]) -> Figure:
    """The reward of the first focus at every place, as Fig. 5, beside its image.

    Args:
        images: each (H, W, 3) uint8.
        maps: each (rows, columns), reward of a patch whose centre lies there.
        points: (row, col) in pixels of the centre of the patch that the policy chose.

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


def as_data_uri(figure: Figure) -> str:
    """A figure as the `src` of an HTML image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return png_data_uri(buffer.getvalue())


def png_data_uri(png: bytes) -> str:
    """A PNG file's bytes as the `src` of an HTML image."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    return figure, axes


def _full_resolution_line(axes: Axes, metrics: dict[str, Any]) -> None:
    if metrics["full_resolution_accuracy"] is not None:
        axes.axhline(metrics["full_resolution_accuracy"], color="k", linestyle="--", label="full-resolution network")


def _label(name: str) -> str:
    return name.replace("_", "-")
