"""Results that a rearrangement of the code must not move; `pinned.py` says what they are and how to write them anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pinned
import pytest

EXPECTED: dict[str, Any] = json.loads(pinned.PINNED.read_text())
QUICK = ("small_resnet", "resnet18", "mobilenetv3_large_100", "tsm4:resnet18", "demo")


def _slow_unless_quick(names: tuple[str, ...]) -> list[Any]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


def test_every_config_resolves_to_the_same_settings() -> None:
    found = {name: pinned.resolved(path) for name, path in pinned.configs().items()}

    assert json.loads(json.dumps(pinned.common_and_own(found))) == EXPECTED["configs"]


@pytest.mark.parametrize("name", _slow_unless_quick(pinned.ENCODERS))
def test_encoders_compute_the_same(name: str) -> None:
    found, expected = pinned.encoding(name), EXPECTED["encoders"][name]

    for part in range(0, len(expected), 4):  # size, mean, standard deviation and mean along a ramp of one tensor
        spread = expected[part + 2]
        assert found[part : part + 4] == pytest.approx(expected[part : part + 4], rel=1e-4, abs=1e-4 * spread)


@pytest.mark.parametrize("name", _slow_unless_quick(pinned.COSTS))
def test_multiply_adds_are_the_same(name: str) -> None:
    assert pinned.cost(name) == EXPECTED["costs"][name]


def test_every_kind_of_image_file_gives_the_same_pixels() -> None:
    found = pinned.pictures()

    assert found.keys() == EXPECTED["pictures"].keys()
    for name, values in found.items():
        assert values == pytest.approx(EXPECTED["pictures"][name], abs=2), name  # JPEG decoders differ by rounding


def test_a_small_demo_ends_with_the_same_figures(tiny_run: Path) -> None:
    found, expected = pinned.demo_results(tiny_run), EXPECTED["demo"]

    assert found.pop("rewards") == pytest.approx(expected.pop("rewards"), abs=1e-4)
    assert found == expected
