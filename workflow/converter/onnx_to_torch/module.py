"""An ONNX model as a module of torch: each node is computed by the function of its operator, in the file's order.

Nodes of which all inputs are the same for all data are computed once. What is left, torch.export writes down: sizes are numbers
to it (values.py), graphs within the graph are unrolled or become torch's own control flow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import inliner
from torch.fx import traceback
from torch.utils._python_dispatch import _disable_current_modes

from converter.errors import UnsupportedError
from converter.onnx_to_torch import operators as _operators  # noqa: F401  registers them
from converter.onnx_to_torch.core.registry import Call, Handler, as_tensor, find, find_on_sizes, known_sizes
from converter.onnx_to_torch.core.values import Known, Value, to_numpy

__all__ = ["ONNX_FILE", "Frame", "OnnxModule"]

# What stands for the name of the file of code in which a program's operators are called.
ONNX_FILE = "model.onnx"
_LONGEST_NAME = 100
_STANDARD = ("", "ai.onnx")
# Not the same twice.
_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}


class OnnxModule(torch.nn.Module):
    """Called with the model's inputs (those that are no initializers) by position; returns a tuple of its outputs.

    model: checked, its weights loaded; functions of its own are written out here. Its first call has to be on real
    tensors: weights become parameters of the module where an operator reads them as tensors.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        if model.functions:
            model = inliner.inline_local_functions(model)
        self._model = model
        self._opsets = {_domain(entry.domain): entry.version for entry in model.opset_import}
        self._initial = {name: Known(array, array.dtype, True, name) for name, array in _initializers(model.graph)}
        self._inputs = [entry.name for entry in model.graph.input if entry.name not in self._initial]
        self._folded: dict[tuple, tuple[list[Value], tuple[Value, ...]]] = {}
        self._is_folding = False
        self._initial_inner: dict[tuple, dict[str, Value]] = {}
        # For torch's own control flow, whose functions have to be given what they read: what was read as a tensor, and
        # what stands for it within such a function.
        self.readers: list[dict[int, Known]] = []
        self.read_within: dict[tuple, dict[int, Known]] = {}
        self.lent: dict[int, torch.Tensor] = {}
        self._parameters_of: dict[int, tuple[Known, torch.nn.Module, str]] = {}

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor | list | None, ...]:
        """The outputs in the file's order."""
        values: dict[str, Value] = {**self._initial, **dict(zip(self._inputs, tensors, strict=True))}
        with traceback.preserve_node_meta():
            results = Frame(self, self._model.graph, values, None, ()).run()
        return tuple(self._result(value) for value in results)

    def _result(self, value: Value) -> torch.Tensor | list | None:
        """Sequences and empty optionals stay what they are."""
        if isinstance(value, list):
            return [self._result(part) for part in value]
        return None if value is None else self.tensor(value)

    def opset(self, domain: str) -> int:
        """The version of that domain."""
        return self._opsets.get(_domain(domain), 1)

    def is_tracing(self) -> bool:
        """Whether torch.export follows this run, on tensors without data."""
        return _is_tracing()

    def tensor(self, value: Value) -> torch.Tensor:
        """The value as a tensor. What is the same for all inputs is a parameter, or a buffer where it is no float."""
        if isinstance(value, torch.Tensor):
            return value
        if value is None or isinstance(value, list):
            what = "an empty optional" if value is None else "a sequence"
            raise UnsupportedError(f"the ONNX model has {what} where a tensor is needed")
        if self._is_folding or not value.constant or value.symbolic:
            return as_tensor(value)
        for reader in self.readers:
            reader[id(value)] = value
        if id(value) in self.lent:
            return self.lent[id(value)]
        if id(value) not in self._parameters_of:
            if _is_tracing():
                return as_tensor(value)
            self._parameters_of[id(value)] = (value, *self._register(value))
        _, holder, name = self._parameters_of[id(value)]
        return getattr(holder, name)

    def _register(self, value: Known) -> tuple[torch.nn.Module, str]:
        *folders, last = [re.sub(r"\W", "_", part) for part in re.split(r"[./]", value.name) if part] or ["constant"]
        holder: torch.nn.Module = self
        for folder in (f"_{name}" if hasattr(torch.nn.Module, name) else name for name in folders):
            inner = holder._modules.get(folder)
            if inner is None:
                while hasattr(holder, folder):
                    folder += "_"
                inner = torch.nn.Module()
                holder.add_module(folder, inner)
            holder = inner
        name = last
        while hasattr(holder, name):
            name += "_"
        tensor = as_tensor(value)
        if tensor.is_floating_point():
            holder.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))
        else:
            holder.register_buffer(name, tensor)
        return holder, name


class Frame:
    """A graph that is being run: its values by name, and the graph around it."""

    def __init__(
        self,
        module: OnnxModule,
        graph: onnx.GraphProto | onnx.FunctionProto,
        values: dict[str, Value],
        outer: Frame | None,
        place: tuple,
        opsets: Mapping[str, int] | None = None,
    ) -> None:
        self.module, self._graph, self._values, self._outer, self.place = module, graph, values, outer, place
        self._opsets = opsets

    def run(self) -> list[Value]:
        """The values of the graph's outputs."""
        for place, node in enumerate(self._graph.node, 1):
            # What torch.export notes of each operator: the node instead of a line of this program.
            called = re.sub(r"[^\w./:-]", "_", node.name or next(filter(None, node.output), ""))[:_LONGEST_NAME]
            traceback.set_stack_trace(
                [f'  File "{ONNX_FILE}", line {place}, in {node.op_type}\n    {node.op_type} {called}\n']
            )
            inputs = [self.value(name) if name else None for name in node.input]
            for name, value in zip(node.output, self._computed(node, inputs), strict=False):
                if name:
                    self._values[name] = value
        outputs = self._graph.output
        return [self.value(entry if isinstance(entry, str) else entry.name) for entry in outputs]

    def run_inner(
        self, graph: onnx.GraphProto, inputs: Sequence[Value], place: tuple, instead: Mapping[str, Value] | None = None
    ) -> list[Value]:
        """The outputs of a graph within this one. instead: of values of the graphs around it."""
        place = (*self.place, *place)
        initial = self.module._initial_inner  # the same objects in each run: each is one parameter
        if place not in initial:
            initial[place] = {name: Known(array, array.dtype, True, name) for name, array in _initializers(graph)}
        values: dict[str, Value] = {**(instead or {}), **initial[place]}
        values.update(zip((entry.name for entry in graph.input), inputs, strict=False))
        return Frame(self.module, graph, values, self, place, self._opsets).run()

    def value(self, name: str) -> Value:
        """Of this graph or of one around it. Raises KeyError."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame._values:
                return frame._values[name]
            frame = frame._outer
        raise KeyError(name)

    def declared_type(self, name: str) -> int:
        """ONNX's number of the element type that an input of the graph is declared with; 0 for all other names."""
        entries = self._graph.input if isinstance(self._graph, onnx.GraphProto) else []
        return next((entry.type.tensor_type.elem_type for entry in entries if entry.name == name), 0)

    def _opset(self, domain: str) -> int:
        return self._opsets.get(_domain(domain), 1) if self._opsets is not None else self.module.opset(domain)

    def _computed(self, node: onnx.NodeProto, inputs: list[Value]) -> tuple[Value, ...]:
        domain, name = _domain(node.domain), node.op_type
        call = Call(self, node, inputs, self._opset(domain))
        handler = find(domain, name)
        if handler is None and (body := _body(node, self._opset(domain))) is not None:
            return self._written_out(node, body, inputs)
        if handler is None:
            raise call.refusal("has no way to torch")
        given = [value for value in inputs if value is not None]
        if any(entry.type == onnx.AttributeProto.GRAPH for entry in node.attribute) or name in _RANDOM:
            return _tuple(handler(call))
        if not all(isinstance(value, Known) for value in given):
            return _tuple(handler(call))
        known = [value for value in given if isinstance(value, Known)]
        if all(value.constant for value in known):
            return self._folded(call, handler)
        sizes = find_on_sizes(domain, name)
        if sizes is None or any(value.dtype.kind not in "iufb" for value in known):
            return _tuple(handler(call))
        results = sizes(call, [value.array for value in known])
        if results is None:
            return _tuple(handler(call))
        return tuple(
            result if isinstance(result, Known) else known_sizes(result, known[0].dtype)
            for result in (results if isinstance(results, tuple) else (results,))
        )

    def _folded(self, call: Call, handler: Handler) -> tuple[Value, ...]:
        """Once for the module, as the inputs are the same for all data: not once for each run of a graph within it."""
        place = (*self.place, *call.node.output, *map(id, call.inputs))
        if place in self.module._folded:
            return self.module._folded[place][1]
        # On real tensors, also while torch.export follows; what only this reads becomes no parameter.
        was_folding, self.module._is_folding = self.module._is_folding, True
        try:
            with _disable_current_modes(), torch.no_grad():
                found = _tuple(handler(call))
                results = tuple(
                    Known(array := to_numpy(value), array.dtype, True, call.node.output[index])
                    if isinstance(value, torch.Tensor)
                    else value
                    for index, value in enumerate(found)
                )
        finally:
            self.module._is_folding = was_folding
        self.module._folded[place] = (call.inputs, results)  # the inputs: that no others get their ids
        return results

    def _written_out(
        self, node: onnx.NodeProto, body: onnx.FunctionProto, inputs: Sequence[Value]
    ) -> tuple[Value, ...]:
        """An operator that ONNX itself defines by others."""
        attributes = {entry.name: entry for entry in node.attribute}
        defaults = {entry.name: entry for entry in body.attribute_proto}
        inner = onnx.FunctionProto()
        inner.CopyFrom(body)
        for part in inner.node:
            _fill_attributes(part, {**defaults, **attributes})
        values: dict[str, Value] = dict.fromkeys(body.input)
        values.update(zip(body.input, inputs, strict=False))
        opsets = {_domain(entry.domain): entry.version for entry in body.opset_import}
        frame = Frame(self.module, inner, values, None, (*self.place, *node.output), opsets)
        return tuple(frame.run())


def _is_tracing() -> bool:
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None or (
        torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None
    )


def _domain(name: str) -> str:
    return "" if name in _STANDARD else name


def _tuple(result: Value | tuple[Value, ...]) -> tuple[Value, ...]:
    return result if isinstance(result, tuple) else (result,)


def _initializers(graph: onnx.GraphProto) -> list[tuple[str, np.ndarray]]:
    found = [(tensor.name, onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer]
    return found + [(tensor.values.name, _dense(tensor)) for tensor in graph.sparse_initializer]


def _dense(tensor: onnx.SparseTensorProto) -> np.ndarray:
    values, indices = onnx.numpy_helper.to_array(tensor.values), onnx.numpy_helper.to_array(tensor.indices)
    dense = np.zeros(list(tensor.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense


def _body(node: onnx.NodeProto, opset: int) -> onnx.FunctionProto | None:
    """How ONNX defines the operator by others, where it does.

    Not where that depends on the node: onnx 1.23 crashes as it writes some of these out, and they have functions here.
    """
    try:
        schema = cast(Any, onnx.defs.get_schema(node.op_type, opset, node.domain))  # has_function is in no stub
    except onnx.defs.SchemaError:
        return None
    return schema.function_body if schema.has_function else None


def _fill_attributes(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]) -> None:
    """Attributes of a function's nodes that refer to its own."""
    kept = []
    for entry in node.attribute:
        if entry.ref_attr_name:
            if entry.ref_attr_name not in given:
                continue
            filled = onnx.AttributeProto()
            filled.CopyFrom(given[entry.ref_attr_name])
            filled.name = entry.name
            kept.append(filled)
            continue
        if entry.type == onnx.AttributeProto.GRAPH:
            for inner in entry.g.node:
                _fill_attributes(inner, given)
        kept.append(entry)
    copies = [onnx.AttributeProto.FromString(entry.SerializeToString()) for entry in kept]
    del node.attribute[:]
    node.attribute.extend(copies)
