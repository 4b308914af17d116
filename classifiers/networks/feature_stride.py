"""Finer feature maps for the policy: those of an earlier layer, beside the last ones.

The last maps of most networks have a stride of 32 pixels: a glance of 128x128 becomes 4x4 cells, in which a small
object leaves no trace of where it was. The layers before them know.
"""

from __future__ import annotations

import torch
from torch import fx, nn

from classifiers.networks.fx_split import TRIAL_SIDE, LayerTracer, ShapeRecorder, ancestors

STRIDES = (4, 8, 16, 32)
"""Strides that maps may be asked for, in pixels."""


def with_finer_maps(trunk: nn.Module, stride: int, name: str, num_frames: int | None = None) -> fx.GraphModule:
    """Makes a trunk return maps of a given stride beside its last ones.

    Of the layers with that stride which everything later depends on, the last one counts. Where it widens the maps for
    a layer of a larger stride, as in the expansion of an inverted residual block, it is the one before that.

    Args:
        trunk: (B, 3, H, W) -> (B, C, h, w); if it is traced already, it is changed in place.
        stride: pixels between neighbouring positions of the maps, one of `STRIDES`.
        name: of the network, in error messages.
        num_frames: frames of a clip, whose images come one after the other; None for images.

    Returns:
        (B, 3, H, W) -> the pair of the finer maps and the last ones, with the trunk's layers and their names.

    Raises:
        ValueError: if the network has no maps of this stride.
    """
    traced = trunk if isinstance(trunk, fx.GraphModule) else fx.GraphModule(trunk, LayerTracer().trace(trunk))
    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    last = output.args[0]
    _record_shapes(traced, num_frames or 1)
    candidates = [node for node in traced.graph.nodes if _side(node) * stride == TRIAL_SIDE and _is_cut(node, last)]
    if not candidates:
        raise ValueError(
            f"feature_stride={stride}, but {name} has no feature maps of this stride; pass another one of "
            f"{', '.join(map(str, STRIDES))}, or None for its last maps"
        )
    output.args = ((_before_widening(candidates), last),)
    traced.recompile()
    return traced


def _record_shapes(traced: fx.GraphModule, count: int) -> None:
    was_training = traced.training
    device = next((tensor.device for tensor in traced.parameters()), torch.device("cpu"))
    with torch.no_grad():
        ShapeRecorder(traced.eval()).run(torch.zeros(count, 3, TRIAL_SIDE, TRIAL_SIDE, device=device))
    traced.train(was_training)


def _side(node: fx.Node) -> int:
    shape = node.meta.get("shape", ())
    return int(shape[2]) if len(shape) == 4 and shape[2] == shape[3] and node.op != "placeholder" else 0


def _is_cut(node: fx.Node, last: fx.Node) -> bool:
    """Whether all that is computed after a node reads the image through this node alone."""
    before, needed = ancestors(node), ancestors(last)
    return node in needed and not any(
        source is not node and source in before for later in needed - before for source in later.all_input_nodes
    )


def _before_widening(candidates: list[fx.Node]) -> fx.Node:
    """The last node, or the last one with fewer channels if those after it are wider."""
    channels = [node.meta["shape"][1] for node in candidates]
    narrower = [node for node, count in zip(candidates, channels, strict=True) if count < channels[-1]]
    if not narrower:
        return candidates[-1]
    following = candidates[candidates.index(narrower[-1]) + 1 :]
    is_one_layer = all(len(node.all_input_nodes) == 1 for node in following)  # no residual block, no concatenation
    return narrower[-1] if is_one_layer else candidates[-1]
