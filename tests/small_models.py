"""A frozen graph of a few hundred bytes, whose outputs vary: what tests of the command line convert."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_graph(path: Path, seed: int = 0) -> None:
    """softmax(x @ W), x of shape (N, 4), as a .pb."""
    import tensorflow as tf

    weights = np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float32)
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4], name="x")
        tf.nn.softmax(tf.matmul(x, tf.constant(weights)), name="y")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph.as_graph_def().SerializeToString())
