"""Import a framework faster: garbage collection paused, unneeded optional dependencies blocked."""

from __future__ import annotations

import gc
import importlib
import os
import sys

from converter import formats

__all__ = ["load", "load_framework"]

# tensorflow.lite (2.21) imports jax and keras.wrappers (3.15) scikit-learn where they happen to be installed: 1.4 of 4.5
# CPU seconds, for functions that no conversion calls. A network script that wants them can still import them afterwards.
_UNWANTED = ("jax", "sklearn")


def load(*modules: str) -> None:
    """Import `modules` without their unneeded optional dependencies, with garbage collection paused.

    Importing TensorFlow makes a million objects that stay: collecting among them costs 0.7 of 3.1 CPU seconds at once, and
    again during every conversion that follows, unless they are set aside (gc.freeze).
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's keras.json says
    blocked = [name for name in _UNWANTED if name not in sys.modules]
    collecting = gc.isenabled()
    gc.disable()
    sys.modules.update(dict.fromkeys(blocked))
    try:
        for module in modules:
            importlib.import_module(module)
    finally:
        for name in blocked:
            del sys.modules[name]
        gc.freeze()
        if collecting:
            gc.enable()


def load_framework(name: str | None, *modules: str) -> None:
    """`load` of the module of a framework of formats/frameworks.py, and of `modules`."""
    module = formats.framework(name).module if name else ""
    load(*filter(None, [module]), *modules)
