"""Writing the operators of a subgraph as nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import onnx

from converter.errors import SourceError, UnsupportedError
from converter.tflite.flatbuffer import is_constant, operator_name, schema
from converter.tflite_to_onnx import operators as _operators  # noqa: F401  registers them
from converter.tflite_to_onnx import structure
from converter.tflite_to_onnx.core.graph import Constants, Graph
from converter.tflite_to_onnx.core.registry import Call, find
from converter.tflite_to_onnx.core.values import DTYPES, Value, dequantized, unpacked

__all__ = ["Model", "Scope"]

# Subgraphs that call each other may be written more than once; a file that uses this without end is refused.
_MOST_OPERATORS = 200_000
# What numbers that mean nothing lead to, in a file that is made to do harm.
_UNFIT = (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, ZeroDivisionError)
# Constants may grow: integers of four bits to eight, float16 to float32, one constant in two orders of its axes.
_MOST_TIMES, _ALWAYS_ALLOWED = 16, 1 << 26


class Model:
    """A checked file, and what is common to all graphs that are written of it. Raises UnsupportedError."""

    def __init__(self, source: schema.ModelT, size: int) -> None:
        """size: of the file, in bytes."""
        self.source = source
        names = {_name(source, operator) for subgraph in source.subgraphs for operator in subgraph.operators or []}
        unknown = sorted(name for name in names if find(name) is None)
        if unknown:
            raise UnsupportedError(
                f"the TensorFlow Lite model has operators that ONNX cannot express: {', '.join(unknown)}"
            )
        found = [entry.opset for name in names if (entry := find(name)) is not None]
        self.constants = Constants(max(found, default=17), _MOST_TIMES * size + _ALWAYS_ALLOWED)
        if _has_wide_activations(source):
            self.constants.opset = max(self.constants.opset, 21)  # the first that quantizes to 16 bits
        self._written = 0

    def count(self) -> None:
        """One operator more is written."""
        self._written += 1
        if self._written > _MOST_OPERATORS:
            raise UnsupportedError(f"the TensorFlow Lite model has more than {_MOST_OPERATORS} operators")


def _name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """A custom operator's own name, which may be that of a builtin one, has quotation marks."""
    code = model.operatorCodes[operator.opcodeIndex]
    if code.customCode or max(code.builtinCode, code.deprecatedBuiltinCode) == schema.BuiltinOperator.CUSTOM:
        return f'"{structure.text(code.customCode)}"'
    return operator_name(model, operator)


def _has_wide_activations(model: schema.ModelT) -> bool:
    wide = (schema.TensorType.INT16, schema.TensorType.UINT16)
    return any(
        tensor.type in wide and structure.quantization(tensor) is not None
        for subgraph in model.subgraphs
        for tensor in subgraph.tensors or []
    )


class Scope:
    """A subgraph that is being written: what its tensors stand for.

    inputs: values for its inputs; `graph` gets its nodes. outer: the subgraphs that are being written and led here.
    """

    def __init__(
        self, model: Model, number: int, graph: Graph, inputs: Sequence[Value], outer: tuple[int, ...] = ()
    ) -> None:
        if not 0 <= number < len(model.source.subgraphs):
            raise SourceError(f"it names subgraph {number} of {len(model.source.subgraphs)}")
        if number in outer:
            raise SourceError(f"its subgraph {number} calls itself")
        self.model, self.graph, self.path = model, graph, (*outer, number)
        self._subgraph = model.source.subgraphs[number]
        own = [] if self._subgraph.inputs is None else [int(index) for index in self._subgraph.inputs]
        if len(own) != len(inputs):
            raise SourceError(f"its subgraph {number} takes {len(own)} inputs, and gets {len(inputs)}")
        self._values: dict[int, Value] = {}
        for index, value in zip(own, inputs, strict=True):
            described = self.described(index)
            described.array, described.stored, described.real = value.array, value.stored, value.real
            described.shape = value.shape
            self._values[index] = described

    def run(self) -> list[Value]:
        """Write the operators. Returns the values of the subgraph's outputs."""
        for operator in self._subgraph.operators or []:
            self.model.count()
            name = _name(self.model.source, operator)
            entry = find(name)
            assert entry is not None, name
            call = Call(self, operator, name)
            try:
                results = entry.handler(call)
            except _UNFIT as error:
                raise SourceError(f"its operator {name} has inputs or options that do not fit it ({error})") from error
            results = results if isinstance(results, tuple) else (results,)
            places = [] if operator.outputs is None else [int(index) for index in operator.outputs]
            if len(results) < len(places):
                raise SourceError(f"its operator {name} has {len(places)} outputs")
            for index, output, result in zip(places, call.outputs, results, strict=False):
                if index in self._values or is_constant(self.model.source, self._subgraph.tensors[index]):
                    raise SourceError(f"its operator {name} writes tensor {index}, which has a value already")
                self._values[index] = self._completed(output, result, call if entry.moves else None)
        return self.results()

    def results(self) -> list[Value]:
        """The values of the subgraph's outputs, once it is written."""
        outputs = [] if self._subgraph.outputs is None else self._subgraph.outputs
        return [self.value(int(index)) for index in outputs]

    def inner(self, number: int, graph: Graph, inputs: Sequence[Value]) -> Scope:
        """A subgraph that an operator of this one calls."""
        return Scope(self.model, number, graph, inputs, self.path)

    def _completed(self, output: Value, result: str | Value, moving: Call | None) -> Value:
        """output: what the file says of it."""
        if isinstance(result, Value):
            output.array, output.stored, output.real, output.shape = (
                result.array,
                result.stored,
                result.real,
                result.shape,
            )
            if result.quantization is not None and output.quantization is None and result.array is not None:
                output.quantization = result.quantization  # a constant that is dequantized
                output.dtype = result.dtype
            return output
        output.shape = self._shape_of(result, output)
        if output.quantization is None:
            output.stored = result
        elif moving is not None and output.quantization.same(moving.input(0).quantization):
            output.real = result
        else:
            output.stored = self._quantized(result, output)
        return output

    def _shape_of(self, name: str, output: Value) -> tuple[int | None, ...]:
        """The shape of what an operator gives, which must be of the output's type; where it is unknown, the file's axes."""
        found, pairs = self.model.constants.types[name], output.dtype.kind == "c"
        dtype = np.dtype(np.float32) if output.quantization is not None or pairs else output.dtype
        if onnx.helper.tensor_dtype_to_np_dtype(found.kind) != dtype:
            raise SourceError(f"its tensor {output.name} is not of the type that its operator gives")
        if found.shape is None:
            axes = (*output.shape, 2) if pairs else output.shape
            self.model.constants.declare(name, dtype, [None] * len(axes))
            return (None,) * len(output.shape)
        return found.shape[:-1] if pairs else found.shape

    def described(self, index: int) -> Value:
        """A tensor of the subgraph, without its value. Raises UnsupportedError for texts, resources and such."""
        tensor = self._subgraph.tensors[index]
        name = structure.text(tensor.name)
        if tensor.type not in DTYPES:
            raise UnsupportedError(f"the TensorFlow Lite tensor {name} has a type that ONNX cannot compute with")
        return Value(name, DTYPES[tensor.type], structure.shape(tensor), structure.quantization(tensor))

    def value(self, index: int) -> Value:
        """A tensor of the subgraph. Raises SourceError where nothing has computed it yet."""
        if index in self._values:
            return self._values[index]
        tensor, value = self._subgraph.tensors[index], self.described(index)
        dims = tuple(0 if dim is None else dim for dim in value.shape)
        if is_constant(self.model.source, tensor):
            data = np.asarray(self.model.source.buffers[tensor.buffer].data).reshape(-1).view(np.uint8)
            dims = () if tensor.shape is None else tuple(int(dim) for dim in tensor.shape)
            size = structure.stored_bytes(tensor.type, int(np.prod(dims, dtype=np.int64)))
            value.array, value.shape = unpacked(tensor.type, data[:size], dims), dims
        elif 0 in dims and not tensor.isVariable:
            value.array = np.zeros(dims, value.dtype)
        elif not tensor.isVariable:
            raise SourceError(f"its tensor {index} ({value.name}) is used before it is computed")
        value.variable = tensor.isVariable
        self._values[index] = value
        return value

    def stored(self, value: Value) -> str:
        """The name of the value as the file has it."""
        if value.stored is None and value.array is not None:
            value.stored = self.model.constants.add(value.array, value.name or "constant")
        if value.stored is None and value.real is not None:
            value.stored = self._quantized(value.real, value)
        if value.stored is None:
            raise UnsupportedError(f"the TensorFlow Lite tensor {value.name} keeps a state from one run to the next")
        return value.stored

    def real(self, value: Value) -> str:
        """The name of the value in float32, where it is quantized."""
        if value.quantization is None:
            return self.stored(value)
        if value.real is None:
            found = value.quantization
            # ONNX has integers to 32 bits, those of 32 without a zero point; biases of 16-bit models have 64.
            fits = value.dtype.itemsize < 4 or (value.dtype == np.int32 and not found.zero_points.any())
            if not fits and value.array is None:
                raise UnsupportedError(f"the TensorFlow Lite tensor {value.name} is quantized to {value.dtype}")
            value.real = (
                self._dequantized(value)
                if fits
                else self.model.constants.add(
                    dequantized(cast("np.ndarray", value.array), found), value.name or "constant"
                )
            )
        return value.real

    def _dequantized(self, value: Value) -> str:
        assert value.quantization is not None
        scales, axis = self._scales(value), value.quantization.axis
        return self.graph.node("DequantizeLinear", self.stored(value), *scales, axis=axis)

    def _quantized(self, name: str, value: Value) -> str:
        assert value.quantization is not None
        if value.dtype.itemsize > 2:
            raise UnsupportedError(
                f"the TensorFlow Lite tensor {value.name} is quantized to {value.dtype}, ONNX to 16 bits"
            )
        if not value.quantization.scales.all():
            raise SourceError(f"its tensor {value.name} has a scale of 0")
        return self.graph.node("QuantizeLinear", name, *self._scales(value), axis=value.quantization.axis)

    def _scales(self, value: Value) -> list[str]:
        found = value.quantization
        assert found is not None
        scales, zero_points = found.scales, found.zero_points.astype(value.dtype)
        if not found.per_axis:
            scales, zero_points = scales.reshape(()), zero_points.reshape(())
        names = [self.model.constants.add(scales)]
        # Of 32 bits there is none.
        return names if value.dtype.itemsize == 4 else [*names, self.model.constants.add(zero_points)]
