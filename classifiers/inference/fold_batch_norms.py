"""Batch normalisations folded into the convolutions before them."""

from __future__ import annotations

import copy

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Folds every batch normalisation that directly follows a convolution into it.

    Args:
        module: a traceable module.

    Returns:
        A traced copy in evaluation mode, without those batch normalisations.
    """
    copied = copy.deepcopy(module).eval()
    traced = copied if isinstance(copied, fx.GraphModule) else fx.symbolic_trace(copied)
    parts = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not isinstance(parts[node.target], nn.BatchNorm2d):
            continue
        source, norm = node.args[0], parts[node.target]
        if source.op != "call_module" or len(source.users) > 1 or type(parts[source.target]) is not nn.Conv2d:
            continue
        fused = fuse_conv_bn_eval(parts[source.target], norm)
        traced.set_submodule(source.target, fused)
        parts[source.target] = fused
        if any(True for _ in norm.children()):  # timm's normalisation with an activation in it
            traced.set_submodule(node.target, nn.Sequential(*norm.children()))
            continue
        node.replace_all_uses_with(source)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
