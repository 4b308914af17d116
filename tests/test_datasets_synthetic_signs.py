from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from conftest import SMALL_SCENES

from classifiers.data import drawings
from classifiers.data.collection import SPLITS
from classifiers.data.drawings import load_scenes
from classifiers.data.source import ArrayImages
from classifiers.data.synthetic_signs.scenes import SceneSpec
from classifiers.data.synthetic_signs.signs import CLASS_NAMES, DISTRACTORS


def test_scenes_are_deterministic_and_splits_differ() -> None:
    spec = SceneSpec()
    for split in SPLITS:
        assert np.array_equal(spec.draw_scene(split, 3).image, spec.draw_scene(split, 3).image)
    images = [spec.draw_scene(split, index).image for split in SPLITS for index in range(5)]
    images += [SceneSpec(seed=1).draw_scene("train", index).image for index in range(5)]
    assert all(not np.array_equal(a, b) for i, a in enumerate(images) for b in images[:i])


@pytest.mark.parametrize("size", [(192, 256), (240, 320), (101, 83)])
def test_any_image_size(size: tuple[int, int]) -> None:
    spec = SceneSpec(height=size[0], width=size[1])

    for index in range(10):
        scene = spec.draw_scene("val", index)
        assert scene.image.shape == (*size, 3) and scene.image.dtype == np.uint8
        top, left, bottom, right = scene.boxes[0]
        if scene.label:
            assert 0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]
            assert spec.min_sign_px <= bottom - top <= spec.max_sign_px
        else:
            assert not scene.boxes.any()


def test_all_classes_occur_about_equally() -> None:
    labels = [SMALL_SCENES.draw_scene("train", index).label for index in range(200)]

    counts = np.bincount(labels, minlength=len(CLASS_NAMES))
    assert len(counts) == 10 and counts.min() > 8 and counts.max() < 35


def test_the_box_holds_the_sign() -> None:
    """Red of the ring lies inside the box: the scene drawn without the sign (label 0) has none there."""
    reds = []
    for index in range(40):
        scene = SceneSpec(max_distractors=0).draw_scene("train", index)
        if scene.label:
            top, left, bottom, right = scene.boxes[0]
            pixels = scene.image[top:bottom, left:right].astype(int)
            reds.append((pixels[..., 0] - pixels[..., 1:].max(axis=2) > 20).mean())
    assert len(reds) > 25
    assert np.mean(np.array(reds) > 0.1) > 0.95


def test_distractors_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from classifiers.data.synthetic_signs import scenes as synthetic_signs

    kinds: list[str] = []
    draw_sign = synthetic_signs.draw_sign
    monkeypatch.setattr(
        synthetic_signs, "draw_sign", lambda rng, kind, *rest: kinds.append(kind) or draw_sign(rng, kind, *rest)
    )
    for index in range(25):
        SceneSpec(max_distractors=0).draw_scene("train", index)
    assert set(kinds) == {"speed_limit"}
    kinds.clear()
    for index in range(25):
        SceneSpec(max_distractors=3).draw_scene("train", index)
    assert set(kinds) == {"speed_limit", *DISTRACTORS}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 30}, "height=30"),
        ({"min_sign_px": 41}, "min_sign_px=41"),
        ({"max_distractors": -1}, "max_distractors"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_specs_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneSpec(**arguments)


def test_unknown_splits_and_no_scenes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split"):
        SceneSpec().draw_scene("training", 0)
    with pytest.raises(ValueError, match="num_scenes=0"):
        load_scenes(SceneSpec(), "train", 0, cache_dir=tmp_path)


TINY = SceneSpec(height=48, width=48, min_sign_px=10, max_sign_px=20)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one file of six scenes."""
    monkeypatch.setenv("GFNET_CACHE", str(tmp_path))
    monkeypatch.setattr(drawings, "SHARD_SIZE", 6)
    load_scenes(TINY, "train", 6)
    return tmp_path


def _drawn(spec: SceneSpec, count: int) -> tuple[ArrayImages, bool]:
    """Some scenes, and whether they had to be drawn."""
    news: list[tuple[int, int]] = []
    images = load_scenes(spec, "train", count, on_progress=lambda *each: news.append(each))
    return images, bool(news)


def test_cached_scenes_are_the_drawn_ones(cache: Path) -> None:
    scenes, was_drawn = _drawn(TINY, 6)

    assert not was_drawn
    for index in (0, 3, 5):
        scene = TINY.draw_scene("train", index)
        assert np.array_equal(scenes.images[index].permute(1, 2, 0).numpy(), scene.image)
        assert scenes.labels[index] == scene.label and scenes.boxes[index].tolist() == scene.boxes.tolist()


@pytest.mark.parametrize("damage", ["truncate", "empty", "foreign"])
def test_damaged_files_are_drawn_anew(cache: Path, damage: str) -> None:
    (path,) = cache.rglob("train-00000.safetensors")
    good = path.read_bytes()
    path.write_bytes({"truncate": good[:-1000], "empty": b"", "foreign": b"hello" * 99}[damage])

    scenes, was_drawn = _drawn(TINY, 6)

    assert was_drawn and path.read_bytes() == good
    assert np.array_equal(scenes.images[3].permute(1, 2, 0).numpy(), TINY.draw_scene("train", 3).image)


def test_scenes_of_other_specs_and_drawing_versions_are_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = TINY.replace(seed=1)

    scenes, was_drawn = _drawn(other, 2)

    assert was_drawn and np.array_equal(scenes.images[0].permute(1, 2, 0).numpy(), other.draw_scene("train", 0).image)
    monkeypatch.setattr(SceneSpec, "version", SceneSpec.version + 1)
    assert _drawn(TINY, 2)[1]


DRAWN = {(1, "11.3.0"): "aac63b58683e4f00"}
"""Hashes of some scenes, by the version of the drawings and Pillow's."""


def test_the_drawing_version_changes_with_the_drawings() -> None:
    known_pillows = {pillow for _, pillow in DRAWN}
    if PIL.__version__ not in known_pillows:
        pytest.skip(f"scenes are known as Pillow {', '.join(sorted(known_pillows))} draws them")
    digest = hashlib.sha256()
    hard = SceneSpec(height=240, width=320, min_sign_px=24, max_sign_px=34, max_distractors=5)
    for spec in (SceneSpec(), hard):
        for split in SPLITS:
            for index in range(8):
                scene = spec.draw_scene(split, index)
                digest.update(scene.image.tobytes() + scene.boxes.tobytes() + bytes([scene.label]))

    assert DRAWN.get((SceneSpec.version, PIL.__version__)) == digest.hexdigest()[:16], (
        "scenes are drawn differently: add one to SceneSpec.version, so that cached scenes "
        f"are drawn again, and note {digest.hexdigest()[:16]} here"
    )
