"""Lines of a model's source in the stacks that torch keeps and prints: the user's, or those of the library that defines it."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["model_lines"]

# Frames of this package and of torch itself say nothing of the model.
_OWN_CODE = str(Path(__file__).resolve().parents[2])


def model_lines(stack: str) -> list[tuple[str, str, str]]:
    """(file, line, function) from the outermost frame to the innermost; empty where the stack has none of a model."""
    frames = [
        frame
        for frame in re.findall(r'File "([^"]+)", line (\d+), in (\S+)', stack)
        if not frame[0].startswith(("<", _OWN_CODE)) and "/site-packages/torch/" not in frame[0]
    ]
    return [frame for frame in frames if "/site-packages/" not in frame[0]] or frames
