"""The tables of runs kept image by image are those of their rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import kept_runs
import numpy as np
import pytest
from kept_runs import FULL, filled_page, kept_run, packed, tables, unpacked, with_interval
from measured import Row, read


def _row(seed: int, right: dict[str, np.ndarray], groups: list[int] | None = None, **cells: object) -> Row:
    count = len(right[FULL][0])
    found = {name: packed(rows) for name, rows in right.items()}
    curves = {name: [[10e6, 30e6], [0.5, 0.8], [1.0, 2.0]] for name in ("confidence", "random")}
    cells |= {
        "seed": seed,
        "curves": curves,
        "right": found,
        "images": count,
        "costs": [10_000_000, 30_000_000],
        "full_cost": 90_000_000,
    }
    if groups is not None:
        cells["groups"] = groups
    return Row("photos", json.dumps(cells), "0.4.0", "abcdef0123", "2.9.0", "cpu", "", "2026-11-30", "gfnet train x")


def _right(*shares: float, count: int = 40) -> np.ndarray:
    """The first images are recognized, so many of them after each look."""
    return np.arange(count) < np.array(shares)[:, None] * count


@pytest.mark.parametrize("page", kept_runs.PAGES, ids=lambda path: path.stem)
def test_the_tables_of_a_page_are_those_of_its_rows(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert filled_page(text, read(kept_runs.ROWS)) == text
    assert "\n<!-- / -->\n" in text


def test_booleans_are_packed_and_unpacked() -> None:
    right = np.random.default_rng(0).random((3, 21)) < 0.5

    assert np.array_equal(unpacked(packed(right), 21), right)


def test_images_of_a_group_are_drawn_together() -> None:
    right = {"learned": _right(0.5, 0.5), FULL: _right(0.5)}
    alone = kept_run(_row(0, right))
    grouped = kept_run(_row(0, right, [index // 10 for index in range(40)]))  # each all right, or all wrong

    assert with_interval([alone], ("learned", 2)) == "0.500 [0.350, 0.650]"
    assert with_interval([grouped], ("learned", 2)) == "0.500 [0.000, 1.000]"
    assert with_interval([grouped], ("learned", 1), (FULL, 1)) == "0.000 [0.000, 0.000]"


def test_runs_are_averaged_image_by_image() -> None:
    policies = {"random": _right(0.5, 0.5), "center_corner": _right(0.5, 0.6), FULL: _right(0.9)}
    rows = [
        _row(0, {**policies, "learned": _right(0.5, 0.8)}),
        _row(1, {**policies, "learned": _right(0.5, 1.0), "early_exits": _right(0.9)}, exits_cost=30e6),
    ]
    table = tables([kept_run(row) for row in rows])

    assert "| learned | 0.500 [" in table and "| 0.900 [" in table
    assert "| learned - center, then corners, t=2 | 0.300 [" in table
    assert "| early exits - " not in table  # not of all runs
    assert "| 0 | 0.900 for 90.0 M | none are as accurate on the validation images | |" in table
    assert "| 1 | 0.900 for 90.0 M | 0.900 for 30.0 M | 3.00 |" in table
    worse = _row(1, {**policies, "learned": _right(0.5, 1.0), "early_exits": _right(0.8)}, exits_cost=30e6)
    assert "| 1 | 0.900 for 90.0 M | 0.800 for 30.0 M | less accurate |" in tables([kept_run(worse)])
    assert "| exits by | 10 M | 30 M |" in table and "| random | 0.500 | 0.800 |" in table
    assert "| looks, by confidence | 1.00 | 2.00 |" in table


def test_a_later_row_of_a_seed_takes_the_place_of_an_earlier_one() -> None:
    policies = {"random": _right(0.5, 0.5), "center_corner": _right(0.5, 0.6), FULL: _right(0.9)}
    rows = [_row(0, {**policies, "learned": _right(0.5, share)}) for share in (0.8, 1.0)]

    assert "| learned | 0.500" in filled_page("<!-- photos -->\n<!-- / -->", rows)
    assert "| 1.000 [1.000, 1.000] |" in filled_page("<!-- photos -->\n<!-- / -->", rows)


@pytest.mark.parametrize("count", [1, 9])
def test_any_number_of_images_is_kept(count: int) -> None:
    row = _row(0, {"learned": _right(1.0, 1.0, count=count), FULL: _right(1.0, count=count)})

    assert kept_run(row).right["learned"].shape == (2, count)


def test_variants_are_compared_with_the_first_one_seed_by_seed() -> None:
    def variant(name: str, seed: int, *shares: float) -> Row:
        return replace(_row(seed, {"learned": _right(*shares), FULL: _right(0.9)}), table=f"rewards.{name}")

    rows = [variant("one", 0, 0.5, 0.5), variant("one", 1, 0.5, 0.75), variant("other", 1, 0.5, 0.5)]

    text = filled_page("before\n<!-- rewards -->\nold\n<!-- / -->\n", rows)

    assert "| one | 2 | 0.500 [0.350, 0.650] | 0.625 [0.500, 0.750] |  |" in text
    assert "| other | 1 | 0.500 [0.350, 0.650] | 0.500 [0.350, 0.650] | -0.250 [-0.400, -0.125] |" in text
    assert "old" not in text and text.startswith("before")
