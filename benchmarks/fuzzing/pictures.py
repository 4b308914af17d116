"""Pictures of all modes, sizes and orientations, sound, damaged or none at all, under odd names."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fuzzing.case import Case

_MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"]
_SIZES = [(1, 1), (1, 500), (500, 1), (3, 2), (64, 48), (257, 129), (2000, 3)]
_NAMES = ["cat", "[final] cat", "m[/x]", "-dash", "a b", "é", "line\nbreak", "'quote\"", "[bold]", "%s", "{x}", "..x"]
_SUFFIXES = [".jpg", ".png", ".tiff", ".webp", ".gif", ".bmp"]


def encoded_picture(rng: random.Random, suffix: str) -> tuple[bytes, str]:
    """A sound picture as a file's bytes, and what is special about it."""
    mode, size = rng.choice(_MODES), rng.choice(_SIZES)
    pixels = np.frombuffer(rng.randbytes(size[0] * size[1] * 3), np.uint8).reshape(size[1], size[0], 3)
    image = Image.fromarray(pixels)
    image = image.convert("L").convert(mode) if mode in ("I", "I;16", "F") else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = rng.randrange(10)  # orientation; 1 to 8 are sound
    extras: dict[str, Any] = {"exif": exif}
    if suffix == ".png" and mode in ("L", "I;16", "RGB"):
        extras["transparency"] = (1, 2, 3) if mode == "RGB" else 7
    formats = {".jpg": "JPEG", ".tiff": "TIFF"}
    for converted in (image, image.convert("RGB")):
        buffer = io.BytesIO()
        try:
            converted.save(buffer, formats.get(suffix, suffix[1:].upper()), **extras)
        except (OSError, ValueError, TypeError, KeyError):
            continue
        return buffer.getvalue(), f"{mode} {size} orientation {exif[0x0112]}"
    raise AssertionError(suffix)


def _bomb(rng: random.Random) -> bytes:
    """A PNG of a few bytes that says it is huge."""
    width, height = rng.choice([(100_000, 100_000), (1, 400_000_000), (400_000_000, 1), (65_535, 65_535), (0, 5)])

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _write_picture(rng: random.Random, folder: Path) -> tuple[Path, str]:
    """A picture, sound or not, under a name that may be odd."""
    suffix = rng.choice(_SUFFIXES)
    path = folder / f"{rng.choice(_NAMES)}{suffix}"
    path.parent.mkdir(exist_ok=True)  # one of the names holds a slash
    content, note = encoded_picture(rng, suffix)
    damage = rng.choice(
        ["none", "none", "none", "truncated", "flipped", "empty", "random", "bomb", "text", "suffix", "folder", "fifo"]
    )
    if damage == "folder":
        path.mkdir()
        return path, damage
    if damage == "fifo":
        os.mkfifo(path)
        return path, damage
    place = rng.randrange(len(content))
    contents = {
        "truncated": content[:place],
        "flipped": content[:place] + rng.randbytes(4) + content[place + 4 :],
        "empty": b"",
        "random": rng.randbytes(500),
        "bomb": _bomb(rng),
        "text": b"not a picture\n",
        "suffix": encoded_picture(rng, ".gif")[0],
    }
    path.write_bytes(contents.get(damage, content))
    return path, f"{note} {damage} {path.name!r}"


def image_case(rng: random.Random, folder: Path, base: Path) -> Case:
    """Pictures, sound or not, to recognise or to learn from."""
    if rng.random() < 0.2:
        return _tree_case(rng, folder, base)
    (folder / "pictures").mkdir()
    path, note = _write_picture(rng, folder / "pictures")
    extra = rng.choice([[], ["--json"], ["--json"], ["--pictures", str(folder / "out")]])
    given = rng.choice([path, path, folder / "pictures"])
    return Case(["predict", str(base / "run"), str(given), *extra], f"{note} {' '.join(extra)}")


def _tree_case(rng: random.Random, folder: Path, base: Path) -> Case:
    notes = []
    for split in ("train", "val"):
        for label in (rng.choice(["cat", "[red]"]), "m[x]"):
            place = folder / "tree" / split / label
            place.mkdir(parents=True)
            for index in range(4):
                (place / f"{index}.png").write_bytes(encoded_picture(random.Random(index), ".png")[0])
            if rng.random() < 0.5:
                notes.append(_write_picture(rng, place)[1])
    changes = ["data.kind=image_folder", f"data.root={folder / 'tree'}", "data.height=64", "data.width=64"]
    changes += [f"data.unreadable={rng.choice(['raise', 'skip'])}", f"seed={rng.randrange(5)}"]
    sets = [part for change in changes for part in ("--set", change)]
    return Case(["train", str(base / "config.yaml"), "--out", str(folder / "out"), "--quiet", *sets], f"tree: {notes}")
