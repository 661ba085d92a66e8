"""Fourier transforms as products with matrices of cosines and sines, and complex numbers as pairs of real ones.

TensorFlow Lite's only transform takes lengths that are powers of two, and it has hardly an operator on complex numbers;
tf2onnx 1.17 knows some transforms, and few of the operators around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from converter.tf.graph.graph import GraphDef, NodeDef, node_name, split_tensor
from converter.tf.graph.rewrite import Emitter

__all__ = ["without_complex"]

# Operator: (its axes, counted from the end, inverse, one side of a real signal's spectrum).
_TRANSFORMS = {
    "FFT": (1, False, False),
    "FFT2D": (2, False, False),
    "IFFT": (1, True, False),
    "IFFT2D": (2, True, False),
    "RFFT": (1, False, True),
    "RFFT2D": (2, False, True),
    "IRFFT": (1, True, True),
    "IRFFT2D": (2, True, True),
}
# Operators that do to both parts what they do to real numbers; of the last kind every input but the last is a tensor.
_MOVES = (
    "Identity",
    "Reshape",
    "Transpose",
    "ExpandDims",
    "Squeeze",
    "StridedSlice",
    "Slice",
    "Tile",
    "Pad",
    "StopGradient",
)
_JOINS = ("ConcatV2", "Pack")


@dataclass(frozen=True)
class _Pair:
    """imaginary: None where it is zero."""

    real: str
    imaginary: str | None


class _Unknown(Exception):
    """Something that is not written out here."""


def without_complex(graph_def: GraphDef) -> GraphDef | None:
    """A copy of the graph, its nodes producers first, without complex numbers; None where there are none, or some remain.

    The lengths of the transforms must be known.
    """
    if not any(node.op in _TRANSFORMS for node in graph_def.node):
        return None
    result = GraphDef()
    result.CopyFrom(graph_def)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    try:
        _Rewriter(result, graph).run()
    except _Unknown:
        return None
    return result


class _Rewriter:
    def __init__(self, graph_def: GraphDef, graph: tf.Graph) -> None:
        self._graph_def, self._graph = graph_def, graph
        self._pairs: dict[str, _Pair] = {}
        self._taken = {node.name for node in graph_def.node}

    def run(self) -> None:
        nodes = list(self._graph_def.node)
        kept: list[NodeDef] = []
        for node in nodes:
            operation = self._graph.get_operation_by_name(node.name)
            if not any(tensor.dtype.is_complex for tensor in (*operation.inputs, *operation.outputs)):
                kept.append(node)
                continue
            emit = Emitter(node, self._taken, in_function=False, framed=False)
            made = self._convert(node, operation, emit)
            kept += emit.added
            if isinstance(made, _Pair):
                self._pairs[node.name] = made
                continue
            identity = NodeDef(name=node.name, op="Identity", input=[made])
            identity.attr["T"].type = tf.float32.as_datatype_enum
            kept.append(identity)
        read = {node_name(source) for node in nodes for source in node.input}
        if not read >= self._pairs.keys():
            raise _Unknown("a complex output")
        copies = GraphDef(node=kept)
        del self._graph_def.node[:]
        self._graph_def.node.extend(copies.node)

    def _pair(self, source: str) -> _Pair:
        name, index = split_tensor(source)
        tensor = self._graph.get_tensor_by_name(f"{name}:{index}")
        if not tensor.dtype.is_complex:
            return _Pair(source, None)
        if name not in self._pairs or index:
            raise _Unknown(source)
        return self._pairs[name]

    def _convert(self, node: NodeDef, operation: tf.Operation, emit: Emitter) -> _Pair | str:
        """The pair that takes the place of a complex output, or the tensor that takes that of a real one."""
        if any(tensor.dtype not in (tf.complex64, tf.float32, tf.int32, tf.int64) for tensor in operation.inputs):
            raise _Unknown(node.name)
        if any(tensor.dtype not in (tf.complex64, tf.float32) for tensor in operation.outputs):
            raise _Unknown(node.name)
        sources = [source for source in node.input if not source.startswith("^")]
        math = _Math(emit)
        if node.op in _TRANSFORMS:
            return self._transform(node, operation, math)
        if node.op == "Const":
            value = tf.make_ndarray(node.attr["value"].tensor)
            return _Pair(emit.const(value.real, tf.float32), emit.const(value.imag, tf.float32))
        if node.op == "Complex":
            return _Pair(*sources)
        if node.op in _MOVES or node.op in _JOINS:
            return self._move(node, sources, emit)
        pairs = [self._pair(source) for source in sources]
        if node.op == "Cast":
            return pairs[0] if operation.outputs[0].dtype.is_complex else pairs[0].real
        if node.op in _ARITHMETIC:
            return _ARITHMETIC[node.op](math, *pairs)
        raise _Unknown(node.name)

    def _move(self, node: NodeDef, sources: list[str], emit: Emitter) -> _Pair:
        count = {"ConcatV2": len(sources) - 1, "Pack": len(sources)}.get(node.op, 1)
        pairs, others = [self._pair(source) for source in sources[:count]], sources[count:]
        zeros = any(pair.imaginary is None for pair in pairs)
        if zeros and not all(pair.imaginary is None for pair in pairs):
            raise _Unknown(node.name)

        def moved(parts: Sequence[str]) -> str:
            tensor = emit(node.op, *parts, *others)
            for name, value in node.attr.items():
                emit.added[-1].attr[name].CopyFrom(value)
            emit.added[-1].attr["T"].type = tf.float32.as_datatype_enum
            return tensor

        return _Pair(moved([pair.real for pair in pairs]), None if zeros else moved([pair.imaginary for pair in pairs]))

    def _transform(self, node: NodeDef, operation: tf.Operation, math: _Math) -> _Pair | str:
        axes, inverse, one_sided = _TRANSFORMS[node.op]
        shape = operation.inputs[0].shape
        if not shape.rank or shape.rank < axes or any(dim is None for dim in shape[-axes:]):
            raise _Unknown(node.name)
        before = list(shape[-axes:])
        lengths = tf.get_static_value(operation.inputs[1]) if one_sided else before
        if lengths is None:
            raise _Unknown(node.name)
        pair = self._pair(node.input[0])
        if shape.rank == 1:  # products of matrices want two axes
            pair = math.reshaped(pair, [1, before[0]])
        result = self._transformed(pair, axes, before, [int(length) for length in lengths], inverse, one_sided, math)
        if shape.rank > 1:
            return result
        return math.reshaped(result, [-1]) if isinstance(result, _Pair) else math.reshape(result, [-1])

    @staticmethod
    def _transformed(
        pair: _Pair, axes: int, before: list[int], lengths: list[int], inverse: bool, one_sided: bool, math: _Math
    ) -> _Pair | str:
        if axes == 2 and inverse:
            pair = math.across(pair, before[0], lengths[0], inverse)
        if one_sided and inverse:
            return math.to_signal(pair, before[-1], lengths[-1])
        pair = math.along(pair, before[-1], lengths[-1], inverse, one_sided)
        if axes == 2 and not inverse:
            pair = math.across(pair, before[0], lengths[0], inverse)
        return pair


class _Math:
    """Arithmetic on pairs, in float32."""

    def __init__(self, emit: Emitter) -> None:
        self.emit = emit

    def of(self, op: str, *operands: str) -> str:
        return self.emit(op, *operands, T=tf.float32)

    def add(self, a: str | None, b: str | None) -> str | None:
        return b if a is None else a if b is None else self.of("AddV2", a, b)

    def subtract(self, a: str | None, b: str | None) -> str | None:
        return a if b is None else self.of("Neg", b) if a is None else self.of("Sub", a, b)

    def multiply(self, a: str | None, b: str | None) -> str | None:
        return None if a is None or b is None else self.of("Mul", a, b)

    def reshape(self, tensor: str, shape: list[int]) -> str:
        return self.emit("Reshape", tensor, self.emit.const(shape, tf.int32), T=tf.float32, Tshape=tf.int32)

    def reshaped(self, pair: _Pair, shape: list[int]) -> _Pair:
        imaginary = None if pair.imaginary is None else self.reshape(pair.imaginary, shape)
        return _Pair(self.reshape(pair.real, shape), imaginary)

    def zero_like(self, tensor: str) -> str:
        return self.of("Mul", tensor, self.emit.const(0.0, tf.float32))

    def _times(self, tensor: str | None, matrix: np.ndarray, left: bool) -> str | None:
        if tensor is None:
            return None
        constant = self.emit.const(matrix.T if left else matrix, tf.float32)
        operands = (constant, tensor) if left else (tensor, constant)
        return self.emit("BatchMatMulV2", *operands, T=tf.float32, adj_x=False, adj_y=False)

    def _turned(self, pair: _Pair, cosines: np.ndarray, sines: np.ndarray, left: bool) -> _Pair:
        """The pair times cosines + i sines, matrices of (before, after)."""
        real = self.subtract(self._times(pair.real, cosines, left), self._times(pair.imaginary, sines, left))
        imaginary = self.add(self._times(pair.real, sines, left), self._times(pair.imaginary, cosines, left))
        return _Pair(real, imaginary)

    def along(self, pair: _Pair, before: int, length: int, inverse: bool, one_sided: bool) -> _Pair:
        """The transform of the last axis."""
        return self._turned(
            pair, *_matrices(before, length, inverse, length // 2 + 1 if one_sided else length), left=False
        )

    def across(self, pair: _Pair, before: int, length: int, inverse: bool) -> _Pair:
        """The transform of the last axis but one."""
        return self._turned(pair, *_matrices(before, length, inverse, length), left=True)

    def to_signal(self, pair: _Pair, before: int, length: int) -> str:
        """The real signal whose spectrum's one side is the pair: the other side, its mirror, counts too."""
        cosines, sines = _matrices(before, length, True, length, bins=length // 2 + 1)
        twice = np.full((before, 1), 2.0)
        twice[0] = 1.0
        if length % 2 == 0 and before > length // 2:
            twice[length // 2] = 1.0
        return self.subtract(
            self._times(pair.real, twice * cosines, False), self._times(pair.imaginary, twice * sines, False)
        )


def _matrices(
    before: int, length: int, inverse: bool, after: int, bins: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, (before, after). Rows beyond the transform's length (or `bins`) are zero: the input is cut there."""
    rows, columns = np.arange(before)[:, None], np.arange(after)[None, :]
    # The product of two whole numbers modulo the length keeps the angles exact.
    angles = (rows * columns % length) * (2 * np.pi / length)
    inside = (rows < (length if bins is None else bins)) * (1.0 / length if inverse else 1.0)
    return np.cos(angles) * inside, np.sin(angles) * inside * (1 if inverse else -1)


def _product(math: _Math, a: _Pair, b: _Pair) -> _Pair:
    real = math.subtract(math.multiply(a.real, b.real), math.multiply(a.imaginary, b.imaginary))
    return _Pair(real, math.add(math.multiply(a.real, b.imaginary), math.multiply(a.imaginary, b.real)))


def _size(math: _Math, a: _Pair) -> str:
    if a.imaginary is None:
        return math.of("Abs", a.real)
    return math.of("Sqrt", math.add(math.of("Square", a.real), math.of("Square", a.imaginary)))


def _same_shape(math: _Math, op: str, a: _Pair, b: _Pair) -> _Pair:
    """Sums: where one imaginary part is zero, the other must still be spread over both shapes."""
    join = math.add if op == "add" else math.subtract
    if (a.imaginary is None) != (b.imaginary is None):
        a, b = (_Pair(p.real, math.zero_like(p.real) if p.imaginary is None else p.imaginary) for p in (a, b))
    return _Pair(join(a.real, b.real), join(a.imaginary, b.imaginary))


_ARITHMETIC = {
    "Mul": _product,
    "Add": lambda math, a, b: _same_shape(math, "add", a, b),
    "AddV2": lambda math, a, b: _same_shape(math, "add", a, b),
    "Sub": lambda math, a, b: _same_shape(math, "subtract", a, b),
    "Neg": lambda math, a: _Pair(math.of("Neg", a.real), None if a.imaginary is None else math.of("Neg", a.imaginary)),
    "Conj": lambda math, a: _Pair(a.real, None if a.imaginary is None else math.of("Neg", a.imaginary)),
    "Real": lambda math, a: a.real,
    "Imag": lambda math, a: math.zero_like(a.real) if a.imaginary is None else a.imaginary,
    "ComplexAbs": _size,
}
