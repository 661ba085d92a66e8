"""Keras files, of Keras 3 (.keras, .h5) and Keras 2 (.h5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from mutation.recipes import Recipe, spread

__all__ = ["RECIPES"]


def _saved(build: Callable, suffix: str, package: str, seed: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import importlib

        keras = importlib.import_module(package)
        keras.utils.set_random_seed(seed)
        model = build(keras)
        names = [getattr(weight, "path", weight.name) for weight in model.weights]
        drawn = iter(spread([weight.numpy() for weight in model.weights], names, seed))
        for weight in model.weights:
            weight.assign(next(drawn))
        model.save(folder / f"source{suffix}")
        return folder / f"source{suffix}"

    return write


def _cnn(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((10, 8, 3), name="image")
    y = layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    y = layers.BatchNormalization()(y)
    y = layers.MaxPooling2D()(layers.ReLU()(y))
    y = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(y)
    y = layers.Dropout(0.3)(layers.Flatten()(y))
    return keras.Model(x, layers.Dense(5, activation="softmax", name="scores")(y))


def _separable(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((9, 9, 3), name="image")
    y = layers.ZeroPadding2D(((0, 1), (1, 0)))(x)
    y = layers.SeparableConv2D(8, 3, padding="same", use_bias=False)(y)
    y = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(y))
    y = layers.DepthwiseConv2D(3, strides=2, padding="valid", activation="relu6")(y)
    y = layers.GlobalAveragePooling2D()(y)
    return keras.Model(x, layers.Dense(4, name="scores")(y))


def _residual(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((8, 8, 4), name="image")
    y = layers.Conv2D(4, 3, padding="same")(x)
    y = layers.Add()([layers.LeakyReLU()(y), x])
    z = layers.AveragePooling2D(3, strides=2, padding="same")(y)
    w = layers.Conv2D(4, 1, strides=2, activation="swish")(y)
    y = layers.Concatenate()([z, w])
    return keras.Model(x, layers.Conv2D(3, 3, dilation_rate=2, name="map")(layers.ZeroPadding2D(1)(y)))


def _segmentation(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((8, 6, 3), name="image")
    down = layers.Conv2D(6, 3, strides=2, padding="same", activation="elu")(x)
    up = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="tanh")(down)
    wide = layers.UpSampling2D(2, interpolation="bilinear")(down)
    y = layers.Concatenate()([up, wide, x])
    return keras.Model(x, layers.Conv2D(2, 1, activation="sigmoid", name="mask")(y))


def _activations(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((7,), name="x")
    y = x
    for kind in ("elu", "selu", "softplus", "hard_sigmoid", "softsign"):
        y = layers.Dense(8, activation=kind)(y)
    y = layers.PReLU()(layers.Dense(8)(y))
    return keras.Model(x, layers.Dense(3, name="y")(y))


def _gelu(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((6,), name="x")
    y = layers.Dense(8, activation="gelu")(x)
    y = layers.Dense(8, activation="hard_swish")(layers.LayerNormalization()(y))
    y = layers.Dense(8, activation="mish")(y)
    return keras.Model(x, layers.Dense(3, activation="log_softmax", name="y")(y))


def _lstm(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((6, 5), name="sequence")
    y = layers.LSTM(7, return_sequences=True)(x)
    return keras.Model(x, layers.Dense(3, name="y")(layers.LSTM(5)(y)))


def _gru(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((6, 5), name="sequence")
    y = layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)
    return keras.Model(x, layers.Dense(3, name="y")(layers.GRU(5, reset_after=False)(y)))


def _embedding(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((8,), dtype="int32", name="tokens")
    y = layers.Embedding(12, 6, mask_zero=True)(x)
    y = layers.GlobalAveragePooling1D()(y)
    return keras.Model(x, layers.Dense(3, activation="softmax", name="y")(y))


def _attention(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((5, 8), name="sequence")
    y = layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    y = layers.LayerNormalization(epsilon=1e-5)(layers.Add()([x, y]))
    z = layers.Dense(8)(layers.Dense(12, activation="gelu")(y))
    return keras.Model(x, layers.LayerNormalization(name="y")(layers.Add()([y, z])))


def _several(keras: ModuleType) -> object:
    layers = keras.layers
    a, b = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    y = layers.Subtract()([layers.Dense(5)(a), layers.Dense(5)(b)])
    z = layers.Multiply()([y, layers.Dense(5, activation="tanh")(b)])
    return keras.Model([a, b], [layers.Dense(3, name="score")(z), layers.Dense(3, name="level")(y)])


def _sound(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((16, 3), name="signal")
    y = layers.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    y = layers.MaxPooling1D(2, padding="same")(y)
    y = layers.Cropping1D((1, 0))(layers.UpSampling1D(2)(y))
    y = layers.AveragePooling1D(3, strides=2)(y)
    return keras.Model(x, layers.Dense(3, name="y")(layers.GlobalMaxPooling1D()(y)))


def _volume(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((6, 5, 4, 2), name="volume")
    y = layers.Conv3D(4, 3, padding="same", activation="relu")(x)
    y = layers.Conv3D(4, 2, strides=2)(y)
    return keras.Model(x, layers.Dense(3, name="y")(layers.Flatten()(y)))


def _groups(keras: ModuleType) -> object:
    layers, x = keras.layers, keras.Input((7, 7, 4), name="image")
    y = layers.Conv2D(8, 3, groups=2, padding="same")(x)
    y = layers.Activation("silu")(layers.GroupNormalization(4)(y))
    y = layers.Cropping2D(((1, 0), (0, 1)))(layers.ZeroPadding2D(1)(y))
    y = layers.UnitNormalization()(layers.MaxPooling2D(3, strides=2, padding="same")(y))
    return keras.Model(x, layers.Dense(3, name="y")(layers.Flatten()(y)))


_KERAS = [
    ("cnn", _cnn, ".h5", "tf_keras"),
    ("gru", _gru, ".h5", "tf_keras"),
    ("separable", _separable, ".h5", "tf_keras"),
    ("activations", _activations, ".h5", "keras"),
    ("volume", _volume, ".h5", "keras"),
    ("residual", _residual, ".keras", "keras"),
    ("segmentation", _segmentation, ".keras", "keras"),
    ("lstm", _lstm, ".keras", "keras"),
    ("embedding", _embedding, ".keras", "keras"),
    ("attention", _attention, ".keras", "keras"),
    ("several", _several, ".keras", "keras"),
    ("sound", _sound, ".keras", "keras"),
    ("groups", _groups, ".keras", "keras"),
    ("gelu", _gelu, ".keras", "keras"),
]

RECIPES = [
    Recipe(
        f"keras_{name}",
        f"Keras {'2 ' if package == 'tf_keras' else ''}{suffix}",
        _saved(build, suffix, package, seed),
        ranges={"tokens": (0, 11)} if name == "embedding" else {},
    )
    for seed, (name, build, suffix, package) in enumerate(_KERAS)
]
