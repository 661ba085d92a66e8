"""The user's network_script, loaded by its path, and what it names."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import platform
import sys

from legacy.errors import LegacyError

__all__ = ["build", "load_script"]


def load_script(path):
    """The script as a module under its own stem; the modules beside it can be imported. None for no path."""
    if path is None:
        return None
    if not os.path.isfile(path):
        raise LegacyError("ParameterError", f"network_script: there is no file {path}")
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    stem = os.path.splitext(os.path.basename(path))[0]
    name = stem if stem.isidentifier() and stem not in sys.modules else "network_script"
    loader = importlib.machinery.SourceFileLoader(name, os.path.abspath(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except Exception as error:
        version = platform.python_version()
        reason = str(error).split("\n")[0]
        message = f"network_script: {path} raised {type(error).__name__}: {reason} in Python {version}"
        raise LegacyError("ParameterError", message) from error
    return module


def build(script, name, arguments):
    """Call the class or factory `name` of the script with network_args, a mapping, a list or None."""
    target = script
    for part in name.split("."):
        target = getattr(target, part, None)
    if not callable(target):
        raise LegacyError("ParameterError", f"network_name: {script.__file__} defines no {name}")
    try:
        return target(**arguments) if isinstance(arguments, dict) else target(*(arguments or []))
    except Exception as error:
        message = f"network_args: {name} of {script.__file__} raised {type(error).__name__}: {error}"
        raise LegacyError("ParameterError", message) from error
