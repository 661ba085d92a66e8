"""Attention whose mask may hide a whole row, which PyTorch answers with zeros.

Of such a row the exporters of torch 2.13 make NaN (ONNX) and Keras the mean of all values, since neither has the softmax
that PyTorch takes here: zero where every score is minus infinity.
"""

from __future__ import annotations

import math

import torch

from converter.torch.exact.rewriting import Rule, Writer

__all__ = ["rules"]

_aten = torch.ops.aten


def rules(program: torch.export.ExportedProgram) -> dict[torch._ops.OpOverload, Rule]:
    """scaled_dot_product_attention with such a mask as products, a softmax and a choice; _safe_softmax too."""

    def attention(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
        query, key, value = node.args[:3]
        mask = node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask")
        if mask is None or not _may_hide_rows(_constant(program, mask)) or _option(node, "enable_gqa", None, False):
            return None
        scale = node.kwargs.get("scale")
        scale = 1 / math.sqrt(query.meta["val"].shape[-1]) if scale is None else scale
        scaled = write(_aten.mul.Tensor, query, scale)
        scores = write(_aten.matmul.default, scaled, write(_aten.transpose.int, key, -2, -1))
        if mask.meta["val"].dtype == torch.bool:
            hidden = write(_aten.logical_not.default, mask)
            scores = write(_aten.masked_fill.Scalar, scores, hidden, -math.inf)
            whole = write(_aten.logical_not.default, write(_aten.any.dim, mask, -1, True))
        else:
            scores = write(_aten.add.Tensor, scores, mask)
            whole = _all_hidden(write, scores)
        weights = _safe(write, scores, -1, whole)
        return write(_aten.matmul.default, weights, value)

    return {_aten.scaled_dot_product_attention.default: attention, _aten._safe_softmax.default: _safe_softmax}


def _option(node: torch.fx.Node, name: str, position: int | None, default: object) -> object:
    if position is not None and len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def _safe_softmax(write: Writer, node: torch.fx.Node) -> torch.fx.Node:
    scores, dim = node.args[:2]
    return _safe(write, scores, dim, _all_hidden(write, scores, dim))


def _all_hidden(write: Writer, scores: torch.fx.Node, dim: int = -1) -> torch.fx.Node:
    # Below the lowest finite number: a comparison for equality takes no floats in ONNX below opset 11.
    highest = write(_aten.amax.default, scores, [dim], True)
    return write(_aten.lt.Scalar, highest, torch.finfo(scores.meta["val"].dtype).min)


def _safe(write: Writer, scores: torch.fx.Node, dim: int, whole: torch.fx.Node) -> torch.fx.Node:
    """softmax(scores), and 0 in rows that are hidden as a whole."""
    # Their scores are all made 0 first: a NaN that is computed and thrown away is one that some runtime keeps.
    weights = write(_aten.softmax.int, write(_aten.masked_fill.Scalar, scores, whole, 0.0), dim)
    return write(_aten.masked_fill.Scalar, weights, whole, 0.0)


def _constant(program: torch.export.ExportedProgram, mask: torch.fx.Node) -> torch.Tensor | None:
    """The mask where it is a tensor of the program's own."""
    signature = program.graph_signature
    targets = {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    name = targets.get(mask.name)
    if name is None:
        return None
    return program.constants.get(name) if name in program.constants else program.state_dict.get(name)


def _may_hide_rows(mask: torch.Tensor | None) -> bool:
    """Whether a row of the mask is hidden as a whole, or the mask is not known."""
    if mask is None:
        return True
    hidden = ~mask if mask.dtype == torch.bool else mask == -math.inf
    return bool(hidden.all(-1).any())
