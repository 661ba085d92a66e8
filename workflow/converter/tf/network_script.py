"""The user's Python file beside a Keras model: custom layers and functions, or the code that builds the model."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from converter.errors import ParameterError, nearest
from converter.old_numpy import lend_old_names

__all__ = ["build_network", "custom_objects", "keras_names", "load_script"]


def load_script(path: Path) -> ModuleType:
    """Run a script as a module of its own; its folder is importable meanwhile. Raises ParameterError for its own errors."""
    if not path.is_file():
        raise ParameterError(f"network_script: {path} does not exist")
    spec = importlib.util.spec_from_file_location(f"network_script_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ParameterError(f"network_script: {path} is no Python file: its name must end in .py")
    lend_old_names()
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the script is the user's: whatever it raises is theirs to read
        raise ParameterError(f"network_script: {path} fails with {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


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


def build_network(module: ModuleType, name: str, arguments: dict | list | None) -> object:
    """Call the class or function `name` of the script. Raises ParameterError."""
    factory = getattr(module, name, None)
    if not callable(factory):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        close = nearest(name, names) or names[:8]
        raise ParameterError(
            f"network_name: {module.__file__} has no class or function {name}"
            + (f"; it has {', '.join(close)}" if close else "")
        )
    positional = arguments if isinstance(arguments, list) else []
    keyword = arguments if isinstance(arguments, dict) else {}
    try:
        return factory(*positional, **keyword)
    except Exception as error:  # the user's code
        raise ParameterError(
            f"network_name: {name} of {module.__file__} fails with {type(error).__name__}: {error}; "
            "network_args gives it arguments"
        ) from error


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
