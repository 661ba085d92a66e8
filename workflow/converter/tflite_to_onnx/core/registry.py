"""Which function writes an operator as ONNX nodes, and what it is given: one file of operators/ for each family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converter.errors import SourceError, UnsupportedError
from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx.core.graph import Graph
from converter.tflite_to_onnx.core.values import Quantization, Value, dequantized, known_shape

if TYPE_CHECKING:
    from converter.tflite_to_onnx.subgraphs import Scope

__all__ = ["Call", "Operator", "find", "operator", "supported"]

Handler = Callable[["Call"], "str | Value | tuple[str | Value, ...]"]


@dataclass(frozen=True)
class Operator:
    """A function, and what holds for all operators that it writes.

    moves: outputs hold numbers of the inputs as they are, so that equal quantization needs no rounding. opset: the lowest that
    has what the function writes.
    """

    handler: Handler
    moves: bool
    opset: int


_OPERATORS: dict[str, Operator] = {}


def operator(*names: str, moves: bool = False, opset: int = 17) -> Callable[[Handler], Handler]:
    """Registers the function that writes operators of these names.

    It returns the names of its outputs: of real values (float32) where the file's tensor is quantized.
    """

    def register(handler: Handler) -> Handler:
        for name in names:
            assert name not in _OPERATORS, name
            _OPERATORS[name] = Operator(handler, moves, opset)
        return handler

    return register


def find(name: str) -> Operator | None:
    """What writes it; None where nothing does."""
    return _OPERATORS.get(name)


def supported() -> set[str]:
    """Names of all operators that have a function."""
    return set(_OPERATORS)


_ACTIVATIONS = {
    schema.ActivationFunctionType.RELU: (0.0, None),
    schema.ActivationFunctionType.RELU_N1_TO_1: (-1.0, 1.0),
    schema.ActivationFunctionType.RELU6: (0.0, 6.0),
}


class Call:
    """One operator that is about to be written."""

    def __init__(self, scope: Scope, source: schema.OperatorT, name: str) -> None:
        self.scope, self.name, self._source = scope, name, source
        self.graph: Graph = scope.graph
        self.inputs: list[Value | None] = [
            None if index < 0 else scope.value(int(index)) for index in (_listed(source.inputs))
        ]
        self.outputs: list[Value] = [scope.described(int(index)) for index in _listed(source.outputs)]

    def options(self, kind: type) -> Any:
        """The operator's options; their defaults where the file has none."""
        for found in (self._source.builtinOptions, self._source.builtinOptions2):
            if isinstance(found, kind):
                return found
            if found is not None:
                raise SourceError(f"its operator {self.name} has options of another operator")
        return kind()

    def has(self, position: int) -> bool:
        """Whether that input is given."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def input(self, position: int) -> Value:
        """That input. Raises SourceError where it is missing."""
        value = self.inputs[position] if position < len(self.inputs) else None
        if value is None:
            raise SourceError(f"its operator {self.name} has no input {position}")
        return value

    def output(self, position: int = 0) -> Value:
        """What is known of that output. Raises SourceError where it is missing."""
        if position >= len(self.outputs):
            raise SourceError(f"its operator {self.name} has no output {position}")
        return self.outputs[position]

    def real(self, position: int = 0) -> str:
        """The name of that input: dequantized where it is quantized."""
        return self.scope.real(self.input(position))

    def reals(self) -> list[str]:
        """The names of all inputs."""
        return [self.real(position) for position in range(len(self.inputs))]

    def stored(self, position: int = 0) -> str:
        """The name of that input as the file has it."""
        return self.scope.stored(self.input(position))

    def int64(self, position: int) -> str:
        """The name of that input, whole numbers, in int64."""
        value = self.input(position)
        if value.array is not None:
            return self.graph.constant(value.array)
        return (
            self.scope.stored(value) if value.dtype == np.int64 else self.graph.cast(self.scope.stored(value), np.int64)
        )

    def shape(self, position: int = 0) -> tuple[int | None, ...]:
        """The shape of that input; None where an axis is free."""
        return self.input(position).shape

    def hint(self, position: int = 0) -> tuple[int | None, ...]:
        """The same with what the file says of free axes."""
        return known_shape(self.input(position))

    def rank(self, position: int = 0) -> int:
        """The number of axes of that input."""
        return len(self.input(position).shape)

    def dtype(self, position: int = 0) -> np.dtype:
        """The dtype that the ONNX tensor has which `real` gives."""
        value = self.input(position)
        return np.dtype(np.float32) if value.quantization is not None else value.dtype

    def out_dtype(self, position: int = 0) -> np.dtype:
        """The dtype that the ONNX tensor must have which is returned."""
        value = self.output(position)
        return np.dtype(np.float32) if value.quantization is not None else value.dtype

    def constant(self, position: int, what: str) -> np.ndarray:
        """The value of that input; what: its name for the refusal where only the data tell it."""
        array = self.input(position).array
        if array is None:
            raise self.refusal(f"takes its {what} from the data")
        return array

    def ints(self, position: int, what: str) -> list[int]:
        """That constant input as whole numbers."""
        return [int(number) for number in self.constant(position, what).reshape(-1)]

    def sizes(self, position: int, count: int) -> list[int | str]:
        """That input, a vector of so many whole numbers: those that are known, and names of vectors of one int64."""
        name = self.int64(position)
        known = self.graph.constants.numbers.get(name)
        numbers = [None] * count if known is None or known.ndim != 1 else known.tolist()
        if len(numbers) != count or (shape := self.graph.shape(name)) is not None and shape not in ((count,), (None,)):
            raise SourceError(f"its operator {self.name} has {len(numbers)} numbers for {count} axes")
        return [
            self.graph.node("Gather", name, self.graph.constant([place])) if number is None else number
            for place, number in enumerate(numbers)
        ]

    def axis(self, number: int, rank: int) -> int:
        """An axis of a tensor of this rank, counted from the front. Raises SourceError."""
        if not -rank <= number < rank:
            raise SourceError(f"its operator {self.name} names axis {number} of a tensor of {rank} axes")
        return number % rank

    def axes(self, position: int, rank: int, what: str = "axes") -> list[int]:
        """Axes that a constant input names, counted from the front, each once."""
        return sorted({self.axis(number, rank) for number in self.ints(position, what)})

    def weights(self, position: int, perm: Sequence[int]) -> str:
        """The real values of that input with its axes in another order; a constant is turned before it is written."""
        value = self.input(position)
        if len(value.shape) != len(perm):
            raise SourceError(f"its operator {self.name} has weights of {len(value.shape)} axes, not {len(perm)}")
        if value.array is None:
            return self.graph.transpose(self.scope.real(value), perm)
        quantization = value.quantization
        if quantization is not None and quantization.per_axis:
            axis = list(perm).index(quantization.axis)
            quantization = Quantization(quantization.scales, quantization.zero_points, axis)
        array = np.ascontiguousarray(value.array.transpose(perm))
        return self.scope.real(Value(value.name, value.dtype, array.shape, quantization, array))

    def bias(self, position: int) -> str | None:
        """The real values of that input; None where it is left out."""
        return self.real(position) if self.has(position) else None

    def number(self, position: int, what: str) -> float:
        """A constant input's one number."""
        value = self.input(position)
        array = self.constant(position, what)
        if array.size != 1:
            raise SourceError(f"its operator {self.name} has {array.size} numbers as {what}, not one")
        if value.quantization is not None:
            array = dequantized(array, value.quantization)
        return array.reshape(-1)[0].item()

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node of ONNX. Returns the name of its output, or a tuple of names."""
        return self.graph.node(kind, *inputs, outputs=outputs, **attributes)

    def scalar(self, number: float, position: int = 0) -> str:
        """A constant of the dtype of that input."""
        return self.graph.constant(number, self.dtype(position))

    def activated(self, name: str, function: int) -> str:
        """With an operator's fused activation."""
        if function == schema.ActivationFunctionType.NONE:
            return name
        if function == schema.ActivationFunctionType.TANH:
            return self.node("Tanh", name)
        if function not in _ACTIVATIONS:
            raise self.refusal(f"has the fused activation {function}, which ONNX does not have")
        return self.clipped(name, *_ACTIVATIONS[function], dtype=self.out_dtype())

    def clipped(self, name: str, low: float, high: float | None, dtype: np.dtype | None = None) -> str:
        """No less than `low`, no more than `high`."""
        dtype = np.dtype(np.float32) if dtype is None else dtype
        if low == 0 and high is None:
            return self.node("Relu", name)
        bounds = [low] if high is None else [low, high]
        return self.node("Clip", name, *(self.graph.constant(bound, dtype) for bound in bounds))

    def refusal(self, why: str) -> UnsupportedError:
        """What to raise. why: "has ...", "needs ...": what follows the operator's name."""
        named = f" {self.outputs[0].name}" if self.outputs and self.outputs[0].name else ""
        return UnsupportedError(f"the TensorFlow Lite operator {self.name}{named} {why}")


def _listed(indices: Any) -> Any:
    return [] if indices is None else indices
