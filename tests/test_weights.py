"""Weights: what was written is read, for every dtype and shape, in one file that is the same every time."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.hub.weights import STORABLE_DTYPES, Weights, write_weights

SHAPES = [(), (0,), (3, 0, 2), (1,), (7,), (3, 5), (2, 1, 3, 1)]


def dtype_of(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def filled(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Random bytes: NaN patterns and subnormals too. Booleans are 0 or 1."""
    dtype, rng = dtype_of(name), np.random.default_rng(seed)
    count = int(np.prod(shape))
    raw = rng.integers(0, 2 if name == "bool" else 256, count * dtype.itemsize, np.uint8)
    return raw.view(dtype).reshape(shape)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(sorted(STORABLE_DTYPES)), st.sampled_from(SHAPES), st.integers(0, 99)),
        max_size=6,
    )
)
def test_round_trip(tmp_path_factory, entries):
    arrays = {name: filled(*entry) for name, entry in entries.items()}
    path = tmp_path_factory.mktemp("w") / "weights.safetensors"
    write_weights(path, arrays)
    weights = Weights(path)
    assert set(weights) == set(arrays) and len(weights) == len(arrays)
    for name, array in arrays.items():
        read = weights[name]
        assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert weights.nbytes(name) == array.nbytes
        assert read.flags.aligned and not (read.size and read.flags.writeable)
    again = path.with_name("again")
    write_weights(again, reversed(arrays.items()))
    assert again.read_bytes() == path.read_bytes()


def test_any_layout_in_memory_is_stored_in_row_order(tmp_path: Path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    arrays = {"transposed": base.T, "strided": base[::2, ::-3], "big endian": base.astype(">f4")}
    write_weights(tmp_path / "w", arrays)
    weights = Weights(tmp_path / "w")
    for name, array in arrays.items():
        np.testing.assert_array_equal(weights[name], array)


def test_the_format_is_safetensors(tmp_path: Path):
    """https://github.com/huggingface/safetensors#format: a JSON header, then the tensors without holes."""
    write_weights(tmp_path / "w", {"flag": np.array([True]), "x": np.float32([[1, 2]])})
    data = (tmp_path / "w").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    ranges = sorted(entry["data_offsets"] for entry in header.values())
    assert ranges[0][0] == 0 and 8 + length + ranges[-1][1] == len(data)
    assert all(a[1] == b[0] for a, b in zip(ranges, ranges[1:], strict=False))
    assert header["x"] | {"data_offsets": 0} == {"dtype": "F32", "shape": [1, 2], "data_offsets": 0}


def test_what_cannot_be_stored_is_said(tmp_path: Path):
    with pytest.raises(ValueError, match="words: dtype object"):
        write_weights(tmp_path / "w", {"words": np.array([b"a"], object)})
    with pytest.raises(ValueError, match="x: two weights"):
        write_weights(tmp_path / "w", [("x", np.zeros(1)), ("x", np.ones(1))])
    with pytest.raises(ValueError, match="__metadata__"):
        write_weights(tmp_path / "w", {"__metadata__": np.zeros(1)})


def test_nothing_is_read_before_it_is_used(tmp_path: Path):
    path = tmp_path / "w"
    with open(path, "wb") as file:
        header = b'{"x":{"dtype":"U8","shape":[4000000000],"data_offsets":[0,4000000000]}}'
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 4_000_000_000)  # sparse: takes no disk
    assert Weights(path)["x"][3_999_999_999] == 0
