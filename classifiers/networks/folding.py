"""Batch normalizations folded into the convolutions before them: one pass over the maps less for each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from classifiers.networks.encoders import Encoder
from classifiers.networks.tracing import layer_of, trace


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Folds every batch normalization that directly follows a convolution into it.

    Args:
        module: can be traced by `torch.fx`.

    Returns:
        A traced copy in evaluation mode, without those batch normalizations.
    """
    return _fold(trace(copy.deepcopy(module).eval()), fuse_conv_bn_eval)


@contextmanager
def folded_statistics(model: nn.Module) -> Iterator[None]:
    """While this lasts, trunks of encoders normalize by their running statistics, within the convolutions.

    Outputs and gradients are those of trunks whose batch normalizations are in evaluation mode, up to rounding.
    Parameters and state stay what and where they are.

    Args:
        model: holds `Encoder`s; those that can't be traced run as before.
    """
    with ExitStack() as stack:
        for encoder in {each for each in model.modules() if isinstance(each, Encoder)}:
            trunk = encoder.trunk
            if isinstance(trunk, fx.GraphModule):
                folded = _fold(fx.GraphModule(trunk, copy.deepcopy(trunk.graph)), _Folded)
                trunk.__dict__["forward"] = folded.forward
                stack.callback(trunk.__dict__.pop, "forward")
        yield


class _Folded(nn.Module):
    """A convolution and the batch normalization after it, whose parameters keep their gradients."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.layers = convolution, norm  # not registered: their parameters have names already

    def forward(self, maps: Tensor) -> Tensor:
        convolution, norm = self.layers
        assert norm.running_mean is not None and norm.running_var is not None
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.affine:
            scale = norm.weight * scale
        shift = scale * (-norm.running_mean if convolution.bias is None else convolution.bias - norm.running_mean)
        weight = convolution.weight * scale[:, None, None, None]
        filtered: Tensor = convolution._conv_forward(maps, weight, shift + norm.bias if norm.affine else shift)
        return filtered


def _fold(traced: fx.GraphModule, fuse: Callable[[nn.Conv2d, nn.BatchNorm2d], nn.Module]) -> fx.GraphModule:
    for node in list(traced.graph.nodes):
        norm = layer_of(traced, node)
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
            continue
        source = node.all_input_nodes[0]
        convolution = layer_of(traced, source)
        if type(convolution) is not nn.Conv2d or len(source.users) > 1:
            continue
        traced.set_submodule(str(source.target), fuse(convolution, norm))
        if any(True for _ in norm.children()):  # timm's normalization layers include an activation
            traced.set_submodule(str(node.target), nn.Sequential(*norm.children()))
            continue
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
