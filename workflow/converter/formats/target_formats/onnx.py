"""ONNX files."""

from converter.formats.declarations import Backend, Exporter, Quantized, TargetFormat

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
    parameters=frozenset({"onnx_opset", "backend", "quantization", "device"}),
    runtime="converter.verification.runtimes:OnnxModel",
    quantized=Quantized(
        suffixes=("float16", "dynamic", "int8", "uint8", "int4"),
        keys=frozenset({"optimization", "type", "load", "calibration", "keep_float", "thresholds"}),
        files="converter.quantization.onnx.files:OnnxFloatFile",
        needs=("converter.onnx.opset:convert_opset", "converter.onnx.simplify:remove_unused"),
        # One scale for each channel: DequantizeLinear of opset 13; for each block of a channel, and of 4 bits: of opset 21.
        lowest_opsets={"dynamic": 13, "int8": 13, "uint8": 13, "int4": 21},
    ),
    backends={"keras2onnx": Backend("converter.legacy.backends:export_keras2onnx", ("keras",), ("onnx",))},
    timer="converter.profiling.latency:onnxruntime_timer",
    memory=4,
    script="export_onnx",
    oldest_runtime="converter.onnx.oldest_runtime:of_file",
)
