"""The hub: what an import writes is what every export reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.hub.hub import Hub, Run, TensorSpec

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
SPECS = st.builds(
    TensorSpec,
    NAMES,
    st.none() | st.lists(st.none() | st.integers(0, 2**40), max_size=4).map(tuple),
    st.sampled_from(["float32", "int64", "bool", "string", "bfloat16"]),
    NAMES,
)
LISTS = st.lists(SPECS, max_size=3)


@settings(max_examples=30, deadline=None)
@given(inputs=LISTS, outputs=LISTS, candidates=LISTS, notes=st.lists(NAMES), count=st.integers(0, 2**60))
def test_round_trip(tmp_path_factory, inputs, outputs, candidates, notes, count):
    hub = Hub(tmp_path_factory.mktemp("hub"), "tensorflow", inputs, outputs, True, notes, {"Conv2D": 2}, count)
    hub.candidates = {"inputs": candidates, "outputs": outputs}
    hub.extra = {"variables": ["a"], "nested": {"x": [1, None]}}
    hub.write()
    assert Hub.read(hub.path) == hub


def test_numpy_numbers_and_paths_are_plain_in_json(tmp_path: Path):
    hub = Hub(tmp_path, "pytorch", extra={"count": np.int64(3), "script": Path("nets/x.py")})
    hub.write()
    assert Hub.read(tmp_path).extra == {"count": 3, "script": "nets/x.py"}
    with pytest.raises(TypeError, match="set does not belong in hub.json"):
        dataclasses.replace(hub, extra={"names": {"a"}}).write()


ARRAYS = [
    np.float32([[1.5, np.nan, np.inf]]),
    np.array(3, np.int64),
    np.zeros((0, 4), np.uint8),
    np.array([True, False]),
    np.complex64([1 + 2j]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_reference_keeps_values_shapes_and_dtypes(tmp_path: Path, array):
    spec = TensorSpec("x", array.shape, array.dtype.name)
    hub = Hub(tmp_path, inputs=[spec, spec], outputs=[spec])
    hub.write_reference([Run([array, array + array], [array]), Run([array, array], [array])])
    runs = hub.reference()
    assert len(runs) == 2
    np.testing.assert_array_equal(runs[0].inputs[1], array + array)
    np.testing.assert_array_equal(runs[1].outputs[0], array)
    assert runs[0].inputs[0].dtype == array.dtype and runs[0].inputs[0].shape == array.shape


@pytest.mark.parametrize("words", [["a", "öß"], [b"a", b"\xff"], [[]]], ids=str)
def test_reference_keeps_text_as_bytes(tmp_path: Path, words):
    array = np.array(words, object)
    hub = Hub(tmp_path, inputs=[TensorSpec("x", (None,), "string")])
    hub.write_reference([Run([array], [])])
    (read,) = hub.reference()[0].inputs
    assert read.dtype == object and read.shape == array.shape
    assert read.tolist() == [[]] or read.tolist() == [w if isinstance(w, bytes) else w.encode() for w in words]


def test_reference_restores_bfloat16(tmp_path: Path):
    array = np.array([1.0, 2.5], ml_dtypes.bfloat16)
    hub = Hub(tmp_path, inputs=[TensorSpec("x", (2,), "bfloat16")])
    hub.write_reference([Run([array], [])])
    (read,) = hub.reference()[0].inputs
    assert read.dtype == array.dtype and read.tolist() == array.tolist()


def test_no_runs(tmp_path: Path):
    hub = Hub(tmp_path)
    hub.write_reference([])
    assert hub.reference() == []
