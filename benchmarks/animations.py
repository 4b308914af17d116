"""Makes the animations of the docs site's pages of environments, `docs/environments/ID.gif`.

    python benchmarks/animations.py [ID ...]

Each shows a policy on the first two held-out images; no image is picked. The policies come from short trainings of
some minutes. Recorded clips may not be shown, so their ids read drawn gestures, written in the files and lists of the
data set. `GFNet-ImageNet-v0` and `GFNet-ImageFolder-v0` show sample photos of scikit-image (NOTICE) and the
center-corner policy of Table 5. The ids of the suite show the reference, which knows the boxes.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import skimage.data
import torch
from PIL import Image

import agents
from agents.policies.baselines import CenterCornerPolicy, ReferencePolicy
from agents.runs.images import open_images
from classifiers.data.clips.collections import Jester, SomethingSomethingV1, SomethingSomethingV2
from classifiers.data.synthetic_gestures import CLASS_NAMES, Gesture, GestureSpec, draw_gesture
from classifiers.files import write_bytes
from gfnet_env import TASKS, EpisodeSpec, GlanceFocusEnv, Task
from gfnet_env.actions import to_action
from gfnet_env.suite import CACHED, SUITE
from scripts.cli import main as gfnet

FOVEATED = "foveated"
"""Not an id: looks at three scales, by the reference, in `docs/foveated.gif`."""

FOLDER = Path(__file__).parent.parent / "docs" / "environments"
PHOTOS, PICTURES = "GFNet-ImageNet-v0", "GFNet-ImageFolder-v0"
_SHORT = ("rounds=1", "stage3.epochs=0", "oracle_grid=0", "fixed_place_grid=0")
RUNS: dict[str, tuple[str, ...]] = {
    "GFNet-SyntheticSigns-v0": ("demo",),
    "GFNet-SyntheticSignsHard-v0": (
        *("synthetic_signs_hard", "start=gfnet_env/weights_hard", "stage2.env_steps=60000"),
        *("data.num_train=2000", "data.num_val=200", "data.num_test=200", *_SHORT),
    ),
    "GFNet-SyntheticGestures-v0": (
        *("synthetic_gestures", "start=gfnet_env/weights_gestures", "stage2.env_steps=24000"),
        *("data.num_train=1000", "data.num_val=100", "data.num_test=60", *_SHORT),
    ),
}
"""The config of the run that an animation shows, and what is changed in it."""

RECORDED: dict[str, str | None] = {
    "GFNet-SomethingSomethingV1-v0": SomethingSomethingV1.folders[0],
    "GFNet-SomethingSomethingV2-v0": SomethingSomethingV2.folders[0],
    "GFNet-Jester-v0": Jester.folders[0],
    "GFNet-VideoFolder-v0": None,
}
"""Ids of recorded clips and how frames lie on disk, None for a tree of videos. They show the run of drawn gestures."""

_PICTURES = {"coffee": "n07920052", "camera": "n04485082"}
"""scikit-image's sample photos and what ImageNet calls what they show: espresso, tripod."""

SUITE_IDS = tuple(task.env_id for task in (*SUITE.values(), *CACHED.values()))
"""Ids whose animation shows the reference."""

_NUM_IMAGES, _NUM_CLIPS = 2, 30  # among so many clips is each class
_COLORS, _MILLISECONDS, _WIDEST = 64, 900, 800


def main() -> None:
    """Makes the animations of the ids that are named, all if none is."""
    every = (*RUNS, *RECORDED, PHOTOS, PICTURES, *SUITE_IDS, FOVEATED)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", choices=[*every, []], metavar="ID", help=f"of {', '.join(every)}")
    parser.add_argument("--runs", type=Path, default=Path("runs/animations"), help="folder of the runs")
    options = parser.parse_args()
    for env_id in options.ids or every:
        out = (FOLDER.parent if env_id == FOVEATED else FOLDER) / f"{env_id}.gif"
        save_small(out, frames(env_id, options.runs))
        print(f"{out}: {out.stat().st_size // 1000} kB", flush=True)


def frames(env_id: str, runs: Path) -> list[Image.Image]:
    """Pictures of the episodes on the first images, after the glance and after each patch."""
    if env_id in (PHOTOS, PICTURES):
        task = TASKS[PHOTOS].make_task() if env_id == PHOTOS else picture_task(runs / f"{PICTURES}-data")
        return episodes(task, CenterCornerPolicy(), EpisodeSpec())
    if env_id == FOVEATED:
        task = TASKS["GFNet-SyntheticSigns-v0"].make_task(split="test", num_scenes=_NUM_IMAGES)
        looks = task.classifier.with_spec(patch_size=28, glance_size=48, patch_scales=(1, 2, 4))
        return episodes(Task(task.source, looks), ReferencePolicy(task.source.image_size, (28,)), EpisodeSpec())
    if env_id in SUITE_IDS:
        task = TASKS[env_id].make_task(split="test", num_scenes=_NUM_IMAGES)
        reference = ReferencePolicy(task.source.image_size, task.classifier.spec.patch_sizes)
        return episodes(task, reference, EpisodeSpec(**TASKS[env_id].rules))
    config, *changes = RUNS.get(env_id, RUNS["GFNet-SyntheticGestures-v0"])
    folder = runs / (env_id if env_id in RUNS else "GFNet-SyntheticGestures-v0")
    sets = [word for change in changes for word in ("--set", change)]
    if gfnet(["train", config, "--out", str(folder), "--quiet", *sets]) != 0:
        raise SystemExit(1)
    run = agents.load_run(folder)
    if env_id in RECORDED:
        source = recorded_task(env_id, runs / f"{env_id}-data").source
    else:
        source = open_images(run.config, "test")
    return episodes(Task(source, run.classifier), run.policy, run.config.stage2.episode)


@torch.inference_mode()
def episodes(task: Task, policy: agents.LocationPolicy, rules: EpisodeSpec) -> list[Image.Image]:
    env = GlanceFocusEnv(task, rules, render_mode="rgb_array")
    found = []
    for index in range(_NUM_IMAGES):
        env.reset(options={"index": index})
        state, finished = None, False
        found.append(Image.fromarray(np.asarray(env.render())))
        while not finished:
            if isinstance(policy, ReferencePolicy) and len(rules.action_names) > 2:
                actions = policy.act(env.dynamics.view(), rules.action_names).numpy()
            else:
                location, state = policy(env.dynamics.view(), state)
                actions = to_action(location)
            finished = env.step(actions[0])[2]
            found.append(Image.fromarray(np.asarray(env.render())))
    env.close()
    return found


def picture_task(root: Path) -> Task:
    """The task of an image folder whose classes are ImageNet's, so that a pretrained network knows them."""
    for name, wordnet_id in _PICTURES.items():
        for split in ("train", "val"):
            folder = root / split / wordnet_id
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.png")
    network = {"classifier": "average:timm:tf_efficientnet_lite0", "weights": "package:efficientnet-lite0"}
    return TASKS[PICTURES].make_task(root=root, split="val", **network)


def recorded_task(env_id: str, root: Path) -> Task:
    """The task of an id of recorded clips, on drawn gestures that are written to files first."""
    gestures = [draw_gesture(GestureSpec(), "val", index) for index in range(_NUM_CLIPS)]
    folder = RECORDED[env_id]
    if folder is None:
        write_videos(root / "val", gestures)
        if not (root / "train").exists():  # which classes are read from
            (root / "train").symlink_to("val")
    else:
        write_frames(root, root / folder, gestures)
    classifier = TASKS["GFNet-SyntheticGestures-v0"].make_task(num_clips=1).classifier
    return TASKS[env_id].make_task(root=root, classifier=classifier, split="val", image_size=96, crop_pct=1.0)


def write_frames(root: Path, inside: Path, gestures: list[Gesture]) -> None:
    """As TSM's authors have them: `category.txt`, lists, and JPEG files of the best quality."""
    lines = []
    for number, gesture in enumerate(gestures):
        folder = inside / f"clip_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        for index, frame in enumerate(gesture.frames, 1):
            Image.fromarray(frame).save(folder / f"{index:06d}.jpg", quality=100, subsampling=0)
        lines.append(f"{folder.name} {len(gesture.frames)} {gesture.label}\n")
    (root / "category.txt").write_text("\n".join(CLASS_NAMES) + "\n", encoding="utf-8")
    for split in ("train", "val"):  # classes are those of the training split
        (root / f"{split}_videofolder.txt").write_text("".join(lines), encoding="utf-8")


def write_videos(root: Path, gestures: list[Gesture]) -> None:
    """One folder per class, numbered so that the alphabet keeps their order; FFV1 loses nothing."""
    for number, gesture in enumerate(gestures):
        folder = root / f"{gesture.label} {CLASS_NAMES[gesture.label]}"
        folder.mkdir(parents=True, exist_ok=True)
        height, width = gesture.frames.shape[1:3]
        video = imageio_ffmpeg.write_frames(
            str(folder / f"{number:05d}.mkv"), (width, height), fps=8, codec="ffv1", pix_fmt_out="bgr0", quality=None
        )
        video.send(None)
        video.send(gesture.frames.tobytes())
        video.close()


def save_small(path: Path, pictures: list[Image.Image], widest: int = _WIDEST) -> None:
    """Writes an animation with one palette for all frames and without dithering, which takes a third of the space."""
    width, height = pictures[0].size
    if width > widest:
        width, height = widest, round(height * widest / width)
        pictures = [picture.resize((width, height), Image.Resampling.LANCZOS) for picture in pictures]
    sheet = Image.new("RGB", (width, height * len(pictures)))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (0, number * height))
    palette = sheet.quantize(_COLORS, method=Image.Quantize.MEDIANCUT)
    first, *rest = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    options = {"save_all": True, "append_images": rest, "duration": _MILLISECONDS, "loop": 0, "optimize": True}
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", **options)
    write_bytes(path, buffer.getbuffer())


if __name__ == "__main__":
    main()
