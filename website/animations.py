"""Makes the animations of the environments' pages: `python -m website.animations ID`.

The embedded ids show a policy that is trained for some minutes, on the first held-out images, none of them picked. The
photos of `GFNet-ImageNet-v0` are the two of scikit-image that are in the public domain (CC0); no policy is trained on
them, so the baseline of Table 5 looks.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import torch
from PIL import Image

from agents.policies.baselines import CentreCornerPolicy
from classifiers.checks import check_known
from classifiers.files import write_atomically
from gfnet_env import GlanceFocusEnv
from gfnet_env.actions import to_action
from scripts.cli import main as gfnet

FOLDER = Path(__file__).parent.parent / "docs" / "environments"
"""Where the animations lie, each named by its id."""

FEW = ("rounds=1", "stage3.epochs=0", "oracle_grid=0", "fixed_place_grid=0")
"""What every short training leaves out."""

RUNS: dict[str, tuple[str, ...]] = {
    "GFNet-SyntheticSigns-v0": ("demo",),
    "GFNet-SyntheticSignsHard-v0": (
        *("synthetic_signs_hard", "start=gfnet_env/weights_hard", "stage2.env_steps=60000"),
        *("data.num_train=2000", "data.num_val=200", "data.num_test=200", *FEW),
    ),
    "GFNet-SyntheticGestures-v0": (
        *("synthetic_gestures", "start=gfnet_env/weights_gestures", "stage2.env_steps=24000"),
        *("data.num_train=1000", "data.num_val=100", "data.num_test=60", *FEW),
    ),
}
"""The config of the run that each animation shows, and what is changed in it."""

PHOTOS = "GFNet-ImageNet-v0"
"""The id whose animation shows a baseline on sample photos."""

STILLS = {
    "GFNet-ImageFolder-v0": (
        "![Six frames of a dashcam with numbered patches, most of them on the speed-limit sign](../road_scenes.jpg)\n\n"
        "*Frames of a dashcam in one folder per speed limit ([how it was trained](../real_photos.md)). Photos: "
        "[michaelgallacher/speed-limit-sign-detection](https://github.com/michaelgallacher/speed-limit-sign-detection).*\n"
    )
}
"""Pictures of ids whose images are the user's own."""

IMAGES = ("0", "1")

_COLOURS, _MILLISECONDS, _WIDEST = 64, 900, 800


def shown(env_id: str) -> str:
    """An id's animation or picture with its caption, in Markdown; empty if there is none."""
    name = f"{env_id}.gif"
    if not (FOLDER / name).is_file():
        return STILLS.get(env_id, "")
    if env_id == PHOTOS:
        what = "Two sample photos of scikit-image (CC0), looked at by the centre-corner baseline"
    else:
        what = f"`gfnet render` on the first {len(IMAGES)} held-out images of a short training of the policy"
    return (
        f"![Episodes of {env_id}: the glance, then patch by patch, and what the classifier sees]({name})\n\n"
        f"*{what}: green boxes where the prediction is right, with the confidence in the true label. Made by "
        f"`python -m website.animations {env_id}`.*\n"
    )


def render_run(env_id: str, runs: Path) -> list[Image.Image]:
    """Trains a run, or takes the one that is there, and renders it with `gfnet render`.

    Args:
        env_id: a key of `RUNS`.
        runs: folder of the runs.

    Returns:
        The frames.

    Raises:
        RuntimeError: if a command fails; it has said why.
    """
    config, *changes = RUNS[env_id]
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


def save_small(path: Path, frames: list[Image.Image]) -> None:
    """Writes an animation with one palette for all frames and without dithering, which takes a third of the space.

    Frames that are wider than a page are scaled down to its width.

    Args:
        path: the file, replaced atomically.
        frames: of one size.
    """
    width, height = frames[0].size
    if width > _WIDEST:
        width, height = _WIDEST, round(height * _WIDEST / width)
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
    parser = argparse.ArgumentParser(description="Make the animations of the environments' pages.")
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"which of {', '.join((*RUNS, PHOTOS))}; all if left out")
    parser.add_argument("--runs", type=Path, default=Path("runs/animations"), help="folder of the runs")
    options = parser.parse_args()
    for env_id in options.ids or (*RUNS, PHOTOS):
        check_known("animation", env_id, (*RUNS, PHOTOS))
        frames = render_photos() if env_id == PHOTOS else render_run(env_id, options.runs)
        out = FOLDER / f"{env_id}.gif"
        save_small(out, frames)
        print(f"{out}: {len(frames)} frames, {out.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
