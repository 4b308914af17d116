"""Temporal shift (Lin et al., TSM, ICCV 2019): a network for images that sees a clip, at no multiply-adds of its own.

Before a convolution, an eighth of the channels takes its values from the next frame and an eighth from the previous
one, with zeros beyond the ends of the clip. As in the authors' code ("blockres"), this is done before the first
convolution of residual blocks, within the residual branch, so that the shortcut keeps the frame itself.

Residual blocks are found in the traced network: wherever two maps of one shape are added that come from one map, the
branch with more convolutions is the residual branch. Consecutive blocks with outputs of one shape are a stage. Every
block is shifted, except in networks that have a stage of 23 blocks or more (ResNet-101 and 152): there every second
block of each stage is, the first included.
"""

from __future__ import annotations

import itertools
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from classifiers.networks.tracing import ancestors, layer_of, record_shapes, trace

_FOLDS = 8  # the channels are divided by this; one part is shifted forth, another back
_LONG_STAGE = 23  # blocks
_SHIFT = "temporal_shift"  # name of the one layer, which is called wherever frames are shifted
_ADDITIONS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")


class TemporalShift(nn.Module):
    """Shifts an eighth of the channels one frame back in time and another eighth one frame forth.

    Args:
        num_frames: frames F of a clip.
    """

    def __init__(self, num_frames: int) -> None:
        super().__init__()
        self.num_frames = num_frames

    def forward(self, maps: Tensor) -> Tensor:
        """Shifts within clips.

        Args:
            maps: (B * F, C, h, w), clip by clip.

        Returns:
            The same shape: channels below C // 8 are those of the next frame, the C // 8 after them those of the
            previous frame, zeros at the ends of a clip; the others stay.
        """
        clips = maps.unflatten(0, (len(maps) // self.num_frames, self.num_frames))  # (B, F, C, h, w)
        fold = clips.shape[2] // _FOLDS
        shifted = torch.zeros_like(clips)
        shifted[:, :-1, :fold] = clips[:, 1:, :fold]
        shifted[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
        shifted[:, :, 2 * fold :] = clips[:, :, 2 * fold :]
        return shifted.flatten(0, 1)


def shift_frames(trunk: nn.Module, num_frames: int, name: str) -> fx.GraphModule:
    """Puts temporal shifts into a network for images.

    Args:
        trunk: (B, 3, H, W) -> (B, C, h, w); if it is traced already, it is changed in place.
        num_frames: frames F of a clip.
        name: of the network, in error messages.

    Returns:
        (B * F, 3, H, W), clip by clip, -> (B * F, C, h, w), with the trunk's layers and their names.

    Raises:
        ValueError: if the network has no residual block.
    """
    traced = trace(trunk)
    stages = first_convolutions(traced)
    if not stages:
        raise ValueError(
            f"{name} has no residual block with a convolution, so that nothing says where to shift frames; pass a "
            "residual network, such as resnet50"
        )
    every = 2 if max(map(len, stages)) >= _LONG_STAGE else 1
    traced.add_submodule(_SHIFT, TemporalShift(num_frames))
    for convolution in [convolution for stage in stages for convolution in stage[::every]]:
        (node,) = traced.graph.find_nodes(op="call_module", target=convolution)
        with traced.graph.inserting_before(node):
            node.args = (traced.graph.call_module(_SHIFT, (node.args[0],)),)
    traced.recompile()
    return traced


def shifted_convolutions(trunk: nn.Module) -> set[str]:
    """Names of the convolutions before which `shift_frames` put a shift."""
    shifts = trace(trunk).graph.find_nodes(op="call_module", target=_SHIFT)
    return {str(user.target) for node in shifts for user in node.users}


def first_convolutions(trunk: fx.GraphModule) -> list[list[str]]:
    """The first convolution of the residual branch of every residual block.

    Args:
        trunk: a traced network for images.

    Returns:
        Their names, stage by stage.
    """
    record_shapes(trunk)
    blocks = []
    for node in trunk.graph.nodes:
        if _adds_maps(node):
            one, other = sorted((_branch(trunk, node, side) for side in (0, 1)), key=len)
            if len(one) < len(other):
                blocks.append((node.meta["shape"], other[0]))
    return [[name for _, name in stage] for _, stage in itertools.groupby(blocks, key=operator.itemgetter(0))]


def _adds_maps(node: fx.Node) -> bool:
    shapes = [part.meta["shape"] for part in node.all_input_nodes]
    return node.target in _ADDITIONS and len(shapes) == 2 and len(shapes[0]) == 4 and shapes[0] == shapes[1]


def _branch(trunk: fx.GraphModule, addition: fx.Node, side: int) -> list[str]:
    """Names of the convolutions between the map that both branches come from and one side of an addition."""
    own, others = (ancestors(addition.all_input_nodes[i]) for i in (side, 1 - side))
    return [
        str(node.target)
        for node in trunk.graph.nodes
        if node in own - others and isinstance(layer_of(trunk, node), nn.Conv2d)
    ]
