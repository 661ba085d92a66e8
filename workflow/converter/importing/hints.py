"""Suggests a legacy toolchain where a modern import fails: code that asks a framework for what it no longer has."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

__all__ = ["toolchain_hint"]

# By the module that was asked, longest name first: an environment in which it may still have what is missing.
_CURES = {
    "tensorflow.keras": ("tf2.3", "TensorFlow 2.3"),
    "keras.src": ("tf2.3", "TensorFlow 2.3"),
    "tf_keras": ("tf2.3", "TensorFlow 2.3"),
    "tensorflow": ("tf1.15", "TensorFlow 1.15"),
    "keras": ("tf1.15", "Keras 2.3"),
    "torchvision": ("tf2.3", "torchvision 0.7"),
    "torch": ("tf2.3", "torch 1.6"),
}


def toolchain_hint(error: BaseException) -> str:
    """ "; if torch 1.6 had it, set toolchain: tf2.3", or "" for an error that has nothing to do with a framework's age.

    Looks at the error and its causes: a missing module, name or attribute of TensorFlow, Keras, torch or torchvision.
    """
    for module in filter(None, map(_asked, _chain(error))):
        # `tf.keras` and `tf.compat.v1` are called keras._tf_keras.keras and tensorflow._api.v2.compat.v1 inside.
        name = module.replace("keras._tf_keras.keras", "tensorflow.keras").replace("._api.v2", "")
        for owner, (toolchain, framework) in _CURES.items():
            if f"{name}.".startswith(f"{owner}."):
                return f"; if {framework} had it, set toolchain: {toolchain}"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, each once: what is raised from an error that it caused itself makes a ring of them."""
    seen: list[BaseException] = []
    while error is not None and not any(error is known for known in seen):
        seen.append(error)
        yield error
        error = error.__cause__


def _asked(error: BaseException) -> str | None:
    """The module in which something is missing."""
    if isinstance(error, ImportError):
        return error.name
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        return error.obj.__name__
    return None
