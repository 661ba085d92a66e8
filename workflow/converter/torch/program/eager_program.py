"""An exported program as a module that torch.jit.trace can follow, for the exporter that writes opsets below 18.

Run through the dispatcher, as ``program.module()`` does, a trace turns each size into a constant (torch 2.13). Here the
same operators are called by their Python functions and tensor methods, which keep sizes of traced tensors traced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from converter.errors import UnsupportedError
from converter.torch.program.asserts import only_checked
from converter.torch.program.source_lines import model_lines

__all__ = ["EagerProgram", "ValueRead", "has_unknown_results", "misdescribed", "size_choice", "value_read"]

_aten = torch.ops.aten


class ValueRead(UnsupportedError):
    """A model in which values of inputs become sizes, numbers or choices, which a target has no form for."""


_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, complex)

# What these give of a tensor does not depend on its values.
_SIZES = (_aten.sym_size.int, _aten.sym_numel.default, _aten.sym_stride.int, _aten.sym_storage_offset.default)


def value_read(program: torch.export.ExportedProgram, written: Collection[object] = ()) -> str | None:
    """The first operator that makes a number, or a choice, of the values of an input: "item in forward (net.py, line 12)".

    A trace has the example's for ever. None where there is none; what comes of weights alone is the same for every input.
    Graphs within the graph are not followed: they may read and choose, so that whatever runs one on an input counts, but for
    operators that are `written` with their graphs.
    """
    inputs = set(program.graph_signature.user_inputs)
    follows: set[torch.fx.Node] = set()
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in inputs:
            follows.add(node)
        if node.op != "call_function" or not any(source in follows for source in node.all_input_nodes):
            continue
        follows.add(node)
        tensors = [s for s in node.all_input_nodes if s in follows and not isinstance(s.meta.get("val"), _NUMBERS)]
        chooses = isinstance(node.target, torch._ops.HigherOrderOperator) and node.target not in written
        reads = isinstance(node.meta.get("val"), _NUMBERS) and not only_checked(node)
        if tensors and (chooses or (reads and node.target not in _SIZES)):
            return _place(node)
    return None


def size_choice(program: torch.export.ExportedProgram) -> str | None:
    """The first place where a size is chosen by comparing sizes, such as the smaller of two; None where there is none.

    A trace has what was chosen for the example.
    """
    choices = (torch.sym_min, torch.sym_max, torch.sym_ite)
    return next((_place(node) for node in program.graph.nodes if node.target in choices), None)


def has_unknown_results(program: torch.export.ExportedProgram) -> bool:
    """Whether the values of its inputs decide how large a result is: how many boxes are kept, or elements chosen."""
    return any(
        isinstance(value := node.meta.get("val"), torch.Tensor) and bool(free_unbacked_symbols(value))
        for node in program.graph.nodes
    )


class _Checked(torch.fx.Interpreter):
    """Runs a program's graph, and finds the first node that gives a number where the program has a tensor, or otherwise."""

    wrong: str | None = None

    def run_node(self, node: torch.fx.Node) -> object:
        result = super().run_node(node)
        if self.wrong is None and node.op == "call_function" and not _is_of_kind(result, node.meta.get("val")):
            self.wrong = _place(node)
        return result


def misdescribed(program: torch.export.ExportedProgram, inputs: Sequence[torch.Tensor]) -> str | None:
    """The first operator whose result is a number where the program says a tensor, or the other way round.

    What reads values is told by that (`value_read`), and a file may say anything. None where all is as it says.
    """
    checked = _Checked(program.module(check_guards=False))
    with torch.no_grad():
        checked.run(*inputs)
    return checked.wrong


def _is_of_kind(result: object, described: object) -> bool:
    if isinstance(described, list | tuple):
        return (
            isinstance(result, list | tuple)
            and len(result) == len(described)
            and all(map(_is_of_kind, result, described))
        )
    if described is None:  # as of asserts, and of what writes buffers back
        return not isinstance(result, _NUMBERS)
    return isinstance(result, torch.Tensor) == isinstance(described, torch.Tensor)


def _place(node: torch.fx.Node) -> str:
    """The operator's name, and the line of the model's source as far as the program records it."""
    operator = node.target
    name = getattr(operator, "__name__", str(operator))
    if isinstance(operator, torch._ops.OpOverload):
        name = operator._schema.name.removeprefix("aten::")
    places = model_lines(node.stack_trace or "")
    return f"{name} in {places[-1][2]} ({places[-1][0].rsplit('/', 1)[-1]}, line {places[-1][1]})" if places else name


class EagerProgram(torch.nn.Module):
    """Called with the program's tensors by position; gives a tuple of tensors. Parameters keep their names."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        graph_module = program.module(check_guards=False)
        for name, child in graph_module.named_children():
            self.add_module(name, child)
        for name, parameter in graph_module.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in graph_module.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self._interpreter = [_Interpreter(graph_module)]  # in a list, so that its module does not become a submodule
        self._constants = _constant_values(graph_module, set(program.constants))

    def train(self, mode: bool = True) -> EagerProgram:
        """A program has one mode only; exporters set it all the same."""
        return self

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the program; returns the tensors among its outputs, in their order."""
        result = self._interpreter[0].run(*tensors, initial_env=dict(self._constants))
        leaves = torch.utils._pytree.tree_leaves(result)
        return tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))


class _Interpreter(torch.fx.Interpreter):
    def call_function(self, target: Callable, args: tuple, kwargs: dict) -> object:
        if isinstance(target, torch._ops.OpOverload):
            target = _python_function(target)
        return target(*args, **kwargs)


def _constant_values(graph_module: torch.fx.GraphModule, literals: set[str]) -> dict[torch.fx.Node, object]:
    """Values of the nodes that depend on no input and no weight, computed once and outside any trace.

    `literals` are names of tensors that stand in the model's code.
    Models build masks in place (swin's `mask[a:b] = n`), which the exporter loses silently (torch 2.13: swin comes
    out wrong at every opset below 18); a finished constant it keeps.
    """
    constant: set[torch.fx.Node] = set()
    for node in graph_module.graph.nodes:
        is_call = node.op == "call_function"
        if node.op == "get_attr" and node.target in literals:
            constant.add(node)
        if is_call and all(source in constant for source in _value_sources(node)):
            if not _has_unknown_size(node):
                constant.add(node)
        elif (
            is_call and getattr(getattr(node.target, "_schema", None), "is_mutable", False) and node.args[0] in constant
        ):
            return {}  # a constant that is written to with what depends on an input is none
    values: dict[torch.fx.Node, object] = {}
    interpreter = _Interpreter(graph_module)
    interpreter.env = values
    with torch.no_grad():
        for node in graph_module.graph.nodes:
            if node in constant and node.target in _NEW:
                size = node.meta["val"]
                fill = _NEW[node.target]
                if fill is None:  # a number, or what came of constants alone
                    fill = _filling(node)
                    fill = values[fill] if isinstance(fill, torch.fx.Node) else fill
                values[node] = torch.full(tuple(size.shape), fill, dtype=size.dtype)
            elif node in constant:
                values[node] = interpreter.run_node(node)
    return values


# x.new_zeros(size) takes its dtype from x, and nothing else. The value each fills with, None where it is an argument.
_NEW: dict[object, int | None] = {
    _aten.new_zeros.default: 0,
    _aten.new_ones.default: 1,
    _aten.new_empty.default: 0,
    _aten.new_full.default: None,
}


def _filling(node: torch.fx.Node) -> object:
    """What new_full fills with: a number, or the node of one."""
    return node.args[2] if len(node.args) > 2 else node.kwargs["fill_value"]


def _value_sources(node: torch.fx.Node) -> list[torch.fx.Node]:
    """The nodes that the values of this one depend on, its sizes aside."""
    if node.target not in _NEW:
        return node.all_input_nodes
    fill = _filling(node) if _NEW[node.target] is None else None
    return [fill] if isinstance(fill, torch.fx.Node) else []


def _has_unknown_size(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    sizes = value.shape if isinstance(value, torch.Tensor) else ()
    return any(not isinstance(size, int) for size in sizes)


def _python_function(operator: torch._ops.OpOverload) -> Callable:
    """torch.conv2d for aten.conv2d.default, and so on; the operator itself where Python has no such function."""
    if operator in _SPECIAL:
        return _SPECIAL[operator]
    if operator.namespace == "aten":
        name = operator._schema.name.split("::")[1]
        for namespace in (torch._C._VariableFunctions, torch._C._nn, torch._C._special, torch._C._linalg, torch.Tensor):
            if hasattr(namespace, name):
                return getattr(namespace, name)
    return operator


def _slice(x: torch.Tensor, dim: int = 0, start: object = None, end: object = None, step: int = 1) -> torch.Tensor:
    if isinstance(end, int) and end >= 2**63 - 1:
        end = None
    index = [slice(None)] * x.dim()
    index[dim] = slice(start, end, step)
    return x[tuple(index)]


def _index(x: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> torch.Tensor:
    return x[tuple(slice(None) if index is None else index for index in indices)]


def _unflatten(x: torch.Tensor, dim: int, sizes: Sequence[int]) -> torch.Tensor:
    """By reshape: ONNX has aten::unflatten from opset 13 only."""
    dim = dim % x.dim()
    return x.reshape(
        [*(x.size(axis) for axis in range(dim)), *sizes, *(x.size(axis) for axis in range(dim + 1, x.dim()))]
    )


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """softmax(Q K' / sqrt(d)) V, as documented for F.scaled_dot_product_attention; ONNX has it from opset 14 only."""
    if enable_gqa:
        repeats = query.size(-3) // key.size(-3)
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = torch.matmul(query * factor, key.transpose(-2, -1))
    if is_causal:
        rows, columns = int(query.shape[-2]), int(key.shape[-2])
        scores = scores.masked_fill(torch.ones(rows, columns, dtype=torch.bool).triu(1), float("-inf"))
    if attn_mask is not None:
        blocked = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(attn_mask.logical_not(), float("-inf")) if blocked else scores + attn_mask
    return torch.matmul(torch.softmax(scores, -1), value)


def _to(x: torch.Tensor, dtype: torch.dtype | None = None, **ignored: object) -> torch.Tensor:
    """The dtype only: device and layout mean nothing in ONNX."""
    return x if dtype is None else x.to(dtype)


def _floor_divide(a: torch.Tensor, b: object) -> torch.Tensor:
    """torch.floor_divide becomes a division towards zero (torch 2.13), and this one does not."""
    return torch.div(a, b, rounding_mode="floor")


def _nothing(*args: object, **kwargs: object) -> None:
    """A check at run time, which the file need not repeat."""


_SPECIAL: dict[object, Callable] = {
    _aten.sym_size.int: lambda x, dim: x.size(dim),
    _aten.sym_numel.default: lambda x: x.numel(),
    _aten.slice.Tensor: _slice,
    _aten.index.Tensor: _index,
    _aten.unflatten.int: _unflatten,
    _aten.floor_divide.default: _floor_divide,
    _aten.scaled_dot_product_attention.default: _attention,
    # Stable at once: ONNX's TopK prefers the first of equals.
    _aten.sort.stable: lambda x, *, stable=None, dim=-1, descending=False: torch.sort(x, dim, descending),
    _aten._to_copy.default: _to,
    _aten.to.dtype_layout: _to,
    _aten.to.dtype: lambda x, dtype, *ignored, **also_ignored: x.to(dtype),
    _aten.to.device: lambda x, *ignored, **also_ignored: x,
    _aten.alias.default: lambda x: x,
    _aten.detach.default: lambda x: x,
    _aten.detach_.default: lambda x: x,
    _aten.lift_fresh_copy.default: lambda x: x.clone(),
    _aten._assert_tensor_metadata.default: _nothing,
    _aten._assert_async.msg: _nothing,
    _aten._assert_scalar.default: _nothing,
    _aten.sym_constrain_range_for_size.default: _nothing,
}
