"""Faults in TensorFlow Lite files: every one that the file offers a place for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np

from converter.tflite.flatbuffer import constant, is_constant, operator_name, operators, schema
from mutation.fault import Fault, large_value_changes, last_number_changes, weight_changes

__all__ = ["tflite_faults"]

_Change = Callable[[schema.ModelT, schema.SubGraphT, schema.OperatorT], None]

_SWAPPED = {"SUB", "DIV", "POW", "FLOOR_DIV", "FLOOR_MOD", "BATCH_MATMUL", "CONCATENATION"} | {
    *("LESS", "GREATER", "LESS_EQUAL", "GREATER_EQUAL"),
}
# Operators of the same inputs, with the table of options of the new one (None: it has none, or the old one's fits).
_REPLACED = {
    "ADD": ("SUB",),
    "SUB": ("ADD",),
    "MUL": ("ADD",),
    "DIV": ("MUL",),
    "MAXIMUM": ("MINIMUM",),
    "MINIMUM": ("MAXIMUM",),
    "SUM": ("MEAN",),
    "MEAN": ("SUM",),
    "REDUCE_MAX": ("REDUCE_MIN",),
    "LOGICAL_AND": ("LOGICAL_OR",),
    "SIN": ("COS",),
    "LOGICAL_OR": ("LOGICAL_AND",),
    "ARG_MAX": ("ARG_MIN",),
    "SOFTMAX": ("LOG_SOFTMAX",),
    "LOG_SOFTMAX": ("SOFTMAX",),
    "MAX_POOL_2D": ("AVERAGE_POOL_2D",),
    "AVERAGE_POOL_2D": ("MAX_POOL_2D",),
    "REDUCE_ANY": ("REDUCE_ALL",),
    "SQRT": ("ABS",),
    "RSQRT": ("SQRT",),
    "EXP": ("ABS",),
    "ABS": ("NEG",),
    "SQUARE": ("ABS",),
}
_ACTIVATIONS = {
    "RELU": ("RELU6", "ELU", "LEAKY_RELU"),
    "RELU6": ("RELU", "RELU_N1_TO_1"),
    "LOGISTIC": ("TANH",),
    "TANH": ("LOGISTIC",),
    "ELU": ("RELU",),
    "LEAKY_RELU": ("RELU",),
    "HARD_SWISH": ("RELU",),
    "GELU": ("RELU",),
    "RELU_0_TO_1": ("RELU6",),
}
_ROUNDED = {"ROUND": ("FLOOR", "CEIL"), "FLOOR": ("ROUND", "CEIL"), "CEIL": ("FLOOR",)}
_COMPARED = {
    "LESS": ("LESS_EQUAL", "GREATER"),
    "GREATER": ("GREATER_EQUAL", "LESS"),
    "LESS_EQUAL": ("LESS", "GREATER_EQUAL"),
    "GREATER_EQUAL": ("GREATER", "LESS_EQUAL"),
    "EQUAL": ("GREATER_EQUAL",),
    "NOT_EQUAL": ("GREATER",),
}
_RESIZED = {"RESIZE_BILINEAR": "RESIZE_NEAREST_NEIGHBOR", "RESIZE_NEAREST_NEIGHBOR": "RESIZE_BILINEAR"}
# Whole-numbered constant inputs: the kind of fault that a change of the last value is; an empty table: none.
_INDICES = {
    "SLICE": {1: "slice off by one", 2: "slice off by one"},
    "GATHER": {1: "slice off by one"},
    "ARG_MAX": {1: "axis"},
    "STRIDED_SLICE": {1: "slice off by one", 2: "slice off by one", 3: "slice off by one"},
    "REVERSE_V2": {1: "axis"},
    "PAD": {1: "padding"},
    "PADV2": {1: "padding"},
    "MIRROR_PAD": {1: "padding"},
    "CUMSUM": {1: "axis"},
    "SUM": {1: "axis"},
    "MEAN": {1: "axis"},
    "REDUCE_MAX": {1: "axis"},
    "REDUCE_MIN": {1: "axis"},
    "REDUCE_ANY": {1: "axis"},
    "SPLIT": {0: "axis"},
    "SPLIT_V": {1: "slice off by one", 2: "axis"},
    "EXPAND_DIMS": {1: "axis"},
    "TRANSPOSE": {},
    "RESHAPE": {},
    "FILL": {},
    "TILE": {},
    "BROADCAST_TO": {},
    "SQUEEZE": {},
    "RESIZE_BILINEAR": {},
    "TRANSPOSE_CONV": {},
    "RESIZE_NEAREST_NEIGHBOR": {},
    "GATHER_ND": {1: "slice off by one"},
}
# Fields of options: the kind of fault, and what the value becomes.
_FIELDS: dict[str, tuple[str, Callable]] = {
    "axis": ("axis", lambda value: [value - 1 if value > 0 else value + 1 if value == 0 else value - 1]),
    "padding": ("padding", lambda value: [1 - value]),
    "mode": ("padding", lambda value: [1 - value]),
    "strideH": ("stride, dilation, window", lambda value: [value + 1]),
    "strideW": ("stride, dilation, window", lambda value: [value + 1, max(1, value - 1)]),
    "dilationHFactor": ("stride, dilation, window", lambda value: [value + 1]),
    "dilationWFactor": ("stride, dilation, window", lambda value: [max(1, value - 1)]),
    "filterWidth": ("stride, dilation, window", lambda value: [value + 1]),
    "fusedActivationFunction": ("activation", lambda value: {0: [1], 1: [0, 3], 3: [1], 4: [0]}.get(value, [])),
    "alpha": ("activation", lambda value: [value * 1.1]),
    "beta": ("activation", lambda value: [value * 1.1]),
    "approximate": ("activation", lambda value: [not value]),
    "alignCorners": ("resize mode", lambda value: [not value]),
    "halfPixelCenters": ("resize mode", lambda value: [not value]),
    "exclusive": ("constant", lambda value: [not value]),
    "reverse": ("constant", lambda value: [not value]),
    "adjX": ("constant", lambda value: [not value]),
    "adjY": ("constant", lambda value: [not value]),
    "cellClip": ("recurrence", lambda value: [0.5]),
    "timeMajor": ("recurrence", lambda value: [not value]),
    "beginMask": ("slice off by one", lambda value: [value ^ 1, value ^ 2]),
    "endMask": ("slice off by one", lambda value: [value ^ 1, value ^ 2]),
}


def tflite_faults(model: schema.ModelT, seed: int) -> list[Fault]:
    """In the order of the file; the same for the same file and seed."""
    rng = np.random.default_rng(seed)
    faults = []
    for number, subgraph in enumerate(model.subgraphs):
        for index, tensor in enumerate(subgraph.tensors):
            uses = [
                (operator_name(model, operator), place)
                for operator in subgraph.operators or []
                for place, given in enumerate(operator.inputs if operator.inputs is not None else [])
                if given == index
            ]
            if uses and is_constant(model, tensor):
                faults += _of_values(model, number, index, uses[0], rng)
    for position, (subgraph, operator, name) in enumerate(operators(model)):
        faults += _of_operator(model, position, subgraph, operator, name)
    return [*faults, *_of_interface(model)]


def _of_values(model, number: int, index: int, use: tuple[str, int], rng) -> Iterator[Fault]:  # noqa: ANN001
    tensor = model.subgraphs[number].tensors[index]
    value, (operator, place) = constant(model, tensor), use
    words = f"{_text(tensor.name)} of {operator}"

    def fault(kind: str, what: str, changed: np.ndarray) -> Fault:
        data = np.ascontiguousarray(changed, value.dtype).reshape(-1).view(np.uint8)

        def apply(mutant: schema.ModelT) -> None:
            buffer = schema.BufferT()  # of its own: files share buffers of equal values
            buffer.data, buffer.offset, buffer.size = data, 0, 0
            mutant.buffers.append(buffer)
            mutant.subgraphs[number].tensors[index].buffer = len(mutant.buffers) - 1

        return Fault(kind, f"{words}: {what}", apply)

    if value.size == 0 or value.dtype.kind not in "fiu":
        return
    if value.dtype.kind == "f":
        yield from (fault(*change) for change in _of_floats(value, operator, rng))
        return
    if operator == "TRANSPOSE" and place == 1:
        for a in range(value.size - 1):
            perm = value.copy()
            perm[[a, a + 1]] = perm[[a + 1, a]]
            yield fault("axis", f"{value.tolist()} -> {perm.tolist()}", perm)
        return
    kind = _INDICES.get(operator, {}).get(place, None if operator in _INDICES else "constant")
    if kind is None:
        return
    for words, changed in last_number_changes(value):
        yield fault(kind, words, changed)
    if kind == "padding" and value.ndim == 2:
        for row in np.flatnonzero(value[:, 0] != value[:, 1]):
            changed = value.copy()
            changed[row] = changed[row, ::-1]
            yield fault(kind, f"{value[row].tolist()} the other way round", changed)


def _of_floats(value: np.ndarray, operator: str, rng: np.random.Generator) -> Iterator[tuple[str, str, np.ndarray]]:
    largest = float(np.abs(value).max())
    if value.size > 1 and np.ptp(value) and largest < 1e4:
        yield from weight_changes(value, rng)
    elif (changes := large_value_changes(value)) is not None:
        yield from changes
    elif largest == 0:
        kind = "state" if operator in ("WHILE", "FILL") or "LSTM" in operator else "constant"
        yield kind, "0 -> 0.1", value + value.dtype.type(0.1)
    else:
        for factor in (1.01, 1.1):
            yield "constant", f"{value.reshape(-1)[0]:.4g} x {factor}", value * value.dtype.type(factor)


def _text(name: bytes | str | None) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _of_operator(
    model: schema.ModelT, position: int, subgraph: schema.SubGraphT, operator: schema.OperatorT, name: str
) -> Iterator[Fault]:
    inputs = [int(index) for index in operator.inputs] if operator.inputs is not None else []
    outputs = [int(index) for index in operator.outputs] if operator.outputs is not None else []
    words = f"{name} {_text(subgraph.tensors[outputs[0]].name)}" if outputs else name

    def fault(kind: str, what: str, change: _Change) -> Fault:
        def apply(mutant: schema.ModelT) -> None:
            place = list(operators(mutant))[position]
            change(mutant, place[0], place[1])

        return Fault(kind, f"{words}: {what}", apply)

    if name in _SWAPPED and len(inputs) > 1 and inputs[0] != inputs[1]:
        yield fault("inputs swapped", "the first two", lambda m, g, o: _swap(o, 0, 1))
    if name in ("SELECT", "SELECT_V2"):
        yield fault("condition negated", "inputs exchanged", lambda m, g, o: _swap(o, 1, 2))
    if name == "IF":
        yield fault("condition negated", "branches exchanged", lambda m, g, o: _exchange_branches(o))
    tables = (
        ("operator replaced", _REPLACED),
        ("activation", _ACTIVATIONS),
        ("rounding, cast", _ROUNDED),
        ("comparison", _COMPARED),
    )
    for kind, table in tables:
        for new in table.get(name, ()):
            yield fault(kind, new, lambda m, g, o, new=new: _rename(m, o, new))
    if name in _RESIZED:
        yield fault("resize mode", _RESIZED[name], lambda m, g, o: _rename(m, o, _RESIZED[name]))
    if name == "CAST" and subgraph.tensors[inputs[0]].type == schema.TensorType.FLOAT32:
        for new in ("ROUND", "FLOOR"):
            yield fault("rounding, cast", f"{new} first", lambda m, g, o, new=new: _before(m, g, o, new))
    if name == "STRIDED_SLICE" and all(is_constant(model, subgraph.tensors[index]) for index in inputs[1:3]):
        for step in (1, -1):
            yield fault("slice off by one", f"moved by {step}", lambda m, g, o, s=step: _move_window(m, g, o, s))
    if name == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        for a, b in ((1, 2), (3, 4)):
            yield fault("recurrence", f"inputs {a} and {b} exchanged", lambda m, g, o, a=a, b=b: _swap(o, a, b))
        yield fault("state", "state and cell exchanged", lambda m, g, o: _swap(o, 18, 19))
    data = [index for index in inputs if index >= 0 and not is_constant(model, subgraph.tensors[index])]
    if data and len(outputs) == 1 and name not in ("SHAPE", "WHILE", "IF"):
        yield fault("operator missing", "its input in place of its output", lambda m, g, o: _bypass(g, o, data[0]))
    options = operator.builtinOptions
    for field, (kind, values) in _FIELDS.items():
        if options is None or not hasattr(options, field):
            continue
        before = getattr(options, field)
        for value in values(before):
            if value != before:
                words_of = f"{field} {before} -> {value}"
                yield fault(kind, words_of, lambda m, g, o, f=field, v=value: setattr(o.builtinOptions, f, v))


def _swap(operator: schema.OperatorT, a: int, b: int) -> None:
    inputs = list(operator.inputs)
    inputs[a], inputs[b] = inputs[b], inputs[a]
    operator.inputs = np.array(inputs, np.int32)


def _exchange_branches(operator: schema.OperatorT) -> None:
    options = operator.builtinOptions
    options.thenSubgraphIndex, options.elseSubgraphIndex = options.elseSubgraphIndex, options.thenSubgraphIndex


def _code(model: schema.ModelT, name: str) -> int:
    code = schema.OperatorCodeT()
    number = getattr(schema.BuiltinOperator, name)
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


# Of operators whose kernels read options, where the old operator's table is another one.
_OPTIONS = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "LEAKY_RELU": "LeakyReluOptions"} | {
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "ARG_MIN": "ArgMinOptions",
}


def _rename(model: schema.ModelT, operator: schema.OperatorT, new: str) -> None:
    operator.opcodeIndex = _code(model, new)
    if new not in _OPTIONS:
        return
    old, options = operator.builtinOptions, getattr(schema, f"{_OPTIONS[new]}T")()
    for field in vars(options):
        if hasattr(old, field):
            setattr(options, field, getattr(old, field))
    if new == "LEAKY_RELU":
        options.alpha = 0.01
    if new == "SOFTMAX":
        options.beta = 1.0
    if new == "ARG_MIN":
        options.outputType = old.outputType
    operator.builtinOptions, operator.builtinOptionsType = options, getattr(schema.BuiltinOptions, _OPTIONS[new])


def _before(model: schema.ModelT, subgraph: schema.SubGraphT, operator: schema.OperatorT, new: str) -> None:
    tensor = copy.copy(subgraph.tensors[operator.inputs[0]])
    tensor.name, tensor.buffer = f"{_text(tensor.name)}_before", 0
    subgraph.tensors.append(tensor)
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs = _code(model, new), np.array([operator.inputs[0]], np.int32)
    made.outputs = np.array([len(subgraph.tensors) - 1], np.int32)
    inputs = list(operator.inputs)
    inputs[0] = len(subgraph.tensors) - 1
    operator.inputs = np.array(inputs, np.int32)
    subgraph.operators.insert(next(i for i, other in enumerate(subgraph.operators) if other is operator), made)


def _move_window(model: schema.ModelT, subgraph: schema.SubGraphT, operator: schema.OperatorT, step: int) -> None:
    """Begin and end along the last axis that is not taken whole, moved: as many values, but others."""
    options, inputs = operator.builtinOptions, list(operator.inputs)
    begin, end = (constant(model, subgraph.tensors[index]).copy() for index in inputs[1:3])
    axes = [a for a in range(begin.size) if not (options.beginMask | options.endMask) >> a & 1]
    for place, value in ((1, begin), (2, end)):
        value[axes[-1]] += step
        tensor, buffer = copy.copy(subgraph.tensors[inputs[place]]), schema.BufferT()
        buffer.data, buffer.offset, buffer.size = value.view(np.uint8), 0, 0
        model.buffers.append(buffer)
        tensor.buffer = len(model.buffers) - 1
        subgraph.tensors.append(tensor)
        inputs[place] = len(subgraph.tensors) - 1
    operator.inputs = np.array(inputs, np.int32)


def _bypass(subgraph: schema.SubGraphT, operator: schema.OperatorT, index: int) -> None:
    output = int(operator.outputs[0])
    for other in subgraph.operators:
        if other.inputs is not None:
            other.inputs = np.array([index if given == output else given for given in other.inputs], np.int32)
    subgraph.outputs = np.array([index if given == output else given for given in subgraph.outputs], np.int32)


def _of_interface(model: schema.ModelT) -> Iterator[Fault]:
    if not model.signatureDefs:
        return
    for what in ("outputs", "inputs"):
        count = len(getattr(model.subgraphs[0], what))
        for a in range(count - 1):
            yield Fault("outputs and inputs", f"{what} {a} and {a + 1}: in the other order", _reorder(what, a))
            yield Fault("outputs and inputs", f"{what} {a} and {a + 1}: names exchanged", _exchange_names(what, a))


def _reorder(what: str, a: int) -> Callable[[schema.ModelT], None]:
    def apply(model: schema.ModelT) -> None:
        indices = getattr(model.subgraphs[0], what).copy()
        indices[[a, a + 1]] = indices[[a + 1, a]]
        setattr(model.subgraphs[0], what, indices)

    return apply


def _exchange_names(what: str, a: int) -> Callable[[schema.ModelT], None]:
    def apply(model: schema.ModelT) -> None:
        indices = list(getattr(model.subgraphs[0], what))
        entries = {entry.tensorIndex: entry for entry in getattr(model.signatureDefs[0], what)}
        first, second = entries[indices[a]], entries[indices[a + 1]]
        first.tensorIndex, second.tensorIndex = second.tensorIndex, first.tensorIndex

    return apply
