"""Values that are shorter than their shapes say, or of another type: refused in a sentence, not filled from memory."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from imports import imported, refused

from converter.errors import SourceError
from converter.safety.containers import refuse_hdf5


@pytest.mark.parametrize(
    ("compression", "written", "mask"),
    [(None, b"abcd", 0), ("gzip", zlib.compress(b"abcd"), 0), ("gzip", b"abcd", 1), ("gzip", b"no gzip", 0)],
)
def test_short_chunks_of_hdf5(compression: str | None, written: bytes, mask: int, tmp_path: Path) -> None:
    """HDF5 fills the rest with what its memory held, and the file came out verified."""
    path = tmp_path / "model.h5"
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    with h5py.File(path, "w") as file:
        file.create_dataset("whole", data=values, chunks=(2, 3), compression=compression, shuffle=bool(compression))
        file.create_dataset("checked", data=values, chunks=(3, 3), compression=compression, fletcher32=True)
        file.create_dataset("none", (4, 3), np.float32, chunks=(2, 3), compression=compression)
    refuse_hdf5(path)
    with h5py.File(path, "a") as file:
        short = file.create_dataset("short", (4, 3), np.float32, chunks=(4, 3), compression=compression)
        short.id.write_direct_chunk((0, 0), written, mask)
    with pytest.raises(SourceError, match="not all values of /short"):
        refuse_hdf5(path)


def _graph(path: Path, change=lambda node: None) -> Path:
    with tf.Graph().as_default() as graph:
        weight = tf.constant(np.random.default_rng(1).standard_normal((200, 100)).astype(np.float32))
        tf.nn.softmax(tf.compat.v1.placeholder(tf.float32, (None, 200), name="x") @ weight, name="y")
    graph_def = graph.as_graph_def()
    change(next(node for node in graph_def.node if node.op == "Const"))
    path.write_bytes(graph_def.SerializeToString())
    return path


def test_constants_of_other_sizes_and_types(tmp_path: Path) -> None:
    def short(node):
        node.attr["value"].tensor.tensor_content = node.attr["value"].tensor.tensor_content[:-4]

    def other(node):
        node.attr["value"].tensor.dtype = tf.int32.as_datatype_enum

    imported("import_protobuf", _graph(tmp_path / "plain.pb"), tmp_path / "plain")
    for change, words in ((short, "79996 bytes"), (other, "of another type")):
        assert words in refused("import_protobuf", _graph(tmp_path / "model.pb", change), tmp_path / "hub")
