"""Keras configurations that are JSON and still no models, and weights that are no numbers."""

from __future__ import annotations

import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from fuzz.bytes_cases import Case
from fuzz.drawing import drawn

__all__ = ["keras_cases"]

_VALUES = (
    2**40,
    -1,
    0,
    None,
    "x",
    [],
    {},
    True,
    1e400,
    "relu",
    [2**31] * 2,
    {"class_name": "x"},
    "\ud800",
    0.5,
    [None],
)


def keras_cases(seed: Path, random_: random.Random) -> Iterator[Case]:
    """Without end."""
    return drawn(seed, random_, _CHANGES, _build)


def _build(seed: Path, change: Callable, state: int) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        random_, path = random.Random(state), folder / seed.name
        shutil.copy(seed, path)
        if path.suffix != ".keras":
            with h5py.File(path, "a") as file:
                _apply(file, change, random_)
            return path
        with zipfile.ZipFile(seed) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        weights = io.BytesIO(content["model.weights.h5"])
        with h5py.File(weights, "a") as file:
            file.attrs["model_config"] = content["config.json"].decode()
            _apply(file, change, random_)
            content["config.json"] = str(file.attrs.pop("model_config", "{}")).encode("utf-8", "replace")
        content["model.weights.h5"] = weights.getvalue()
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        return path

    return build


def _apply(file: h5py.File, change: Callable, random_: random.Random) -> None:
    if change in _OF_WEIGHTS:
        change(file, random_)
        return
    text = change(json.loads(file.attrs["model_config"]), random_)
    # Attributes beyond 64 KB need the file format of HDF5 1.8; Keras splits them, and so nothing reads one like that.
    file.attrs["model_config"] = (text if isinstance(text, str) else json.dumps(text))[:60_000]


def _places(config: object, depth: int = 0) -> list[tuple[object, object]]:
    """(container, key) of everything in a configuration."""
    found = []
    pending = [config]
    while pending:
        value = pending.pop()
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            found.append((value, key))
            pending.append(inner)
    return found


def _other_value(config, random_):
    for _ in range(random_.choice([1, 1, 3])):
        container, key = random_.choice(_places(config))
        container[key] = random_.choice(_VALUES)
    return config


def _without_a_key(config, random_):
    container, key = random_.choice([place for place in _places(config) if isinstance(place[0], dict)])
    container.pop(key, None)
    return config


def _size(config, random_):
    places = [place for place in _places(config) if type(place[0][place[1]]) is int]
    container, key = random_.choice(places)
    container[key] = random_.choice([2**40, 2**31, -1, -(2**40), 0, 10**9])
    return config


def _class(config, random_):
    layer = random_.choice(config["config"]["layers"])
    layer["class_name"] = random_.choice(
        ["Dense", "LSTM", "Lambda", "Bidirectional", "Sequential", "Functional", "object", ""]
    )
    return config


def _wiring(config, random_):
    """Layers in a circle, layers that read what is not there."""
    layers = config["config"]["layers"]
    random_.choice(layers)["inbound_nodes"] = random_.choice(layers).get("inbound_nodes")
    for key in ("input_layers", "output_layers"):
        if random_.random() < 0.3:
            config["config"][key] = random_.choice([[], [["conv", 0, 0]], [["nowhere", 0, 0]], [["conv", 9, 9]], "x"])
    return config


def _same_names(config, random_):
    for layer in config["config"]["layers"]:
        layer["config"]["name"] = layer["name"] = "same"
    return config


def _nested(config, random_):
    """Models in models."""
    for _ in range(random_.choice([3, 30])):
        config = {"class_name": "Sequential", "config": {"name": "outer", "layers": [config]}}
    return config


def _deep(config, random_):
    return random_.choice(
        ["[" * 20_000, '{"a":' * 10_000, '{"config":' * 900 + "1" + "}" * 900, "null", "[]", "1", '"x"']
    )


def _spoilt_text(config, random_):
    text = list(json.dumps(config))
    for _ in range(random_.choice([1, 5])):
        text[random_.randrange(len(text))] = random_.choice('{}[]",:x0')
    return "".join(text)


def _no_numbers(file, random_):
    value = random_.choice([np.nan, np.inf, 1e38, 1e-45])
    file.visititems(
        lambda _, entry: entry.write_direct(np.full(entry.shape, value, entry.dtype)) if _is_float(entry) else None
    )


def _is_float(entry) -> bool:
    return isinstance(entry, h5py.Dataset) and entry.dtype.kind == "f"


def _other_weights(file, random_):
    """A dataset of another shape or type, or none, or a group in its place."""
    names = []
    file.visititems(lambda name, entry: names.append(name) if isinstance(entry, h5py.Dataset) else None)
    name = random_.choice(names)
    shape = file[name].shape
    del file[name]
    kind = random_.randrange(5)
    if kind == 0:
        file.create_dataset(name, (*shape, 2), np.float32)
    elif kind == 1:
        file.create_dataset(name, (2**20, 2**10), np.float32, chunks=(64, 64), compression="gzip")
    elif kind == 2:
        file[name] = b"text"
    elif kind == 3:
        file.create_group(name)


def _attributes(file, random_):
    groups = [file]
    file.visititems(lambda _, entry: groups.append(entry) if isinstance(entry, h5py.Group) else None)
    group = random_.choice([group for group in groups if len(group.attrs)] or [file])
    name = random_.choice([*group.attrs, "keras_version", "layer_names"])
    group.attrs[name] = random_.choice(["", "x", "9.9.9", 3, np.zeros(3), b"\xff\xfe", "2", "-"])


_OF_WEIGHTS = (_no_numbers, _other_weights, _attributes)
_CHANGES = [
    _other_value, _other_value, _without_a_key, _size, _class, _wiring, _same_names, _nested, _deep, _spoilt_text,
    *_OF_WEIGHTS,
]  # fmt: skip
