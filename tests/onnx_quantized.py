"""ONNX models worth quantizing, their hubs, and what their quantized files hold: what tests of these start from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from export_onnx import export_model
from import_onnx import import_model
from onnx import TensorProto, helper
from onnx_models import info, model_of, random

from converter.contracts import ExportJob, ExportResult, ImportSpec
from converter.hub.hub import Hub

__all__ = ["classifier", "convert", "data", "held", "hub_of", "runs"]


def classifier(spoilt: float = 1.0) -> onnx.ModelProto:
    """Images (N, 3, 12, 12) and vectors (N, 40) to scores (N, 6): convolutions, one depthwise, a Gemm and a MatMul.

    spoilt: a factor of channel 0 of the depthwise convolution's filters, whose inverse the layer before has: one scale for all
    filters would leave nothing of the others.
    """
    node = helper.make_node
    first, bias, depthwise = random(64, 3, 3, 3), random(64), random(64, 1, 5, 5, seed=1)
    first[0], bias[0], depthwise[0] = first[0] / spoilt, bias[0] / spoilt, depthwise[0] * spoilt
    nodes = [
        node("Conv", ["image", "w1", "b1"], ["c1"], "net/conv1", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Relu", ["c1"], ["r1"], "net/relu1"),
        node("Conv", ["r1", "w2"], ["c2"], "net/depthwise", pads=[2, 2, 2, 2], group=64),
        node("Conv", ["c2", "w3"], ["c3"], "net/project", strides=[2, 2]),
        node("Relu", ["c3"], ["r3"], "net/relu3"),
        node("GlobalAveragePool", ["r3"], ["g"], "net/pool"),
        node("Flatten", ["g"], ["f"], "net/flatten"),
        node("Concat", ["f", "vector"], ["joined"], "net/join", axis=1),
        node("Gemm", ["joined", "w4", "b4"], ["hidden"], "net/hidden", transB=1, alpha=0.5, beta=2.0),
        node("Relu", ["hidden"], ["r4"], "net/relu4"),
        node("MatMul", ["r4", "w5"], ["scores"], "net/scores"),
    ]
    weights = [
        ("w1", first),
        ("b1", bias),
        ("w2", depthwise),
        ("w3", random(48, 64, 1, 1, seed=2)),
        ("w4", random(200, 88)),
        ("b4", random(200)),
        ("w5", random(200, 6)),
    ]
    inputs = [info("image", ["batch", 3, 12, 12]), info("vector", ["batch", 40])]
    return model_of(nodes, inputs, [info("scores", ["batch", 6])], weights)


def hub_of(model: onnx.ModelProto, folder: Path, reference: Path | None = None) -> Hub:
    source, out = folder / "source.onnx", folder / "hub"
    onnx.save(model, source)
    out.mkdir()
    hub = import_model(ImportSpec(source, "onnx", reference_inputs=reference), out)
    hub.source = {"path": str(source), "sha256": "0" * 64}
    hub.write()
    return Hub.read(out)


def data(path: Path, count: int = 60) -> Path:
    rng = np.random.default_rng(3)
    image = rng.standard_normal((count, 3, 12, 12)).astype(np.float32)
    np.savez(path, image=image, vector=rng.standard_normal((count, 40)).astype(np.float32))
    return path


def convert(hub: Hub, path: Path, dtype: str, opset: int | None = None, **block: object) -> ExportResult:
    block = {"optimization": "default", "type": dtype, **block}
    return export_model(hub, ExportJob("converted/x.onnx", onnx_opset=opset, quantization=block), path)


def held(path: Path) -> Counter:
    """Elements of initializers of 1000 or more, by element type."""
    model, found = onnx.load(path), Counter()
    for tensor in model.graph.initializer:
        if np.prod(tensor.dims) >= 1000:
            found[TensorProto.DataType.Name(tensor.data_type).lower()] += int(np.prod(tensor.dims))
    return found


def runs(path: Path, *arrays: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {value.name: array for value, array in zip(session.get_inputs(), arrays, strict=True)})
