"""A file that has no values for some weights of its model: refused, not filled with chance, or with what memory held."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from imports import imported, refused

SCRIPT = "import_keras"
NESTED = """
import keras
@keras.saving.register_keras_serializable("nested")
class Rows(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rows = [[keras.layers.Dense(8, activation="relu"), keras.layers.BatchNormalization()], [keras.layers.Dense(3)]]
    def build(self, shape):
        if {built}:
            self.rows[0][0].build(shape)
            self.rows[0][1].build((None, 8))
            self.rows[1][0].build((None, 8))
    def call(self, x):
        return self.rows[1][0](self.rows[0][1](self.rows[0][0](x)))

def net():
    x = keras.Input((4,), name="x")
    return keras.Model(x, Rows(name="rows")(x))
"""


@pytest.fixture(params=[True, False], ids=["built", "built when called"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> keras.Model:
    """Its weights are all 0.25, as no initializer makes them; the script for it is net.py."""
    (tmp_path / "net.py").write_text(NESTED.format(built=request.param))
    written: dict = {}
    exec((tmp_path / "net.py").read_text(), written)
    found = written["net"]()
    found(np.ones((2, 4), np.float32))
    rows = found.get_layer("rows").rows
    for layer in (*rows[0], *rows[1]):
        layer.set_weights([np.full_like(array, 0.25) for array in layer.get_weights()])
    keras.saving.get_custom_objects().clear()
    return found


def without(data: bytes, *groups: str) -> bytes:
    """An HDF5 file's bytes less some groups of it, as older versions of Keras wrote it."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        for group in groups:
            del file[group]
    return buffer.getvalue()


def rewritten(path: Path, *groups: str) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, without(data, *groups) if name.endswith(".h5") else data)


@pytest.mark.parametrize("row", ["container", "container_1"])
def test_layers_in_lists_of_lists(model: keras.Model, row: str, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    model.save(path)
    script = str(tmp_path / "net.py")
    if "if True" in Path(script).read_text():  # Keras refuses to open the other one
        hub = imported(SCRIPT, path, tmp_path / "whole", network_script=script)
        (run, *_) = hub.reference()
        hidden = np.maximum(run.inputs[0].sum(1) * 0.25 + 0.25, 0)
        norm = (hidden - 0.25) / np.sqrt(0.25 + 1e-3) * 0.25 + 0.25
        np.testing.assert_allclose(run.outputs[0][:, 0], 8 * 0.25 * norm + 0.25, rtol=1e-5)
    rewritten(path, f"layers/rows/rows/{row}")
    message = refused(SCRIPT, path, tmp_path / "hub", network_script=script)
    assert "has no values for the weight" in message or "cannot be opened" in message, message
    assert not (tmp_path / "hub" / "weights.safetensors").exists()


def test_weights_alone(model: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    path.write_bytes(without(path.read_bytes(), "layers/rows/rows/container_1"))
    message = refused(SCRIPT, path, tmp_path / "hub", network_script=str(tmp_path / "net.py"), network_name="net")
    assert "has no values for the weight" in message or "do not fit" in message, message
