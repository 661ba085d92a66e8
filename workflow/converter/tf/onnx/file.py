"""Write an ONNX file whose large tensors are not in the ModelProto, holding one of them in memory at a time.

The bytes are those that protobuf itself would write: a message is its fields in the order of their numbers, each with a
key (number << 3 | wire type; 2: length-delimited) and, here, a length. https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from onnx import GraphProto, ModelProto, TensorProto

from converter.errors import UnsupportedError
from converter.file_limits import MAX_BYTES
from converter.hub.weights import pieces
from converter.tf.graph.protobuf_wire import tag, varint
from converter.tf.onnx.deferred import DeferredTensors
from converter.tf.onnx.names import subgraphs

__all__ = ["hoist_stand_ins", "write_model"]


def write_model(model: ModelProto, tensors: DeferredTensors, path: Path) -> None:
    """Write `model` to `path`, with the arrays of `tensors` in place of the stand-ins among the main graph's initializers.

    Raises UnsupportedError when the file would exceed protobuf's limit of 2 GB.
    """
    graph_parts: list[bytes | TensorProto] = [_fields(model.graph, ("node", "name"))]
    for tensor in model.graph.initializer:
        if tensors.is_stand_in(tensor):
            graph_parts.append(tensor)
        else:
            graph_parts.append(_delimited(GraphProto.INITIALIZER_FIELD_NUMBER, tensor.SerializeToString()))
    graph_parts.append(_fields(model.graph, ("node", "name", "initializer"), inverted=True))
    graph_size = sum(
        _stand_in_size(part, tensors) if isinstance(part, TensorProto) else len(part) for part in graph_parts
    )
    head = _fields(model, ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"))
    head += tag(ModelProto.GRAPH_FIELD_NUMBER) + varint(graph_size)
    tail = _fields(model, ("opset_import", "metadata_props", "training_info", "functions"))
    size = len(head) + graph_size + len(tail)
    if size > MAX_BYTES:
        raise UnsupportedError(
            f"the ONNX file would have {size / 1e9:.2f} GB, and an ONNX file cannot exceed 2 GB (protobuf's limit): "
            "convert to .tflite with type float16, or split the model with output_nodes"
        )
    with open(path, "wb") as file:
        file.write(head)
        for part in graph_parts:
            if isinstance(part, TensorProto):
                _write_stand_in(file, part, tensors)
            else:
                file.write(part)
        file.write(tail)


def hoist_stand_ins(model: ModelProto, tensors: DeferredTensors) -> None:
    """Move large initializers of Loop, If and Scan bodies to the main graph, in place; bodies see its names.

    Names must be unique over all graphs.
    """
    pending = [body for node in model.graph.node for body in subgraphs(node)]
    while pending:
        body = pending.pop(0)
        pending += [inner for node in body.node for inner in subgraphs(node)]
        kept = []
        for tensor in body.initializer:
            (model.graph.initializer.append if tensors.is_stand_in(tensor) else kept.append)(tensor)
        copies = GraphProto(initializer=kept)
        del body.initializer[:]
        body.initializer.extend(copies.initializer)


def _fields(message: GraphProto | ModelProto, names: tuple[str, ...], inverted: bool = False) -> bytes:
    """The serialization of these fields alone (`inverted`: of all others)."""
    part = type(message)()
    for field, value in message.ListFields():
        if (field.name in names) == inverted:
            continue
        if field.is_repeated:
            getattr(part, field.name).extend(value)
        elif field.message_type is not None:
            getattr(part, field.name).CopyFrom(value)
        else:
            setattr(part, field.name, value)
    return part.SerializeToString(deterministic=True)


def _delimited(number: int, payload: bytes) -> bytes:
    return tag(number) + varint(len(payload)) + payload


def _stand_in_head(tensor: TensorProto, nbytes: int) -> bytes:
    """All of an initializer field up to the first byte of its data: raw_data has the highest number of those set."""
    header = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type).SerializeToString()
    header += tag(TensorProto.RAW_DATA_FIELD_NUMBER) + varint(nbytes)
    return tag(GraphProto.INITIALIZER_FIELD_NUMBER) + varint(len(header) + nbytes) + header


def _stand_in_size(tensor: TensorProto, tensors: DeferredTensors) -> int:
    nbytes = tensors.array(tensor).nbytes
    return len(_stand_in_head(tensor, nbytes)) + nbytes


def _write_stand_in(file: BinaryIO, tensor: TensorProto, tensors: DeferredTensors) -> None:
    array = tensors.array(tensor)
    file.write(_stand_in_head(tensor, array.nbytes))
    for piece in pieces(array):
        file.write(piece)
