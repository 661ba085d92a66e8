"""Make a well-known Keras model as an .h5 file: zoo_keras.py --recipe=application|recurrent --name=VGG16 --weights=random OUTPUT.

Random weights are seeded and calibrated, because freshly initialised networks answer nearly the same to every input, and
a wrong conversion of a constant is not noticed: batch normalisation takes the statistics of random images and centres what
it passes on around 1, and the last layer is scaled so that its logits have mean 0 and standard deviation 0.5 over them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

_SEED = 7
_SAMPLES = 8
_LOGITS = 0.5
# Of images where the network takes any (MobileNetV3).
_FREE_SIZE = 224


def application(name: str, weights: str):
    """One of keras.applications, at its own input size, with 1000 classes."""
    import keras

    build = getattr(keras.applications, name)
    if weights == "pretrained":
        return build(weights="imagenet")
    keras.utils.set_random_seed(_SEED)
    model = build(weights=None)
    shape = [size or _FREE_SIZE for size in model.input_shape[1:]]
    _spread(model, np.random.default_rng(_SEED).normal(size=(_SAMPLES, *shape)).astype(np.float32))
    return model


def recurrent(name: str, weights: str):
    """The text classifiers of the original tool's lists: 53 tokens, an embedding, one LSTM or GRU layer, two classes."""
    import keras

    if weights == "pretrained":
        raise SystemExit(f"{name} has no pretrained weights: write zoo: weights: random")
    keras.utils.set_random_seed(_SEED)
    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[name]
    model = keras.Sequential(
        [
            keras.Input((53,), name="embedding_input"),
            keras.layers.Embedding(1000, 32, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0)),
            layer(64),
            keras.layers.Dense(2),
        ]
    )
    _spread(model, np.random.default_rng(_SEED).integers(0, 1000, (_SAMPLES, 53)).astype(np.float32))
    return model


def _spread(model, data: np.ndarray) -> None:
    """Give `model` weights with which its outputs vary over `data` (see the module's docstring)."""
    import keras
    import tensorflow

    rng = np.random.default_rng(_SEED)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            for variable in layer.trainable_variables:
                # A ReLU behind it then passes most of what comes. Around 0 each layer of a random network multiplies the
                # rounding errors of the one before by 1.2, and fifty layers would leave no digits to compare.
                centre = 1.0 if variable is layer.beta else variable.numpy()
                variable.assign(centre + 0.1 * rng.standard_normal(variable.shape))
        elif isinstance(layer, keras.layers.Conv2D) and not isinstance(layer, keras.layers.DepthwiseConv2D):
            kernel = layer.kernel
            fan_in = int(np.prod(kernel.shape[:-1]))
            kernel.assign(rng.normal(0, np.sqrt(2 / fan_in), kernel.shape))
    # Not called eagerly: that keeps every layer's output, 22 GB of EfficientNetB7.
    tensorflow.function(lambda batch: model(batch, training=True))(data)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.99
    # MobileNet's last layer is a convolution of 1x1 over one pixel.
    last = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense | keras.layers.Conv2D)][-1]
    before_last = keras.Model(model.inputs, last.input)
    features = tensorflow.function(lambda batch: before_last(batch, training=False))(data).numpy()
    kernel = last.kernel.numpy()
    logits = features.reshape(len(features), -1) @ kernel.reshape(-1, kernel.shape[-1])
    scale = _LOGITS / max(float(logits.std(axis=0).mean()), 1e-12)
    last.kernel.assign(kernel * scale)
    last.bias.assign(-logits.mean(axis=0) * scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=("application", "recurrent"), required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--weights", choices=("random", "pretrained"), default="random")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    model = {"application": application, "recurrent": recurrent}[args.recipe](args.name, args.weights)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    model.save(args.output)


if __name__ == "__main__":
    sys.exit(main())
