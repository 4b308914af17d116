"""Small trees of images that the config `image_folder` was not made for.

    python benchmarks/small_trees.py shapes PHOTOS TREE   # a disc, a square or a triangle on any folder of photos
    python benchmarks/small_trees.py digits TREE          # one digit among pieces of others
    python benchmarks/small_trees.py signs FRAMES TREE    # cut out of a tree of street scenes with boxes.csv

`signs` is laid out as GTSRB: crops of one traffic sign each, of any size, split by the scene that they come from (what
stands before the first `_` in the name of a file). The same call gives the same tree.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

SHAPES = ("disc", "square", "triangle")
COUNTS = {"shapes": (240, 120, 240), "digits": (600, 200, 400)}
"""Images of train, val and test."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trees = parser.add_subparsers(required=True, dest="tree_name", metavar="TREE_NAME")
    for name in ("shapes", "digits", "signs"):
        part = trees.add_parser(name)
        if name != "digits":
            part.add_argument("source", type=Path)
        part.add_argument("tree", type=Path, help="new folder for train/, val/ and test/")
    options = parser.parse_args()
    makers: dict[str, Callable[[], Iterator[tuple[str, str, Image.Image]]]] = {
        "shapes": lambda: shapes(options.source),
        "digits": digits,
        "signs": lambda: signs(options.source),
    }
    counts: Counter[str] = Counter()
    for split, kind, image in makers[options.tree_name]():
        folder = options.tree / split / kind
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{counts[split]:05d}.jpg", quality=92)
        counts[split] += 1
    print(", ".join(f"{split}: {count} images" for split, count in counts.items()))


def _places(name: str) -> Iterator[tuple[str, int]]:
    for split, count in zip(("train", "val", "test"), COUNTS[name], strict=True):
        yield from product((split,), range(count))


def shapes(photos: Path) -> Iterator[tuple[str, str, Image.Image]]:
    """Photos with a shape of any color, 12 to 22 % of the shorter side, at any place."""
    files = sorted(file for file in photos.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    rng = random.Random("shapes")
    rng.shuffle(files)
    needed = sum(COUNTS["shapes"])
    if len(files) < needed:
        raise SystemExit(f"{photos} holds {len(files)} photos; {needed} are needed")
    for file, (split, index) in zip(files, _places("shapes"), strict=False):
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
        kind = SHAPES[index % len(SHAPES)]
        side = round(rng.uniform(0.12, 0.22) * min(image.size))
        left, top = rng.randint(0, image.width - side), rng.randint(0, image.height - side)
        draw, color = ImageDraw.Draw(image), tuple(rng.randrange(256) for _ in range(3))
        box = (left, top, left + side, top + side)
        if kind == "disc":
            draw.ellipse(box, fill=color)
        elif kind == "square":
            draw.rectangle(box, fill=color)
        else:
            draw.polygon([(left, top + side), (left + side, top + side), (left + side // 2, top)], fill=color)
        yield split, kind, image


def digits() -> Iterator[tuple[str, str, Image.Image]]:
    """A digit of 32 to 48 pixels on 240x320 pixels of gray, among 24 pieces of other digits."""
    rng = random.Random("digits")
    for split, index in _places("digits"):
        image = Image.new("L", (320, 240), rng.randint(0, 60))
        for _ in range(24):
            piece = _digit(rng, rng.randrange(10))
            left, top = rng.randint(0, piece.width // 2), rng.randint(0, piece.height // 2)
            piece = piece.crop((left, top, left + piece.width // 2, top + piece.height // 2))
            image.paste(rng.randint(90, 255), (rng.randint(0, 300), rng.randint(0, 220)), piece)
        value = index % 10
        whole = _digit(rng, value)
        image.paste(255, (rng.randint(0, 320 - whole.width), rng.randint(0, 240 - whole.height)), whole)
        yield split, str(value), image.convert("RGB")


def _digit(rng: random.Random, value: int) -> Image.Image:
    """A mask, cut to the ink and turned by at most 15 degrees."""
    font = ImageFont.load_default(rng.randint(44, 64))
    mask = Image.new("L", (96, 96))
    ImageDraw.Draw(mask).text((48, 48), str(value), fill=255, font=font, anchor="mm")
    mask = mask.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR)
    return mask.crop(mask.getbbox())


def signs(frames: Path) -> Iterator[tuple[str, str, Image.Image]]:
    """Signs with 1.3 to 2 times their sides around, as many scenes as there are."""
    rng = random.Random("signs")
    with (frames / "boxes.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"])
    scenes = sorted({_scene(row) for row in rows})
    rng.shuffle(scenes)
    split_of = {
        scene: "train" if number < 0.6 * len(scenes) else "val" if number < 0.8 * len(scenes) else "test"
        for number, scene in enumerate(scenes)
    }
    for row in rows:
        x, y, width, height = (int(row[key]) for key in "xywh")
        side = rng.uniform(1.3, 2.0) * max(width, height)
        left = x + width / 2 - side * rng.uniform(0.4, 0.6)
        top = y + height / 2 - side * rng.uniform(0.4, 0.6)
        with Image.open(frames / row["file"]) as image:
            cut = image.convert("RGB").crop((round(left), round(top), round(left + side), round(top + side)))
        yield split_of[_scene(row)], Path(row["file"]).parent.name, cut


def _scene(row: dict[str, str]) -> str:
    return Path(row["file"]).name.split("_")[0]


if __name__ == "__main__":
    main()
