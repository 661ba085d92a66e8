"""Which operators the code of a TorchScript archive may not name without trust: it runs while the archive is loaded.

The code is text of a Python-like language, which allows spaces, line ends and comments within a name (torch . save), calls
as methods ("path".from_file()), other names for a function, and getattr with pieces and escapes of text (torch 2.13).
"""

from __future__ import annotations

import re

import torch

from converter.torch.trust.program_trust import file_operator

__all__ = ["named_file_operator", "used_file_operator"]

_GAP = r"(?:\s|\\|#[^\n]*\n)*"
_NAMES = r"(from_file|load_tensor|read_file|write_file)"
_FILE_OPERATORS = re.compile(rf"\b{_NAMES}\b|\.{_GAP}(save)\b|\b(?:aten|torch){_GAP}\.{_GAP}(load)\b")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([0-7]{1,3}))")
# Between two pieces of text that stand side by side, which are one.
_JOINT = re.compile(rf"[\"']{_GAP}[\"']")


def named_file_operator(code: str) -> str | None:
    """The name of an operator that uses files, such as "from_file", in the code; None where there is none."""
    plain = _ESCAPE.sub(_character, code)
    for text in (code, plain, _JOINT.sub("", plain)):
        if found := _FILE_OPERATORS.search(text):
            return next(filter(None, found.groups()))
        if "getattr" in text and ('"save"' in text or "'save'" in text):
            return "save"
    return None


def _character(match: re.Match) -> str:
    return chr(int(match[1] or match[2], 16) if match[1] or match[2] else int(match[3], 8))


def used_file_operator(script: torch.jit.ScriptModule) -> str | None:
    """The same for what the loaded module's forward consists of."""
    pending = list(script.inlined_graph.nodes()) if hasattr(script, "forward") else []
    while pending:
        node = pending.pop()
        if file_operator(node.kind()):
            return node.kind().removeprefix("aten::")
        for block in node.blocks():
            pending += block.nodes()
    return None
