"""C arrays of TensorFlow Lite files, for TensorFlow Lite Micro."""

from dataclasses import replace

from converter.formats.declarations import TargetFormat
from converter.formats.target_formats.tflite import TFLITE

__all__ = ["MICRO"]

MICRO = TargetFormat(
    name="micro",
    title="C++ for TensorFlow Lite Micro",
    extensions=("cc",),
    exporters={
        framework: replace(exporter, packages=(*exporter.packages, "tflite-micro"))
        for framework, exporter in TFLITE.exporters.items()
    },
    parameters=TFLITE.parameters,
    only_from=TFLITE.only_from,
    quantized=TFLITE.quantized,
    writer="converter.micro.export:export_variant",
    refusal=TFLITE.refusal,
    fixes_lengths=True,
    fixes_batch=True,
    beside="h",
    requirements="micro",
)
