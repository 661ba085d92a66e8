"""ONNX graphs made of nodes, what onnxruntime computes of them, and whether that is the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def run(model: onnx.ModelProto, *arrays: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([entry.name for entry in session.get_inputs()], arrays, strict=False)))


def make(nodes, inputs: dict, outputs: list[str], opset: int, **initializers) -> onnx.ModelProto:
    """inputs: (dtype, shape) by name. outputs: names, whose types are inferred."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *entry) for name, entry in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="someone")
    model.ir_version = 10
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def same(actual, expected) -> bool:
    if isinstance(expected, list):
        return len(actual) == len(expected) and all(map(same, actual, expected))
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return False
    if expected.dtype.kind != "f":
        return bool((actual == expected).all())
    wide = 2e-3 if expected.dtype.itemsize == 2 else 1e-4
    return np.allclose(actual.astype(np.float64), expected.astype(np.float64), wide, wide / 10, equal_nan=True)
