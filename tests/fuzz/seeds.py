"""One small sound model of every source format: what the fuzzer spoils."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["pytorch_seeds", "write_seeds"]


def write_seeds(folder: Path) -> dict[str, Path]:
    """Source by kind; the kind's first word is the import script's."""
    folder.mkdir(parents=True, exist_ok=True)
    tensorflow = _tensorflow(folder)
    return {**_keras(folder), **tensorflow, **pytorch_seeds(folder), **onnx_seeds(folder), **_tflite(folder)}


def _keras(folder: Path) -> dict[str, Path]:
    import keras
    import tf_keras

    paths = {}
    for kind, package, name in (
        ("keras h5 (2)", tf_keras, "legacy.h5"),
        ("keras h5 (3)", keras, "modern.h5"),
        ("keras archive", keras, "modern.keras"),
    ):
        package.utils.set_random_seed(1)
        layers = package.layers
        x = package.Input((6, 6, 2), name="image")
        y = layers.Conv2D(3, 3, activation="relu", name="conv")(x)
        y = layers.BatchNormalization(name="norm")(y)
        y = layers.Flatten(name="flat")(y)
        y = layers.Concatenate(name="join")([layers.Dense(3, name="a")(y), layers.Dense(2, name="b")(y)])
        package.Model(x, y).save(folder / name)
        paths[kind] = folder / name
    return paths


def _tensorflow(folder: Path) -> dict[str, Path]:
    import tensorflow as tf
    from google.protobuf import text_format

    v1 = tf.compat.v1
    weights = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)

    def network(weight):
        x = v1.placeholder(tf.float32, (None, 4), name="x")
        hidden = tf.nn.relu(x @ weight, name="hidden")
        return x, tf.nn.softmax(hidden @ tf.constant(weights.T), name="y")

    with tf.Graph().as_default() as graph:
        network(tf.constant(weights))
    (folder / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    (folder / "frozen.pbtxt").write_text(text_format.MessageToString(graph.as_graph_def()))
    with tf.Graph().as_default(), v1.Session() as session:
        x, y = network(v1.get_variable("weight", initializer=weights, use_resource=False))
        session.run(v1.global_variables_initializer())
        (folder / "checkpoint").mkdir(exist_ok=True)
        v1.train.Saver().save(session, str(folder / "checkpoint" / "model"), write_state=False)
        builder = v1.saved_model.Builder(str(folder / "saved_v1"))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable(weights)

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
        def score(self, x):
            return {"y": tf.nn.softmax(x @ self.weight)}

    module = Module()
    tf.saved_model.save(module, str(folder / "saved_v2"), signatures=module.score)
    return {
        "protobuf binary": folder / "frozen.pb",
        "protobuf text": folder / "frozen.pbtxt",
        "checkpoint": folder / "checkpoint" / "model.meta",
        "savedmodel (1)": folder / "saved_v1",
        "savedmodel (2)": folder / "saved_v2",
    }


def pytorch_seeds(folder: Path) -> dict[str, Path]:
    import torch

    torch.manual_seed(1)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(48, 3)
    ).eval()
    example = (torch.zeros(1, 2, 6, 6),)
    torch.save(module, folder / "module.pt")
    torch.save(module, folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.jit.trace(module, example).save(str(folder / "script.pt"))
    torch.export.save(torch.export.export(module, example), str(folder / "program.pt2"))
    return {
        "pytorch module": folder / "module.pt",
        "pytorch old format": folder / "old.pt",
        "pytorch script": folder / "script.pt",
        "pytorch program": folder / "program.pt2",
    }


def onnx_seeds(folder: Path) -> dict[str, Path]:
    """A network, one whose weights lie beside it, and a branch and a loop."""
    import onnx
    from onnx_models import convnet, external

    onnx.save(convnet(), folder / "network.onnx")
    external(convnet(), folder / "beside.onnx", "beside.weights")
    onnx.save(_with_control_flow(), folder / "control.onnx")
    return {
        "onnx network": folder / "network.onnx",
        "onnx beside": folder / "beside.onnx",
        "onnx control": folder / "control.onnx",
    }


def _with_control_flow():
    from onnx import parser

    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        control (float[2, 4] x, bool c) => (float[2, 4] y, float[3, 2, 4] z)
        <float[4] w = {1, 2, 3, 4}, int64 n = {3}, bool go = {1}> {
            h = If (c) <
                then_branch = yes () => (float[2, 4] a) { a = Add (x, w) },
                else_branch = no () => (float[2, 4] b) { b = Mul (x, w) }
            >
            y, z = Loop (n, go, h) <
                body = step (int64 i, bool goes, float[2, 4] s) => (bool further, float[2, 4] t, float[2, 4] kept) {
                    further = Identity (goes)
                    t = Tanh (s)
                    kept = Identity (t)
                }
            >
        }"""
    )


def _tflite(folder: Path) -> dict[str, Path]:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    layers = keras.layers
    x = keras.Input((6, 6, 2), name="image")
    y = layers.Conv2D(3, 3, activation="relu")(x)
    y = layers.MaxPooling2D()(y)
    model = keras.Model(x, layers.Dense(3, activation="softmax")(layers.Flatten()(y)))
    paths = {}
    for kind in ("float", "quantized"):
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if kind == "quantized":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            images = np.random.default_rng(1).standard_normal((8, 1, 6, 6, 2)).astype(np.float32)
            converter.representative_dataset = lambda images=images: ([image] for image in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        paths[f"tflite {kind}"] = folder / f"{kind}.tflite"
        paths[f"tflite {kind}"].write_bytes(converter.convert())
    return paths
