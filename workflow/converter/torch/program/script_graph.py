"""Run a TorchScript graph operator by operator from Python, so that torch.export can follow it.

torch.export refuses script modules (torch 2.13), and run by their own interpreter they turn each size into a plain number.
Here sizes stay symbolic, parameters keep their names, and branches whose condition does not depend on data are decided.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import torch
from torch.nn import functional

from converter.errors import UnsupportedError
from converter.torch.program.kept_state import all_nodes, changed_container

__all__ = ["ScriptGraphModule", "location", "script_constants"]

# Enumerations stand as numbers in TorchScript graphs (c10/core/ScalarType.h, MemoryFormat.h).
_DTYPES = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64),
    *(
        torch.complex32,
        torch.complex64,
        torch.complex128,
        torch.bool,
        torch.qint8,
        torch.quint8,
        torch.qint32,
        torch.bfloat16,
    ),
)
_MEMORY_FORMATS = (torch.contiguous_format, torch.preserve_format, torch.channels_last, torch.channels_last_3d)


def _set_item(container: list, key: object, value: object) -> object:
    container[key] = value
    return container


def _floor_divide(a: object, b: object) -> object:
    return a // b


# Operators on numbers, lists and strings, by name; they exist in TorchScript only.
_PYTHON = MappingProxyType(
    {
        **{
            f"aten::{name}": getattr(operator, name)
            for name in ("add", "sub", "mul", "eq", "ne", "lt", "le", "gt", "ge", "neg")
        },
        "aten::rsub": lambda a, b, alpha=1: b - alpha * a,
        "aten::div": operator.truediv,
        "aten::floordiv": _floor_divide,
        "aten::floor_divide": _floor_divide,
        "aten::remainder": operator.mod,
        "aten::pow": operator.pow,
        "aten::sqrt": math.sqrt,
        "aten::log": math.log,
        "aten::ceil": lambda a: math.ceil(a),
        "aten::floor": lambda a: math.floor(a),
        "aten::round": round,
        "aten::abs": abs,
        "prim::abs": abs,
        "prim::min": min,
        "prim::max": max,
        "aten::__and__": operator.and_,
        "aten::__or__": operator.or_,
        "aten::__xor__": operator.xor,
        "aten::__not__": operator.not_,
        "aten::__is__": lambda a, b: a is b,
        "aten::__isnot__": lambda a, b: a is not b,
        "aten::Int": lambda a: (
            a.item() if isinstance(a, torch.Tensor) else a if isinstance(a, torch.SymInt) else int(a)
        ),
        "aten::IntImplicit": lambda a: a.item() if isinstance(a, torch.Tensor) else a,
        "aten::ScalarImplicit": lambda a: a.item() if isinstance(a, torch.Tensor) else a,
        "aten::FloatImplicit": lambda a: a.item() if isinstance(a, torch.Tensor) else a,
        "aten::Float": lambda a: a.item() if isinstance(a, torch.Tensor) else float(a),
        "aten::Bool": bool,
        "aten::len": len,
        "aten::__getitem__": operator.getitem,
        "aten::__contains__": lambda container, item: item in container,
        "aten::_set_item": _set_item,
        "aten::append": lambda items, item: items.append(item) or items,
        "aten::extend": lambda items, more: items.extend(more),
        "aten::insert": lambda items, index, item: items.insert(index, item),
        "aten::pop": lambda items, index=-1: items.pop(index),
        "aten::list": list,
        "aten::keys": lambda mapping: list(mapping.keys()),
        "aten::values": lambda mapping: list(mapping.values()),
        "aten::items": lambda mapping: list(mapping.items()),
        "aten::slice": lambda items, start=None, end=None, step=1: items[start:end:step],
        "aten::size": lambda tensor, dim=None: list(tensor.shape) if dim is None else tensor.shape[dim],
        "aten::dim": lambda tensor: tensor.dim(),
        "aten::numel": lambda tensor: tensor.numel(),
        "aten::is_floating_point": lambda tensor: tensor.is_floating_point(),
        "aten::warn": lambda *args: None,
        "aten::format": lambda text, *args: text.format(*args),
        "prim::device": lambda tensor: tensor.device,
        "prim::dtype": lambda tensor: tensor.dtype,
        **{
            f"prim::is_{kind}": lambda tensor: False
            for kind in ("cuda", "nested", "sparse", "mkldnn", "quantized", "mps")
        },
        # As in training: the fused operators that evaluation may take instead (transformers) have no other counterpart.
        "prim::requires_grad": lambda tensor: True,
        "aten::is_grad_enabled": lambda: True,
        "prim::type": lambda device: device.type,
        "prim::layout": lambda tensor: torch.strided,
        "prim::NumToTensor": lambda number: number,
        "prim::unchecked_cast": lambda value: value,
        "prim::Uninitialized": lambda: None,
        "prim::TupleIndex": operator.getitem,
        "prim::TupleSlice": lambda items, start, end: items[start:end],
    }
)
# Names above that the dispatcher has too, and which take a tensor there.
_ALWAYS_PYTHON = frozenset(
    name
    for name in _PYTHON
    if name.startswith("prim::")
    or name.split("::")[1]
    in (
        "Int",
        "IntImplicit",
        "ScalarImplicit",
        "FloatImplicit",
        "Float",
        "Bool",
        "len",
        "__getitem__",
        "append",
        "size",
        "dim",
    )
    or name.split("::")[1]
    in ("numel", "is_floating_point", "extend", "insert", "pop", "__is__", "__isnot__", "_set_item", "list")
    or name.split("::")[1] in ("keys", "values", "items", "__contains__", "warn", "format", "is_grad_enabled")
)


def script_constants(script: torch.jit.ScriptModule) -> list[tuple]:
    """Kinds of all nodes in their order, with the values of constants: equal for two traces that are the same graph."""
    found = []
    for node in all_nodes(script.inlined_graph):
        value = node.output().toIValue() if node.kind() == "prim::Constant" else None
        if isinstance(value, torch.Tensor):
            value = (str(value.dtype), tuple(value.shape), value.tolist())
        found.append((node.kind(), repr(value)))
    return found


class ScriptGraphModule(torch.nn.Module):
    """The forward method of a script module, as plain Python; parameters and buffers keep their full names.

    Raises UnsupportedError, here or while running, for what has no counterpart: state that forward changes, interface calls.
    """

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        if (attribute := changed_container(script)) is not None:
            raise UnsupportedError(f"forward keeps state in the attribute {attribute}")
        self.original_name = script.original_name
        self._graph = script.inlined_graph
        self._defaults = [
            argument.default_value if argument.has_default_value() else None
            for argument in script.forward.schema.arguments[1:]
        ]
        self._root = [script]  # in a list, so that it does not become a submodule
        self._registered: dict[tuple, torch.Tensor] = {}
        self._names: dict[tuple, str] = {}
        for name, value in script.named_parameters(remove_duplicate=False):
            self._register(name, value, parameter=True)
        for name, value in script.named_buffers(remove_duplicate=False):
            self._register(name, value, parameter=False)
        self._constants: dict[str, str] = {}
        self._register_constants(self._graph.nodes())

    def _register(self, name: str, value: torch.Tensor, *, parameter: bool) -> None:
        """Two names of one tensor stay one tensor."""
        key = _address(value) if value.numel() else (name,)
        if key not in self._registered:
            detached = value.detach()
            self._registered[key] = torch.nn.Parameter(detached, requires_grad=False) if parameter else detached
            self._names[key] = name
        *path, leaf = name.split(".")
        owner: torch.nn.Module = self
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, torch.nn.Module())
            owner = owner._modules[part]
        if isinstance(self._registered[key], torch.nn.Parameter):
            owner.register_parameter(leaf, self._registered[key])
        else:
            owner.register_buffer(leaf, self._registered[key])

    def _register_constants(self, nodes: Any) -> None:
        """Tensors in the graph become buffers, as torch.export wants them."""
        for node in nodes:
            if node.kind() == "prim::Constant" and isinstance(value := node.output().toIValue(), torch.Tensor):
                name = f"constant_{len(self._constants)}"
                self.register_buffer(name, value.detach())
                self._constants[node.output().debugName()] = name
            for block in node.blocks():
                self._register_constants(block.nodes())

    def forward(self, *inputs: object) -> object:
        """Run the script's graph; inputs that are left out have their defaults."""
        names = [value.debugName() for value in self._graph.inputs()]
        values: dict[str, object] = {names[0]: ""}
        values |= dict(zip(names[1:], [*inputs, *self._defaults[len(inputs) :]], strict=True))
        with torch.fx.traceback.preserve_node_meta():
            (result,) = self._block(self._graph, values)
        return result

    def _block(self, block: Any, values: dict[str, object]) -> list[object]:
        for node in block.nodes():
            outputs = list(node.outputs())
            results = self._node(node, [values[value.debugName()] for value in node.inputs()], values)
            if len(outputs) == 1:
                results = [results]
            for output, result in zip(outputs, results, strict=False):
                values[output.debugName()] = result
        return [values[value.debugName()] for value in block.outputs()]

    def _node(self, node: Any, inputs: list, values: dict[str, object]) -> object:
        """The node's output, or a list of them where it has not exactly one."""
        kind = node.kind()
        if kind == "prim::Constant":
            return self._constant(node)
        if kind == "prim::GetAttr":
            return self._attribute(inputs[0], node.s("name"))
        if kind == "prim::ListConstruct":
            return list(inputs)
        if kind == "prim::TupleConstruct":
            return tuple(inputs)
        if kind in ("prim::TupleUnpack", "prim::ListUnpack"):
            items = list(inputs[0])
            return items if node.outputsSize() != 1 else items[0]
        if kind == "prim::DictConstruct":
            return dict(zip(inputs[::2], inputs[1::2], strict=True))
        if kind == "prim::If":
            chosen = list(node.blocks())[0 if _decided(inputs[0], node) else 1]
            results = self._block(chosen, values)
            return results if node.outputsSize() != 1 else results[0]
        if kind == "prim::Loop":
            results = self._loop(next(iter(node.blocks())), inputs, values)
            return results if node.outputsSize() != 1 else results[0]
        if kind == "prim::RaiseException":
            raise UnsupportedError(f"the model's code raises {inputs[0]!r} ({_location(node)})")
        if kind == "prim::SetAttr":
            raise UnsupportedError(f"forward keeps state in the attribute {node.s('name')} ({_location(node)})")
        if kind == "aten::Bool":
            return _decided(inputs[0], node)
        try:
            return self._operator(node, kind, inputs)
        except NotImplementedError:
            raise UnsupportedError(f"the TorchScript operator {kind} cannot be traced ({_location(node)})") from None

    def _constant(self, node: Any) -> object:
        name = self._constants.get(node.output().debugName())
        return getattr(self, name) if name is not None else node.output().toIValue()

    def _attribute(self, owner: object, name: str) -> object:
        """Modules are represented by their full name; a tensor comes from where it was registered."""
        full = f"{owner}.{name}" if owner else name
        value = self._root[0]
        for part in full.split("."):
            value = getattr(value, part)
        if isinstance(value, torch.nn.Module):
            return full
        if isinstance(value, list):  # the weights of a recurrent layer, once more
            names = [self._names.get(_address(v)) if isinstance(v, torch.Tensor) else None for v in value]
            return [v if name is None else self._tensor(name) for v, name in zip(value, names, strict=True)]
        return self._tensor(full) if isinstance(value, torch.Tensor) else value

    def _tensor(self, name: str) -> torch.Tensor:
        """By name, since torch.export puts stand-ins in the place of what was registered."""
        try:
            return self.get_parameter(name)
        except AttributeError:
            return self.get_buffer(name)

    def _loop(self, block: Any, inputs: list, values: dict[str, object]) -> list[object]:
        trips, condition, *carried = inputs
        names = [value.debugName() for value in block.inputs()]
        index = 0
        while index < trips and condition:
            values |= dict(zip(names, [index, *carried], strict=True))
            condition, *carried = self._block(block, values)
            index += 1
        return carried

    def _operator(self, node: object, kind: str, inputs: list) -> object:
        if kind in _ALWAYS_PYTHON or (kind in _PYTHON and not _holds_tensor(inputs)):
            return _PYTHON[kind](*inputs)
        if kind == "aten::_convolution":
            return _convolution(*inputs)
        function = _overload(node, kind)
        # What torch.export notes of each operator: the line of the model's source instead of this one.
        file, line = _place(node)
        torch.fx.traceback.set_stack_trace([f'  File "{file}", line {line}, in forward\n'] if file else [])
        arguments = [
            _convert(value, argument) for value, argument in zip(inputs, function._schema.arguments, strict=False)
        ]
        positional = [v for v, a in zip(arguments, function._schema.arguments, strict=False) if not a.kwarg_only]
        keywords = {a.name: v for v, a in zip(arguments, function._schema.arguments, strict=False) if a.kwarg_only}
        return function(*positional, **keywords)


def _convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    *_cudnn: bool,
) -> torch.Tensor:
    """What torch.jit.trace records for every convolution (torch 1.6 to 2.13); exporters know the public operators only."""
    if transposed:
        function = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)
        return function[len(stride) - 1](x, weight, bias, stride, padding, output_padding, groups, dilation)
    function = (functional.conv1d, functional.conv2d, functional.conv3d)
    return function[len(stride) - 1](x, weight, bias, stride, padding, dilation, groups)


def _address(tensor: torch.Tensor) -> tuple:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _decided(condition: object, node: object) -> bool:
    try:
        return bool(condition)
    except Exception as error:  # torch.export's, for a value that it does not know
        raise UnsupportedError(f"control flow depends on the data ({_location(node)})") from error


def _overload(node: Any, kind: str) -> Callable:
    """The dispatcher's operator for a node, by the overload name in its schema."""
    schema = node.schema()
    match = re.match(r"(\w+)::(\w+)(?:\.(\w+))?\(", schema) if schema and schema != "(no schema)" else None
    if match is None or match[1] not in ("aten", "torchvision"):
        raise NotImplementedError(kind)
    packet = getattr(getattr(torch.ops, match[1]), match[2], None)
    function = getattr(packet, match[3] or "default", None)
    if function is None:
        raise NotImplementedError(kind)
    return function


def _convert(value: object, argument: Any) -> object:
    """Numbers that stand for an enumeration, and numbers where the operator takes a tensor."""
    kind = str(argument.real_type).removeprefix("Optional[").removesuffix("]")
    if type(value) is int and kind == "ScalarType":
        return _DTYPES[value]
    if type(value) is int and kind == "MemoryFormat":
        return _MEMORY_FORMATS[value]
    if type(value) is int and kind == "Layout":
        return torch.strided
    if kind == "Tensor" and isinstance(value, int | float | torch.SymInt | torch.SymFloat):
        dtype = torch.int64 if isinstance(value, int | torch.SymInt) else torch.float32
        return torch.scalar_tensor(value, dtype=torch.bool if isinstance(value, bool) else dtype)
    return value


def _holds_tensor(values: list) -> bool:
    return any(isinstance(v, torch.Tensor) or (isinstance(v, list) and _holds_tensor(v)) for v in values)


def _place(node: Any) -> tuple[str, str]:
    """File and line of the original source, where the file records it, else of TorchScript's own copy."""
    found = re.findall(r'File "([^"]+)", line (\d+)', node.sourceRange())
    own = [entry for entry in found if not entry[0].startswith("code/")] or found
    return own[0] if own else ("", "")


def location(node: object) -> str | None:
    """ "net.py:12"; None where the graph records no line."""
    file, line = _place(node)
    return f"{file.rsplit('/', 1)[-1]}:{line}" if file else None


def _location(node: object) -> str:
    """ "net.py, line 12"."""
    return (location(node) or "no source line recorded").replace(":", ", line ")
