"""Run by a legacy environment's own Python: legacy_models.py FOLDER writes the models that the tests convert (Python 3.7)."""

from __future__ import annotations

import os
import sys

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
SEED = 3
K = tf.keras.backend


def spread(model):
    """Weights whose outputs vary from input to input, the same on every machine."""
    generator = np.random.RandomState(SEED)
    for layer in model.layers:  # Keras 2.3 orders a whole model's weights in two ways
        names = [weight.name for weight in layer.weights]
        values = [generator.uniform(-1.0, 1.0, value.shape) for value in layer.get_weights()]
        layer.set_weights([abs(v) + 0.5 if "variance" in names[i] else v for i, v in enumerate(values)])
    return model


def lambda_model(keras, folder, name):
    """(N, 6, 5) to two outputs; the Lambda layers are bytecode of this Python, and use K and tf."""
    # A global, as in users' scripts: Keras stores what a lambda closes over as JSON, and a module is none.
    globals()["K"] = keras.backend
    first = keras.layers.Input((6, 5), name="signal")
    second = keras.layers.Input((5,), name="bias")
    hidden = keras.layers.Conv1D(8, 3, padding="same", activation="tanh")(first)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.Lambda(lambda x: K.mean(x, axis=1) * 2.0 + 1.0, name="average")(hidden)
    hidden = keras.layers.Dropout(0.5)(hidden)
    joined = keras.layers.Concatenate()([hidden, second])
    scores = keras.layers.Dense(4, activation="softmax", name="scores")(joined)
    level = keras.layers.Lambda(lambda x: K.sum(K.square(x), axis=-1, keepdims=True), name="level")(joined)
    model = spread(keras.models.Model([first, second], [scores, level]))
    model.save(os.path.join(folder, name), include_optimizer=False)


def plain_model(keras, folder, name):
    """(N, 8, 8, 3) to (N, 5), without Lambda layers."""
    model = keras.models.Sequential(
        [
            keras.layers.Conv2D(4, 3, padding="same", activation="relu", input_shape=(8, 8, 3), name="first"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="softmax", name="classes"),
        ]
    )
    spread(model).save(os.path.join(folder, name), include_optimizer=False)


def checkpoint(folder, with_contrib):
    """x (N, 6) to y/out (N, 3), with dropout behind a training flag, a loss and its optimizer, a table of contrib's Resampler."""
    graph = tf.Graph()
    with graph.as_default():
        generator = np.random.RandomState(SEED)
        x = v1.placeholder(tf.float32, [None, 6], name="x")
        training = v1.placeholder_with_default(True, [], name="training")
        weights = v1.get_variable("weights", initializer=generator.uniform(-1, 1, (6, 3)).astype("float32"))
        if with_contrib:
            from tensorflow.contrib.resampler import resampler

            image = tf.constant(generator.uniform(-1, 1, (1, 4, 4, 3)).astype("float32"))
            points = tf.constant(generator.uniform(0, 3, (1, 6, 2)).astype("float32"))
            weights = weights + tf.reshape(resampler(image, points), [6, 3])
        dropped = tf.cond(training, lambda: tf.nn.dropout(x, rate=0.5), lambda: tf.identity(x))
        out = tf.nn.sigmoid(tf.matmul(dropped, weights), name="out")
        loss = tf.reduce_mean(tf.square(out))
        v1.train.AdamOptimizer(0.1).minimize(loss)
        saver = v1.train.Saver()
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            saver.save(session, os.path.join(folder, "counts"))
            graph_def = graph.as_graph_def()
            frozen = v1.graph_util.convert_variables_to_constants(session, graph_def, ["out"])
            with open(os.path.join(folder, "frozen.pb"), "wb") as file:
                file.write(frozen.SerializeToString())
            if with_contrib:
                v1.saved_model.simple_save(session, os.path.join(folder, "saved"), {"x": x}, {"scores": out})


def torch_modules(folder):
    import torch
    import torchvision

    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import legacy_network

    torch.manual_seed(SEED)
    torch.save(legacy_network.Net(7), os.path.join(folder, "net.pt"))
    torch.save(legacy_network.Net(7).state_dict(), os.path.join(folder, "weights.pt"))
    # A class that is gone from later releases.
    gone = torchvision.ops.misc.ConvTranspose2d(3, 4, 2, stride=2)
    torch.save(torch.nn.Sequential(gone, torch.nn.ReLU()), os.path.join(folder, "gone.pt"))
    # A class that later releases moved: torchvision.models.mobilenet.ConvBNReLU.
    module = torchvision.models.mobilenet.ConvBNReLU(3, 4, stride=2)
    for parameter in module.parameters():
        torch.nn.init.uniform_(parameter, 0.1, 0.5)
    torch.save(
        torch.nn.Sequential(module, torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()), os.path.join(folder, "moved.pt")
    )


def main(folder):
    os.makedirs(folder, exist_ok=True)
    is_first = tf.__version__.startswith("1.")
    checkpoint(folder, is_first)
    torch_modules(folder)
    lambda_model(tf.keras, folder, "lambda.h5")
    plain_model(tf.keras, folder, "plain.h5")
    if not is_first:
        model = tf.keras.models.load_model(os.path.join(folder, "plain.h5"), compile=False)
        model.save(os.path.join(folder, "saved"), include_optimizer=False)
    else:
        import keras

        lambda_model(keras, folder, "lambda_keras.h5")


if __name__ == "__main__":
    main(sys.argv[1])
