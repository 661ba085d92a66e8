"""What sources are computed in."""

from converter.formats.declarations import Framework

__all__ = ["ONNX", "PYTORCH", "TENSORFLOW"]

TENSORFLOW = Framework(
    name="tensorflow",
    title="TensorFlow",
    module="tensorflow",
    runner="converter.tf.runtime.run_hub:runner",
    code=("converter.tf",),
)
PYTORCH = Framework(
    name="pytorch",
    title="PyTorch",
    module="torch",
    runner="converter.torch.program.run_hub:runner",
    code=("converter.torch", "converter.torch_to_keras"),
    requirements="torch",
)
ONNX = Framework(
    name="onnx",
    title="ONNX",
    module="onnxruntime",
    runner="converter.onnx.run_hub:runner",
    code=(
        "converter.onnx",
        "converter.onnx_to_torch",
        "converter.tflite_to_onnx",
        "converter.torch",
        "converter.torch_to_keras",
    ),
    requirements="torch",
)
