"""Loads a file's tensors into a network: by name, or in their order where the names are another library's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor, nn

from classifiers.networks.weight_files import WeightFile
from classifiers.tensor_files import CheckpointError

_COUNTER = "num_batches_tracked"  # of batch normalisations; files of old PyTorch versions lack it, and nothing needs it


class _Pair(NamedTuple):
    """A tensor of the network and the one that the file has for it; None where one of them has none."""

    name: str | None
    own: Tensor | None
    theirs: str | None
    tensor: Tensor | None


@torch.no_grad()
def load_pretrained(network: nn.Module, classifier: nn.Linear, weights: WeightFile) -> None:
    """Loads a file's tensors into a network; the file's classes become the network's.

    Tensors are matched by name. Where the file keeps the layers' order and has none of the network's names, they are
    matched in that order, which is the same in two libraries that build a network from the same layers.

    Args:
        network: takes the tensors.
        classifier: its last layer, which takes as many classes as the file has.
        weights: tensors of the whole network.

    Raises:
        CheckpointError: if the tensors don't fit; names the first that does not, with its shape and the expected one.
    """
    own = network.state_dict()
    last = _last_layer(network, classifier)
    is_renamed = weights.is_ordered and not own.keys() & weights.tensors.keys()
    pairs = list((_in_order if is_renamed else _by_name)(own, weights.tensors))
    for pair in pairs:
        problem = _problem(pair, any_rows=pair.name in last)
        if problem:
            raise CheckpointError(
                f"{weights.path}: {problem}; pass weights of this network, or the encoder that they belong to"
            )
    for name, place, _, tensor in pairs:
        assert name is not None and place is not None and tensor is not None
        if name in last:
            setattr(classifier, last[name], nn.Parameter(tensor.to(place.dtype, copy=True)))
            classifier.out_features = len(tensor)
        else:
            place.copy_(tensor)


def _last_layer(network: nn.Module, classifier: nn.Linear) -> dict[str, str]:
    """The last layer's parameters by their names in the network's state dict."""
    prefix = next(name for name, module in network.named_modules() if module is classifier)
    return {f"{prefix}.{part}": part for part, _ in classifier.named_parameters()}


def _by_name(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Iterator[_Pair]:
    for name, tensor in own.items():
        if name in theirs or not name.endswith(_COUNTER):
            yield _Pair(name, tensor, name, theirs.get(name))
    for name, tensor in theirs.items():
        if name not in own:
            yield _Pair(None, None, name, tensor)


def _in_order(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Iterator[_Pair]:
    for mine, other in zip_longest(own.items(), theirs.items(), fillvalue=(None, None)):
        yield _Pair(*mine, *other)


def _problem(pair: _Pair, *, any_rows: bool) -> str | None:
    """What keeps a tensor of the file from its place in the network."""
    if pair.tensor is None:
        return f"the network's {pair.name} {_shape(pair.own)} is missing"
    if pair.own is None:
        return f"{pair.theirs} {_shape(pair.tensor)} has no place in the network"
    start = 1 if any_rows else 0
    if pair.tensor.shape[start:] == pair.own.shape[start:] and pair.tensor.ndim == pair.own.ndim:
        return None
    place = "" if pair.theirs == pair.name else f" for {pair.name}"
    return f"{pair.theirs} is {_shape(pair.tensor)}, the network expects {_shape(pair.own)}{place}"


def _shape(tensor: Tensor | None) -> str:
    return "" if tensor is None else str(tuple(tensor.shape))
