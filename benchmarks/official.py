"""What a user would write today instead of Converter: one process for each conversion, as the libraries' pages show it.

    official.py keras-tflite MODEL.h5 OUT.tflite          TFLiteConverter.from_keras_model
    official.py keras-savedmodel MODEL.h5 FOLDER          for tf2onnx, which takes no Sequential of Keras 3 (1.17)
    official.py torch-onnx MODEL.pt OUT.onnx 1,3,224,224  torch.onnx.export
    official.py torch-tflite MODEL.pt OUT.tflite 1,3,224,224   litert_torch.convert

Keras to ONNX is tf2onnx's own command line. `commands` says what to run for a source and a target.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["commands"]

_OPSET = "18"  # of the ten lately tested by tf2onnx's authors, the highest


def commands(source: Path, target: Path, shape: str = "", *, sequential: bool = False) -> list[list[str]]:
    """The command lines that make `target`, one after the other. `shape`: of a PyTorch model's input."""
    this = [sys.executable, __file__]
    if source.suffix == ".pt":
        return [[*this, f"torch-{target.suffix[1:]}", str(source), str(target), shape]]
    if target.suffix == ".tflite":
        return [[*this, "keras-tflite", str(source), str(target)]]
    tf2onnx = [sys.executable, "-m", "tf2onnx.convert", "--opset", _OPSET, "--output", str(target)]
    if sequential:
        folder = str(target.with_suffix(".savedmodel"))
        return [[*this, "keras-savedmodel", str(source), folder], [*tf2onnx, "--saved-model", folder]]
    return [[*tf2onnx, "--keras", str(source)]]


def keras_tflite(source: str, target: str) -> None:
    import tensorflow as tf

    model = tf.keras.models.load_model(source, compile=False)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if any(isinstance(layer, tf.keras.layers.RNN | tf.keras.layers.LSTM) for layer in model.layers):
        # As the error message of the plain call advises.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        converter._experimental_lower_tensor_list_ops = False
    Path(target).write_bytes(converter.convert())


def keras_savedmodel(source: str, target: str) -> None:
    import tensorflow as tf

    tf.keras.models.load_model(source, compile=False).export(target)


def torch_onnx(source: str, target: str, shape: str) -> None:
    import torch

    model = _load(source)
    example = torch.randn([int(size) for size in shape.split(",")])
    torch.onnx.export(model, (example,), target, dynamo=True, external_data=False)


def torch_tflite(source: str, target: str, shape: str) -> None:
    import litert_torch
    import torch

    model = _load(source)
    example = torch.randn([int(size) for size in shape.split(",")])
    litert_torch.convert(model, (example,)).export(target)


def _load(source: str):
    """A user's machine has a torchvision that imports by itself; here its operators must be named first (0.28, CPU torch)."""
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
    from converter.torch.extensions.vision import import_torchvision

    import_torchvision()
    return torch.load(source, weights_only=False).eval()


if __name__ == "__main__":
    globals()[sys.argv[1].replace("-", "_")](*sys.argv[2:])
