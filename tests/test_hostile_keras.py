"""Keras files that carry code, name files or modules, or lead out of themselves: refused by name, and nothing happens."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from imports import run_step

from converter.safety import containers


def _model(package, *layers):
    package.utils.set_random_seed(1)
    return package.Sequential([package.Input((4,)), *layers, package.layers.Dense(3, name="dense")])


def _legacy(path: Path, *layers) -> Path:
    import tf_keras

    _model(tf_keras, *layers).save(path)
    return path


def _modern(path: Path, *layers) -> Path:
    import keras

    _model(keras, *layers).save(path)
    return path


def _edit_h5(path: Path, change: Callable[[dict], None]) -> Path:
    """Change the configuration in an .h5."""
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def _edit_keras(path: Path, change: Callable[[dict], None] = lambda config: None, **more: bytes) -> Path:
    """Change the configuration in a .keras archive, and add or replace entries (names with "/" as "__")."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    change(config)
    content["config.json"] = json.dumps(config).encode()
    content |= more
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def refused(source: Path, hub: Path, **parameters: object) -> str:
    error = run_step("import_keras", source, hub, **parameters).error
    assert error is not None and error["kind"] == "UntrustedError", error
    assert str(source) in error["message"] and "trusted: true" in error["message"]
    return error["message"]


def _touches(pwned: Path) -> Callable:
    """A function that acts when it is called. Its file is a constant in its code, which is all that a Keras file keeps."""
    return eval(f"lambda x: (open({str(pwned)!r}, 'w'), x)[1]")  # noqa: S307


@pytest.mark.parametrize("where", ["plain", "nested", "wrapper", "cell"])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_bytecode(package: str, suffix: str, where: str, tmp_path: Path) -> None:
    keras = pytest.importorskip(package)
    pwned, source = tmp_path / "pwned", tmp_path / f"model{suffix}"
    code = keras.layers.Lambda(_touches(pwned), output_shape=lambda shape: shape, name="evil")
    if where == "nested":
        layers = [keras.Sequential([keras.Input((4,)), keras.Sequential([keras.Input((4,)), code])])]
    elif where == "wrapper":
        layers = [keras.layers.Reshape((2, 2)), keras.layers.TimeDistributed(code), keras.layers.Flatten()]
    elif where == "cell":
        if package == "keras":
            pytest.skip("Keras 3 has no wrappers of cells")
        from tf_keras.src.layers.rnn.cell_wrappers import ResidualWrapper

        cell = ResidualWrapper(keras.layers.SimpleRNNCell(2), residual_fn=_acts_on_two(pwned))
        layers = [keras.layers.Reshape((2, 2)), keras.layers.RNN(cell)]
    else:
        layers = [code]
    _model(keras, *layers).save(source)
    pwned.unlink(missing_ok=True)  # building the model has called the function
    message = refused(source, tmp_path / "hub")
    assert "Python code" in message
    assert not pwned.exists()


def _acts_on_two(pwned: Path) -> Callable:
    return eval(f"lambda a, b: (open({str(pwned)!r}, 'w'), b)[1]")  # noqa: S307


def test_trust_opens_bytecode(tmp_path: Path) -> None:
    import tf_keras

    pwned = tmp_path / "pwned"
    source = _legacy(tmp_path / "model.h5", tf_keras.layers.Lambda(_touches(pwned), name="evil"))
    pwned.unlink(missing_ok=True)
    assert run_step("import_keras", source, tmp_path / "hub", trusted=True).error is None
    assert pwned.exists()


@pytest.mark.parametrize(
    "name", ["io.write_file", "io.read_file", "py_function", "load_op_library", "io.gfile.remove", "raw_ops.WriteFile"]
)
def test_calls_of_tensorflow(name: str, tmp_path: Path) -> None:
    import tf_keras

    x = tf_keras.Input((4,))
    import tensorflow as tf

    tf_keras.Model(x, tf.nn.softplus(x)).save(tmp_path / "model.h5")
    assert run_step("import_keras", tmp_path / "model.h5", tmp_path / "plain").error is None

    def change(config):
        layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "TFOpLambda")
        layer["config"]["function"] = name

    assert f"tf.{name}" in refused(_edit_h5(tmp_path / "model.h5", change), tmp_path / "hub")


def test_vocabulary_in_a_file(tmp_path: Path) -> None:
    import tf_keras

    secret = tmp_path / "secret.txt"
    secret.write_text("alpha\nbeta\n")
    x = tf_keras.Input((4,), dtype="string")
    model = tf_keras.Model(x, tf_keras.layers.StringLookup(vocabulary=["alpha", "beta"])(x))
    model.save(tmp_path / "model.keras")

    def change(config):
        layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "StringLookup")
        layer["config"]["vocabulary"] = str(secret)

    assert str(secret) in refused(_edit_keras(tmp_path / "model.keras", change), tmp_path / "hub")


@pytest.mark.parametrize("name", ["TFSMLayer", "TorchModuleWrapper", "JaxLayer"])
def test_layers_of_other_frameworks(name: str, tmp_path: Path) -> None:
    def change(config):
        config["config"]["layers"][1]["class_name"] = name

    assert name in refused(_edit_keras(_modern(tmp_path / "model.keras"), change), tmp_path / "hub")


def test_no_module_is_imported_because_a_file_names_it(tmp_path: Path) -> None:
    """`this` prints a poem when it is imported."""
    source = tmp_path / "model.keras"
    _legacy(source)

    def change(config):
        layer = config["config"]["layers"][1]
        layer |= {"module": "this", "class_name": "Zen", "registered_name": None}

    assert "this" not in sys.modules
    hub = run_step("import_keras", _edit_keras(source, change), tmp_path / "hub")
    assert hub.error is not None and "this" not in sys.modules


@pytest.mark.parametrize("name", ["../../pwned", "/tmp/pwned", "assets/../../pwned"])
def test_archive_names_that_lead_out(name: str, tmp_path: Path) -> None:
    source = _edit_keras(_modern(tmp_path / "model.keras"), **{name: b"x"})
    assert name in refused(source, tmp_path / "hub")
    assert not list(tmp_path.rglob("pwned"))


def test_archive_links_and_names_twice(tmp_path: Path) -> None:
    source = _modern(tmp_path / "model.keras")
    link = zipfile.ZipInfo("assets")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr(link, "/etc")
    assert "symbolic link" in refused(source, tmp_path / "links")
    source = _modern(tmp_path / "twice.keras")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(source, "a") as archive:
        archive.writestr("config.json", "{}")
    assert "twice" in refused(source, tmp_path / "twice")


def _redirect(file: h5py.File, kind: str, outside: Path) -> None:
    """Replace the dense layer's kernel by one whose values lie in another file."""
    path = next(name for name in _datasets(file) if file[name].shape == (4, 3))
    values = file[path][...]
    del file[path]
    if kind == "external link":
        with h5py.File(outside, "w") as other:
            other["kernel"] = values
        file[path] = h5py.ExternalLink(str(outside), "/kernel")
    elif kind == "external storage":
        outside.write_bytes(values.tobytes())
        file.create_dataset(path, values.shape, values.dtype, external=[(str(outside), 0, values.nbytes)])
    else:
        with h5py.File(outside, "w") as other:
            other["kernel"] = values
        layout = h5py.VirtualLayout(values.shape, values.dtype)
        layout[...] = h5py.VirtualSource(str(outside), "kernel", values.shape)
        file.create_virtual_dataset(path, layout)


def _datasets(file: h5py.File) -> list[str]:
    names = []
    file.visititems(lambda name, entry: names.append(name) if isinstance(entry, h5py.Dataset) else None)
    return names


@pytest.mark.parametrize("kind", ["external link", "external storage", "virtual"])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_hdf5_that_leads_to_other_files(suffix: str, kind: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    source = _legacy(tmp_path / "model.h5") if suffix == ".h5" else _modern(tmp_path / "model.keras")
    if suffix == ".h5":
        with h5py.File(source, "a") as file:
            _redirect(file, kind, outside)
    else:
        with zipfile.ZipFile(source) as archive:
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights, "a") as file:
            _redirect(file, kind, outside)
        _edit_keras(source, **{"model.weights.h5": weights.getvalue()})
    message = refused(source, tmp_path / "hub")
    assert "another file" in message


def test_hdf5_links_in_a_circle(tmp_path: Path) -> None:
    source = _legacy(tmp_path / "model.h5")
    with h5py.File(source, "a") as file:
        file["model_weights"]["again"] = file["model_weights"]
        file["loop"] = h5py.SoftLink("/loop")
    assert run_step("import_keras", source, tmp_path / "hub").error is None


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real bound is a gigabyte; the bombs here unpack to 64 MB."""
    monkeypatch.setattr(containers, "_ALWAYS_ALLOWED", 1 << 20)
    source = _modern(tmp_path / "model.keras")
    with zipfile.ZipFile(source, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/bomb", bytes(1 << 26))
    assert "holds 0.1 GB" in refused(source, tmp_path / "zip")
    source = _legacy(tmp_path / "model.h5")
    with h5py.File(source, "a") as file:
        file.create_dataset("bomb", (1 << 40,), np.int8, chunks=(1 << 20,), compression="gzip")
    assert "holds 1099.5 GB" in refused(source, tmp_path / "hdf5")


_BYTECODE_AS_TEXT = "a model's configuration as text, with bytecode in it"


@pytest.mark.parametrize(
    ("function", "argument", "options"),
    [
        ("keras.models.model_from_json", _BYTECODE_AS_TEXT, {}),
        ("keras.utils.get_file", "stolen", {"origin": "file:///etc/hostname"}),
        ("keras.losses.deserialize", {"class_name": "MeanSquaredError", "config": {}}, {}),
        ("compat.v1.write_file", "pwned", {"contents": "x"}),
        ("compat.v1.read_file", "/etc/hostname", {}),
        ("compat.v1.py_func", "x", {}),
        ("rpc_server", "localhost:1", {}),
        ("random.fixed_unigram_candidate_sampler", [[1]], {"vocab_file": "/etc/hostname"}),
        ("raw_ops.Abort", "x", {}),
    ],
)
def test_calls_of_constants(function: str, argument: object, options: dict, tmp_path: Path) -> None:
    """Where all arguments of such a layer are constants, Keras calls the function as soon as the model is opened."""
    import tensorflow as tf
    import tf_keras

    x, pwned = tf_keras.Input((4,)), tmp_path / "pwned"
    tf_keras.Model(x, tf_keras.layers.Dense(3)(tf.nn.softplus(x))).save(tmp_path / "model.h5")
    if argument is _BYTECODE_AS_TEXT:
        argument = _model(tf_keras, tf_keras.layers.Lambda(_touches(pwned))).to_json()
    elif argument == "pwned":
        argument = str(pwned)
    pwned.unlink(missing_ok=True)

    def change(config):
        layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "TFOpLambda")
        layer["config"]["function"] = function
        layer["inbound_nodes"] = [["_CONSTANT_VALUE", -1, argument, options]]

    assert f"tf.{function}" in refused(_edit_h5(tmp_path / "model.h5", change), tmp_path / "hub")
    assert not pwned.exists()


@pytest.mark.parametrize("form", ["mapping", "bytes"])
def test_layer_of_an_operator(form: str, tmp_path: Path) -> None:
    """Keras of TensorFlow 2.0 to 2.3 kept calls as nodes of graphs."""
    import tensorflow as tf
    import tf_keras
    from google.protobuf import json_format

    x, pwned = tf_keras.Input((4,)), tmp_path / "pwned"
    tf_keras.Model(x, tf_keras.layers.Dense(3)(tf.nn.softplus(x))).save(tmp_path / "model.h5")
    node = tf.compat.v1.NodeDef(name="evil", op="WriteFile", input=["a", "b"])
    stored = json_format.MessageToDict(node) if form == "mapping" else node.SerializeToString().decode()

    def change(config):
        layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "TFOpLambda")
        layer["class_name"] = "TensorFlowOpLayer"
        layer["config"] = {"name": "evil", "node_def": stored, "constants": {"0": str(pwned), "1": "x"}}

    assert "writes files" in refused(_edit_h5(tmp_path / "model.h5", change), tmp_path / "hub")
    assert not pwned.exists()


def test_feature_columns_that_read_files(tmp_path: Path) -> None:
    source = _legacy(tmp_path / "model.h5")

    def change(config):
        column = {"class_name": "VocabularyFileCategoricalColumn", "config": {"vocabulary_file": "/etc/hostname"}}
        config["config"]["layers"][1] = {"class_name": "DenseFeatures", "config": {"feature_columns": [column]}}

    assert "/etc/hostname" in refused(_edit_h5(source, change), tmp_path / "hub")


def test_no_function_of_other_modules_of_tensorflow(tmp_path: Path) -> None:
    import tf_keras

    source = _legacy(tmp_path / "model.keras", tf_keras.layers.Dense(4, activation="relu"))

    def change(config, module, name):
        layer = config["config"]["layers"][1]
        function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
        layer["config"]["activation"] = function

    ordinary = _edit_keras(source, lambda config: change(config, "tensorflow.python.ops.math_ops", "sigmoid"))
    assert run_step("import_keras", ordinary, tmp_path / "plain").error is None
    other = _edit_keras(source, lambda config: change(config, "tensorflow.python.framework.graph_io", "write_graph"))
    error = run_step("import_keras", other, tmp_path / "hub").error
    assert error is not None and "write_graph" in error["message"], error


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_two_files_in_one(suffix: str, tmp_path: Path) -> None:
    """HDF5 may begin at byte 512, and the directory of an archive lies at its end: one file may be both."""
    import tensorflow as tf
    import tf_keras

    pwned, source = tmp_path / "pwned", tmp_path / f"model{suffix}"
    text = _model(tf_keras, tf_keras.layers.Lambda(_touches(pwned))).to_json()
    pwned.unlink(missing_ok=True)
    x = tf_keras.Input((4,))
    model = tf_keras.Model(x, tf_keras.layers.Dense(3)(tf.nn.softplus(x)))

    def change(config):
        layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "TFOpLambda")
        layer["config"]["function"] = "keras.models.model_from_json"
        layer["inbound_nodes"] = [["_CONSTANT_VALUE", -1, text, {}]]

    if suffix == ".h5":
        model.save(tmp_path / "evil.h5")
        _edit_h5(tmp_path / "evil.h5", change)
        shown = _legacy(tmp_path / "shown.keras").read_bytes()
        with h5py.File(source, "w", userblock_size=1 << 16) as file, h5py.File(tmp_path / "evil.h5") as evil:
            for name in evil:
                evil.copy(name, file)
            for name, value in evil.attrs.items():
                file.attrs[name] = value
        with open(source, "r+b") as file:
            file.write(b"PK\x03\x04")
            file.seek(0, io.SEEK_END)
        with zipfile.ZipFile(io.BytesIO(shown)) as packed, zipfile.ZipFile(source, "a") as archive:
            for name in packed.namelist():
                archive.writestr(name, packed.read(name))
    else:
        model.save(tmp_path / "evil.keras")
        _edit_keras(tmp_path / "evil.keras", change)
        source.write_bytes(_legacy(tmp_path / "shown.h5").read_bytes())
        with zipfile.ZipFile(tmp_path / "evil.keras") as packed, zipfile.ZipFile(source, "a") as archive:
            for name in packed.namelist():
                archive.writestr(name, packed.read(name))
    error = run_step("import_keras", source, tmp_path / "hub").error
    assert not pwned.exists()
    assert error is not None and error["kind"] in ("UntrustedError", "SourceError"), error
    assert "both" in error["message"], error
