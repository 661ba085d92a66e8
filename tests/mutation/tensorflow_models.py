"""SavedModels of TensorFlow 2, checkpoints of TensorFlow 1, and frozen graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mutation.recipes import Recipe, seeded

__all__ = ["RECIPES"]


def _saved_model(signatures: Callable[[], tuple[object, dict]]) -> Callable[[Path], Path]:
    """Of a function that gives a tf.Module and its functions by the signature's name."""

    def write(folder: Path) -> Path:
        import tensorflow as tf

        module, functions = signatures()
        tf.saved_model.save(module, str(folder / "source"), signatures=functions)
        return folder / "source"

    return write


def _module(function: Callable, variables: dict[str, np.ndarray], *specs: tuple, **others: Callable) -> tuple:
    """A tf.Module with these variables; specs: (name, dtype, dimensions) of the arguments. `others`: further signatures."""
    import tensorflow as tf

    module = tf.Module()
    for name, value in variables.items():
        setattr(module, name, tf.Variable(value, name=name))
    arguments = [tf.TensorSpec(dims, dtype, name=name) for name, dtype, *dims in specs]

    def concrete(body: Callable) -> object:
        made = tf.function(lambda *tensors: body(module, *tensors), input_signature=arguments, autograph=False)
        setattr(module, f"function_{len(vars(module))}", made)
        return made.get_concrete_function()

    named = {"serving_default": function, **others}
    return module, {name: concrete(body) for name, body in named.items()}


def _signatures() -> tuple:
    import tensorflow as tf

    def scores(m, x, index, keep):
        hidden = (x + tf.gather(m.table, index)) * tf.cast(keep, tf.float32)
        return {"scores": hidden @ m.kernel, "best": tf.argmax(hidden @ m.kernel, 1)}

    def other(m, x, index, keep):
        return {"scores": tf.nn.relu(x @ m.kernel), "best": index}

    weights = {"table": seeded(1, 10, 4), "kernel": seeded(2, 4, 5)}
    specs = ("x", "float32", None, 4), ("index", "int64", None), ("keep", "bool", None, 1)
    return _module(scores, weights, *specs, other=other)


def _integers() -> tuple:
    import tensorflow as tf

    def body(m, a, b):
        step = tf.constant([3, 4, 5, 7], tf.int32)
        return {
            "parts": a // step + b,
            "rest": tf.math.floormod(a, step),
            "least": tf.minimum(a, b) * 2 - tf.abs(b),
            "larger": tf.cast(a > b, tf.int32),
        }

    return _module(body, {}, ("a", "int32", None, 4), ("b", "int32", None, 4))


def _resize() -> tuple:
    import tensorflow as tf

    def body(m, image):
        size = tf.shape(image)[1:3]
        smooth = tf.image.resize(image, size * 2, "bilinear")
        coarse = tf.compat.v1.image.resize_nearest_neighbor(image, [9, 7])
        fixed = tf.compat.v1.image.resize_bilinear(image, [9, 7], align_corners=True)
        y = tf.nn.conv2d(smooth, m.kernel, 2, "SAME")
        return {"map": tf.nn.relu(y), "small": tf.concat([coarse, fixed], 3)}

    return _module(body, {"kernel": seeded(3, 3, 3, 2, 4)}, ("image", "float32", None, None, None, 2))


def _detector() -> tuple:
    import tensorflow as tf

    def body(m, image):
        y = tf.nn.relu(tf.nn.conv2d(image, m.first, 2, "SAME"))
        corner = tf.reshape(tf.sigmoid(tf.nn.conv2d(y, m.box, 1, "SAME")), [16, 4])
        scores = tf.reshape(tf.nn.conv2d(y, m.score, 1, "SAME"), [16])
        boxes = tf.concat([corner[:, :2], corner[:, :2] + 0.3 * corner[:, 2:] + 0.1], 1)
        chosen = tf.image.non_max_suppression(boxes, scores, 5, 0.4, 0.3)
        return {"boxes": tf.gather(boxes, chosen), "scores": tf.gather(scores, chosen)}

    weights = {"first": seeded(4, 3, 3, 3, 6), "box": 2 * seeded(5, 3, 3, 6, 4), "score": seeded(6, 3, 3, 6, 1)}
    return _module(body, weights, ("image", "float32", 1, 8, 8, 3))


def _recurrent(folder: Path) -> Path:
    """By Keras's own export, whose LSTM becomes the fused operator of TensorFlow Lite, with its state in variables."""
    import keras

    keras.utils.set_random_seed(7)
    x = keras.Input((6, 5), name="sequence")
    y = keras.layers.LSTM(7, return_sequences=True, name="lstm")(x)
    model = keras.Model(x, keras.layers.Dense(3, name="y")(y))
    for number, weight in enumerate(model.weights):
        weight.assign(seeded(40 + number, *weight.shape))
    model.export(folder / "source", verbose=False)
    return folder / "source"


def _choices() -> tuple:
    import tensorflow as tf

    def body(m, flags, x):
        y = tf.where(flags, x @ m.kernel, tf.minimum(x, 0.5))
        above = tf.logical_and(y > 0.25, tf.logical_not(flags))
        y = tf.where(above, tf.clip_by_value(y, -0.5, 1.5), y * y)
        return {"y": y, "any": tf.reduce_any(above, 1), "near": tf.round(x * 4), "low": tf.floor(y), "not": x <= 0.0}

    return _module(body, {"kernel": seeded(9, 4, 4)}, ("flags", "bool", None, 4), ("x", "float32", None, 4))


def _graph(build: Callable[[], None], checkpoint: bool) -> Callable[[Path], Path]:
    """Of a function that builds a TensorFlow 1 graph; variables by v1.get_variable, constants in a frozen graph."""

    def write(folder: Path) -> Path:
        import tensorflow as tf

        v1 = tf.compat.v1
        v1.disable_control_flow_v2()
        with tf.Graph().as_default() as graph, v1.Session() as session:
            build()
            if not checkpoint:
                (folder / "source.pb").write_bytes(graph.as_graph_def().SerializeToString())
                return folder / "source.pb"
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, str(folder / "source"), write_state=False)
        return folder / "source.meta"

    return write


def _variable(name: str, value: np.ndarray) -> object:
    import tensorflow as tf

    return tf.compat.v1.get_variable(name, initializer=value, use_resource=False)


def _placeholder(name: str, dtype: str, *dims: int | None) -> object:
    import tensorflow as tf

    return tf.compat.v1.placeholder(dtype, dims, name=name)


def _checkpoint_images() -> None:
    """Batch normalization under a training flag."""
    import tensorflow as tf

    x = _placeholder("image", "float32", None, 8, 8, 3)
    training = tf.compat.v1.placeholder_with_default(True, [], name="is_training")
    y = tf.nn.conv2d(x, _variable("w", seeded(10, 3, 3, 3, 6)), 1, "SAME")
    mean, variance = _variable("mean", seeded(11, 6)), _variable("variance", np.abs(seeded(12, 6)) + 0.5)
    moments = tf.nn.moments(y, [0, 1, 2])
    m, v = tf.cond(training, lambda: moments, lambda: (tf.identity(mean), tf.identity(variance)))
    y = tf.nn.batch_normalization(
        y, m, v, _variable("beta", seeded(13, 6)), _variable("gamma", seeded(14, 6) + 1), 1e-3
    )
    y = tf.nn.max_pool2d(tf.nn.relu6(y), 3, 2, "SAME")
    y = tf.reshape(y, [-1, 96]) @ _variable("out", seeded(15, 96, 4))
    tf.nn.softmax(y, name="prob")


def _checkpoint_loop() -> None:
    import tensorflow as tf

    ids = _placeholder("ids", "int32", None, 5)
    embedded = tf.transpose(tf.nn.embedding_lookup(_variable("table", seeded(16, 12, 4)), ids), [1, 0, 2])
    w = _variable("w", seeded(17, 8, 4))
    steps = tf.shape(embedded)[0]
    _, state = tf.while_loop(
        lambda step, _: step < steps,
        lambda step, state: (step + 1, tf.tanh(tf.concat([embedded[step], state], 1) @ w)),
        (0, tf.zeros_like(embedded[0])),
    )
    tf.identity(state, name="state")


def _checkpoint_attention() -> None:
    import tensorflow as tf

    x = _placeholder("sequence", "float32", None, 6, 4)
    lengths = _placeholder("length", "int32", None)
    q, k = (tf.tensordot(x, _variable(name, seeded(seed, 4, 4)), 1) for name, seed in (("q", 18), ("k", 19)))
    mask = tf.cast(tf.sequence_mask(lengths, 6), tf.float32)[:, None, :]
    weights = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * 0.5 + (mask - 1) * 1e9)
    tf.reduce_sum(tf.matmul(weights, x), 1, name="y")


def _checkpoint_dense() -> None:
    import tensorflow as tf

    x = _placeholder("x", "float32", None, 6)
    y = tf.nn.elu(x @ _variable("a", seeded(20, 6, 9)) + _variable("b", seeded(21, 9)))
    y = tf.nn.leaky_relu(y @ _variable("c", seeded(22, 9, 9)), 0.1)
    y = tf.nn.l2_normalize(y, 1)
    tf.identity(tf.math.log_softmax(y @ _variable("d", seeded(23, 9, 4))), name="y")


def _frozen_heads() -> None:
    import tensorflow as tf

    x, count = _placeholder("x", "float32", None, 9), _placeholder("count", "uint8", None, 1)
    hidden = tf.tanh(x @ seeded(24, 9, 12))
    tf.nn.softmax(hidden @ seeded(25, 12, 5), name="scores")
    tf.math.top_k(hidden + tf.cast(count, tf.float32) / 64, 3, name="top")


def _frozen_slices() -> None:
    import tensorflow as tf

    x = _placeholder("x", "float32", None, 6, 7)
    y = tf.concat([x[:, 1:4, ::2], tf.reverse(x, [2])[:, ::2, :4]], 1)
    y = tf.pad(y, [[0, 0], [1, 2], [0, 1]], constant_values=0.5)
    y = tf.pad(y, [[0, 0], [0, 1], [2, 1]], "REFLECT")
    a, b = tf.split(y, [3, 5], 2)
    y = tf.cumsum(a, 1) + tf.reduce_max(b, 2, keepdims=True) * tf.gather(y, [1, 4, 6], axis=2)
    tf.identity(tf.transpose(y, [0, 2, 1]) * tf.constant([0.5, 2.0, -1.0])[:, None], name="y")


def _frozen_double() -> None:
    import tensorflow as tf

    x = _placeholder("x", "float64", None, 5)
    y = tf.sigmoid(x @ seeded(26, 5, 6).astype(np.float64))
    tf.identity(tf.sqrt(tf.abs(y @ seeded(27, 6, 3).astype(np.float64)) + 1e-3), name="y")


def _frozen_depthwise() -> None:
    import tensorflow as tf

    x = _placeholder("image", "float32", None, 8, 8, 4)
    y = tf.nn.depthwise_conv2d(x, seeded(28, 3, 3, 4, 2), [1, 1, 1, 1], "SAME", dilations=[2, 2])
    y = tf.compat.v1.nn.fused_batch_norm(
        y, seeded(29, 8) + 1, seeded(30, 8), seeded(31, 8), np.abs(seeded(32, 8)) + 0.5, is_training=False
    )[0]
    y = tf.nn.avg_pool2d(tf.nn.relu(y), 3, 2, "SAME")
    y = tf.nn.space_to_depth(y, 2) + tf.constant(seeded(33, 32))
    tf.argmax(tf.reduce_mean(y, [1, 2]), 1, name="best")
    tf.nn.depth_to_space(tf.sigmoid(y), 2, name="map")


RECIPES = [
    Recipe("saved_signatures", "SavedModel", _saved_model(_signatures), ranges={"index": (0, 9)}),
    Recipe("saved_integers", "SavedModel", _saved_model(_integers), ranges={"a": (-40, 40), "b": (-40, 40)}),
    Recipe("saved_resize", "SavedModel", _saved_model(_resize)),
    Recipe("saved_detector", "SavedModel", _saved_model(_detector)),
    Recipe("saved_recurrent", "SavedModel", _recurrent),
    Recipe("saved_choices", "SavedModel", _saved_model(_choices)),
    Recipe("tf1_images", "TF1 checkpoint", _graph(_checkpoint_images, True), {"output_nodes": "prob"}),
    Recipe("tf1_loop", "TF1 checkpoint", _graph(_checkpoint_loop, True), ranges={"ids": (0, 11)}),
    Recipe("tf1_attention", "TF1 checkpoint", _graph(_checkpoint_attention, True), ranges={"length": (0, 6)}),
    Recipe("tf1_dense", "TF1 checkpoint", _graph(_checkpoint_dense, True)),
    Recipe("pb_heads", "frozen .pb", _graph(_frozen_heads, False)),
    Recipe("pb_slices", "frozen .pb", _graph(_frozen_slices, False)),
    Recipe("pb_double", "frozen .pb", _graph(_frozen_double, False)),
    Recipe("pb_depthwise", "frozen .pb", _graph(_frozen_depthwise, False)),
]
