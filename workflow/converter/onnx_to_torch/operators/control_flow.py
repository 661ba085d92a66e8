"""Branches and loops: taken or unrolled where what decides is known before the model runs, else torch's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch._higher_order_ops.while_loop import while_loop_op
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils import _pytree

from converter.onnx_to_torch.core.registry import Call, known_sizes, operator
from converter.onnx_to_torch.core.values import Known, Value, to_torch
from converter.onnx_to_torch.operators.sequences import joined

__all__: list[str] = []

# Of unrolled nodes; a program of more takes minutes to trace and is larger than the model's weights.
_MOST_NODES = 20_000


@operator("If")
def _if(call: Call) -> tuple[Value, ...]:
    condition = call.inputs[0]
    if isinstance(condition, Known):
        return tuple(call.graph("then_branch" if _decided(call, condition.array.item()) else "else_branch", []))
    assert isinstance(condition, torch.Tensor)
    captured = _Captured(call, ("then_branch", "else_branch"))
    branches = [captured.function(name) for name in ("then_branch", "else_branch")]
    if not captured.is_tracing:
        # Both, as their weights become parameters where they are read.
        found = [captured.recorded(lambda branch=branch: branch(*captured.operands)) for branch in branches]
        _check_alike(call, *found)
        return found[0] if condition.item() else found[1]
    return tuple(torch.ops.higher_order.cond(condition.reshape(()), *branches, captured.operands))


def _decided(call: Call, condition: Any) -> bool:
    """What holds for all sizes. What one example says would be fixed in the program, and wrong for others."""
    if not isinstance(condition, torch.SymBool):
        return bool(condition)
    if statically_known_true(condition):
        return True
    if statically_known_true(torch.sym_not(condition)):
        return False
    raise call.refusal("chooses a branch by the size of an input that may vary: give that size in input_shape")


def _check_alike(call: Call, one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> None:
    for a, b in zip(one, other, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise call.refusal("has branches of different shapes or types, of which the data choose one")


class _Captured:
    """What graphs within a node read from outside of them, as operands: torch's control flow hands on nothing else.

    These are tensors, sizes that vary, and weights; which weights, the first run on real tensors tells.
    """

    def __init__(self, call: Call, names: Sequence[str]) -> None:
        self._call, self._module = call, call.frame.module
        place = (*call.frame.place, *call.node.output)
        values = {
            name: call.frame.value(name) for graph in names for name in sorted(_read_outside(call.attribute(graph)))
        }
        self._leaves, self._spec = _pytree.tree_flatten(values)
        self._weights = self._module.read_within.setdefault(place, {})
        self._varying = [
            leaf
            for leaf in self._leaves
            if isinstance(leaf, torch.Tensor) or (isinstance(leaf, Known) and leaf.symbolic)
        ]
        self.is_tracing = self._module.is_tracing()

    @property
    def operands(self) -> tuple[Any, ...]:
        """Tensors and torch.SymInt."""
        parts: list[Any] = []
        for leaf in self._varying:
            parts += [leaf] if isinstance(leaf, torch.Tensor) else [n for n in leaf.array.flat if _is_symbolic(n)]
        return (*parts, *map(self._module.tensor, self._weights.values()))

    def recorded(self, run: Callable[[], Any]) -> Any:
        """run(), with note of the weights that it reads."""
        self._module.readers.append(self._weights)
        try:
            return run()
        finally:
            self._module.readers.remove(self._weights)

    def function(self, name: str) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The graph as a function of the operands."""
        return lambda *operands: self.run(name, [], operands)

    def run(self, name: str, inputs: Sequence[Value], operands: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        """The results of the graph, as tensors that are none of those given."""
        given = iter(operands)
        stand_ins = {id(leaf): _stand_in(leaf, given) for leaf in self._varying}
        instead = _pytree.tree_unflatten([stand_ins.get(id(leaf), leaf) for leaf in self._leaves], self._spec)
        lent = self._module.lent
        self._module.lent = {**lent, **dict(zip(self._weights, given, strict=False))}
        try:
            results = self._call.graph(name, inputs, instead)
            if any(result is None or isinstance(result, list) for result in results):
                raise self._call.refusal("gives sequences or optionals that depend on the data")
            return tuple(self._module.tensor(result).clone() for result in results)
        finally:
            self._module.lent = lent


def _stand_in(leaf: Value, given: Iterator[Any]) -> Value:
    if not isinstance(leaf, Known):
        return next(given)
    numbers = [next(given) if _is_symbolic(number) else number for number in leaf.array.flat]
    array = np.empty(len(numbers), object)
    array[:] = numbers
    return known_sizes(array.reshape(leaf.array.shape), leaf.dtype)


def _is_symbolic(number: Any) -> bool:
    return isinstance(number, torch.SymInt | torch.SymFloat | torch.SymBool)


def _read_outside(graph: onnx.GraphProto) -> set[str]:
    """Names that the graph reads and does not make."""
    made = {entry.name for entry in (*graph.input, *graph.initializer)}
    made |= {tensor.values.name for tensor in graph.sparse_initializer}
    read: set[str] = set()
    for node in graph.node:
        read |= set(node.input)
        for entry in node.attribute:
            if entry.type == onnx.AttributeProto.GRAPH:
                read |= _read_outside(entry.g)
        made |= set(node.output)
    return (read | {entry.name for entry in graph.output}) - made - {""}


@operator("Loop")
def _loop(call: Call) -> tuple[Value, ...]:
    trips = call.inputs[0]
    count = call.int(0) if trips is None or isinstance(trips, Known) else trips
    condition = call.inputs[1] if call.has(1) else _number(True)
    if isinstance(condition, Known) and (count is None or isinstance(count, int)):
        found = _unrolled(call, count, condition)
        if found is not None:
            return found
    return _while(call, count, condition)


def _unrolled(call: Call, count: int | None, condition: Known) -> tuple[Value, ...] | None:
    """One run of the body after the other; None where the data decide whether there is another, or there are too many."""
    body = call.attribute("body")
    carried, runs = list(call.inputs[2:]), []
    most = max(_MOST_NODES // max(_size(body), 1), 1)
    if count is not None and count > most and not _may_end(body):
        return None
    for index in itertools.count() if count is None else range(count):
        if not condition.array.item():
            break
        if index >= most:
            return None
        following, *results = call.graph("body", [_number(index), condition, *carried])
        if not isinstance(following, Known):
            return None
        condition, carried = following, results[: len(carried)]
        runs.append(results[len(carried) :])
    scanned = len(body.output) - 1 - len(carried)
    if not runs:
        return (*carried, *(_nothing(call, body.output[1 + len(carried) + place]) for place in range(scanned)))
    return (*carried, *(joined(call, list(parts), 0, stacked=True) for parts in zip(*runs, strict=True)))


def _number(value: int | bool) -> Known:
    """The same object for the same number: what is computed of it alone is computed once (module.py)."""
    return _NUMBERS.setdefault((type(value), value), _made(value))


_NUMBERS: dict[tuple[type, int], Known] = {}


def _made(value: int | bool) -> Known:
    array = np.array(value, np.bool_ if isinstance(value, bool) else np.int64)
    return Known(array, array.dtype, True, "iteration")


def _size(graph: onnx.GraphProto) -> int:
    return sum(
        1 + sum(_size(entry.g) for entry in node.attribute if entry.type == onnx.AttributeProto.GRAPH)
        for node in graph.node
    )


def _may_end(body: onnx.GraphProto) -> bool:
    """Whether the body's condition is anything but the one that it is given."""
    makers = {name: node for node in body.node for name in node.output}
    name = body.output[0].name
    while name in makers and makers[name].op_type == "Identity":
        name = makers[name].input[0]
    return name in makers and makers[name].op_type != "Constant"


def _nothing(call: Call, entry: onnx.ValueInfoProto) -> torch.Tensor:
    """What a loop without runs has collected."""
    declared = entry.type.tensor_type
    if not declared.HasField("shape") or any(not dim.HasField("dim_value") for dim in declared.shape.dim):
        raise call.refusal("runs no times and collects results of unknown sizes")
    dtype = to_torch(np.zeros(0, onnx.helper.tensor_dtype_to_np_dtype(declared.elem_type))).dtype
    return torch.zeros([0, *(dim.dim_value for dim in declared.shape.dim)], dtype=dtype)


def _while(call: Call, count: Any, condition: Value) -> tuple[torch.Tensor, ...]:
    """Where the data decide how often: torch's loop, over tensors that keep their sizes."""
    module, body = call.frame.module, call.attribute("body")
    if len(body.output) > len(call.inputs) - 1:
        raise call.refusal("collects a result of each run, and how many runs there are is known only while it runs")
    if any(value is None or isinstance(value, list) for value in call.inputs[2:]):
        raise call.refusal("hands on sequences or optionals, and how many runs there are is known only while it runs")
    captured = _Captured(call, ("body",))
    limit = torch.iinfo(torch.int64).max if count is None else count
    if not isinstance(limit, torch.Tensor):
        limit = torch.scalar_tensor(limit, dtype=torch.int64)
    # Of parameters copies: what a loop hands on is written to.
    states = [module.tensor(value).clone() for value in call.inputs[2:]]
    given = module.tensor(condition).reshape(()).clone()
    carried = (torch.scalar_tensor(0, dtype=torch.int64), given, *states)
    operands = (limit.reshape(()), *captured.operands)

    def goes_on(index: torch.Tensor, condition: torch.Tensor, *others: Any) -> torch.Tensor:
        return (index < others[len(states)]) & condition

    def run(index: torch.Tensor, condition: torch.Tensor, *others: Any) -> tuple[torch.Tensor, ...]:
        inputs, outside = others[: len(states)], others[len(states) + 1 :]
        following, *results = captured.run("body", [index, condition, *inputs], outside)
        return index + 1, following.reshape(()), *results

    if not captured.is_tracing:
        results = captured.recorded(lambda: run(*carried, *operands))
        if any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(results[2:], states, strict=True)):
            raise call.refusal("changes sizes from run to run, and how many runs there are is known only while it runs")
        operands = (operands[0], *captured.operands)
    # torch's annotation knows but one tensor there.
    return tuple(while_loop_op(goes_on, run, cast(Any, carried), operands)[2:])


@operator("Scan")
def _scan(call: Call) -> tuple[Value, ...]:
    scanned, body = call.attribute("num_scan_inputs"), call.attribute("body")
    if call.opset < 9:
        return _batched_scan(call, scanned)
    values = call.inputs
    states, sources = values[: len(values) - scanned], [call.frame.module.tensor(v) for v in values[-scanned:]]
    collected = len(body.output) - len(states)
    return _scan_over(
        call,
        states,
        sources,
        call.attribute("scan_input_axes", [0] * scanned),
        call.attribute("scan_input_directions", [0] * scanned),
        call.attribute("scan_output_axes", [0] * collected),
        call.attribute("scan_output_directions", [0] * collected),
    )


def _scan_over(
    call: Call,
    states: Sequence[Value],
    sources: Sequence[torch.Tensor],
    axes: Sequence[int],
    directions: Sequence[int],
    output_axes: Sequence[int],
    output_directions: Sequence[int],
) -> tuple[Value, ...]:
    body, length = call.attribute("body"), sources[0].shape[axes[0]]
    if not isinstance(length, int):
        raise call.refusal("runs along an axis whose size varies with the inputs: give it in input_shape")
    if length * _size(body) > _MOST_NODES:
        raise call.refusal(f"has {length} steps, whose {length * _size(body)} nodes are too many to write out")
    states, runs = list(states), []
    for step in range(length):
        parts = [
            source.select(axis, length - 1 - step if backwards else step)
            for source, axis, backwards in zip(sources, axes, directions, strict=True)
        ]
        results = call.graph("body", [*states, *parts])
        states = results[: len(states)]
        runs.append(results[len(states) :])
    if not runs:
        return (*states, *(_nothing(call, entry) for entry in body.output[len(states) :]))
    collected = [
        joined(call, list(parts)[:: -1 if backwards else 1], axis, stacked=True)
        for parts, axis, backwards in zip(zip(*runs, strict=True), output_axes, output_directions, strict=True)
    ]
    return (*states, *collected)


def _batched_scan(call: Call, scanned: int) -> tuple[Value, ...]:
    """Of opset 8: each sequence of a batch for itself, along its axis 1."""
    if call.has(0):
        raise call.refusal("of opset 8 has sequences of different lengths")
    tensors = [call.tensor(position) for position in range(1, len(call))]
    states, sources = tensors[: len(tensors) - scanned], tensors[-scanned:]
    batch, collected = sources[0].shape[0], len(call.attribute("body").output) - len(states)
    if not isinstance(batch, int):
        raise call.refusal("of opset 8 runs for each of a batch, whose size varies: give it in input_shape")
    runs = [
        _scan_over(
            call,
            [state[index] for state in states],
            [source[index] for source in sources],
            [0] * scanned,
            call.attribute("directions", [0] * scanned),
            [0] * collected,
            [0] * collected,
        )
        for index in range(batch)
    ]
    return tuple(joined(call, list(parts), 0, stacked=True) for parts in zip(*runs, strict=True))
