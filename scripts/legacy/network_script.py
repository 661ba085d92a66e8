"""The user's network_script, loaded by its path, and what it names."""

from __future__ import annotations

import importlib.util
import os
import platform

from legacy.errors import LegacyError

__all__ = ["build", "load_script", "user_code"]

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# In a clone below workflow/, in a wheel beside converter_workflow/ (converter/installation.py).
_FILES = [
    os.path.join(folder, "converter", "importing", "user_code.py")
    for folder in (os.path.join(_ROOT, "workflow"), os.path.dirname(_ROOT))
]
_SPEC = importlib.util.spec_from_file_location("user_code", next(filter(os.path.isfile, _FILES)))
user_code = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(user_code)


def load_script(path):
    """The script as a module under its own stem; the modules beside it can be imported. None for no path."""
    if path is None:
        return None
    if not os.path.isfile(path):
        raise LegacyError("ParameterError", f"network_script: there is no file {path}")
    try:
        return user_code.load_file(path)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # also SystemExit: a script without a main guard may end the program
        version = platform.python_version()
        reason = str(error).split("\n")[0]
        message = f"network_script: {path} raised {type(error).__name__}: {reason} in Python {version}"
        raise LegacyError("ParameterError", message) from error


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
