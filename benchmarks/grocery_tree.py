"""The tree of the config `grocery` from a clone of github.com/marcusklasson/GroceryStoreDataset.

    python benchmarks/grocery_tree.py CLONE TREE

The splits are the authors', but 21 of their 81 kinds have no validation photos. So each kind with fewer than four takes
an eighth of its training photos, at least four, those with the highest numbers: neighbors in a row of shots stay
together.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
from collections import defaultdict
from pathlib import Path

FEWEST = 4
"""Validation photos of a kind."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, help="folder of the repository")
    parser.add_argument("tree", type=Path, help="new folder for train/, val/ and test/")
    options = parser.parse_args()
    for split, files in split_photos(options.clone / "dataset").items():
        for kind, file in files:
            target = options.tree / split / kind / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        print(f"{split}: {len(files)} photos of {len({kind for kind, _ in files})} kinds")


def split_photos(dataset: Path) -> dict[str, list[tuple[str, Path]]]:
    """(kind, file) of each photo by split."""
    with (dataset / "classes.csv").open(newline="") as file:
        kinds = {row["Class ID (int)"]: row["Class Name (str)"] for row in csv.DictReader(file)}
    photos: dict[str, dict[str, list[Path]]] = {}
    for split in ("train", "val", "test"):
        photos[split] = defaultdict(list)
        for line in (dataset / f"{split}.txt").read_text().splitlines():
            name, label, _ = (part.strip() for part in line.split(","))
            photos[split][kinds[label]].append(dataset / name)
    for kind, train in photos["train"].items():
        if len(photos["val"][kind]) < FEWEST:
            train.sort(key=_number)
            count = max(FEWEST, len(train) // 8)
            photos["val"][kind] += train[-count:]
            del train[-count:]
    return {split: [(kind, file) for kind in found for file in found[kind]] for split, found in photos.items()}


def _number(photo: Path) -> int:
    """The last number in a photo's name."""
    return int(re.findall(r"\d+", photo.stem)[-1])


if __name__ == "__main__":
    main()
