"""What a Keras model takes from the user's network_script: custom layers and functions, under the Keras they mean."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from converter.errors import ParameterError

__all__ = ["custom_objects", "keras_names"]


def custom_objects(module: ModuleType, keras: ModuleType) -> dict[str, object]:
    """The script's `custom_objects` mapping; without one, the Keras classes and the functions it defines, by name."""
    mapping = getattr(module, "custom_objects", None)
    if mapping is not None:
        if not isinstance(mapping, dict):
            raise ParameterError(
                f"network_script: custom_objects is a {type(mapping).__name__}; write a mapping of names"
            )
        return mapping
    bases = (
        keras.layers.Layer,
        keras.initializers.Initializer,
        keras.regularizers.Regularizer,
        keras.constraints.Constraint,
    )
    found = {}
    for name, value in vars(module).items():
        is_class = inspect.isclass(value) and issubclass(value, bases) and value not in bases
        if is_class or (inspect.isfunction(value) and value.__module__ == module.__name__):
            found[name] = value
    return found


@contextmanager
def keras_names(keras: ModuleType) -> Iterator[None]:
    """Let scripts that say `keras` or `tensorflow.keras` mean this Keras, while they run and while their layers do.

    A layer for tf_keras must be a subclass of tf_keras's, and scripts written for Keras 2 import it by the names of
    their time.
    """
    import tensorflow as tf

    if keras.__name__ != "tf_keras":
        yield
        return
    import tf_keras.api._v2.keras as public

    saved = {name: module for name, module in sys.modules.items() if _is_keras(name)}
    # The package is a lazy attribute of TensorFlow, kept in its dictionary once it is resolved.
    attribute = vars(tf).get("keras")
    for name in saved:
        del sys.modules[name]
    for name, module in list(sys.modules.items()):
        if name.startswith("tf_keras.api._v2.keras"):
            sys.modules["tensorflow.keras" + name.removeprefix("tf_keras.api._v2.keras")] = module
        elif name == "tf_keras" or name.startswith("tf_keras."):
            sys.modules["keras" + name.removeprefix("tf_keras")] = module
    tf.keras = public
    try:
        yield
    finally:
        for name in [name for name in sys.modules if _is_keras(name)]:
            del sys.modules[name]
        sys.modules.update(saved)
        tf.keras = attribute


def _is_keras(name: str) -> bool:
    return name in ("keras", "tensorflow.keras") or name.startswith(("keras.", "tensorflow.keras."))
