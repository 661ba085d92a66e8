"""Programs of PyTorch 2's quantization (prepare_pt2e, convert_pt2e of torchao), in operators that exporters know.

Such a program quantizes a tensor and dequantizes it again at once, by operators of the library quantized_decomposed, and
dequantizes its integer weights. A fake quantization is both in one: QuantizeLinear with DequantizeLinear in ONNX.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import torch

from converter.errors import SourceError
from converter.torch.exact.rewriting import Rule, Writer, rewrite

__all__ = [
    "by_arithmetic",
    "define_quantized_operators",
    "has_quantized_operators",
    "name_pairs",
    "output_scales",
    "pair_name",
    "rewrite_quantized",
]

_LIBRARY = "quantized_decomposed"
_aten = torch.ops.aten
_PER_TENSOR = _aten.fake_quantize_per_tensor_affine.default
_PER_CHANNEL = _aten.fake_quantize_per_channel_affine.default
# The ranges of integers that QuantizeLinear of ONNX has.
_RANGES = {torch.int8: (-128, 127), torch.uint8: (0, 255)}
# What keeps values on the grid that they were on.
_KEEPS_GRID = {
    "flatten",
    "view",
    "reshape",
    "permute",
    "transpose",
    "squeeze",
    "unsqueeze",
    "alias",
    "clone",
    "max_pool2d",
}


def define_quantized_operators() -> None:
    """Make torch know the library's operators: reading a program that calls them needs it."""
    importlib.import_module("torch.ao.quantization.fx._decomposed")


def by_arithmetic(*, of_constants_only: bool = False) -> dict[torch._ops.OpOverload, Rule]:
    """Fake quantization as ordinary operators, for targets that have none. of_constants_only: not where it has a name."""

    def unless_named(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
        return None if pair_name(node) else _arithmetic(write, node)

    return {_PER_TENSOR: unless_named if of_constants_only else _arithmetic, _PER_CHANNEL: _arithmetic}


def pair_name(node: torch.fx.Node) -> str:
    """The name that a fake quantization of values was given; "" for those of constants."""
    found = re.search(r"fixed_scale_\d+", node.meta.get("stack_trace") or "")
    return found[0] if found else ""


def name_pairs(program: torch.export.ExportedProgram) -> dict[str, torch.fx.Node]:
    """Name each fake quantization of values that has no name yet; the nodes by their names.

    The name stands where torch keeps the line of code that called an operator, which passes over the program keep.
    """
    varying: set[torch.fx.Node] = set()
    inputs = set(program.graph_signature.user_inputs)
    found: dict[str, torch.fx.Node] = {}
    for node in program.graph.nodes:
        if node.name in inputs or varying.intersection(node.all_input_nodes):
            varying.add(node)
        if node.target is not _PER_TENSOR or node not in varying:
            continue
        name = pair_name(node)
        if not name:
            name = f"fixed_scale_{len(found)}"
            node.meta["stack_trace"] = f'  File "model", line {len(found) + 1}, in quantize\n    {name}\n'
        found[name] = node
    return found


def has_quantized_operators(program: torch.export.ExportedProgram) -> bool:
    """Whether the program is one of these."""
    return any(_name(node) is not None for node in program.graph.nodes)


def rewrite_quantized(path: Path, program: torch.export.ExportedProgram) -> None:
    """In place. Raises SourceError for operators that choose scales while they run, and for any other that is not known."""
    rules: dict[torch._ops.OpOverload, Rule] = {}
    for node in program.graph.nodes:
        name = _name(node)
        if name == "dequantize_per_tensor" and not isinstance(node.args[1], torch.fx.Node):
            rules[node.target] = _dequantize_per_tensor
        elif name == "dequantize_per_channel":
            rules[node.target] = _dequantize_per_channel
    rewrite(program, rules)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    left = sorted({node.target.name() for node in program.graph.nodes if _name(node) is not None})
    if left:
        raise SourceError(
            f"{path} is quantized in a way that no file can hold ({', '.join(left)}): quantize it statically, for all of a "
            "tensor or for its channels, or give the float model, and ask for a quantized file of it"
        )


def output_scales(program: torch.export.ExportedProgram) -> list[float]:
    """The step of the grid that each output lies on; 0 for those that lie on none."""
    outputs = _arguments(next(node for node in program.graph.nodes if node.op == "output"))[0]
    return [_scale(node) if isinstance(node, torch.fx.Node) else 0.0 for node in outputs]


def _scale(node: torch.fx.Node) -> float:
    name = getattr(getattr(node.target, "_schema", None), "name", "").removeprefix("aten::")
    if node.target is _PER_TENSOR:
        return float(_arguments(node)[1])
    return _scale(_arguments(node)[0]) if name in _KEEPS_GRID else 0.0


def _arguments(node: torch.fx.Node) -> tuple[Any, ...]:
    """As the operator's schema says what they are."""
    return node.args


def _name(node: torch.fx.Node) -> str | None:
    target = node.target
    if isinstance(target, torch._ops.OpOverload) and target.namespace == _LIBRARY:
        return target._schema.name.partition("::")[2]
    return None


def _dequantize_per_tensor(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    given, scale, zero, lowest, highest, dtype = _arguments(node)[:6]
    if _name(given) == "quantize_per_tensor":
        if given.args[1:] != node.args[1:6] or (lowest, highest) != _RANGES.get(dtype):
            return None
        return _fake(write, _PER_TENSOR, given.args[0], scale, zero, lowest, highest)
    if given.op != "placeholder" or dtype not in _RANGES:
        return None
    weight = write(_aten.mul.Tensor, write(_aten.sub.Tensor, _float(write, given), zero), scale)
    return _fake(write, _PER_TENSOR, weight, scale, zero, *_RANGES[dtype])


def _dequantize_per_channel(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    given, scales, zeros, axis, _, _, dtype = _arguments(node)[:7]
    if given.op != "placeholder" or dtype not in _RANGES or zeros is None:
        return None
    sizes = [-1 if place == axis % given.meta["val"].dim() else 1 for place in range(given.meta["val"].dim())]
    scale = _float(write, scales)
    weight = write(_aten.sub.Tensor, _float(write, given), write(_aten.view.default, _float(write, zeros), sizes))
    weight = write(_aten.mul.Tensor, weight, write(_aten.view.default, scale, sizes))
    zero = write(_aten._to_copy.default, zeros, dtype=torch.int32)
    return _fake(write, _PER_CHANNEL, weight, scale, zero, axis, *_RANGES[dtype])


def _fake(write: Writer, target: torch._ops.OpOverload, x: torch.fx.Node, *args: Any) -> torch.fx.Node:
    """Its result is like its input; torch (2.13) cannot compute that for tensors without values."""
    node = write(_aten.alias.default, x)
    node.target, node.args = target, (x, *args)
    return node


def _arithmetic(write: Writer, node: torch.fx.Node) -> torch.fx.Node:
    """As fake quantization is defined: to the nearest whole number of steps, halves to even, within the range."""
    x, scale, zero = _arguments(node)[:3]
    if node.target is _PER_CHANNEL:
        axis, lowest, highest = _arguments(node)[3:6]
        sizes = [-1 if place == axis % x.meta["val"].dim() else 1 for place in range(x.meta["val"].dim())]
        scale = write(_aten.view.default, scale, sizes)
        zero = write(_aten.view.default, _float(write, zero), sizes)
        steps = write(_aten.div.Tensor, x, scale)
    else:
        lowest, highest = _arguments(node)[3:5]
        steps = write(_aten.mul.Tensor, x, 1 / scale)
    steps = write(
        _aten.clamp.default, write(_aten.add.Tensor, write(_aten.round.default, steps), zero), lowest, highest
    )
    return write(_aten.mul.Tensor, write(_aten.sub.Tensor, steps, zero), scale)


def _float(write: Writer, node: torch.fx.Node) -> torch.fx.Node:
    return write(_aten._to_copy.default, node, dtype=torch.float32)
