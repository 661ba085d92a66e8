"""TensorFlow Lite files, quantized if wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.formats.declarations import Exporter, Quantized, TargetFormat

if TYPE_CHECKING:
    from converter.hub.hub import Hub

__all__ = ["TFLITE"]


def _refusal(hub: Hub) -> str | None:
    texts = [spec.name for spec in hub.inputs if spec.dtype == "string"]
    if not texts:
        return None
    return (
        f"input {', '.join(texts)} is text, which TensorFlow Lite cannot take: cut the model behind its text processing"
    )


TFLITE = TargetFormat(
    name="tflite",
    title="TensorFlow Lite",
    extensions=("tflite",),
    exporters={
        "tensorflow": Exporter(
            "converter.tf.tflite.export:export",
            packages=("tensorflow", "ai-edge-litert", "numpy"),
            process="tensorflow",
        ),
        "pytorch": Exporter(
            "converter.onnx_to_torch.third_way:export_tflite",
            packages=("torch", "numpy", "litert-torch", "ai-edge-litert", "keras", "tensorflow"),
            process="torch+tensorflow",
        ),
        "onnx": Exporter(
            "converter.onnx_to_torch.exports:export_tflite",
            packages=("torch", "numpy", "onnx", "onnxruntime", "litert-torch", "ai-edge-litert", "keras", "tensorflow"),
            process="torch+tensorflow",
        ),
    },
    parameters=frozenset({"quantization", "input_layout", "device"}),
    runtime="converter.verification.runtimes:TFLiteModel",
    quantized=Quantized(
        suffixes=("float16", "dynamic", "int8", "uint8"),
        keys=frozenset({"optimization", "type", "opsset", "load", "keep_float", "thresholds"}),
        files="converter.quantization.tflite.files:TFLiteFloatFile",
        packages={"dynamic": ("ai-edge-quantizer",)},
    ),
    timer="converter.profiling.latency:litert_timer",
    refusal=_refusal,
    only_from={"input_layout": ("pytorch", "huggingface", "onnx")},
    fixes_lengths=True,
    script="export_tflite",
    oldest_runtime="converter.tflite.oldest_runtime:of_file",
)
