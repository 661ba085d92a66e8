"""Quantized TorchScript (torch.ao.quantization): which outputs lie on a grid, and how wide its steps are.

Each integer kernel rounds in its own way at each layer, so that a value lands on a neighbouring step now and then in any
other runtime: such outputs are compared in steps (verify.STEPS), over many more samples than others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from converter.errors import SourceError
from converter.torch.program.kept_state import all_nodes

__all__ = ["ROWS", "is_quantized", "output_steps", "refuse_unwritable"]

# Samples of a quantized source: enough to measure the share of values that are one step off.
ROWS = 64

# What keeps values on the grid that they were on; their first input is the tensor.
_KEEPS_GRID = frozenset(
    f"aten::{name}"
    for name in (
        *(
            "dequantize",
            "flatten",
            "reshape",
            "view",
            "permute",
            "transpose",
            "squeeze",
            "unsqueeze",
            "slice",
            "select",
        ),
        *("contiguous", "clone", "detach", "alias", "expand", "to", "relu", "max_pool1d", "max_pool2d", "amax", "t"),
    )
)


def is_quantized(script: torch.jit.ScriptModule) -> bool:
    """Whether the script computes with quantized tensors."""
    return any(
        node.kind().startswith("quantized::")
        or node.kind() in ("aten::quantize_per_tensor", "aten::quantize_per_channel")
        for node in all_nodes(script.inlined_graph)
    )


def refuse_unwritable(path: Path, script: torch.jit.ScriptModule) -> None:
    """Raise SourceError for operators that choose a scale anew for each input, and for results that are still quantized.

    No exporter has the former (torch 2.13).
    """
    graph = script.inlined_graph
    found = sorted({node.kind() for node in all_nodes(graph) if _is_dynamic(node.kind())})
    if found:
        raise SourceError(
            f"{path} is quantized dynamically ({', '.join(found)}), which no other format can hold as it is: give the float "
            "model, and ask for its .dynamic.tflite file"
        )
    if any(_is_on_grid(value) for value in _results(graph)):
        raise SourceError(
            f"{path}: forward of {script.original_name} returns a quantized tensor, which no file can: end it with dequantize()"
        )


def _is_dynamic(kind: str) -> bool:
    return kind.startswith("quantized::") and "dynamic" in kind


def _is_on_grid(value: Any) -> bool:
    """Whether a value is a quantized tensor itself."""
    node = value.node()
    if node.kind().startswith("quantized::") or node.kind() == "aten::quantize_per_tensor":
        return True
    keeps = node.kind() in _KEEPS_GRID and node.kind() != "aten::dequantize"
    return keeps and _is_on_grid(next(iter(node.inputs())))


def output_steps(script: torch.jit.ScriptModule) -> list[float]:
    """The scale of each output in the order of the flat results; 0 where an output lies on no grid of one scale."""
    graph = script.inlined_graph  # its values live no longer than it does
    return [_step(script, value) for value in _results(graph)]


def _results(graph: torch.Graph) -> list[object]:
    """The graph's results, a tuple, a list or a dictionary of them taken apart."""
    found = []
    for value in graph.outputs():
        node = value.node()
        if node.kind() in ("prim::TupleConstruct", "prim::ListConstruct"):
            found += node.inputs()
        elif node.kind() == "prim::DictConstruct":
            found += list(node.inputs())[1::2]
        else:
            found.append(value)
    return found


def _step(script: torch.jit.ScriptModule, value: Any) -> float:
    node = value.node()
    inputs = list(node.inputs())
    if node.kind() == "aten::quantize_per_tensor":
        return _number(script, inputs[1])
    if node.kind().startswith("quantized::"):
        # "output_scale", "scale", "Y_scale_i"; those of inputs come first (torch 2.13).
        names = [argument.name for argument in torch._C.parse_schema(node.schema()).arguments]
        scales = [i for i, name in enumerate(names) if "scale" in name]
        return _number(script, inputs[scales[-1]]) if scales else 0.0
    return _step(script, inputs[0]) if node.kind() in _KEEPS_GRID else 0.0


def _number(script: torch.jit.ScriptModule, value: Any) -> float:
    """A constant of the graph, or an attribute of a module; 0 where the model computes it."""
    node = value.node()
    if node.kind() == "prim::Constant":
        return float(node.output().toIValue())
    path = []
    while node.kind() == "prim::GetAttr":
        path.append(node.s("name"))
        node = next(iter(node.inputs())).node()
    if not path or node.kind() != "prim::Param":
        return 0.0
    found: object = script
    for name in reversed(path):
        found = getattr(found, name)
    return float(found)
