"""Batch normalisations folded into the convolutions before them."""

from __future__ import annotations

import copy

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Folds every batch normalisation that directly follows a convolution into it.

    Args:
        module: can be traced by `torch.fx`.

    Returns:
        A traced copy in evaluation mode, without those batch normalisations.
    """
    copied = copy.deepcopy(module).eval()
    traced = copied if isinstance(copied, fx.GraphModule) else fx.symbolic_trace(copied)
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        source, norm = node.args[0], modules[node.target]
        if source.op != "call_module" or len(source.users) > 1 or type(modules[source.target]) is not nn.Conv2d:
            continue
        fused = fuse_conv_bn_eval(modules[source.target], norm)
        traced.set_submodule(source.target, fused)
        modules[source.target] = fused
        if any(True for _ in norm.children()):  # timm's normalisation layers include an activation
            traced.set_submodule(node.target, nn.Sequential(*norm.children()))
            continue
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
