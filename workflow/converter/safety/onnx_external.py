"""Weights that an ONNX file keeps beside itself: only files in its own folder are read.

Format: onnx.proto, TensorProto.external_data, whose `location` is a path relative to the model's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError, Message

from converter.errors import SourceError, UnsupportedError, UntrustedError

__all__ = ["refuse_external_data"]


def refuse_external_data(path: Path) -> None:
    """Raise UntrustedError for tensors kept outside of the model's folder, links followed; SourceError for no names of files."""
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError) as error:
        raise UnsupportedError(f"{path} does not open: it is damaged or no ONNX file") from error
    folder = os.path.realpath(path.parent)
    for tensor in _tensors(model):
        for entry in tensor.external_data:
            # Text that is none comes as bytes (protobuf 7).
            if entry.key == "location" and (not isinstance(entry.value, str) or "\0" in entry.value):
                raise SourceError(f"{path} is damaged: it keeps weights in a file whose name is none")
            target = os.path.realpath(os.path.join(folder, entry.value)) if entry.key == "location" else folder
            if os.path.commonpath([folder, target]) != folder:
                raise UntrustedError(
                    f"{path} keeps {tensor.name or 'a tensor'} in {entry.value}, outside of its folder: "
                    "put that file beside the model and name it there"
                )


def _tensors(message: Message) -> Iterator[Message]:
    """Every TensorProto in a message: initializers, attributes, subgraphs, functions."""
    pending = [message]
    while pending:
        current = pending.pop()
        if current.DESCRIPTOR.name == "TensorProto":
            yield current
            continue
        for field, value in current.ListFields():
            if field.message_type is not None:
                pending += value if field.is_repeated else [value]
