"""Reading a TensorFlow Lite file that may be damaged or made to do harm: what is used later is checked here.

A flatbuffer may name one object many times, so that a small file unpacks to a very large one; and the reader of Python
follows every offset. Objects are counted before they are unpacked, and indices, shapes and constants are checked after.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from converter.errors import SourceError, UnsupportedError
from converter.tflite.flatbuffer import TENSOR_DTYPES, is_constant, read, schema
from converter.tflite_to_onnx.core.values import DTYPES, Quantization, stored_bytes

__all__ = ["load", "quantization", "shape", "text"]

# What the smallest object takes in the file: the offset to it, and the offset to its fields' places.
_OBJECT_BYTES = 8
# Strings may be shared, by writers that look for equal ones.
_STRING_SHARING = 16
_MOST_AXES = 16
_MOST_NUMBERS = 2**40
_BUILTIN = {code for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
# What flatbuffers and its generated classes raise where a file is not what it says (flatbuffers 25.12).
_READING_ERRORS = (struct.error, ValueError, IndexError, TypeError, AttributeError, OverflowError, RecursionError)


def load(data: bytes) -> schema.ModelT:
    """The file as objects, of which indices, shapes and the constants' sizes are right. Raises SourceError, UnsupportedError."""
    try:
        _refuse_multiplied(data)
        model = read(data)
    except _READING_ERRORS as error:
        raise SourceError(f"it is no whole TensorFlow Lite file ({error})") from error
    if not model.subgraphs or not model.buffers:
        raise SourceError("it has no computation")
    for number, subgraph in enumerate(model.subgraphs):
        where = f"its subgraph {number}"
        tensors = subgraph.tensors or []
        for index, tensor in enumerate(tensors):
            _check_tensor(model, tensor, f"{where} has a tensor {index} that")
        for index, operator in enumerate(subgraph.operators or []):
            _check_operator(model, operator, len(tensors), f"{where} has an operator {index} that")
        for indices in (subgraph.inputs, subgraph.outputs):
            _check_indices(indices, len(tensors), 0, f"{where} has inputs or outputs that")
    return model


def _refuse_multiplied(data: bytes) -> None:
    if len(data) < _OBJECT_BYTES:
        raise ValueError(f"{len(data)} bytes")
    if data[4:8] != b"TFL3":
        raise ValueError("the identifier TFL3 is missing")
    objects = strings = 0
    for number, string in _objects(schema.Model.GetRootAs(data)):
        objects += number
        strings += len(string or b"")
        if objects * _OBJECT_BYTES > len(data) or strings > _STRING_SHARING * len(data):
            raise ValueError("it names the same objects again and again")


def _objects(model: schema.Model) -> Iterator[tuple[int, bytes | None]]:
    """Numbers of objects, and the strings among them."""
    yield model.OperatorCodesLength() + model.BuffersLength() + model.MetadataLength(), model.Description()
    yield model.SubgraphsLength() + model.SignatureDefsLength(), None
    for index in range(model.OperatorCodesLength()):
        yield 0, model.OperatorCodes(index).CustomCode()
    for index in range(model.MetadataLength()):
        yield 0, model.Metadata(index).Name()
    for index in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(index)
        yield signature.InputsLength() + signature.OutputsLength(), signature.SignatureKey()
        for place in range(signature.InputsLength()):
            yield 0, signature.Inputs(place).Name()
        for place in range(signature.OutputsLength()):
            yield 0, signature.Outputs(place).Name()
    for index in range(model.SubgraphsLength()):
        subgraph = model.Subgraphs(index)
        yield subgraph.TensorsLength() + subgraph.OperatorsLength(), subgraph.Name()
        for place in range(subgraph.TensorsLength()):
            tensor = subgraph.Tensors(place)
            sparsity = tensor.Sparsity()
            parts = 0 if sparsity is None else sparsity.DimMetadataLength()
            yield parts + tensor.VariantTensorsLength(), tensor.Name()


def _check_tensor(model: schema.ModelT, tensor: schema.TensorT, where: str) -> None:
    if not 0 <= tensor.buffer < len(model.buffers):
        raise SourceError(f"{where} names buffer {tensor.buffer} of {len(model.buffers)}")
    if tensor.type not in TENSOR_DTYPES:
        raise SourceError(f"{where} has the unknown type {tensor.type}")
    dims = [] if tensor.shape is None else [int(dim) for dim in tensor.shape]
    if len(dims) > _MOST_AXES or any(dim < 0 for dim in dims) or math.prod(dims) > _MOST_NUMBERS:
        raise SourceError(f"{where} has the shape {dims[:_MOST_AXES]}")
    if tensor.sparsity is not None:
        raise UnsupportedError("the TensorFlow Lite file has sparse constants, which ONNX has no operator for")
    if is_constant(model, tensor) and tensor.type in DTYPES:
        found, expected = model.buffers[tensor.buffer].data.nbytes, stored_bytes(tensor.type, math.prod(dims))
        if found < expected:
            raise SourceError(f"{where} has {found} bytes, and should have {expected}")
    quantization(tensor, where)


def _check_operator(model: schema.ModelT, operator: schema.OperatorT, tensors: int, where: str) -> None:
    if not 0 <= operator.opcodeIndex < len(model.operatorCodes or []):
        raise SourceError(f"{where} names operator code {operator.opcodeIndex} of {len(model.operatorCodes or [])}")
    code = model.operatorCodes[operator.opcodeIndex]
    if max(code.builtinCode, code.deprecatedBuiltinCode) not in _BUILTIN:
        raise SourceError(f"{where} has the unknown code {max(code.builtinCode, code.deprecatedBuiltinCode)}")
    _check_indices(operator.inputs, tensors, -1, where)
    _check_indices(operator.outputs, tensors, 0, where)


def _check_indices(indices: Sequence[int] | None, tensors: int, lowest: int, where: str) -> None:
    for index in [] if indices is None else indices:
        if not lowest <= index < tensors:
            raise SourceError(f"{where} names tensor {index} of {tensors}")


def shape(tensor: schema.TensorT) -> tuple[int | None, ...]:
    """The tensor's shape; None where the signature leaves an axis free."""
    dims = [] if tensor.shape is None else [int(dim) for dim in tensor.shape]
    signature = dims if tensor.shapeSignature is None else list(tensor.shapeSignature)
    if len(signature) != len(dims):
        return tuple(dims)
    return tuple(None if free < 0 else dim for dim, free in zip(dims, signature, strict=True))


def quantization(tensor: schema.TensorT, where: str = "it has a tensor that") -> Quantization | None:
    """How the tensor's integers stand for real numbers; None where they stand for themselves."""
    found: Any = tensor.quantization
    if found is None or found.scale is None or len(found.scale) == 0 or tensor.type not in DTYPES:
        return None
    if found.details is not None:
        raise UnsupportedError("the TensorFlow Lite file is quantized in blocks, which is not read")
    dtype = DTYPES[tensor.type]
    if dtype.kind not in "iu":
        return None
    scales = np.asarray(found.scale, np.float32)
    zero_points = np.zeros(scales.size, np.int64)
    if found.zeroPoint is not None and len(found.zeroPoint):
        zero_points = zero_points + np.asarray(found.zeroPoint, np.int64)
    dims = [] if tensor.shape is None else [int(dim) for dim in tensor.shape]
    axis = int(found.quantizedDimension) if scales.size > 1 else 0
    limits = np.iinfo(dtype)
    if (
        not (np.isfinite(scales).all() and (scales >= 0).all())
        or zero_points.size != scales.size
        or zero_points.min() < limits.min
        or zero_points.max() > limits.max
        or (scales.size > 1 and (not 0 <= axis < len(dims) or dims[axis] != scales.size))
    ):
        raise SourceError(f"{where} has scales and zero points that do not fit its shape and type")
    return Quantization(scales, zero_points.astype(dtype), axis)


def text(name: bytes | str | None) -> str:
    """A name of the file."""
    return name.decode(errors="replace") if isinstance(name, bytes) else name or ""
