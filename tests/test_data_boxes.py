"""`boxes.csv`: what it may say, and where a box ends up once its image is scaled and cropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_classifier
from PIL import Image

from agents.evaluation.metrics import pointing_game
from agents.evaluation.rollout import evaluate
from agents.runs.config_files import load_config
from agents.runs.images import open_images
from classifiers.data.augmentation import RandomCrops
from classifiers.data.boxes import StoredBox, fitted_box, read_boxes
from classifiers.data.decoding import decode_image
from classifiers.data.registry import ImageFolder
from classifiers.inference.frozen import frozen
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import EpisodeSpec, GlanceFocusEnv, Task
from gfnet_env.rendering import TRUE_BOX

HEADER = "file,top,left,bottom,right,track\n"
XYWH = "file,x,y,w,h,track\n"
EVERYTHING = torch.arange(4)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes of two pictures in each split, 60x80 and black but for a white rectangle of 10x16 at (15, 20)."""
    for split in ("train", "val"):
        for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
            picture = Image.new("RGB", (80, 60))
            picture.paste((255, 255, 255), (20, 15, 36, 25))
            path = tmp_path / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    lines = "".join(f"val/{name}.png,15,20,25,36,7\n" for name in ("a/0", "a/1", "b/0"))
    (tmp_path / "boxes.csv").write_text(HEADER + lines)
    return tmp_path


@pytest.mark.parametrize(("size", "crop_pct"), [((60, 80), 1.0), ((120, 160), 1.0), ((45, 45), 1.0), ((48, 48), 0.75)])
def test_a_box_lies_where_its_pixels_do(tree: Path, size: tuple[int, int], crop_pct: float) -> None:
    source = ImageFolder(root=tree, height=size[0], width=size[1], crop_pct=crop_pct).open("val")

    batch = source.fetch(EVERYTHING)

    assert not batch.boxes[3].any()  # has no line
    for image, (top, left, bottom, right) in zip(batch.images[:3], batch.boxes[:3, 0].tolist(), strict=True):
        bright = (image[0] > 127).nonzero()
        found = [*bright.min(dim=0).values.tolist(), *(bright.max(dim=0).values + 1).tolist()]
        assert np.abs(np.subtract(found, (top, left, bottom, right))).max() <= 1


def test_every_way_to_the_images_keeps_their_boxes(tree: Path) -> None:
    spec = ImageFolder(root=tree, height=60, width=80)

    kept = open_images(load_config("image_folder").replace(data=spec), "val")
    few = spec.replace(num_val=2).open("val")

    assert kept.fetch(EVERYTHING).boxes[:, 0].tolist() == [[15, 20, 25, 36]] * 3 + [[0] * 4]
    assert few.fetch(torch.arange(2)).boxes[:, 0].tolist() == [[15, 20, 25, 36], [0] * 4]
    assert not spec.open("train").fetch(EVERYTHING).boxes.any()
    crops = RandomCrops(ImageFolder(root=tree, height=60, width=80).open("val"), (0.5, 1.0))
    assert not crops.fetch(EVERYTHING).boxes.any()


def test_skipped_files_take_their_boxes_with_them(tree: Path) -> None:
    (tree / "val" / "a" / "0.png").write_text("no picture")

    source = ImageFolder(root=tree, height=60, width=80, unreadable="skip").open("val")

    assert source.fetch(torch.arange(3)).boxes.any(dim=2)[:, 0].tolist() == [True, True, False]


def test_boxes_are_those_of_upright_images(tree: Path) -> None:
    upright = Image.new("RGB", (60, 80))
    upright.paste((255, 255, 255), (10, 40, 30, 50))
    exif = Image.Exif()
    exif[274] = 6  # stored lying on its side
    path = tree / "val" / "a" / "0.jpg"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=100)
    (tree / "boxes.csv").write_text(HEADER + "val/a/0.jpg,40,10,50,30,\n")

    source = ImageFolder(root=tree, height=80, width=60).open("val")

    assert source.boxes is not None and source.boxes[0, 0].tolist() == [40, 10, 50, 30]
    assert decode_image(path, (80, 60))[42:48, 12:28].min() > 200


def test_what_a_crop_leaves_of_a_box_is_its_box() -> None:
    half, gone = StoredBox(1, 20, 0, 30, 40), StoredBox(2, 20, 0, 30, 8)

    assert fitted_box(half, (60, 100), (60, 60), 1.0) == (20, 0, 30, 20)
    assert fitted_box(gone, (60, 100), (60, 60), 1.0) == (0, 0, 0, 0)
    assert fitted_box(StoredBox(3, 20, 50, 20.1, 50.1), (60, 100), (60, 60), 1.0) == (20, 30, 21, 31)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,x,y,w\nval/a/0.png,1,2,3\n", "file,top,left,bottom,right or file,x,y,w,h"),
        ("file,x,y,bottom,right\nval/a/0.png,1,2,3,4\n", "file,x,y,w,h"),
        ("file,x,y,w,h,label\nval/a/0.png,1,2,3,4,5\n", "label"),
        ("", "none"),
        (XYWH + "val/a/0.png,1,2,-3,4,\n", r"line 2: .*w='-3'.*w and h above 0"),
        (HEADER + "val/a/0.png,3,2,1,4,\n", r"line 2: .*top='3'.*bottom above top"),
        (HEADER + "val/a/0.png,1,two,3,4,\n", r"line 2: .*left='two'"),
        (HEADER + "val/a/0.png,1\n", r"line 2: .*left=None"),
        (HEADER + "val/a/0.png,2,90,5,94,\n", r"line 2: .*0\.png"),
        (HEADER + "test/a/9.png,1,2,3,4,\n", r"line 2: 'test/a/9\.png'"),
    ],
)
def test_bad_boxes_are_one_sentence(tree: Path, text: str, message: str) -> None:
    (tree / "boxes.csv").write_text(text)

    with pytest.raises((ValueError, FileNotFoundError), match=rf"boxes\.csv.*{message}"):
        ImageFolder(root=tree, height=60, width=80).open("val")


def test_columns_may_come_in_any_order_without_the_track(tree: Path) -> None:
    for text in ("right,left,bottom,top,file\n4,1,6,2,val/a/0.png\n", "h,w,y,x,file\n4,3,2,1,val/a/0.png\n"):
        (tree / "boxes.csv").write_text(text)

        assert list(read_boxes(tree / "boxes.csv").values()) == [[StoredBox(2, 2, 1, 6, 4)]]


def test_a_file_may_have_several_boxes(tree: Path) -> None:
    (tree / "boxes.csv").write_text(HEADER + "val/a/0.png,40,10,50,30,\nval/a/0.png,0,0,8,8,\n")

    source = ImageFolder(root=tree, height=60, width=80).open("val")

    assert source.num_boxes == 2 and source.fetch(EVERYTHING).boxes.any(dim=2).sum(dim=1).tolist() == [2, 0, 0, 0]


def test_evaluation_and_pictures_know_the_boxes(tree: Path) -> None:
    source = ImageFolder(root=tree, height=60, width=80).open("val")
    spec = ClassifierSpec(encoder="small_resnet", patch_size=32, num_glimpses=3, hidden_size=16)
    classifier = frozen(random_classifier(spec, num_classes=2))

    class Corners:
        """Looks at the bottom right, then at the top left, where the rectangle is."""

        observation_keys: tuple[str, ...] = ()
        multiply_adds = 0

        def __call__(self, view: object, state: int | None) -> tuple[torch.Tensor, int]:
            turn = state or 0
            return torch.full((4, 2), float(turn == 0)), turn + 1

    record = evaluate(classifier, source, Corners())
    env = GlanceFocusEnv(Task(source, classifier), EpisodeSpec(), render_mode="rgb_array")
    _, info = env.reset(seed=0, options={"index": 0})
    picture = env.render()

    assert pointing_game(record) == [0.0, 1.0]
    assert info["boxes"].tolist() == [[15, 20, 25, 36]]
    assert picture is not None
    rows, columns = (picture == TRUE_BOX).all(axis=2).nonzero()
    scale = 7  # a picture is at least 384 pixels high
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (10 * scale, 16 * scale)
