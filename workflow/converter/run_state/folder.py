"""The folder that a run's own files lie in: the working directory, or one below it where the workflow is a module of another.

A module's `prefix:` is put before the names of all files that its rules declare; what steps write besides lies there too.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["VARIABLE", "state_path"]

# Of a step's environment: the prefix, with its slash.
VARIABLE = "CONVERTER_FOLDER"


def state_path(*parts: str) -> Path:
    """Of a step: where this lies, relative to the working directory."""
    return Path(os.environ.get(VARIABLE, ""), *parts)
