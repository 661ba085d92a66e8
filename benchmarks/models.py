"""The models that are not in the zoo: models.py bulk FOLDER COUNT, models.py sized FOLDER MEGABYTES...  writes .h5 files."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["main"]


def perceptron(index: int):
    """Some 10,000 to 100,000 weights over a table's row."""
    import keras
    from keras import layers

    width = 32 * (2 + index % 5)
    x = inputs = keras.Input((16 + index,), name="row")
    for _ in range(2 + index % 3):
        x = layers.Dense(width, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="classes")(x))


def convolutions(index: int):
    """An image classifier of a few layers, with batch normalization."""
    import keras
    from keras import layers

    x = inputs = keras.Input((32, 32, 3), name="image")
    for filters in (16, 32, 32 + 8 * (index % 4)):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, name="classes")(x))


def separable(index: int):
    """Depthwise convolutions with residual connections, as in models for phones."""
    import keras
    from keras import layers

    x = inputs = keras.Input((48, 48, 1), name="image")
    x = layers.Conv2D(24, 3, strides=2, padding="same")(x)
    for _ in range(2 + index % 3):
        y = layers.DepthwiseConv2D(3, padding="same")(x)
        x = layers.Add()([x, layers.ReLU(6.0)(layers.Conv2D(24, 1)(y))])
    x = layers.Flatten()(layers.MaxPooling2D(4)(x))
    return keras.Model(inputs, layers.Dense(5, activation="sigmoid", name="tags")(x))


def signal(index: int):
    """One-dimensional convolutions over a sensor's readings."""
    import keras
    from keras import layers

    x = inputs = keras.Input((128, 6), name="readings")
    for filters in (16, 32):
        x = layers.Conv1D(filters, 3 + 2 * (index % 3), padding="same", activation="relu")(x)
        x = layers.MaxPooling1D(2)(x)
    return keras.Model(inputs, layers.Dense(6, name="activities")(layers.GlobalMaxPooling1D()(x)))


def sized(megabytes: float):
    """About `megabytes` million bytes of float32 weights, in at most eight convolutions of 3x3 and a matrix behind them."""
    import keras
    from keras import layers

    count = 8 if megabytes >= 10 else 4
    filters = max(8, round((megabytes * 1e6 / 4 / 9 / count) ** 0.5))
    x = inputs = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(filters, 3, strides=4, padding="same", activation="relu")(x)
    for _ in range(count):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    return keras.Model(inputs, layers.Dense(10, name="classes")(layers.GlobalAveragePooling2D()(x)))


def main(kind: str, folder: str, *numbers: str) -> None:
    import keras

    Path(folder).mkdir(parents=True, exist_ok=True)
    if kind == "sized":
        for number in numbers:
            keras.utils.set_random_seed(7)
            sized(float(number)).save(Path(folder, f"sized-{number}.h5"))
    else:
        for index in range(int(numbers[0])):
            keras.utils.set_random_seed(index)
            build = (perceptron, convolutions, separable, signal)[index % 4]
            build(index // 4).save(Path(folder, f"{build.__name__}-{index:03}.h5"))


if __name__ == "__main__":
    main(*sys.argv[1:])
