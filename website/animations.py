"""Makes the animations of the environments' pages: `python -m website.animations ID`.

They show a policy that is trained for some minutes, an hour for the photos of `GFNet-ImageFolder-v0`, on the first
held-out images, none of them picked. Clips of the recorded data sets can't be shown here: their ids read drawn gestures
instead, from files as those data sets have them. The photos of `GFNet-ImageNet-v0` are the two of scikit-image that are
in the public domain (CC0); no policy is trained on them, so the baseline of Table 5 looks.
"""

from __future__ import annotations

import argparse
import shutil
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import torch
from PIL import Image

from agents.policies.baselines import CentreCornerPolicy
from classifiers.checkpoints import load_classifier, save_classifier
from classifiers.checks import check_known
from classifiers.files import write_atomically
from gfnet_env import GlanceFocusEnv
from gfnet_env.actions import to_action
from gfnet_env.tasks import PRETRAINED_GESTURES_RUN, run_weights
from scripts.cli import main as gfnet
from website.recordings import write_recordings

FOLDER = Path(__file__).parent.parent / "docs" / "environments"
"""Where the animations lie, each named by its id."""

FEW = ("rounds=1", "stage3.epochs=0", "oracle_grid=0", "fixed_place_grid=0")
"""What every short training leaves out."""

GESTURES = (
    *("synthetic_gestures", "start=gfnet_env/weights_gestures", "stage2.env_steps=24000"),
    *("data.num_train=1000", "data.num_val=100", "data.num_test=60", *FEW),
)
"""The run of the drawn gestures."""

RUNS: dict[str, tuple[str, ...]] = {
    "GFNet-SyntheticSigns-v0": ("demo",),
    "GFNet-SyntheticSignsHard-v0": (
        *("synthetic_signs_hard", "start=gfnet_env/weights_hard", "stage2.env_steps=60000"),
        *("data.num_train=2000", "data.num_val=200", "data.num_test=200", *FEW),
    ),
    "GFNet-SyntheticGestures-v0": GESTURES,
    "GFNet-ImageFolder-v0": ("road_scenes", "seed=2", "initialization.full_resolution.epochs=0"),
}
"""The config of the run that each animation shows, and what is changed in it."""

RECORDED = {
    "GFNet-SomethingSomethingV1-v0": "something_something_v1",
    "GFNet-SomethingSomethingV2-v0": "something_something_v2",
    "GFNet-Jester-v0": "jester",
    "GFNet-VideoFolder-v0": "video_folder",
}
"""Ids of recorded clips and their `data.kind`. Their runs are that of the drawn gestures, on files."""

_CLIPS = {"train": 400, "val": 60}  # gestures that are written as files, by split

PHOTOS = "GFNet-ImageNet-v0"
"""The id whose animation shows a baseline on sample photos."""

PICTURES = "GFNet-ImageFolder-v0"
"""The id whose animation shows photos that `--root` brings."""

_LISTED = "`gfnet render` on drawn gestures in the data set's folders and lists: its own clips may not be shown here"

_OWN = {
    PHOTOS: "Two sample photos of scikit-image (CC0), looked at by the centre-corner baseline",
    PICTURES: "`gfnet render` on the first held-out frames of a dashcam, one folder per speed limit ([how the policy "
    "was trained](../real_photos.md); photos: [michaelgallacher/speed-limit-sign-detection]"
    "(https://github.com/michaelgallacher/speed-limit-sign-detection))",
    **dict.fromkeys(RECORDED, _LISTED),
    "GFNet-VideoFolder-v0": "`gfnet render` on drawn gestures in a tree of videos",
}
"""Captions of ids that don't show images of their own; the others' are alike."""

IMAGES = ("0", "1")

_COLOURS, _MILLISECONDS, _WIDEST = 64, 900, 800


def shown(env_id: str) -> str:
    """An id's animation or picture with its caption, in Markdown; empty if there is none."""
    name = f"{env_id}.gif"
    if not (FOLDER / name).is_file():
        return ""
    short = f"`gfnet render` on the first {len(IMAGES)} held-out images of a short training of the policy"
    what = _OWN.get(env_id, short)
    command = f"python -m website.animations {env_id}" + (" --root TREE" if env_id == PICTURES else "")
    return (
        f"![Episodes of {env_id}: the glance, then patch by patch, and what the classifier sees]({name})\n\n"
        f"*{what}: green boxes where the prediction is right, with the confidence in the true label. Made by "
        f"`{command}`.*\n"
    )


def run_of(env_id: str, runs: Path, root: Path | None = None) -> tuple[str, ...]:
    """The config of an id's run and its changes; recorded clips are written first.

    Args:
        env_id: a key of `RUNS` or `RECORDED`.
        runs: folder of the runs.
        root: of the photos of `PICTURES`, see `gfnet train road_scenes`.

    Returns:
        As `RUNS` has them.

    Raises:
        ValueError: if the photos' root is missing.
    """
    if env_id == PICTURES:
        if root is None:
            raise ValueError(f"{env_id} needs photos; pass --root TREE, a tree for `gfnet train road_scenes`")
        return (*RUNS[env_id], f"data.root={root}")
    if env_id in RUNS:
        return RUNS[env_id]
    folder = runs / f"{env_id}-data"
    write_recordings(folder, RECORDED[env_id], _CLIPS)
    config, *changes = [change for change in GESTURES if not change.startswith("data.num_")]
    if RECORDED[env_id] == "video_folder":
        names = sorted(path.name for path in (folder / "val").iterdir())
        changes.append(f"start={_renamed(runs / f'{env_id}-start', names)}")
    files = [f"data.kind={RECORDED[env_id]}", f"data.root={folder}", "data.height=96", "data.width=96"]
    return (config, *changes, *files, "data.crop_pct=1")


def _renamed(start: Path, class_names: list[str]) -> Path:
    """The networks of the drawn gestures, their classes named as a tree's folders."""
    shutil.copytree(PRETRAINED_GESTURES_RUN, start, dirs_exist_ok=True)
    classifier, _ = load_classifier(run_weights(start))
    save_classifier(run_weights(start), classifier, tuple(class_names))
    return start


def render_run(env_id: str, runs: Path, root: Path | None = None) -> list[Image.Image]:
    """Trains a run, or takes the one that is there, and renders it with `gfnet render`.

    Args:
        env_id: a key of `RUNS` or `RECORDED`.
        runs: folder of the runs.
        root: see `run_of`.

    Returns:
        The frames.

    Raises:
        RuntimeError: if a command fails; it has said why.
    """
    config, *changes = run_of(env_id, runs, root)
    folder, out = runs / env_id, runs / f"{env_id}.gif"
    sets = [word for change in changes for word in ("--set", change)]
    for command in (
        ["train", config, "--out", str(folder), *sets],
        ["render", str(folder), "--images", *IMAGES, "--out", str(out)],
    ):
        if gfnet([*command, "--quiet"]) != 0:
            raise RuntimeError(f"gfnet {' '.join(command)} failed")
    with Image.open(out) as animation:
        return [_frame(animation, number) for number in range(getattr(animation, "n_frames", 1))]


def _frame(animation: Image.Image, number: int) -> Image.Image:
    animation.seek(number)
    return animation.convert("RGB")


def render_photos() -> list[Image.Image]:
    """The first two sample photos, looked at by the centre-corner baseline.

    Returns:
        The frames.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that these are sample photos is the point
        made = gymnasium.make(PHOTOS, render_mode="rgb_array", disable_env_checker=True)
    env = made.unwrapped
    assert isinstance(env, GlanceFocusEnv)
    frames = []
    for index in (0, 1):
        env.reset(options={"index": index})
        policy, finished = CentreCornerPolicy(), False
        while True:
            frames.append(Image.fromarray(np.asarray(env.render())))
            if finished:
                break
            with torch.inference_mode():
                location, _ = policy(env.dynamics.view(), None)
            finished = env.step(to_action(location)[0])[2]
    env.close()
    return frames


def save_small(path: Path, frames: list[Image.Image], widest: int = _WIDEST) -> None:
    """Writes an animation with one palette for all frames and without dithering, which takes a third of the space.

    Frames that are wider than they may be are scaled down.

    Args:
        path: the file, replaced atomically.
        frames: of one size.
        widest: in pixels; by default a page's width.
    """
    width, height = frames[0].size
    if width > widest:
        width, height = widest, round(height * widest / width)
        frames = [frame.resize((width, height), Image.Resampling.LANCZOS) for frame in frames]
    sheet = Image.new("RGB", (width, height * len(frames)))
    for number, frame in enumerate(frames):
        sheet.paste(frame, (0, number * height))
    palette = sheet.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT)
    first, *rest = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    options = {"save_all": True, "append_images": rest, "duration": _MILLISECONDS, "loop": 0, "optimize": True}
    write_atomically(path, lambda stream: first.save(stream, format="GIF", **options))


def main() -> None:
    """Makes the animations of the ids that are named, all if none is."""
    every = (*RUNS, *RECORDED, PHOTOS)
    parser = argparse.ArgumentParser(description="Make the animations of the environments' pages.")
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"which of {', '.join(every)}; all if left out")
    parser.add_argument("--runs", type=Path, default=Path("runs/animations"), help="folder of the runs")
    parser.add_argument("--root", type=Path, help=f"photos for {PICTURES}, a tree for `gfnet train road_scenes`")
    options = parser.parse_args()
    for env_id in options.ids or every:
        try:
            check_known("animation", env_id, every)
            frames = render_photos() if env_id == PHOTOS else render_run(env_id, options.runs, options.root)
        except (OSError, RuntimeError, ValueError) as error:
            parser.exit(1, f"{error}\n")
        out = FOLDER / f"{env_id}.gif"
        save_small(out, frames, _WIDEST // 2 if env_id == PICTURES else _WIDEST)  # photos are large as GIF
        print(f"{out}: {len(frames)} frames, {out.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
