"""Splits any classification network into trunk, pooling and last layer, without knowing its architecture.

The network is traced with `torch.fx` and run on one image. Its *classifier* is the last linear layer, the input of that
layer is the *pooled vector*, and the last tensor before it with a spatial grid larger than 1x1 is the *feature map*.
Submodules keep their names, so that published weights load by name.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from classifiers.checks import first_line

TRIAL_SIDE = 96
"""Side of the images that networks are tried on, in pixels: maps of stride 32 are 3x3."""


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


class SplitError(ValueError):
    """A network has no feature map or no linear classifier, or can't be traced."""


def split_network(network: nn.Module, name: str) -> NetworkParts:
    """Splits a network into three parts.

    Args:
        network: a classification network for images; the parts reuse its submodules.
        name: its name in error messages.

    Returns:
        The parts, in training or evaluation mode as the network was.

    Raises:
        SplitError: if it can't be split.
    """
    was_training = network.training
    network.eval()
    try:
        traced = fx.GraphModule(network, LayerTracer().trace(network))
        with torch.no_grad():
            ShapeRecorder(traced).run(torch.zeros(1, 3, TRIAL_SIDE, TRIAL_SIDE))
    except Exception as error:
        raise SplitError(
            f"{name} can't be used on {TRIAL_SIDE}x{TRIAL_SIDE} images ({first_line(error)}); pass a network for "
            "images of any size"
        ) from error
    classifier = _last_linear(traced, name)
    pooled = classifier.args[0]
    assert isinstance(pooled, fx.Node)
    last = traced.get_submodule(str(classifier.target))
    assert isinstance(last, nn.Linear)
    before = ancestors(pooled)
    maps = next((node for node in reversed(traced.graph.nodes) if node in before and _is_grid(node)), None)
    if maps is None:
        raise SplitError(f"{name} has no feature map before its last layer; pass a convolutional network")
    shape = _shape(maps)
    channels_last = shape[1] != last.in_features and shape[3] == last.in_features
    of_trunk = ancestors(maps)
    of_pool = before - of_trunk
    if any(source is not maps and source in of_trunk for node in of_pool for source in node.all_input_nodes):
        raise SplitError(f"{name} passes more than one feature map on to its last layer; pass another network")
    trunk = _part(traced, of_trunk, None, maps, channels_last)
    pool = _part(traced, of_pool, maps, pooled, channels_last)
    return NetworkParts(trunk.train(was_training), pool.train(was_training), last.train(was_training))


class LayerTracer(fx.Tracer):
    """Traces every layer as one call, so that layers keep their different behaviour in training and in evaluation."""

    def __init__(self) -> None:
        modules, functions = _timm_exceptions()
        super().__init__(autowrap_functions=functions)
        self._whole: tuple[type[nn.Module], ...] = (nn.modules.batchnorm._BatchNorm, *modules)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is traced as one call."""
        is_layer = not any(True for _ in m.children())
        return is_layer or isinstance(m, self._whole) or super().is_leaf_module(m, module_qualified_name)


class ShapeRecorder(fx.Interpreter):
    """Runs a traced network and records the shape of every node in its `meta["shape"]`, () where it is no tensor."""

    def run_node(self, n: fx.Node) -> Any:
        """Runs a node and records its shape."""
        result = super().run_node(n)
        n.meta["shape"] = tuple(result.shape) if isinstance(result, Tensor) else ()
        return result


def _timm_exceptions() -> tuple[tuple[type[nn.Module], ...], tuple[Any, ...]]:
    """Modules and functions of timm that can't be traced through."""
    try:
        import timm.layers as layers
    except ImportError:
        return (), ()
    listed: Any = layers
    return tuple(listed.get_notrace_modules()), tuple(listed.get_notrace_functions())


def _last_linear(traced: fx.GraphModule, name: str) -> fx.Node:
    node: fx.Node
    for node in reversed(traced.graph.nodes):
        if node.op == "call_module" and isinstance(traced.get_submodule(str(node.target)), nn.Linear):
            if len(_shape(node)) == 2:
                return node
            break
    raise SplitError(f"{name} does not end in a linear layer on one vector per image; pass a network that does")


def _shape(node: fx.Node) -> tuple[int, ...]:
    shape: tuple[int, ...] = node.meta["shape"]
    return shape


def _is_grid(node: fx.Node) -> bool:
    shape = _shape(node)
    return len(shape) == 4 and min(shape[2:]) > 1 and node.op != "placeholder"


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
