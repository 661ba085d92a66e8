"""Tables of checkpoints that end TensorFlow's process, each as one sentence, in checkpoints and in SavedModels."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from conftest import ROOT
from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto, BundleHeaderProto

from converter.errors import SourceError
from converter.tf.trust.checkpoint_table import entries, refuse_table


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _number(value: int) -> bytes:
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def table(content: dict[bytes, bytes]) -> bytes:
    """A table of LevelDB with these entries, in one block."""
    file = b""

    def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
        nonlocal file
        data, restarts = b"", []
        for key, value in pairs:
            restarts.append(len(data))
            data += _number(0) + _number(len(key)) + _number(len(value)) + key + value
        restarts = restarts or [0]
        data += struct.pack(f"<{len(restarts)}I", *restarts) + struct.pack("<I", len(restarts))
        handle = _number(len(file)) + _number(len(data))
        file += data + b"\0" + struct.pack("<I", _crc32c(data + b"\0"))
        return handle

    values = block(sorted(content.items()))
    filters = block([])
    index = block([(max(content) + b"\xff", values)])
    footer = (filters + index).ljust(40, b"\0")
    return file + footer + struct.pack("<Q", 0xDB4775248B80FB57)


def _negative(entry: BundleEntryProto) -> None:
    entry.shape.dim[0].size = -7


def _overflowing(entry: BundleEntryProto) -> None:
    entry.shape.dim[0].size = entry.shape.dim[1].size = 1 << 40


def _hidden_overflow(entry: BundleEntryProto) -> None:
    _overflowing(entry)
    entry.shape.dim.add(size=0)


def _deep(entry: BundleEntryProto) -> None:
    for _ in range(300):
        entry.shape.dim.add(size=1)


def _reference(entry: BundleEntryProto) -> None:
    entry.dtype = 101


def _unknown(entry: BundleEntryProto) -> None:
    entry.shape.unknown_rank = True


def _no_type(entry: BundleEntryProto) -> None:
    entry.dtype = 0


def _part(entry: BundleEntryProto) -> None:
    entry.slices.add().extent.add(start=-3, length=1)


def _part_outside(entry: BundleEntryProto) -> None:
    part = entry.slices.add()
    part.extent.add(start=3, length=9)
    part.extent.add()


def _shard(entry: BundleEntryProto) -> None:
    entry.shard_id = -1


def _short(entry: BundleEntryProto) -> None:
    entry.size = 4


CHANGES = [
    *(
        _negative,
        _overflowing,
        _hidden_overflow,
        _deep,
        _reference,
        _unknown,
        _no_type,
        _part,
        _part_outside,
        _shard,
        _short,
    )
]


def _rewrite(index: Path, change: Callable[[BundleEntryProto], None]) -> None:
    content = dict(entries(index.read_bytes()))
    for key, value in content.items():
        if key == b"w":
            entry = BundleEntryProto.FromString(value)
            change(entry)
            content[key] = entry.SerializeToString()
    index.write_bytes(table(content))


def _checkpoint(folder: Path) -> Path:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
        tf.matmul(x, tf.compat.v1.get_variable("w", [4, 2], use_resource=False), name="y")
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(folder / "model"))
    return folder / "model.meta"


def test_tables_are_read_as_they_were_written(tmp_path: Path) -> None:
    index = _checkpoint(tmp_path).with_suffix(".index")
    refuse_table(str(tmp_path / "model"))
    content = dict(entries(index.read_bytes()))
    assert set(content) == {b"", b"w"}
    assert BundleHeaderProto.FromString(content[b""]).num_shards == 1
    assert [dim.size for dim in BundleEntryProto.FromString(content[b"w"]).shape.dim] == [4, 2]
    _rewrite(index, lambda entry: None)
    refuse_table(str(tmp_path / "model"))
    assert tf.compat.v1.train.NewCheckpointReader(str(tmp_path / "model")).get_variable_to_shape_map() == {"w": [4, 2]}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_entries_that_are_no_tensors(change: Callable, tmp_path: Path) -> None:
    index = _checkpoint(tmp_path).with_suffix(".index")
    _rewrite(index, change)
    with pytest.raises(SourceError, match=r"model\.index is damaged \(.*w.*\): copy the checkpoint again"):
        refuse_table(str(tmp_path / "model"))


def test_bytes_that_are_no_table(tmp_path: Path) -> None:
    """Every prefix and every changed byte is a table or one sentence."""
    index = _checkpoint(tmp_path).with_suffix(".index")
    data = index.read_bytes()
    for length in range(len(data)):
        index.write_bytes(data[:length])
        with pytest.raises(SourceError):
            refuse_table(str(tmp_path / "model"))
    for position in range(len(data)):
        for flip in (1, 0x80, 0xFF):
            index.write_bytes(data[:position] + bytes([data[position] ^ flip]) + data[position + 1 :])
            try:
                refuse_table(str(tmp_path / "model"))
            except SourceError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("kind", ["checkpoint", "savedmodel"])
def test_the_step_does_not_crash(kind: str, tmp_path: Path) -> None:
    """In a process of its own: before, TensorFlow ended it."""
    if kind == "checkpoint":
        source = _checkpoint(tmp_path)
        _rewrite(source.with_suffix(".index"), _negative)
    else:
        source = tmp_path / "saved"
        module = tf.Module()
        module.w = tf.Variable(tf.ones([4, 2]))
        module.__call__ = tf.function(lambda x: x @ module.w, [tf.TensorSpec([None, 4], tf.float32, "x")])
        tf.saved_model.save(module, str(source), signatures=module.__call__)
        index = source / "variables" / "variables.index"
        content = dict(entries(index.read_bytes()))
        key = next(key for key in content if key.startswith(b"w/"))
        entry = BundleEntryProto.FromString(content[key])
        _negative(entry)
        index.write_bytes(table(content | {key: entry.SerializeToString()}))
    step = [sys.executable, str(ROOT / "scripts" / f"import_{kind}.py"), str(source), str(tmp_path / "hub")]
    run = subprocess.run(step, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    error = json.loads((tmp_path / "hub" / "hub.json").read_text())["error"]
    assert error["kind"] == "SourceError" and "-7" in error["message"]
