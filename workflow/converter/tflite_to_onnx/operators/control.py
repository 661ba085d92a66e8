"""Subgraphs that operators call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from converter.errors import SourceError
from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx.core.cleaning import cleaned
from converter.tflite_to_onnx.core.graph import Graph
from converter.tflite_to_onnx.core.registry import Call, operator
from converter.tflite_to_onnx.core.trips import trip_count, truth
from converter.tflite_to_onnx.core.values import Value

if TYPE_CHECKING:
    from converter.tflite_to_onnx.subgraphs import Scope

_Shape = tuple[int | None, ...]


def _given(call: Call, start: int = 0) -> list[Value]:
    return [call.input(position) for position in range(start, len(call.inputs))]


def _passed(value: Value, stored: str | None, *, known: bool) -> Value:
    """The value as a subgraph gets it; what this graph has computed of it stays here."""
    return Value(value.name, value.dtype, value.shape, value.quantization, value.array if known else None, stored)


def _graph(
    graph: Graph, inputs: Sequence[onnx.ValueInfoProto], results: Sequence[tuple[str, np.dtype]]
) -> onnx.GraphProto:
    """An ONNX graph of these nodes; results: names of what it gives, with their dtypes."""
    outputs = []
    for name, dtype in results:
        own = graph.node("Identity", name)
        outputs.append(_info(own, dtype))
    nodes = cleaned(graph.nodes, [entry.name for entry in outputs], [entry.name for entry in inputs], graph.constants)
    return onnx.helper.make_graph(nodes, graph.constants.name("graph"), list(inputs), outputs)


def _info(name: str, dtype: np.dtype, shape: Sequence[int] | None = None) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def _results(call: Call, values: Sequence[Value]) -> Sequence[Value]:
    if len(values) < len(call.outputs) or any(
        value.dtype != output.dtype for value, output in zip(values, call.outputs, strict=False)
    ):
        raise SourceError(f"its operator {call.name} has other outputs than the subgraph that it calls")
    return values


@operator("CALL", "STABLEHLO_COMPOSITE")
def _call(call: Call) -> tuple[Value, ...]:
    if call.name == "CALL":
        number = call.options(schema.CallOptionsT).subgraph
    else:
        number = call.options(schema.StableHLOCompositeOptionsT).decompositionSubgraphIndex
    return tuple(_results(call, call.scope.inner(number, call.graph, _given(call)).run()))


@operator("IF")
def _if(call: Call) -> tuple[str | Value, ...]:
    options = call.options(schema.IfOptionsT)
    branches, results = [], []
    for number in (options.thenSubgraphIndex, options.elseSubgraphIndex):
        inputs = [
            _passed(value, None if value.array is not None else call.scope.stored(value), known=True)
            for value in _given(call, 1)
        ]
        graph = Graph(call.graph.constants)
        scope = call.scope.inner(number, graph, inputs)
        values = _results(call, scope.run())
        results.append(values)
        branches.append(_graph(graph, [], [(scope.stored(value), value.dtype) for value in values]))
    condition = call.graph.reshape(call.stored(0), [])
    names = call.node(
        "If", condition, outputs=len(branches[0].output), then_branch=branches[0], else_branch=branches[1]
    )
    shapes = [_merged(call, first.shape, second.shape) for first, second in zip(*results, strict=False)]
    return _as_stored(call, names, results[0], shapes)


def _as_stored(
    call: Call, names: str | tuple[str, ...], values: Sequence[Value], shapes: Sequence[_Shape]
) -> tuple[Value, ...]:
    names = names if isinstance(names, tuple) else (names,)
    results = []
    for name, value, shape in zip(names, values, shapes, strict=False):
        axes = (*shape, 2) if value.dtype.kind == "c" else shape
        call.graph.constants.declare(name, np.float32 if value.dtype.kind == "c" else value.dtype, axes)
        results.append(Value(value.name, value.dtype, shape, value.quantization, stored=name))
    return tuple(results)


def _merged(call: Call, first: _Shape, second: _Shape) -> _Shape:
    """What two shapes have in common."""
    if len(first) != len(second):
        raise call.refusal("gives a tensor whose number of axes varies")
    return tuple(one if one == two else None for one, two in zip(first, second, strict=True))


@operator("WHILE")
def _while(call: Call) -> tuple[str | Value, ...]:
    options = call.options(schema.WhileOptionsT)
    given = _given(call)
    first = [_passed(value, call.scope.stored(value), known=False) for value in given]
    goes_on = _condition(call, options.condSubgraphIndex, call.graph, first)
    shapes = [value.shape for value in given]
    while True:  # sizes that the body changes are free; others stay known within it
        body, names, scope, values = _body(call, options.bodySubgraphIndex, given, shapes)
        merged = [_merged(call, shape, value.shape) for shape, value in zip(shapes, values, strict=True)]
        if merged == shapes:
            break
        shapes = merged
    after = [_passed(value, scope.stored(value), known=False) for value in values]
    results = [(value.stored or "", value.dtype) for value in after]
    again = _condition(call, options.condSubgraphIndex, body, after)
    iteration = body.constants.declare(body.constants.name("iteration"), np.int64, ())
    condition = body.constants.declare(body.constants.name("condition"), np.bool_, ())
    inputs = [
        _info(iteration, np.dtype(np.int64), ()),
        _info(condition, np.dtype(np.bool_), ()),
        *(_info(name, value.dtype) for name, value in zip(names, given, strict=True)),
    ]
    starts = [value.stored or "" for value in first]
    count = _count(call, body, again, goes_on, names, [name for name, _ in results], starts)
    if count is not None:
        again, goes_on = condition, ""
    graph = _graph(body, inputs, [(again, np.dtype(np.bool_)), *results])
    most = "" if count is None else call.graph.constant(count)
    found = call.node("Loop", most, goes_on, *starts, outputs=len(given), body=graph)
    return _as_stored(call, found, _results(call, values), shapes)


def _count(
    call: Call, body: Graph, again: str, goes_on: str, names: list[str], results: list[str], starts: list[str]
) -> int | None:
    """How often the body runs, where that is known."""
    arrays = call.graph.constants.arrays
    known = truth(call.graph.nodes, goes_on, arrays)
    if known is None:
        return None
    first = [arrays.get(start) for start in starts]
    return trip_count(body.nodes, again, names, results, first, arrays) if known else 0


def _body(
    call: Call, number: int, given: Sequence[Value], shapes: Sequence[_Shape]
) -> tuple[Graph, list[str], Scope, list[Value]]:
    """What one run of the body writes, of states of these shapes."""
    body = Graph(call.graph.constants)
    names = [body.constants.name("state") for _ in given]
    states = []
    for value, name, shape in zip(given, names, shapes, strict=True):
        body.constants.declare(name, value.dtype, shape)
        states.append(Value(value.name, value.dtype, shape, value.quantization, stored=name))
    scope = call.scope.inner(number, body, states)
    values = scope.run()
    if [value.dtype for value in values] != [value.dtype for value in given]:
        raise SourceError("its operator WHILE has a body that gives other tensors than it takes")
    return body, names, scope, values


def _condition(call: Call, number: int, graph: Graph, states: Sequence[Value]) -> str:
    scope = call.scope.inner(number, graph, states)
    values = scope.run()
    if len(values) != 1 or values[0].dtype != np.bool_:
        raise SourceError("its operator WHILE has a condition that is no truth value")
    return graph.reshape(scope.stored(values[0]), [])
