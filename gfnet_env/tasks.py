"""Images and a classifier of their classes: what an environment is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifiers.checkpoints import load_classifier
from classifiers.data.collection import FileCollection
from classifiers.data.map_style import DatasetImages
from classifiers.data.prefetch import Prefetcher
from classifiers.data.registry import ImageFolder, SyntheticSigns
from classifiers.data.source import ImageSource, are_same_classes, nameless_classes
from classifiers.data.synthetic_signs.scenes import SceneSpec
from classifiers.data.synthetic_signs.signs import CLASS_NAMES
from classifiers.data.torchvision_sets import TorchvisionImages
from classifiers.devices import usable_device
from classifiers.inference.frozen import FrozenClassifier, frozen
from classifiers.networks.encoders import build_encoder, weights_preprocessing
from classifiers.networks.glance_focus import GlanceFocusClassifier
from classifiers.networks.preprocessing import Preprocessing
from classifiers.networks.spec import ClassifierSpec
from classifiers.networks.weight_files import Weights

ClassifierLike = GlanceFocusClassifier | str | Path
"""A classifier, or where to find one: a run's folder, a `.safetensors` file, or `"average:ENCODER"`, a pretrained
network whose logits are averaged over the looks."""

_AVERAGE = "average:"


@dataclass(frozen=True)
class Task:
    """Images and the frozen classifier that looks at them; its spec sets the number of glimpses and their sizes.

    Attributes:
        source: the images.
        classifier: the networks.

    Raises:
        ValueError: if classifier and images don't fit each other.
    """

    source: ImageSource
    classifier: FrozenClassifier

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


SHIPPED_RUN = Path(__file__).parent / "weights"
"""The embedded task's networks, shipped with the package: a run's folder with initialisation and stage I."""

SHIPPED_HARD_RUN = Path(__file__).parent / "weights_hard"
"""Those of its harder preset: the baseline and the networks after two rounds of stages II and III."""

HARD_SCENES = SceneSpec(height=240, width=320, min_sign_px=24, max_sign_px=34, max_distractors=5)
"""The harder preset of the embedded task: a scene is 33 times the patch, as in the paper (Table 4); signs are smaller,
and there are more distractors."""


def resolve_classifier(
    classifier: ClassifierLike, *, class_names: Sequence[str], weights: Weights | None = None
) -> GlanceFocusClassifier:
    """Loads a classifier, unless it is one already.

    Args:
        classifier: the networks, or where to find them.
        class_names: names of the K classes, by label: what a pretrained network's rows are chosen by, and what a file's
            classes are compared with, unless either are plain numbers.
        weights: a pretrained network's, see `classifiers.build_encoder`; None takes the library's own.

    Returns:
        The classifier in evaluation mode.

    Raises:
        FileNotFoundError: if there is nothing at that path.
        ValueError: if the file is no classifier or one of other classes, the encoder is unknown, or its weights don't
            fit it or the classes.
        ConnectionError: if the library's weights can't be downloaded.
    """
    if isinstance(classifier, str) and classifier.startswith(_AVERAGE):
        return pretrained_average(classifier.removeprefix(_AVERAGE), class_names, weights or "DEFAULT")
    if weights is not None:
        raise ValueError(
            f"weights={str(weights)!r} go with classifier='average:ENCODER' alone, other classifiers have their own; "
            "leave weights out"
        )
    if isinstance(classifier, GlanceFocusClassifier):
        return classifier.eval()
    path = Path(classifier)
    networks, known = load_classifier(run_weights(path) if path.is_dir() else path)
    here = tuple(class_names)
    is_same = are_same_classes(known, here) or here == nameless_classes(len(here))
    if len(known) == len(here) and not is_same:
        first = next(label for label, (one, other) in enumerate(zip(known, here, strict=True)) if one != other)
        raise ValueError(
            f"class {first} is {known[first]!r} to {path} and {here[first]!r} to the data set; pass a classifier that "
            "was trained on these classes, or, if they are the same by other names, classifier="
            "classifiers.load_classifier(FILE)[0]"
        )
    return networks


def run_weights(run: Path) -> Path:
    """The classifier that a run trained last: stage III's if it has one, else stage I's."""
    for stage in ("stage3", "stage1"):
        if (run / stage / "classifier.safetensors").is_file():
            return run / stage / "classifier.safetensors"
    raise FileNotFoundError(
        f"{run} holds no stage3/ or stage1/classifier.safetensors; pass the folder of a `gfnet train`"
    )


def pretrained_average(encoder: str, class_names: Sequence[str], weights: Weights = "DEFAULT") -> GlanceFocusClassifier:
    """A pretrained network as both encoders, its logits averaged over the looks: no stage I needed. Patches are 96x96.

    Args:
        encoder: see `classifiers.build_encoder`, as for `weights`.
        class_names: names of the K classes that the weights must know.
        weights: the pretrained weights.

    Returns:
        The classifier in evaluation mode.

    Raises:
        FileNotFoundError: if the weights are a file that does not exist.
        ValueError: if the encoder is unknown, or the weights don't fit it or the classes.
        ConnectionError: if the library's weights can't be downloaded.
    """
    num_classes = len(class_names)
    pretrained = build_encoder(encoder, num_classes, weights, class_names, may_replace_classifier=False)
    classifier = GlanceFocusClassifier(ClassifierSpec(encoder=encoder, head="average"), num_classes)
    for own in (classifier.global_encoder, classifier.local_encoder):
        own.load_state_dict(pretrained.state_dict())
        own.use_preprocessing(pretrained.preprocessing)
    return classifier.eval()


def synthetic_signs_task(
    *,
    classifier: ClassifierLike | None = None,
    split: str = "train",
    num_scenes: int = 2000,
    scenes: SceneSpec | None = None,
    device: str = "cpu",
    compile: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Task:
    """The embedded task: generated road scenes; works without any download.

    Args:
        classifier: None takes the weights that come with the package.
        split: `"train"`, `"val"` or `"test"`.
        num_scenes: scenes of the split, drawn once and kept in the cache.
        scenes: what they look like.
        device: where the classifier runs.
        compile: whether to compile its encoders.
        on_progress: called with (scenes done, scenes in all) while drawing.

    Returns:
        The task.
    """
    networks = resolve_classifier(SHIPPED_RUN if classifier is None else classifier, class_names=CLASS_NAMES)
    source = SyntheticSigns(scenes=scenes or SceneSpec()).open(split, num_scenes, on_progress)
    return _task(source, networks, device, compile)


def synthetic_signs_hard_task(
    *, classifier: ClassifierLike | None = None, scenes: SceneSpec | None = None, **kwargs: Any
) -> Task:
    """The embedded task's harder preset: `synthetic_signs_task` with `HARD_SCENES` and networks trained on them.

    Args:
        classifier: None takes the weights that come with the package.
        scenes: what they look like, instead of `HARD_SCENES`.
        **kwargs: of `synthetic_signs_task`.

    Returns:
        The task.
    """
    return synthetic_signs_task(classifier=classifier or SHIPPED_HARD_RUN, scenes=scenes or HARD_SCENES, **kwargs)


def image_folder_task(
    *,
    root: str | Path | None = None,
    torchvision: str | None = None,
    dataset: Any = None,
    is_deterministic: bool = False,
    classifier: ClassifierLike | None = None,
    weights: Weights | None = None,
    split: str = "train",
    image_size: int | tuple[int, int] = 224,
    crop_pct: float | None = None,
    interpolation: str | None = None,
    unreadable: str = "raise",
    num_classes: int | None = None,
    decode_threads: int | None = None,
    device: str = "cpu",
    compile: bool = False,
) -> Task:
    """Any tree with one folder per class, a data set of torchvision, or any map-style torch data set.

    Args:
        root: folder that holds `train/` and `val/`, each with one folder per class.
        torchvision: a data set by its name, such as `"Imagenette"`, see `classifiers.data.torchvision_sets`; `root` is
            then the folder that holds torchvision's data sets.
        dataset: instead of both, a map-style data set of (image, label), one split of an image set of Hugging Face's
            `datasets`, or a collection of files that has its own sizes.
        is_deterministic: whether `dataset` always gives the same picture for an index, so that its glance can be
            remembered; files do.
        classifier: the networks, or where to find them; required.
        weights: of `"average:ENCODER"`: a library's own name, a file, or `"package:NAME"`, see
            `classifiers.build_encoder`; None takes the library's own.
        split: which folder of the tree; `"test"` takes `val/` where there is no `test/`.
        image_size: pixels to which images are resized and centre-cropped, one side or (height, width).
        crop_pct: fraction of each side that the centre crop keeps; None: with `"average:ENCODER"`, what its weights
            were trained with, else 1.
        interpolation: how the tree's files are scaled, `"bilinear"` or `"bicubic"`; None: likewise, else bilinear.
        unreadable: `"raise"` or `"skip"` files that can't be decoded.
        num_classes: K that the tree must have; None takes what it has.
        decode_threads: threads that decode the tree's files in advance; None takes one for each core.
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
    own = preprocessing_of(classifier, weights)
    settings = file_settings(
        root,
        image_size,
        own.crop_pct if crop_pct is None else crop_pct,
        own.interpolation if interpolation is None else interpolation,
        unreadable,
    )
    source: ImageSource
    if dataset is not None and not isinstance(dataset, FileCollection):
        source = DatasetImages(dataset, (settings["height"], settings["width"]), is_deterministic=is_deterministic)
    else:
        files: FileCollection | None = dataset
        if files is None:
            named = torchvision is not None
            files = TorchvisionImages(name=torchvision, **settings) if named else ImageFolder(**settings)
        source = Prefetcher(files.open(split), decode_threads)
    count = len(source.class_names)
    if num_classes is not None and count != num_classes:
        raise ValueError(
            f"the data set has {count} classes, this task has {num_classes}; pass GFNet-ImageFolder-v0's id"
        )
    networks = resolve_classifier(classifier, class_names=source.class_names, weights=weights)
    return _task(source, networks, device, compile)


def preprocessing_of(classifier: ClassifierLike, weights: Weights | None = None) -> Preprocessing:
    """How files are prepared for a classifier where nothing else is said.

    Args:
        classifier: the networks, or where to find them.
        weights: of a pretrained network, see `resolve_classifier`.

    Returns:
        What the weights of `"average:ENCODER"` were trained with, as they are used without training. Other classifiers
        were trained on images that their user had prepared: the default.
    """
    if isinstance(classifier, str) and classifier.startswith(_AVERAGE):
        return weights_preprocessing(classifier.removeprefix(_AVERAGE), weights or "DEFAULT")
    return Preprocessing()


def file_settings(
    root: str | Path | None,
    image_size: int | tuple[int, int],
    crop_pct: float,
    interpolation: str,
    unreadable: str,
) -> dict[str, Any]:
    """What a collection of files is built with, see `classifiers.data.collection.FileCollection`.

    Args:
        root: the data set's folder.
        image_size: one side or (height, width), in pixels.
        crop_pct: fraction of each side that the centre crop keeps.
        interpolation: how files are scaled.
        unreadable: `"raise"` or `"skip"`.

    Returns:
        Its keyword arguments.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return {
        "root": root,
        "height": height,
        "width": width,
        "crop_pct": crop_pct,
        "interpolation": interpolation,
        "unreadable": unreadable,
    }


def _task(source: ImageSource, classifier: GlanceFocusClassifier, device: str, compile: bool) -> Task:
    return Task(source, frozen(classifier.to(usable_device(device)), compile=compile))
