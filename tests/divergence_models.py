"""Models whose faults are to be found: a CNN, a residual block, recurrent layers, a transformer; from each framework."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytorch_networks
import tensorflow as tf
import torch
from tf_hub import dense, make_hub
from torch import nn
from torch.nn import functional as F

from converter.contracts import ImportSpec
from converter.hub.hub import Hub
from converter.planning.input_shapes import parse_input_shape


class Residual(nn.Module):
    """(N, 3, 10, 10) -> (N, 4): two convolutions around a shortcut, each with a normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.first = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.sigmoid(self.stem(image))
        y = F.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return self.head(F.relu(x + y).mean((2, 3)))


class Stack(nn.Module):
    """(N, 6, 8) -> (N, 3): a GRU and dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 12, batch_first=True)
        self.wide = nn.Linear(12, 20)
        self.narrow = nn.Linear(20, 3)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        return self.narrow(torch.tanh(self.wide(self.rnn(sequence)[0][:, -1])))


class Deciding(nn.Module):
    """A branch that data decides, which only TorchScript keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 9)
        self.second = nn.Linear(9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(self.first(x))
        if bool(x.sum() > 0):
            y = y * 2.0
        return torch.sigmoid(self.second(y))


_TORCH = {
    "cnn": (pytorch_networks.Net, "-1,3,16,16"),
    "residual": (Residual, "-1,3,10,10"),
    "recurrent": (Stack, "-1,6,8"),
    "transformer": (pytorch_networks.Encoder, "-1,7,16"),
    "script": (Deciding, "-1,4"),
}


def torch_hub(kind: str, folder: Path) -> Hub:
    from import_pytorch import import_model

    make, shape = _TORCH[kind]
    torch.manual_seed(0)
    model = pytorch_networks.vary(make()).eval()
    if kind == "script":
        model = torch.jit.script(model)
        model.save(folder / "source.pt")
    else:
        torch.save(model, folder / "source.pt")
    script = Path(pytorch_networks.__file__ if make.__module__ == "pytorch_networks" else __file__)
    script = None if kind == "script" else script
    parameters = {"network_script": script} if script else {}
    out = folder / "hub"
    out.mkdir()
    spec = ImportSpec(folder / "source.pt", "pytorch", input_shape=parse_input_shape(shape), **parameters)
    hub = import_model(spec, out)
    hub.source, hub.versions = {"sha256": "0" * 64, "format": "pytorch", "path": "source.pt"}, {}
    hub.write()
    return Hub.read(out)


def keras_hub(kind: str, folder: Path) -> Hub:
    from import_keras import import_model

    keras.utils.set_random_seed(1)
    model = _KERAS[kind]()
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.1 * rng.random(w.shape, np.float32) for w in model.get_weights()])
    model.save(folder / "source.keras")
    out = folder / "hub"
    out.mkdir()
    hub = import_model(ImportSpec(folder / "source.keras", "keras"), out)
    hub.source = {"sha256": "0" * 64, "format": "keras", "path": "source.keras"}
    hub.write()
    return Hub.read(out)


def _cnn() -> keras.Model:
    layers = keras.layers
    x = image = keras.Input((12, 12, 2), name="image")
    x = layers.Conv2D(5, 3, padding="same", use_bias=False, name="first")(x)
    x = layers.ReLU(name="first_relu")(layers.BatchNormalization(name="first_norm")(x))
    x = layers.Conv2D(7, 3, strides=2, padding="same", activation="relu", name="second")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Dense(9, activation="tanh", name="hidden")(layers.Flatten(name="flatten")(x))
    return keras.Model(image, layers.Dense(4, activation="softmax", name="scores")(x), name="small")


def _residual() -> keras.Model:
    layers = keras.layers
    image = keras.Input((10, 10, 3), name="image")
    x = layers.Conv2D(6, 3, padding="same", activation="sigmoid", name="stem")(image)
    y = layers.BatchNormalization(name="first_norm")(layers.Conv2D(6, 3, padding="same", name="first")(x))
    y = layers.DepthwiseConv2D(3, padding="same", name="second")(layers.ReLU(name="first_relu")(y))
    x = layers.ReLU(name="joined_relu")(layers.Add(name="joined")([x, y]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(4, name="scores")(x))


def _recurrent() -> keras.Model:
    layers = keras.layers
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = layers.Embedding(20, 8, name="embedding")(tokens)
    x = layers.LSTM(7, return_sequences=True, name="lstm")(x)
    x = layers.GRU(5, name="gru")(x)
    return keras.Model(tokens, layers.Dense(3, name="scores")(layers.Dense(9, "relu", name="hidden")(x)))


def _transformer() -> keras.Model:
    layers = keras.layers
    sequence = keras.Input((7, 16), name="sequence")
    x = layers.LayerNormalization(name="first_norm")(
        layers.Add()([sequence, layers.MultiHeadAttention(2, 8, name="attention")(sequence, sequence)])
    )
    y = layers.Dense(16, name="narrow")(layers.Dense(24, activation="gelu", name="wide")(x))
    return keras.Model(sequence, layers.LayerNormalization(name="second_norm")(layers.Add()([x, y])))


_KERAS = {"cnn": _cnn, "residual": _residual, "recurrent": _recurrent, "transformer": _transformer}


def tensorflow_hub(kind: str, folder: Path) -> Hub:
    """A plain function, as frozen graphs and checkpoints hold them; the scopes are its author's."""
    rng = np.random.default_rng(2)
    image = tf.TensorSpec([None, 12, 12, 3], tf.float32, "image")
    kernels = [dense(rng, 3, 3, 3, 5), dense(rng, 3, 3, 5, 5), dense(rng, 5, 4)]

    def plain(x: tf.Tensor) -> tf.Tensor:
        with tf.name_scope("stem"):
            x = tf.nn.relu(tf.nn.conv2d(x, kernels[0], 1, "SAME"))
        with tf.name_scope("block"):
            x += tf.nn.leaky_relu(tf.nn.conv2d(x, kernels[1], 1, "SAME"), 0.3)
        with tf.name_scope("head"):
            return tf.nn.softmax(tf.reduce_max(x, [1, 2]) @ kernels[2])

    return make_hub(folder / "hub", plain, [image], ["y"])


HUBS = {"torch": torch_hub, "keras": keras_hub, "tensorflow": tensorflow_hub}
