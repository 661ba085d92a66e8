"""Read and write TensorFlow Lite files: a small head that is rebuilt, and constants that are only copied through.

A file is a flatbuffer of the schema tensorflow/compiler/mlir/lite/schema/schema.fbs. The generated object API packs
everything, constants included, into a builder that grows by copying: several copies of the weights. Here the head alone
is packed, with empty stand-ins for the constants; their offsets are then pointed behind the head, where the arrays are
streamed one at a time, aligned to 16 bytes as the schema asks (the object API does not align them).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converter.errors import UnsupportedError
from converter.file_limits import MAX_BYTES
from converter.hub.weights import pieces

__all__ = [
    "TENSOR_DTYPES",
    "constant",
    "dequantize_code",
    "is_constant",
    "operator_name",
    "operators",
    "read",
    "schema",
    "write",
]

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16
_BUFFER_DATA_SLOT = 4  # vtable slot of Buffer.data, the table's first field

TENSOR_DTYPES = {
    value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")
}  # 0 -> "float32", 9 -> "int8"
_OPERATOR_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


def read(data: bytes) -> schema.ModelT:
    """The file as objects. Buffers are numpy views of `data`; nothing is copied."""
    if data[4:8] != _IDENTIFIER:
        raise ValueError("not a TensorFlow Lite file: the identifier TFL3 is missing")
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    view = np.frombuffer(data, np.uint8)
    for buffer in model.buffers:
        if buffer.offset > 1:  # constants outside the flatbuffer; 0 and 1 stand for none
            buffer.data = view[buffer.offset : buffer.offset + buffer.size]
        buffer.offset = buffer.size = 0
    return model


def write(path: Path, model: schema.ModelT) -> None:
    """Write the file. `BufferT.data` may be an array of any dtype and memory order, or something with `nbytes` that
    numpy makes an array of: one at a time, the bytes in C order are written.

    The same objects give the same bytes. `model` is left as it was. Raises UnsupportedError above 2 GB.
    """
    arrays = [buffer.data for buffer in model.buffers]
    try:
        for buffer, array in zip(model.buffers, arrays, strict=True):
            # No vector instead of an empty one: both mean "computed at run time".
            buffer.data = np.zeros(0, np.uint8) if _has_bytes(array) else None
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), _IDENTIFIER)
        head = builder.Output()
    finally:
        for buffer, array in zip(model.buffers, arrays, strict=True):
            buffer.data = array
    kept = [array for array in arrays if _has_bytes(array)]
    positions = list(_positions(len(head), [array.nbytes for array in kept]))
    end = positions[-1] + kept[-1].nbytes if kept else len(head)
    if end > MAX_BYTES:
        raise UnsupportedError(
            f"the model takes {end / 1e9:.1f} GB, and a TensorFlow Lite file holds at most 2 GB: "
            "write quantization.type float16, or ask for an .onnx file"
        )
    _point_buffers(head, positions)
    with open(path, "wb") as file:
        file.write(head)
        for array, position in zip(kept, positions, strict=True):
            file.write(bytes(position - 4 - file.tell()))
            file.write(struct.pack("<I", array.nbytes))
            for piece in pieces(np.asarray(array)):
                file.write(piece)


def _has_bytes(data: Any) -> bool:
    return data is not None and data.nbytes > 0


def _positions(start: int, sizes: list[int]) -> Iterator[int]:
    """Where the elements of each vector begin: aligned, with room for the length in front."""
    end = start
    for size in sizes:
        position = -(-(end + 4) // _ALIGNMENT) * _ALIGNMENT
        yield position
        end = position + size


def _point_buffers(head: bytearray, positions: list[int]) -> None:
    """Let the stand-ins' offsets (relative to where they are stored) lead to the vectors behind the head."""
    packed = schema.Model.GetRootAs(head, 0)
    targets = iter(positions)
    for index in range(packed.BuffersLength()):
        table = packed.Buffers(index)._tab
        slot = table.Offset(_BUFFER_DATA_SLOT)
        if slot:
            field = table.Pos + slot
            struct.pack_into("<I", head, field, next(targets) - 4 - field)


def operator_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """ "CONV_2D"; a custom operator's own name, such as "FlexErf"."""
    code = model.operatorCodes[operator.opcodeIndex]
    if code.customCode:
        return code.customCode.decode()
    return _OPERATOR_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]


def operators(model: schema.ModelT) -> Iterator[tuple[schema.SubGraphT, schema.OperatorT, str]]:
    """Every operator of every subgraph, in order of execution, with its subgraph and name."""
    for subgraph in model.subgraphs:
        for operator in subgraph.operators or []:
            yield subgraph, operator, operator_name(model, operator)


def is_constant(model: schema.ModelT, tensor: schema.TensorT) -> bool:
    """Whether the tensor's values are in the file."""
    return _has_bytes(model.buffers[tensor.buffer].data)


def constant(model: schema.ModelT, tensor: schema.TensorT) -> np.ndarray:
    """The value of a constant tensor of a numpy dtype; raises ValueError for any other tensor."""
    if not is_constant(model, tensor):
        raise ValueError(f"{tensor.name!r} is not a constant")
    data = np.asarray(model.buffers[tensor.buffer].data).reshape(-1).view(np.uint8)
    shape = [] if tensor.shape is None else tensor.shape
    return data.view(TENSOR_DTYPES[tensor.type]).reshape(shape)


def dequantize_code(model: schema.ModelT, version: int) -> int:
    """The index of an operator code DEQUANTIZE of at least this version, added where there is none."""
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == schema.BuiltinOperator.DEQUANTIZE:
            code.version = max(code.version, version)
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
