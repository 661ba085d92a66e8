"""Free the batch of a TensorFlow Lite model that was converted with a batch of 1.

litert-torch 0.10 converts fixed shapes only: given a symbolic batch it fails in the lowering of most models. Most of what
it writes depends on the batch in few places, the constants that say a shape; there 1 becomes -1, "whatever is left". Whether
that gives the right result is for the verification at several batch sizes to say.
"""

from __future__ import annotations

import copy

import numpy as np

from converter.tflite.flatbuffer import schema

__all__ = ["with_free_batch"]

_Op = schema.BuiltinOperator
# Which input of an operator is the constant that holds a shape or a size with the batch in front.
_SHAPE_INPUTS = {_Op.RESHAPE: 1, _Op.SLICE: 2}


def with_free_batch(model: schema.ModelT) -> schema.ModelT:
    """A copy whose inputs and outputs have an unknown leading dimension; weights are shared with `model`."""
    buffers, model.buffers = model.buffers, []
    freed = copy.deepcopy(model)
    model.buffers = buffers
    freed.buffers = list(buffers)
    subgraph = freed.subgraphs[0]
    for index in [*subgraph.inputs, *subgraph.outputs]:
        tensor = subgraph.tensors[index]
        if len(tensor.shape) and tensor.shape[0] == 1:
            tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)
    for operator in subgraph.operators:
        code = freed.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        position = _SHAPE_INPUTS.get(kind)
        if position is not None and position < len(operator.inputs):
            _free_constant(freed, subgraph, operator, position, kind)
        if kind == _Op.RESHAPE and operator.builtinOptions is not None:
            operator.builtinOptions.newShape = None  # the constant input alone counts
        if kind == _Op.STRIDED_SLICE:
            _free_strided_slice(freed, subgraph, operator)
    return freed


def _constant(model: schema.ModelT, subgraph: schema.SubGraphT, index: int) -> np.ndarray | None:
    tensor = subgraph.tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0 or tensor.type not in (schema.TensorType.INT32, schema.TensorType.INT64):
        return None
    dtype = np.int32 if tensor.type == schema.TensorType.INT32 else np.int64
    return np.ascontiguousarray(data).view(np.uint8).view(dtype)


def _free_constant(
    model: schema.ModelT, subgraph: schema.SubGraphT, operator: schema.OperatorT, position: int, kind: int
) -> None:
    """Replace a leading size in a shape constant by -1, in a constant of this operator's own."""
    shape = _constant(model, subgraph, operator.inputs[position])
    if shape is None or len(shape) == 0 or (shape < 0).any():
        return
    source = subgraph.tensors[operator.inputs[0]].shape
    if kind == _Op.SLICE:
        begin = _constant(model, subgraph, operator.inputs[1])
        # Only a slice that takes the whole batch.
        if begin is None or begin[0] != 0 or shape[0] != 1 or source[0] != 1:
            return
    elif subgraph.tensors[operator.inputs[0]].buffer and _is_constant(model, subgraph, operator.inputs[0]):
        return
    _replace(model, subgraph, operator, position, np.array([-1, *shape[1:]], shape.dtype))


def _is_constant(model: schema.ModelT, subgraph: schema.SubGraphT, index: int) -> bool:
    data = model.buffers[subgraph.tensors[index].buffer].data
    return data is not None and len(data) > 0


def _free_strided_slice(model: schema.ModelT, subgraph: schema.SubGraphT, operator: schema.OperatorT) -> None:
    """A slice from 0 to 1 of a batch of 1 is all of it: say so by the mask."""
    begin = _constant(model, subgraph, operator.inputs[1])
    end = _constant(model, subgraph, operator.inputs[2])
    source = subgraph.tensors[operator.inputs[0]].shape
    whole = begin is not None and end is not None and begin[0] == 0 and end[0] == 1 and source[0] == 1
    if whole and not operator.builtinOptions.shrinkAxisMask & 1:
        operator.builtinOptions.endMask |= 1


def _replace(
    model: schema.ModelT, subgraph: schema.SubGraphT, operator: schema.OperatorT, position: int, value: np.ndarray
) -> None:
    old = subgraph.tensors[operator.inputs[position]]
    buffer = schema.BufferT()
    buffer.data = value.view(np.uint8)
    buffer.offset = buffer.size = 0
    model.buffers.append(buffer)
    tensor = copy.copy(old)
    tensor.buffer = len(model.buffers) - 1
    subgraph.tensors.append(tensor)
    inputs = np.array(operator.inputs)
    inputs[position] = len(subgraph.tensors) - 1
    operator.inputs = inputs
