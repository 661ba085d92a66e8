"""Float operators between QUANTIZE and DEQUANTIZE become integer operators with exactly these scales.

Between an operator and its QUANTIZE may stand what only moves values or bounds them from below: quantizing before that gives
the same. Where an operator has no integer kernel for its scales, or weights that are on no grid, it stays in float.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from converter.errors import UnsupportedError
from converter.tflite.flatbuffer import constant, schema
from converter.tflite.integers.graph import IntegerGraph
from converter.tflite.integers.kernels import AVERAGING, BINARY, FIXED, JOINING, LAYERS, MOVING, UNARY
from converter.tflite.integers.scales import Grid
from converter.tflite.prune import drop_unused

__all__ = ["Folded", "fold"]

_PAIR = re.compile(r"(fixed_scale_\d+)_")  # a number that TensorFlow adds follows the last _
_NO_RELU6 = (schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU)
_SIZES = ("SHAPE", "RANK")  # whatever the type
_Type = schema.TensorType


@dataclass
class Folded:
    """tensors: by the name of a pair, its tensor of integers in the file. integers, floats: operators by how they compute."""

    tensors: dict[str, int] = field(default_factory=dict)
    integers: Counter[str] = field(default_factory=Counter)
    floats: Counter[str] = field(default_factory=Counter)


def fold(
    model: schema.ModelT,
    pairs: Mapping[str, Grid],
    weights: Sequence[Grid],
    boundary: Mapping[str, Grid],
    keep: Collection[str] = (),
) -> Folded:
    """Change the model in place.

    pairs: the grid of each QUANTIZE, by the name that stands in its tensor's. weights: grids that constants may lie on.
    boundary: inputs and outputs, by their names in the signature, that are to become integers. keep: names of pairs whose
    values are to be computed in float. Raises UnsupportedError where the model has several graphs, or a QUANTIZE without name.
    """
    if len(model.subgraphs) != 1:
        raise UnsupportedError("it has control flow")
    return _Folding(model, pairs, weights, boundary, set(keep)).run()


class _Folding(IntegerGraph):
    def __init__(
        self,
        model: schema.ModelT,
        pairs: Mapping[str, Grid],
        weights: Sequence[Grid],
        boundary: Mapping[str, Grid],
        keep: set[str],
    ) -> None:
        super().__init__(model, weights)
        self._pairs, self._boundary, self._keep = pairs, boundary, keep
        self._operators = list(self._graph.operators)
        self._pair_of: dict[int, str] = {}
        self._readers: dict[int, list[schema.OperatorT]] = {}
        self._outputs = {int(index) for index in self._graph.outputs}
        self._found = Folded()
        for operator in self._operators:
            for index in operator.inputs:
                self._readers.setdefault(int(index), []).append(operator)

    def run(self) -> Folded:
        for operator in self._operators:
            if self._name(operator) == "QUANTIZE":
                self._note_pair(int(operator.outputs[0]))
        self._take_inputs()
        for operator in self._operators:
            self._fold(operator)
        self._give_outputs()
        self._graph.operators = self._new
        kept = {name: self._graph.tensors[self._resolved(index)] for index, name in self._pair_of.items()}
        drop_unused(self._model)
        places = {id(tensor): index for index, tensor in enumerate(self._graph.tensors)}
        self._found.tensors = {name: places[id(tensor)] for name, tensor in kept.items() if id(tensor) in places}
        return self._found

    def _note_pair(self, index: int) -> None:
        tensor = self._graph.tensors[index]
        named = [name for name in _PAIR.findall(tensor.name.decode()) if name in self._pairs]
        if not named:
            raise UnsupportedError(f"nothing says with which scale {tensor.name.decode()} is quantized")
        self._pair_of[index] = named[0]
        self._set_grid(index, self._pairs[named[0]])

    # -- inputs and outputs -------------------------------------------------------------------------------------------

    def _take_inputs(self) -> None:
        for entry in self._model.signatureDefs[0].inputs:
            grid = self._boundary.get(entry.name.decode())
            if grid is None:
                continue
            index = int(entry.tensorIndex)
            integers = self._like(index, grid, "integers")
            given = integers
            if grid.dtype == "uint8":
                given = self._like(index, grid, "given")
                self._graph.tensors[given].type = _Type.UINT8
                self._graph.tensors[given].quantization = grid.parameters("uint8")
                self._write("QUANTIZE", 2, [given], [integers])
            entry.tensorIndex = given
            self._graph.inputs = [given if int(place) == index else int(place) for place in self._graph.inputs]
            self._integers[index] = integers

    def _give_outputs(self) -> None:
        for entry in self._model.signatureDefs[0].outputs:
            index = int(entry.tensorIndex)
            grid = self._boundary.get(entry.name.decode())
            if grid is None:
                self._as_float(index)
                continue
            integers = self._on_grid(index, grid)
            if grid.dtype == "uint8":
                given = self._like(index, grid, "given")
                self._graph.tensors[given].type = _Type.UINT8
                self._graph.tensors[given].quantization = grid.parameters("uint8")
                self._write("QUANTIZE", 2, [integers], [given])
                integers = given
            entry.tensorIndex = integers
            self._graph.outputs = [integers if int(place) == index else int(place) for place in self._graph.outputs]

    # -- operators ----------------------------------------------------------------------------------------------------

    def _fold(self, operator: schema.OperatorT) -> None:
        name = self._name(operator)
        if name == "QUANTIZE":
            self._quantize(operator)
        elif name == "DEQUANTIZE" and self._resolved(int(operator.inputs[0])) in self._grids:
            self._integers[int(operator.outputs[0])] = self._resolved(int(operator.inputs[0]))
        elif name in _SIZES and int(operator.inputs[0]) in self._integers:
            operator.inputs = [self._integers[int(operator.inputs[0])]]
            self._new.append(operator)
        elif not self._in_integers(operator, name):
            for index in operator.inputs:
                self._as_float(int(index))
            self._new.append(operator)
            if any(self._is_float(int(index)) for index in (*operator.inputs, *operator.outputs) if index >= 0):
                self._found.floats[name] += 1

    def _in_integers(self, operator: schema.OperatorT, name: str) -> bool:
        if name in MOVING:
            done = self._move(operator, name)
        elif name == "PADV2":
            done = self._pad(operator)
        elif name in JOINING:
            done = self._join(operator, name)
        elif name in LAYERS:
            done = self._layer(operator, name)
        elif name in (*AVERAGING, *UNARY, *FIXED):
            done = self._unary(operator, name)
        else:
            done = name in BINARY and self._binary(operator, name)
        if done:
            self._found.integers[name] += 1
        return done

    def _quantize(self, operator: schema.OperatorT) -> None:
        source, index = int(operator.inputs[0]), int(operator.outputs[0])
        integers = self._integers.get(source)
        if integers is None:
            self._write("QUANTIZE", 1, [source], [index])
        elif self._grids[integers].equals(self._grids[index]):
            if integers != index:
                self._same[index] = integers
        else:
            self._write("QUANTIZE", 2, [integers], [index])

    def _move(self, operator: schema.OperatorT, name: str) -> bool:
        place, version = MOVING[name]
        source = self._integers.get(int(operator.inputs[place]))
        if source is None or getattr(operator.builtinOptions, "fusedActivationFunction", 0) not in _NO_RELU6:
            return False
        outputs = [self._result(int(index), self._grids[source]) for index in operator.outputs]
        self._copy(operator, name, version, {place: source}, outputs)
        return True

    def _pad(self, operator: schema.OperatorT) -> bool:
        """With values below all others for a maximum, which the lowest integer is as well."""
        source, value = self._integers.get(int(operator.inputs[0])), int(operator.inputs[2])
        output = int(operator.outputs[0])
        readers = [self._name(reader) for reader in self._readers.get(output, [])]
        if source is None or set(readers) != {"MAX_POOL_2D"} or output in self._outputs or not self._is_constant(value):
            return False
        grid = self._grids[source]
        lowest = (-128.0 - grid.signed_zero[0]) * grid.scale[0]
        if constant(self._model, self._graph.tensors[value]).max() > lowest:
            return False
        least = self._add(value, np.full(1, -128, np.int8), _Type.INT8, grid.parameters())
        self._copy(operator, "PADV2", 2, {0: source, 2: least}, [self._result(output, grid)])
        return True

    def _join(self, operator: schema.OperatorT, name: str) -> bool:
        if getattr(operator.builtinOptions, "fusedActivationFunction", 0) not in _NO_RELU6:
            return False
        given = [int(index) for index in operator.inputs]
        wanted = self._wanted(int(operator.outputs[0]))
        grids = [self._grids[self._integers[index]] for index in given if index in self._integers]
        alike = len(grids) == len(given) and all(grid.equals(grids[0]) for grid in grids)
        grid = grids[0] if alike else wanted
        if grid is None or not all(index in self._integers or self._is_constant(index) for index in given):
            return False
        inputs = {place: self._on_grid(index, grid) for place, index in enumerate(given)}
        self._copy(operator, name, JOINING[name], inputs, [self._result(int(operator.outputs[0]), grid)])
        return True

    def _unary(self, operator: schema.OperatorT, name: str) -> bool:
        source, output = self._integers.get(int(operator.inputs[0])), int(operator.outputs[0])
        wanted = self._wanted(output)
        if source is None or wanted is None:
            return False
        grid, version = wanted, UNARY.get(name, 0)
        if name in AVERAGING:
            grid, version = self._grids[source], AVERAGING[name]
            # Rounded twice: more than one step in all where the first step is the larger one.
            if not grid.equals(wanted) and not grid.scale[0] <= wanted.scale[0]:
                return False
            if getattr(operator.builtinOptions, "fusedActivationFunction", 0) not in _NO_RELU6:
                return False
        elif name in FIXED:
            version, grid = FIXED[name]
        if grid.equals(wanted):
            result = self._result(output, grid)
        else:
            result = self._like(output, grid, name.lower())
            self._integers[output] = result
        self._copy(operator, name, version, {0: source}, [result])
        return True

    def _binary(self, operator: schema.OperatorT, name: str) -> bool:
        output = int(operator.outputs[0])
        wanted = self._wanted(output)
        given = [int(index) for index in operator.inputs]
        if wanted is None or not any(index in self._integers for index in given):
            return False
        inputs: dict[int, int] = {}
        for place, index in enumerate(given):
            found = self._integers[index] if index in self._integers else self._constant_operand(index)
            if found is None:
                return False
            inputs[place] = found
        self._copy(operator, name, BINARY[name], inputs, [self._result(output, wanted)])
        return True

    def _layer(self, operator: schema.OperatorT, name: str) -> bool:
        layer = LAYERS[name]
        source, wanted = self._integers.get(int(operator.inputs[layer.data])), self._wanted(int(operator.outputs[0]))
        if source is None or wanted is None:
            return False
        found = self._layer_weights(int(operator.inputs[layer.weights]), layer.axis)
        if found is None:
            return False
        weights, scale = found
        inputs = {layer.data: source, layer.weights: weights}
        if layer.bias < len(operator.inputs) and operator.inputs[layer.bias] >= 0:
            bias = self._layer_bias(int(operator.inputs[layer.bias]), self._grids[source].scale * scale)
            if bias is None:
                return False
            inputs[layer.bias] = bias
        version = layer.version if scale.size == 1 else layer.per_channel_version
        self._copy(operator, name, version, inputs, [self._result(int(operator.outputs[0]), wanted)])
        return True

    # -- what follows ---------------------------------------------------------------------------------------------------

    # -- tensors ------------------------------------------------------------------------------------------------------

    def _wanted(self, index: int) -> Grid | None:
        """The grid that a float tensor is quantized to by all that read it; None where some read it as float."""
        found = self._wanted_pairs(index)
        if not found or found & self._keep:
            return None
        first, *others = (self._pairs[name] for name in found)
        return first if all(first.equals(grid) for grid in others) else None

    def _wanted_pairs(self, index: int) -> set[str] | None:
        if index in self._outputs or not self._readers.get(index):
            return None
        names: set[str] = set()
        for reader in self._readers[index]:
            name = self._name(reader)
            if name == "QUANTIZE":
                names.add(self._pair_of[int(reader.outputs[0])])
                continue
            if name not in MOVING or int(reader.inputs[MOVING[name][0]]) != index:
                return None
            for output in reader.outputs:
                inner = self._wanted_pairs(int(output))
                if inner is None:
                    return None
                names |= inner
        return names

    def _result(self, index: int, grid: Grid) -> int:
        """The tensor of integers that takes the place of a float result: that of its QUANTIZE where that has this grid."""
        for reader in self._readers.get(index, []):
            if self._name(reader) == "QUANTIZE" and self._grids[int(reader.outputs[0])].equals(grid):
                self._integers[index] = int(reader.outputs[0])
                return self._integers[index]
        self._integers[index] = self._like(index, grid, "integers")
        return self._integers[index]
