"""Names in Keras files that lead to anything but parts of models: refused before they are called, in both Keras."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from imports import run_step


def _edited(path: Path, change: Callable[[dict], None]) -> Path:
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    change(config)
    content["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def _model(package: str, path: Path, dtype: str = "float32") -> Path:
    keras = pytest.importorskip(package)
    keras.utils.set_random_seed(1)
    given = keras.Input((4,), name="x", dtype=dtype)
    layer = keras.layers.Dense(2) if dtype == "float32" else keras.layers.Activation("linear", dtype=dtype)
    keras.Model(given, layer(given)).save(path)
    return path


def _lambda(function: dict, nodes: list, **arguments: object) -> dict:
    """A Lambda layer without bytecode: it calls what `function` names."""
    config = {"name": "call", "trainable": True, "dtype": "float32", "function": function, "arguments": arguments}
    kinds = {"function_type": "function", "module": None, "output_shape": None, "output_shape_type": "raw"}
    return {
        "module": "keras.layers",
        "class_name": "Lambda",
        "registered_name": None,
        "name": "call",
        "config": config | kinds | {"output_shape_module": None},
        "inbound_nodes": nodes,
    }


def _function(module: str, name: str) -> dict:
    return {"class_name": "function", "config": name, "module": module, "registered_name": name}


def refused(source: Path, hub: Path) -> str:
    error = run_step("import_keras", source, hub).error
    assert error is not None and error["kind"] == "UntrustedError", error
    assert str(source) in error["message"] and "trusted: true" in error["message"]
    return error["message"]


@pytest.mark.parametrize(
    ("module", "name", "given", "arguments"),
    [
        ("tf_keras.src.utils.data_utils", "os.system", "touch {}", {}),
        ("keras.src.utils.data_utils", "os.mkdir", "{}", {}),
        ("tf_keras.src.utils.generic_utils", "os.mkdir", "{}", {}),
        ("tensorflow.python.ops.gen_io_ops", "write_file", "{}", {"contents": "x"}),
        ("tensorflow.python.ops.io_ops", "write_file", "{}", {"contents": "x"}),
        ("keras.utils", "get_file", "pwned", {"origin": "file:///etc/hostname", "cache_subdir": ""}),
    ],
)
def test_functions_that_tf_keras_would_call_on_constants(
    module: str, name: str, given: str, arguments: dict, tmp_path: Path
) -> None:
    source, pwned = _model("tf_keras", tmp_path / "model.keras"), tmp_path / "pwned"
    if "origin" in arguments:
        arguments = arguments | {"cache_dir": str(tmp_path)}
    nodes = [[["_CONSTANT_VALUE", -1, given.format(pwned), {}]]]
    call = _lambda(_function(module, name), nodes, **arguments)
    _edited(source, lambda config: config["config"]["layers"].append(call))
    assert f".{name}, which is no part" in refused(source, tmp_path / "hub")
    assert not pwned.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.saving", "KerasFileEditor"),
        ("keras.layers", "TFSMLayer"),
        ("keras", "layers.TFSMLayer"),
        ("keras.layers", "TextVectorization"),
        ("keras.callbacks", "CSVLogger"),
        ("keras.config", "set_floatx"),
        ("keras.datasets.mnist", "load_data"),
        ("keras.applications.vgg16", "VGG16"),
        ("keras.layers", "deserialize"),
    ],
)
def test_what_keras_takes_for_a_function(module: str, name: str, tmp_path: Path) -> None:
    """Classes in place of functions, which Keras would not take as layers, and functions that are none of tensors."""
    source = _model("keras", tmp_path / "model.keras")
    nodes = [{"args": [], "kwargs": {"inputs": "float16"}}]
    call = _lambda(_function(module, name), nodes)
    _edited(source, lambda config: config["config"]["layers"].append(call))
    refused(source, tmp_path / "hub")
    import keras

    assert keras.config.floatx() == "float32"


@pytest.mark.parametrize(
    "names",
    [
        {"class_name": "string_lookup.StringLookup", "module": "tf_keras.src.layers.preprocessing"},
        {"class_name": "layers.StringLookup", "module": "keras"},
        {"class_name": "__typespec__", "spec_name": "StringLookup", "module": "keras.layers", "registered_name": "a>b"},
    ],
)
def test_other_names_for_a_layer_that_reads_a_file(names: dict, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("alpha\nbeta\n")
    source = _model("tf_keras", tmp_path / "model.keras", dtype="string")
    lookup = {"registered_name": None, "config": {"name": "lookup", "vocabulary": str(secret)}} | names

    def change(config: dict) -> None:
        layer = config["config"]["layers"][1]
        layer.update(_lambda(lookup, layer["inbound_nodes"]), name=layer["name"])
        layer["config"] |= {"name": layer["name"], "dtype": "string"}

    assert str(secret) in refused(_edited(source, change), tmp_path / "hub")


@pytest.mark.parametrize(
    "names",
    [
        {"class_name": "tf_op_layer.TFOpLambda", "module": "tf_keras.src.layers.core"},
        {"class_name": "__typespec__", "spec_name": "TFOpLambda", "module": "tf_keras.src.layers.core"},
    ],
)
def test_other_names_for_a_layer_that_calls_tensorflow(names: dict, tmp_path: Path) -> None:
    source, pwned = _model("tf_keras", tmp_path / "model.keras"), tmp_path / "pwned"
    function = {"registered_name": "TFOpLambda", "config": {"name": "op", "function": "io.write_file"}} | names
    call = _lambda(function, [[["_CONSTANT_VALUE", -1, str(pwned), {}]]], contents="x")
    _edited(source, lambda config: config["config"]["layers"].append(call))
    assert "calls tf.io.write_file" in refused(source, tmp_path / "hub")
    assert not pwned.exists()


@pytest.mark.parametrize(
    ("kind", "attribute"), [("InstanceMethod", "__getattribute__"), ("InstanceProperty", "__class__")]
)
def test_attributes_of_constants(kind: str, attribute: str, tmp_path: Path) -> None:
    """One after the other, they lead from a text to the objects of Python."""
    source = _model("tf_keras", tmp_path / "model.keras")
    layer = {"class_name": kind, "module": "keras.src.layers.core.tf_op_layer", "registered_name": None}
    layer["config"] = {"name": "take", "attr_name": attribute}
    call = _lambda(layer, [[["_CONSTANT_VALUE", -1, "text", {}]]], args=["__class__"], kwargs={})
    _edited(source, lambda config: config["config"]["layers"].append(call))
    assert f"takes {attribute} from" in refused(source, tmp_path / "hub")


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_functions_of_tensors_are_no_danger(package: str, tmp_path: Path) -> None:
    """Activations and functions of TensorFlow are recorded by name, too."""
    keras = pytest.importorskip(package)
    import tensorflow as tf

    given = keras.Input((4,), name="x")
    functions = [tf.nn.silu, tf.nn.relu6, tf.tanh] if package == "tf_keras" else [keras.ops.silu, keras.ops.tanh]
    value = given
    for function in [*functions, keras.activations.gelu]:
        value = keras.layers.Dense(4, activation=function)(value)
    path = tmp_path / "model.keras"
    keras.Model(given, value).save(path)
    assert run_step("import_keras", path, tmp_path / "hub").error is None


def test_scaling_by_name(tmp_path: Path) -> None:
    source = _model("tf_keras", tmp_path / "model.keras")
    scale = _function("keras.applications.mobilenet_v2", "preprocess_input")

    def change(config: dict) -> None:
        layer = config["config"]["layers"][1]
        layer.update(_lambda(scale, layer["inbound_nodes"]), name=layer["name"])
        layer["config"] |= {"name": layer["name"]}

    assert run_step("import_keras", _edited(source, change), tmp_path / "hub").error is None


def test_descriptors_in_files(tmp_path: Path) -> None:
    """tf.io.decode_proto takes the name of a file, and is called at once where all it gets are constants."""
    source = _model("tf_keras", tmp_path / "model.keras")
    call = {
        "module": "keras.src.layers",
        "class_name": "TFOpLambda",
        "registered_name": "TFOpLambda",
        "name": "call",
        "config": {"name": "call", "trainable": False, "dtype": "float32", "function": "io.decode_proto"},
        "inbound_nodes": [["_CONSTANT_VALUE", -1, "", {"message_type": "A", "descriptor_source": "/etc/hostname"}]],
    }
    _edited(source, lambda config: config["config"]["layers"].append(call))
    assert "tf.io.decode_proto" in refused(source, tmp_path / "hub")
