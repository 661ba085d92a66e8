"""Programs of PyTorch 2's quantization (prepare_pt2e, convert_pt2e of torchao), in operators that exporters know.

Such a program quantizes a tensor and dequantizes it again at once, by operators of the library quantized_decomposed, and
dequantizes its integer weights. A fake quantization is both in one: QuantizeLinear with DequantizeLinear in ONNX.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from converter.errors import SourceError
from converter.torch.exact.rewriting import Rule, Writer, rewrite

__all__ = [
    "by_arithmetic",
    "define_quantized_operators",
    "has_quantized_operators",
    "output_scales",
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


def by_arithmetic() -> dict[torch._ops.OpOverload, Rule]:
    """Fake quantization as ordinary operators, for targets that have none."""
    return {_PER_TENSOR: _arithmetic, _PER_CHANNEL: _arithmetic}


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
    outputs = next(node for node in program.graph.nodes if node.op == "output").args[0]
    return [_scale(node) if isinstance(node, torch.fx.Node) else 0.0 for node in outputs]


def _scale(node: torch.fx.Node) -> float:
    name = getattr(getattr(node.target, "_schema", None), "name", "").removeprefix("aten::")
    if node.target is _PER_TENSOR:
        return float(node.args[1])
    return _scale(node.args[0]) if name in _KEEPS_GRID else 0.0


def _name(node: torch.fx.Node) -> str | None:
    is_operator = isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == _LIBRARY
    return node.target._schema.name.partition("::")[2] if is_operator else None


def _dequantize_per_tensor(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    given, scale, zero, lowest, highest, dtype = node.args[:6]
    if _name(given) == "quantize_per_tensor":
        if given.args[1:] != node.args[1:6] or (lowest, highest) != _RANGES.get(dtype):
            return None
        return _fake(write, _PER_TENSOR, given.args[0], scale, zero, lowest, highest)
    if given.op != "placeholder" or dtype not in _RANGES:
        return None
    weight = write(_aten.mul.Tensor, write(_aten.sub.Tensor, _float(write, given), zero), scale)
    return _fake(write, _PER_TENSOR, weight, scale, zero, *_RANGES[dtype])


def _dequantize_per_channel(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    given, scales, zeros, axis, _, _, dtype = node.args[:7]
    if given.op != "placeholder" or dtype not in _RANGES or zeros is None:
        return None
    sizes = [-1 if place == axis % given.meta["val"].dim() else 1 for place in range(given.meta["val"].dim())]
    scale = _float(write, scales)
    weight = write(_aten.sub.Tensor, _float(write, given), write(_aten.view.default, _float(write, zeros), sizes))
    weight = write(_aten.mul.Tensor, weight, write(_aten.view.default, scale, sizes))
    zero = write(_aten._to_copy.default, zeros, dtype=torch.int32)
    return _fake(write, _PER_CHANNEL, weight, scale, zero, axis, *_RANGES[dtype])


def _fake(write: Writer, target: torch._ops.OpOverload, x: torch.fx.Node, *args: object) -> torch.fx.Node:
    """Its result is like its input; torch (2.13) cannot compute that for tensors without values."""
    node = write(_aten.alias.default, x)
    node.target, node.args = target, (x, *args)
    return node


def _arithmetic(write: Writer, node: torch.fx.Node) -> torch.fx.Node:
    """As fake quantization is defined: to the nearest whole number of steps, halves to even, within the range."""
    x, scale, zero = node.args[:3]
    if node.target is _PER_CHANNEL:
        axis, lowest, highest = node.args[3:6]
        sizes = [-1 if place == axis % x.meta["val"].dim() else 1 for place in range(x.meta["val"].dim())]
        scale = write(_aten.view.default, scale, sizes)
        zero = write(_aten.view.default, _float(write, zero), sizes)
        steps = write(_aten.div.Tensor, x, scale)
    else:
        lowest, highest = node.args[3:5]
        steps = write(_aten.mul.Tensor, x, 1 / scale)
    steps = write(
        _aten.clamp.default, write(_aten.add.Tensor, write(_aten.round.default, steps), zero), lowest, highest
    )
    return write(_aten.mul.Tensor, write(_aten.sub.Tensor, steps, zero), scale)


def _float(write: Writer, node: torch.fx.Node) -> torch.fx.Node:
    return write(_aten._to_copy.default, node, dtype=torch.float32)
