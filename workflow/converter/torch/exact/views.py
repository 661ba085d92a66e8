"""view() as reshape(), which may copy, in programs that are to become ONNX: both compute the same.

Attention lays its values out in another order once the exporter takes it apart (torch 2.13), and a view of what its module
saw is refused then: "Cannot view a tensor with shape ... and strides ...".
"""

from __future__ import annotations

import torch

__all__ = ["views_as_reshapes"]

_aten = torch.ops.aten


def views_as_reshapes(program: torch.export.ExportedProgram) -> None:
    """Edit the program in place. Shapes stay, so nothing is computed again."""
    for module in program.graph_module.modules():
        if not isinstance(module, torch.fx.GraphModule):
            continue
        nodes = [
            node for node in module.graph.nodes if node.op == "call_function" and node.target is _aten.view.default
        ]
        for node in nodes:
            node.target = _aten.reshape.default
        if nodes:
            module.recompile()
