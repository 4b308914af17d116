"""Runs with a damaged file: truncated, foreign, null, without a key, with NaN, or a pickle that would execute code."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save, save_file

from fuzzing.case import CANARY, Case
from fuzzing.configs import damaged_text, damaged_tree
from fuzzing.pictures import encoded_picture


class _Executes:
    """Its unpickling runs a command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.folder / CANARY}'",)


def _pickled(rng: random.Random, folder: Path) -> bytes:
    """A file of torch, or a plain pickle, that is not what is expected, or that would execute code."""
    content = rng.choice(
        [_Executes(folder), {"state": _Executes(folder)}, {}, None, [1], {"epoch": "x"}, torch.zeros(2)]
    )
    if rng.random() < 0.3:
        return pickle.dumps(content)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    whole = buffer.getvalue()
    return whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole


def _damage_json(rng: random.Random, path: Path) -> None:
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    index = rng.randrange(len(lines))
    tree = json.loads(lines[index])
    key = rng.choice(list(tree))
    wrong = [None, [], {}, "x", float("nan"), -1, True, [None], {"x": None}]
    choice = rng.random()
    if choice < 0.3:
        lines[index] = json.dumps(rng.choice(wrong))
    elif choice < 0.6:
        lines[index] = json.dumps({name: value for name, value in tree.items() if name != key})
    else:
        lines[index] = json.dumps({**tree, key: rng.choice(wrong)})
    path.write_text("\n".join(lines) + "\n")


def _damage_tensors(rng: random.Random, path: Path, folder: Path) -> None:
    tensors = load_file(path)
    name = rng.choice(list(tensors))
    choice = rng.choice(["missing", "shape", "dtype", "added", "metadata", "header", "pickle", "none"])
    if choice == "pickle":
        path.write_bytes(_pickled(rng, folder))
        return
    if choice == "header":
        path.write_bytes(struct.pack("<Q", rng.choice([2**63, 2**40, 0, 5])) + path.read_bytes()[8:])
        return
    if choice == "missing":
        del tensors[name]
    elif choice == "shape":
        tensors[name] = torch.zeros(3, 1, 2)
    elif choice == "dtype":
        tensors[name] = tensors[name].to(torch.int32)
    elif choice == "added":
        tensors["extra"] = torch.zeros(1)
    elif choice == "none":
        tensors = {}
    save_file(tensors, path, {"x": "y"} if choice == "metadata" else None)


def _poison(rng: random.Random, path: Path) -> None:
    """NaN or infinity in one of the weights; all else, the metadata too, stays as it is."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    tensors = load_file(path)
    name = rng.choice([key for key, value in tensors.items() if value.is_floating_point()])
    tensors[name].view(-1)[rng.randrange(tensors[name].numel())] = rng.choice([float("nan"), float("inf")])
    path.write_bytes(save(tensors, header.get("__metadata__")))


def _damage(rng: random.Random, path: Path, folder: Path, others: list[Path]) -> str:
    kinds = ["truncated", "empty", "random", "folder", "deleted", "swapped", "loop", *["special"] * 8]
    kind = rng.choice(kinds)
    content = path.read_bytes()
    if kind in ("folder", "deleted", "loop"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path)
    elif kind != "special":
        other = rng.choice(others)
        path.write_bytes(
            {
                "truncated": content[: rng.randrange(len(content) or 1)],
                "empty": b"",
                "random": rng.randbytes(300),
                "swapped": other.read_bytes() if other.is_file() else b"",
            }[kind]
        )
    elif path.suffix in (".json", ".jsonl"):
        _damage_json(rng, path)
    elif path.suffix == ".yaml":
        path.write_bytes(rng.choice([damaged_text, damaged_tree])(rng, path.read_text()))
    elif path.suffix == ".safetensors":
        _damage_tensors(rng, path, folder)
    else:
        path.write_bytes(content + b"\x00")
    return f"{path.name} {kind}"


def run_case(rng: random.Random, folder: Path, base: Path) -> Case:
    """A run with a damaged file, used or gone on with."""
    if rng.random() < 0.1:
        (folder / "model.pth.tar").write_bytes(_pickled(rng, folder))
        return Case(
            ["import-checkpoint", str(folder / "model.pth.tar"), "--out", str(folder / "out")], "foreign checkpoint"
        )
    run = folder / "run"
    shutil.copytree(base / "run", run)
    picture = folder / "picture.png"
    picture.write_bytes(encoded_picture(random.Random(3), ".png")[0])
    uses = {
        "predict": ["predict", str(run), str(picture), "--json"],
        "budget": ["predict", str(run), str(picture), "--budget", "7M", "--json"],
        "evaluate": ["evaluate", str(run), "--quiet"],
        "render": ["render", str(run)],
        "plot": ["plot", str(run), "--out", str(folder / "plots")],
        "train": ["train", str(base / "config.yaml"), "--out", str(run), "--quiet"],
        "export": ["export", str(run)],
    }
    if rng.random() < 0.15:
        path = run / rng.choice(["stage3/classifier.safetensors", "stage2/policy.safetensors"])
        _poison(rng, path)
        return Case(uses[rng.choice(["predict", "evaluate", "export"])], f"{path.name} poisoned", must_fail=True)
    if rng.random() < 0.15:
        stage = rng.choice(["initialization", "stage1", "stage2", "stage3"])
        shutil.rmtree(run / stage)
        (run / stage).mkdir()
        unfinished = {
            "initialization": ["full_resolution.training.pt", "low_resolution_32.training.pt"],
            "stage2": ["training.pt"],
        }
        for name in unfinished.get(stage, ["classifier.training.pt"]):
            (run / stage / name).write_bytes(_pickled(rng, folder))
        return Case(uses["train"], f"{stage}/training.pt foreign")
    skipped = {".png", ".html"}
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.suffix not in skipped]
    note = ", ".join(_damage(rng, rng.choice(files), folder, files) for _ in range(1) if files)
    use = rng.choice(["predict", "budget", "evaluate", "render", "plot", "train", "train", "train", "export"])
    return Case(uses[use], f"{use}: {note}")
