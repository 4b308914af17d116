"""Classification networks of any architecture, traced with `torch.fx`: split into three parts, and with finer maps.

A network is traced and run on one image. Its *classifier* is the last linear layer, the input of that layer is the
*pooled vector*, and the last tensor before it with a spatial grid larger than 1x1 is the *feature map*. Submodules keep
their names, so that published weights load by name.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

TRIAL_SIDE = 96
"""Side of the images that networks are tried on, in pixels: maps of stride 32 are 3x3."""

STRIDES = (4, 8, 16, 32)
"""Strides that maps may be asked for, in pixels."""


class NetworkParts(NamedTuple):
    """A network in three consecutive parts.

    Attributes:
        trunk: (B, 3, H, W) -> (B, C, h, w), the feature map.
        pool: (B, C, h, w) -> (B, F), the pooled vector.
        classifier: (B, F) -> (B, K).
    """

    trunk: nn.Module
    pool: nn.Module
    classifier: nn.Linear


def split_network(network: nn.Module, name: str) -> NetworkParts:
    """Splits a network into three parts.

    Args:
        network: a classification network for images of any size; the parts reuse its submodules.
        name: its name in error messages.

    Returns:
        The parts, in training or evaluation mode as the network was.

    Raises:
        ValueError: if it has no feature map or does not end in a linear layer.
    """
    was_training = network.training
    traced = trace(network.eval())
    nodes = list(traced.graph.nodes)
    record_shapes(traced)
    linear = next((node for node in reversed(nodes) if isinstance(layer_of(traced, node), nn.Linear)), None)
    if linear is None or len(linear.meta["shape"]) != 2:
        raise ValueError(f"{name} does not end in a linear layer on one vector per image; pass a network that does")
    classifier, pooled = layer_of(traced, linear), linear.all_input_nodes[0]
    assert isinstance(classifier, nn.Linear)
    before = ancestors(pooled)
    maps = next((node for node in reversed(nodes) if node in before and _is_grid(node)), None)
    if maps is None:
        raise ValueError(f"{name} has no feature map before its last layer; pass a convolutional network")
    of_trunk = ancestors(maps)
    of_pool = before - of_trunk
    if any(source is not maps and source in of_trunk for node in of_pool for source in node.all_input_nodes):
        raise ValueError(f"{name} passes more than one feature map on to its last layer; pass another network")
    channels_last = maps.meta["shape"][1] != classifier.in_features == maps.meta["shape"][3]
    trunk = _part(traced, of_trunk, None, maps, channels_last)
    pool = _part(traced, of_pool, maps, pooled, channels_last)
    network.train(was_training)
    return NetworkParts(trunk.train(was_training), pool.train(was_training), classifier)


def with_finer_maps(trunk: nn.Module, stride: int, name: str, num_frames: int | None = None) -> fx.GraphModule:
    """Makes a trunk return maps of a given stride beside its last ones, for a policy that looks for small objects.

    The last maps of most networks have a stride of 32 pixels: a glance of 128x128 becomes 4x4 cells. Of the layers with
    the stride which everything later depends on, the last one counts. Where it widens the maps for a layer of a larger
    stride, as in the expansion of an inverted residual block, it is the one before that.

    Args:
        trunk: (B, 3, H, W) -> (B, C, h, w); if it is traced already, it is changed in place.
        stride: pixels between neighboring positions of the maps, one of `STRIDES`.
        name: of the network, in error messages.
        num_frames: frames of a clip, whose images come one after the other; None for images.

    Returns:
        (B, 3, H, W) -> the pair of the finer maps and the last ones, with the trunk's layers and their names.

    Raises:
        ValueError: if the network has no maps of this stride.
    """
    traced = trace(trunk)
    output, last, maps = _maps_of_stride(traced, stride, f"feature_stride={stride}, but {name}", num_frames)
    output.args = ((maps, last),)
    traced.recompile()
    return traced


def early_layers(trunk: nn.Module, stride: int, num_frames: int | None = None) -> list[nn.Module]:
    """The layers that a trunk's maps of a given stride are computed by; see `with_finer_maps`, also for errors."""
    traced = trace(trunk)
    maps = _maps_of_stride(traced, stride, f"frozen_stride={stride}, but an encoder", num_frames)[2]
    layers = (layer_of(traced, node) for node in ancestors(maps))
    return [layer for layer in layers if layer is not None]


def _maps_of_stride(
    traced: fx.GraphModule, stride: int, asked: str, num_frames: int | None
) -> tuple[fx.Node, fx.Node, fx.Node]:
    """The output of a trunk, its last maps, and those of a given stride; `asked` begins the error message."""
    record_shapes(traced, num_frames or 1)
    (output,) = traced.graph.find_nodes(op="output")
    returned: Any = output.args[0]
    last = returned[-1] if isinstance(returned, tuple) else returned
    candidates = [
        node
        for node in traced.graph.nodes
        if _is_grid(node) and set(node.meta["shape"][2:]) == {TRIAL_SIDE // stride} and _is_bottleneck(node, last)
    ]
    if not candidates:
        raise ValueError(
            f"{asked} has no feature maps of this stride; pass another one of {', '.join(map(str, STRIDES))}, or None"
        )
    return output, last, _before_widening(candidates)


class _LayerTracer(fx.Tracer):
    """Traces every layer as one call, so that layers keep their different behavior in training and in evaluation."""

    def __init__(self) -> None:
        import timm.layers  # half a second, which networks of ours need not wait for

        listed: Any = timm.layers  # what can't be traced through
        super().__init__(autowrap_functions=tuple(listed.get_notrace_functions()))
        self._whole: tuple[type[nn.Module], ...] = (nn.modules.batchnorm._BatchNorm, *listed.get_notrace_modules())

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is traced as one call."""
        is_layer = not any(True for _ in m.children())
        return is_layer or isinstance(m, self._whole) or super().is_leaf_module(m, module_qualified_name)


class _ShapeRecorder(fx.Interpreter):
    """Runs a traced network and keeps the shape of every node in its `meta["shape"]`, () where it is no tensor."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta["shape"] = tuple(result.shape) if isinstance(result, Tensor) else ()
        return result


def trace(network: nn.Module) -> fx.GraphModule:
    """The network as a graph of its layers; itself if it is one already."""
    if isinstance(network, fx.GraphModule):
        return network
    return fx.GraphModule(network, _LayerTracer().trace(network))


@torch.no_grad()
def record_shapes(traced: fx.GraphModule, count: int = 1) -> None:
    """Runs a traced network on `count` black images and keeps the shapes of its tensors in `node.meta["shape"]`."""
    was_training = traced.training
    images = next(traced.parameters(), torch.zeros(1)).new_zeros(count, 3, TRIAL_SIDE, TRIAL_SIDE)
    _ShapeRecorder(traced.eval()).run(images)
    traced.train(was_training)


def layer_of(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The layer that a node calls, if it calls one."""
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def ancestors(node: fx.Node) -> set[fx.Node]:
    """The node and everything that it is computed from."""
    found: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(one.all_input_nodes)
    return found


def _is_grid(node: fx.Node) -> bool:
    shape = node.meta.get("shape", ())
    return len(shape) == 4 and min(shape[2:]) > 1 and node.op != "placeholder"


def _part(
    traced: fx.GraphModule, nodes: set[fx.Node], start: fx.Node | None, end: fx.Node, channels_last: bool
) -> fx.GraphModule:
    """The nodes from `start` (the image if None) to `end`; maps outside are always channels first."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    if start is not None:
        copies[start] = graph.placeholder("maps")
        if channels_last:
            copies[start] = graph.call_method("permute", (copies[start], 0, 2, 3, 1))
    for node in traced.graph.nodes:
        if node in nodes and node not in copies:
            copies[node] = graph.node_copy(node, lambda source: copies[source])
    result = copies[end]
    if start is None and channels_last:
        result = graph.call_method("permute", (result, 0, 3, 1, 2))
    graph.output(result)
    return fx.GraphModule(traced, graph)


def _is_bottleneck(node: fx.Node, last: fx.Node) -> bool:
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
