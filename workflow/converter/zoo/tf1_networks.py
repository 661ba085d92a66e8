"""tf_keras networks of the recipes for TensorFlow 1 files, and weights with which their outputs vary."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tf_keras as keras

__all__ = ["calibrate", "classifier", "recurrent", "squeezenet"]

_SAMPLES = 8


def classifier(
    build: Callable[..., keras.Model], classes: int | None, size: int = 224, conv: bool = False, **options: object
) -> keras.Model:
    """One of keras.applications with logits instead of its softmax: (N, classes), or (N, 1, 1, classes) where `conv`.

    Without `classes` the answer is the pooled features, (N, features).
    """
    body = build(include_top=False, weights=None, input_shape=(size, size, 3), **options)
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=conv)(body.output)
    if classes is None:
        return keras.Model(body.input, pooled)
    head = keras.layers.Conv2D(classes, 1, name="logits") if conv else keras.layers.Dense(classes, name="logits")
    return keras.Model(body.input, head(pooled))


def squeezenet(classes: int) -> keras.Model:
    """SqueezeNet 1.0 (Iandola et al. 2016), logits (N, classes)."""
    layers = keras.layers
    image = keras.Input((224, 224, 3))
    x = layers.MaxPooling2D(3, 2)(layers.Conv2D(96, 7, 2, activation="relu")(image))
    for index, width in enumerate((16, 16, 32, 32, 48, 48, 64, 64), 2):
        if index in (5, 9):  # pooling after fire4 and fire8
            x = layers.MaxPooling2D(3, 2)(x)
        x = layers.Conv2D(width, 1, activation="relu")(x)
        x = layers.Concatenate()(
            [
                layers.Conv2D(4 * width, 1, activation="relu")(x),
                layers.Conv2D(4 * width, 3, padding="same", activation="relu")(x),
            ]
        )
    x = layers.Conv2D(classes, 1, name="logits")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x))


def recurrent(layer: keras.layers.Layer) -> keras.Model:
    """The text classifier of the original's lists: 53 tokens, an embedding, one recurrent layer, two classes."""
    normal = keras.initializers.RandomNormal(stddev=1.0)
    tokens = keras.Input((53,))
    x = keras.layers.Embedding(1000, 32, embeddings_initializer=normal)(tokens)
    # Asked for the last step alone, Keras writes each step to one place, which loops of TensorFlow 1 refuse (tf_keras 2.21).
    last = layer(64, return_sequences=True)(x)[:, -1]
    return keras.Model(tokens, keras.layers.Dense(2, name="logits")(last))


def calibrate(model: keras.Model, seed: int) -> None:
    """Weights with which the outputs vary over random inputs, as in scripts/zoo_keras.py.

    Batch normalisation takes the statistics of the inputs; each linear layer named `logits...` or `boxes...` answers with
    mean 0 and standard deviation 1.
    """
    rng = np.random.default_rng(seed)
    shape = (_SAMPLES, *model.input_shape[1:])
    tokens = isinstance(model.layers[1], keras.layers.Embedding)
    data = (rng.integers(0, 1000, shape) if tokens else rng.uniform(-1, 1, shape)).astype(np.float32)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and not isinstance(layer, keras.layers.DepthwiseConv2D):
            fan_in = int(np.prod(layer.kernel.shape[:-1]))
            layer.kernel.assign(rng.normal(0, np.sqrt(2 / fan_in), layer.kernel.shape))
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
        for variable in layer.trainable_variables:
            # Around 1, so that a ReLU behind passes most and layers do not multiply rounding errors.
            centre = 1.0 if variable is layer.beta else variable.numpy()
            variable.assign(centre + 0.1 * rng.standard_normal(variable.shape))
    model(data, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    for layer in model.layers:
        if layer.name.startswith(("logits", "boxes")):
            answers = keras.Model(model.input, layer.output)(data, training=False).numpy()
            axes = tuple(range(answers.ndim - 1))
            scale = 1 / max(float(answers.std(axis=axes).mean()), 1e-12)
            layer.kernel.assign(layer.kernel.numpy() * scale)
            layer.bias.assign(-answers.mean(axis=axes) * scale)
