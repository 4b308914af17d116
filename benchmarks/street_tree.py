"""The tree of the config `traffic_signs` or `road_scenes` from a clone of the repository with the pictures.

    python benchmarks/street_tree.py german_signs CLONE TREE   # github.com/Tracer1337/praxisprojekt-fom
    python benchmarks/street_tree.py road_scenes CLONE TREE    # github.com/michaelgallacher/speed-limit-sign-detection

`benchmarks/trees/` has a table for each: which window of which picture becomes which file, the box of its sign, and
which of them show one and the same sign. German windows are split by scene, and training scenes give up to four of them
for a sign. Road scenes are split by sign; their values were read by eye.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

from PIL import Image

TABLES = Path(__file__).parent / "trees"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=sorted(path.stem for path in TABLES.glob("*.csv")), help="which tree")
    parser.add_argument("clone", type=Path, help="folder of the repository")
    parser.add_argument("tree", type=Path, help="new folder for train/, val/ and test/")
    options = parser.parse_args()
    with (TABLES / f"{options.table}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = {path.name: path for path in options.clone.rglob("*.jpg")}
    if missing := sorted({row["source"] for row in rows} - pictures.keys()):
        parser.error(f"{options.clone} lacks {len(missing)} pictures such as {missing[0]}; pass the whole repository")
    for row in rows:
        write_window(pictures[row["source"]], row, options.tree / row["file"])
    write_csv(options.tree / "boxes.csv", ("file", "x", "y", "w", "h"), _boxes(rows))
    if "group" in rows[0]:
        write_csv(options.tree / "groups.csv", ("file", "group"), [(row["file"], row["group"]) for row in rows])
    print(f"{len(rows)} pictures in {options.tree}")


def write_window(picture: Path, row: dict[str, str], file: Path) -> None:
    """A window of a picture, or a copy of the whole where the row names no window."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if "x" not in row:
        shutil.copyfile(picture, file)
        return
    x, y, width, height = (int(row[name]) for name in ("x", "y", "width", "height"))
    with Image.open(picture) as image:
        image.convert("RGB").crop((x, y, x + width, y + height)).save(file, quality=92)


def _boxes(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    return [(row["file"], *(row[f"box_{name}"] for name in "xywh")) for row in rows if row["box_x"]]


def write_csv(path: Path, names: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
