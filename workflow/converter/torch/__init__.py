"""The PyTorch side: loading, tracing, and the exporters to ONNX and TensorFlow Lite."""

from converter.torch.trust.generated_code import lock

lock()
