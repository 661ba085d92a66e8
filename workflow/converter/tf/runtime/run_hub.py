"""Run a TensorFlow hub's graph on any inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from converter.errors import UnsupportedError
from converter.hub.hub import Hub
from converter.hub.weights import Weights

__all__ = ["open_session", "runner"]


def open_session(hub: Hub, *, rewritten: bool = True) -> tuple[tf.compat.v1.Session, Weights]:
    """A session of the hub's graph, and the values of its weights by node name, to be fed in every call.

    `rewritten`: TensorFlow may fuse operators; tensors within such are not there to be fetched then (TensorFlow 2.21).
    Inside the graph they would meet protobuf's 2 GB limit. Raises UnsupportedError where the graph refers to resources.
    """
    if resources := hub.extra.get("resources"):
        raise UnsupportedError(
            f"{hub.source.get('path')} holds resources ({', '.join(resources)}) which only its own "
            "framework can run: name it first"
        )
    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(hub.graph_path.read_bytes())
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = not rewritten
    return tf.compat.v1.Session(graph=graph, config=config), hub.weights()


def runner(hub: Hub) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """A function of arrays in the order of the hub's inputs. Raises UnsupportedError where the graph refers to tables."""
    session, values = open_session(hub)
    weights = {f"{name}:0": value for name, value in values.items()}
    inputs = [spec.tensor for spec in hub.inputs]
    outputs = [spec.tensor for spec in hub.outputs]
    return lambda arrays: session.run(outputs, {**weights, **dict(zip(inputs, arrays, strict=True))})
