"""A graph that operators of integers are written into: which tensors stand for which floats, and constants as integers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np

from converter.tflite.flatbuffer import constant, is_constant, operator_name, schema
from converter.tflite.integers.scales import Grid

__all__ = ["IntegerGraph"]

_Type = schema.TensorType


class IntegerGraph:
    """The first subgraph of a model, which is written anew. weights: grids that constants may lie on."""

    def __init__(self, model: schema.ModelT, weights: Sequence[Grid]) -> None:
        self._model, self._graph = model, model.subgraphs[0]
        self._weights = _distinct(weights)
        self._new: list[schema.OperatorT] = []
        self._integers: dict[int, int] = {}  # float tensors that are those integers dequantized
        self._same: dict[int, int] = {}  # tensors of integers that are another one
        self._grids: dict[int, Grid] = {}
        self._written: set[int] = set()  # float tensors of _integers that have their DEQUANTIZE
        self._constants: dict[tuple, tuple[int, np.ndarray | None]] = {}

    def _set_grid(self, index: int, grid: Grid) -> None:
        tensor = self._graph.tensors[index]
        tensor.type, tensor.quantization = _Type.INT8, grid.parameters()
        self._grids[index] = grid

    # -- constants ----------------------------------------------------------------------------------------------------

    def _layer_weights(self, index: int, axis: int) -> tuple[int, np.ndarray] | None:
        """The tensor of the same weights as integers around 0, and their scales."""
        if not self._is_constant(index):
            return None
        key = (index, "weights")
        if key not in self._constants:
            values = constant(self._model, self._graph.tensors[index])
            for grid in self._weights:
                integers = grid.integers(values, axis, -127, 127, shifted=False)
                if integers is None:
                    continue
                parameters = schema.QuantizationParametersT()
                parameters.scale = grid.scale
                parameters.zeroPoint = np.zeros(grid.scale.size, np.int64)
                parameters.quantizedDimension = axis if grid.scale.size > 1 else 0
                self._constants[key] = self._add(index, integers, _Type.INT8, parameters), grid.scale
                break
            else:
                self._constants[key] = -1, None
        place, scale = self._constants[key]
        return None if scale is None else (place, scale)

    def _layer_bias(self, index: int, scale: np.ndarray) -> int | None:
        if not self._is_constant(index):
            return None
        steps = np.rint(constant(self._model, self._graph.tensors[index]).astype(np.float64) / scale)
        if steps.size and np.abs(steps).max() >= 2**31:
            return None
        parameters = schema.QuantizationParametersT()
        parameters.scale, parameters.zeroPoint = scale.astype(np.float32), np.zeros(scale.size, np.int64)
        return self._add(index, steps.astype(np.int32), _Type.INT32, parameters)

    def _constant_operand(self, index: int) -> int | None:
        """The tensor of a constant as integers that stand for exactly its values."""
        if not self._is_constant(index):
            return None
        values = constant(self._model, self._graph.tensors[index])
        number = values.reshape(-1)[0] if values.size and (values == values.reshape(-1)[0]).all() else None
        grids = [grid for grid in self._weights if grid.scale.size == 1]
        if number is not None and np.isfinite(number):
            step = np.abs(number) if number else np.float32(1)
            grids.append(Grid(np.array([step], np.float32), np.zeros(1, np.int64), "int8"))
        for grid in grids:
            integers = grid.integers(values, 0, -128, 127, shifted=True)
            if integers is not None:
                place = self._add(index, integers, _Type.INT8, grid.parameters())
                self._grids[place] = grid
                return place
        return None

    def _add(self, like: int, values: np.ndarray, kind: int, parameters: schema.QuantizationParametersT) -> int:
        buffer = schema.BufferT()
        buffer.data, buffer.offset, buffer.size = np.ascontiguousarray(values), 0, 0
        self._model.buffers.append(buffer)
        tensor = copy.copy(self._graph.tensors[like])
        tensor.buffer, tensor.type, tensor.quantization = len(self._model.buffers) - 1, kind, parameters
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    # -- tensors ------------------------------------------------------------------------------------------------------

    def _on_grid(self, index: int, grid: Grid) -> int:
        """The integers of a float tensor, on that grid."""
        integers = self._integers.get(index)
        if integers is not None and self._grids[integers].equals(grid):
            return integers
        if self._is_constant(index):
            values = constant(self._model, self._graph.tensors[index])
            return self._add(index, grid.nearest(values), _Type.INT8, grid.parameters())
        result = self._like(index, grid, "requantized")
        self._write("QUANTIZE", 1 if integers is None else 2, [index if integers is None else integers], [result])
        return result

    def _like(self, index: int, grid: Grid, suffix: str) -> int:
        tensor = copy.copy(self._graph.tensors[index])
        tensor.name = tensor.name + b"_" + suffix.encode()
        self._graph.tensors.append(tensor)
        place = len(self._graph.tensors) - 1
        self._set_grid(place, grid)
        return place

    def _as_float(self, index: int) -> None:
        """Write the DEQUANTIZE of a float tensor that is read as such."""
        if index in self._integers and index not in self._written:
            self._write("DEQUANTIZE", 2, [self._integers[index]], [index])
            self._written.add(index)

    def _resolved(self, index: int) -> int:
        while index in self._same:
            index = self._same[index]
        return index

    def _is_constant(self, index: int) -> bool:
        tensor = self._graph.tensors[index]
        return tensor.type == _Type.FLOAT32 and is_constant(self._model, tensor)

    def _is_float(self, index: int) -> bool:
        return self._graph.tensors[index].type == _Type.FLOAT32

    # -- writing ------------------------------------------------------------------------------------------------------

    def _name(self, operator: schema.OperatorT) -> str:
        return operator_name(self._model, operator)

    def _copy(
        self, operator: schema.OperatorT, name: str, version: int, inputs: Mapping[int, int], outputs: Sequence[int]
    ) -> None:
        code = self._model.operatorCodes[operator.opcodeIndex]
        operator.opcodeIndex = self._code(name, max(version, code.version))
        operator.inputs = [inputs.get(place, int(index)) for place, index in enumerate(operator.inputs)]
        operator.outputs = list(outputs)
        self._new.append(operator)

    def _write(self, name: str, version: int, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(name, version)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        self._new.append(operator)

    def _code(self, name: str, version: int) -> int:
        number = getattr(schema.BuiltinOperator, name)
        for index, code in enumerate(self._model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number and code.version == version:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1


def _distinct(grids: Sequence[Grid]) -> list[Grid]:
    """Each once, those with a scale for each channel first: they say more."""
    found = {(grid.scale.tobytes(), grid.signed_zero.tobytes()): grid for grid in grids}
    return sorted(found.values(), key=lambda grid: -grid.scale.size)
