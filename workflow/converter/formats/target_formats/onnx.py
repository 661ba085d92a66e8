"""ONNX files."""

from converter.formats.declarations import Backend, Exporter, TargetFormat

__all__ = ["ONNX"]

ONNX = TargetFormat(
    name="onnx",
    title="ONNX",
    extensions=("onnx",),
    exporters={
        "tensorflow": Exporter(
            "converter.tf.onnx.export:export",
            packages=("tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy"),
            process="tensorflow",
        ),
        "pytorch": Exporter(
            "converter.torch.onnx.export:export",
            packages=("torch", "numpy", "onnxscript", "onnx", "onnxruntime"),
            process="torch",
        ),
        "onnx": Exporter("converter.onnx.export:export", packages=("onnx", "onnxruntime", "numpy")),
    },
    parameters=frozenset({"onnx_opset", "backend"}),
    runtime="converter.verification.runtimes:OnnxModel",
    backends={"keras2onnx": Backend("converter.legacy.backends:export_keras2onnx", ("keras",), ("onnx",))},
    timer="converter.profiling.latency:onnxruntime_timer",
    memory=4,
    script="export_onnx",
)
