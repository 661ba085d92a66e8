"""Run a TensorFlow hub's graph on any inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from converter.errors import UnsupportedError
from converter.hub import Hub

__all__ = ["runner"]


def runner(hub: Hub) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """A function of arrays in the order of the hub's inputs. Raises UnsupportedError where the graph refers to resources.

    The weights are fed: inside the graph they would meet protobuf's 2 GB limit.
    """
    if hub.extra.get("resources"):
        raise UnsupportedError(
            f"{hub.source.get('path')} holds resources ({', '.join(hub.extra['resources'])}) which only its own "
            "framework can run: name it first"
        )
    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(hub.graph_path.read_bytes())
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    session = tf.compat.v1.Session(graph=graph)
    weights = {f"{name}:0": value for name, value in hub.weights().items()}
    inputs = [spec.tensor for spec in hub.inputs]
    outputs = [spec.tensor for spec in hub.outputs]
    return lambda arrays: session.run(outputs, {**weights, **dict(zip(inputs, arrays, strict=True))})
