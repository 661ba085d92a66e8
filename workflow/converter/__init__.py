"""Converter: turns a trained model file into the file a device needs, and proves that it computes the same."""

import os

from converter.version import __version__

__all__ = ["__version__", "convert"]

# onnxruntime (1.32) reports its use to its maker, and keeps a file in the temporary directory for that, from its import on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> object:
    # Steps import this package too, and none of them needs what convert() does.
    if name == "convert":
        from converter.api import convert

        return convert
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
