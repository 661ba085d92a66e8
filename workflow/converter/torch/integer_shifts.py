"""Shifts of integers by a constant, as multiplication and floor division, which every TensorFlow Lite route has."""

from __future__ import annotations

import torch

__all__ = ["replace_shifts"]

_aten = torch.ops.aten
_LEFT = (_aten.__lshift__.Scalar, _aten.bitwise_left_shift.Tensor_Scalar)
_RIGHT = (_aten.__rshift__.Scalar, _aten.bitwise_right_shift.Tensor_Scalar)


def replace_shifts(program: torch.export.ExportedProgram) -> None:
    """Edit the program in place: x << n is x * 2**n, x >> n is floor(x / 2**n), also for negative x (two's complement)."""
    for node in program.graph.nodes:
        if node.target in _LEFT and isinstance(node.args[1], int):
            node.args = (node.args[0], 2 ** node.args[1])
            node.target = _aten.mul.Tensor
        elif node.target in _RIGHT and isinstance(node.args[1], int):
            node.args = (node.args[0], 2 ** node.args[1])
            node.kwargs = {"rounding_mode": "floor"}
            node.target = _aten.div.Tensor_mode
    program.graph_module.recompile()
