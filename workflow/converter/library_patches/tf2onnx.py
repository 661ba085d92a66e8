"""What is replaced, overridden and called in tf2onnx (1.17) beside its interface."""

from __future__ import annotations

from types import ModuleType

from converter.library_patches.replacing import Patched

__all__ = ["COUNTER", "EXTRACT", "NUMPY_HELPER", "OPTIMIZERS"]

# onnx.numpy_helper, under which tf2onnx.graph makes tensors of arrays and arrays of tensors.
NUMPY_HELPER = Patched("tf2onnx", "tf2onnx.graph", "numpy_helper", kind=ModuleType)
# By it tf2onnx numbers the nodes that it makes.
COUNTER = Patched("tf2onnx", "tf2onnx.utils", "INTERNAL_NAME", kind=int)
EXTRACT = Patched(
    "tf2onnx",
    "tf2onnx.graph:Graph",
    "extract_sub_graph_nodes",
    ("self", "outputs_name", "input_checker", "remove_unused_inputs"),
)
_TRANSPOSE = "tf2onnx.optimizer.transpose_optimizer:TransposeOptimizer"
# What the optimizer of transposes overrides and calls; an override of a name that is gone would never be called.
OPTIMIZERS = (
    Patched("tf2onnx", "tf2onnx.optimizer", "_get_optimizers", ()),
    Patched("tf2onnx", "tf2onnx.optimizer", "optimize_graph", ("graph", "catch_errors", "optimizers")),
    Patched("tf2onnx", _TRANSPOSE, "pre_optimize_action", ("self",)),
    Patched("tf2onnx", _TRANSPOSE, "post_optimize_action", ("self",)),
    Patched("tf2onnx", _TRANSPOSE, "merge_duplicated_transposes", ("self",)),
    Patched("tf2onnx", _TRANSPOSE, "_optimize_at_current_graph_level", ("self", "graph")),
    Patched("tf2onnx", _TRANSPOSE, "_add_handler", ("self", "trans", "node")),
    Patched("tf2onnx", _TRANSPOSE, "_handle_nhwc_tranpose", ("self", "trans")),
    Patched("tf2onnx", _TRANSPOSE, "_handle_node_having_branches", ("self", "trans", "node")),
    Patched("tf2onnx", _TRANSPOSE, "_remove_useless_tranpose", ("self", "trans")),
)
