"""Our handlers for tf2onnx; importing this module registers them in the place of its own."""

from converter.tf.onnx import (
    comparison,  # noqa: F401
    division,  # noqa: F401
    rounding,  # noqa: F401
    selection,  # noqa: F401
)
