"""What an exception of TensorFlow says, in one line."""

from __future__ import annotations

import re

__all__ = ["reason"]

# TensorFlow puts where before what: stack traces of the code that built the graph, node definitions.
_NOISE = re.compile(
    r"^(Graph execution error:|in user code:|Node: '|Detected at node|File \"|Exception encountered|"
    r"Original stack trace|Stack trace for|"
    r"\d+ root error|\(\d+\)|Arguments received|Call arguments received|[-=~^. ]*$|<stack traces unavailable>|\t)"
)
_NODE = re.compile(r"\s*\[\[\{?\{?node .*|\s*\[Op:\w+\].*| name: $")
_EXCEPTION = re.compile(r"^\s*[A-Z]\w*(Error|Exception|Warning): ")
_COLOUR = re.compile(r"\x1b\[\d+m")


def reason(error: BaseException, limit: int = 250) -> str:
    """The first line that says something, without nodes and addresses."""
    lines = str(error).splitlines()
    if lines and lines[0].startswith("in user code"):  # autograph: a traceback, then the exception
        raised = [position for position, line in enumerate(lines) if _EXCEPTION.match(line)]
        lines = lines[raised[0] :] if raised else lines
        lines[0] = _EXCEPTION.sub("", lines[0])
    lines = [_COLOUR.sub("", line).strip() for line in lines]
    telling = [line for line in lines if line and not _NOISE.match(line)]
    text = _NODE.sub("", telling[0]) if telling else ""
    return (text or type(error).__name__)[:limit].rstrip(" .:")
