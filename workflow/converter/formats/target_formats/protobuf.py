"""TensorFlow graphs, frozen with their weights or with variables."""

from converter.formats.declarations import Exporter, TargetFormat

__all__ = ["PROTOBUF"]

PROTOBUF = TargetFormat(
    name="protobuf",
    title="Protobuf",
    extensions=("pb",),
    exporters={
        "tensorflow": Exporter(
            "converter.tf.protobuf.export:export", packages=("tensorflow", "numpy"), process="tensorflow"
        ),
        "onnx": Exporter(
            "converter.onnx_to_torch.exports:export_protobuf",
            packages=("torch", "numpy", "onnx", "keras", "tensorflow"),
            process="torch+tensorflow",
        ),
    },
    sources=("keras", "savedmodel", "checkpoint", "onnx", "tflite"),
    parameters=frozenset({"frozen"}),
    memory=3,
    script="export_protobuf",
)
