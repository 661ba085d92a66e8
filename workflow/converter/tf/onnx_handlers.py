"""Our handlers for tf2onnx; importing this module registers them in the place of its own."""

from converter.tf import onnx_comparison, onnx_division, onnx_rounding, onnx_selection  # noqa: F401
