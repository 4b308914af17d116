"""A class-per-folder tree of real pictures: scikit-learn's handwritten digits, scanned from paper forms, pasted into
large cluttered scenes and saved as JPEG.

    python benchmarks/pictures_tree.py TREE [--train 3000] [--val 600]

Then: gfnet train image_folder --out RUN --set data.root=TREE
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from classifiers.data.synthetic_signs.scenery import draw_scenery, photograph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--val", type=int, default=600)
    options = parser.parse_args()
    make_tree(options.tree, {"train": options.train, "val": options.val})


def make_tree(tree: Path, counts: dict[str, int]) -> None:
    """Writes `counts[split]` 192x256 pictures to `tree/split/digit/`; train and val share no handwriting."""
    digits = load_digits()
    order = random.Random(0).sample(range(len(digits.target)), len(digits.target))
    halves = {"train": order[: len(order) * 3 // 4], "val": order[len(order) * 3 // 4 :]}
    for split, count in counts.items():
        rng = random.Random(split)
        for index in range(count):
            which = rng.choice(halves[split])
            scene = draw_scenery(rng, 192, 256)
            _paste_digit(rng, scene, digits.images[which])
            folder = tree / split / str(digits.target[which])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photograph(rng, scene)).save(folder / f"{index}.jpg", quality=90)


def _paste_digit(rng: random.Random, scene: Image.Image, digit: np.ndarray) -> None:
    """A white card with the digit in ink, 28 to 36 pixels high."""
    side = rng.randint(28, 36)
    ink = Image.fromarray((255 - digit * 15.9).astype(np.uint8)).resize((side - 8, side - 8), Image.Resampling.BICUBIC)
    card = Image.new("L", (side, side), 255)
    card.paste(ink, (4, 4))
    scene.paste(card.convert("RGB"), (rng.randint(2, 254 - side), rng.randint(10, 150 - side)))


if __name__ == "__main__":
    main()
