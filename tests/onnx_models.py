"""ONNX models of the tests: made here, with seeded weights, each as somebody's exporter would write it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL, "int32": TensorProto.INT32}


def info(name: str, shape: Sequence[int | str] | None, dtype: str = "float32") -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[dtype], shape)


def model_of(nodes, inputs, outputs, weights=(), opset=17, domains=()) -> onnx.ModelProto:
    """weights: pairs of a name and an array."""
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), initializers)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def random(*shape: int, seed: int = 0, scale: float = 0.3) -> np.ndarray:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(np.float32)


def convnet(batch: int | str = "batch", size: int | str = 16, opset: int = 17) -> onnx.ModelProto:
    """Two convolutions, one of them strided and by groups, a skip, a pooling and a linear layer."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=4),
        node("Add", ["c2", "r1"], ["s"]),
        node("MaxPool", ["s"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["p"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
    ]
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 2, 3, 3), "w3": (5, 8), "b3": (5,)}
    weights = [(name, random(*shape)) for name, shape in shapes.items()]
    return model_of(nodes, [info("x", [batch, 3, size, size])], [info("y", [batch, 5])], weights, opset)


def embedding() -> onnx.ModelProto:
    """Token ids, a mask, and a length that is computed from the input's shape."""
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "ids"], ["e"]),
        node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["m", "last"], ["m3"]),
        node("Mul", ["e", "m3"], ["em"]),
        node("Shape", ["ids"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Unsqueeze", ["n", "first"], ["n1"]),
        node("Concat", ["n1", "rest"], ["new"], axis=0),
        node("Reshape", ["em", "new"], ["flat"]),
        node("Tanh", ["flat"], ["y"]),
    ]
    weights = [("table", random(11, 6)), ("last", [-1]), ("zero", 0), ("first", [0]), ("rest", [-1, 3])]
    inputs = [info("ids", ["batch", "length"], "int64"), info("mask", ["batch", "length"], "int64")]
    return model_of(nodes, inputs, [info("y", ["batch", None, 3])], weights)


def external(model: onnx.ModelProto, path: Path, location: str) -> Path:
    """The model with all weights in a file beside it."""
    onnx.save_model(model, path, save_as_external_data=True, location=location, size_threshold=0)
    return path
