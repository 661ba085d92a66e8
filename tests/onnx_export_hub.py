"""What the tests of the ONNX exporter share: a network, its hub, and a conversion whose file is looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import tensorflow as tf
from export_onnx import export_model
from tf_hub import dense, make_hub

from converter.contracts import ExportJob, ExportResult
from converter.hub.hub import Hub

__all__ = ["Net", "convert", "dims", "make_net_hub", "operators", "spec"]


def spec(name: str, *shape: int | None, dtype: tf.DType = tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name)


def convert(hub: Hub, path: Path, opset: int | None = None, **job) -> tuple[ExportResult, onnx.ModelProto]:
    """The result and the file, which must be as protobuf itself would write it, valid, and of the opset reported."""
    result = export_model(hub, ExportJob("converted/x.onnx", onnx_opset=opset, **job), path)
    model = onnx.load(path)
    assert model.SerializeToString(deterministic=True) == path.read_bytes()
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", result.opset)]
    return result, model


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


class Net(tf.Module):
    """A classifier (N, 8, 8, 3) -> (N, 5) with filters above and below 64 KB, and both forms of batch normalization."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.first, self.second = dense(rng, 3, 3, 3, 32), dense(rng, 3, 3, 32, 96)
        self.third, self.last = dense(rng, 3, 3, 96, 64), dense(rng, 64, 5)
        self.scale2, self.scale3 = (tf.Variable(rng.uniform(0.5, 2, n).astype(np.float32)) for n in (96, 64))

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(tf.nn.conv2d(x, self.first, 1, "SAME"))
        shift = self.scale2 * 0.1
        x = tf.nn.conv2d(x, self.second, 2, "SAME")
        x = tf.compat.v1.nn.fused_batch_norm(x, self.scale2, shift, shift, self.scale2, is_training=False)[0]
        x = tf.nn.conv2d(tf.nn.relu(x), self.third, 1, "SAME") * tf.math.rsqrt(self.scale3) + self.scale3
        return tf.nn.softmax(tf.reduce_mean(tf.nn.relu(x), [1, 2]) @ self.last)


def make_net_hub(path: Path) -> Hub:
    hub = make_hub(path, Net(), [spec("image", None, 8, 8, 3)], ["scores"])
    hub.source, hub.versions = {"sha256": "ab" * 32}, {"zlib": "1", "alpha": "2"}
    hub.write()
    return Hub.read(hub.path)
