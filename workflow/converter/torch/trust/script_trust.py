"""Which operators the code of a TorchScript archive may not name without trust: it runs while the archive is loaded.

The code is text of a Python-like language, which allows spaces, line ends and comments within a name (torch . save), calls
as methods ("path".from_file()), other names for a function, and getattr with pieces and escapes of text (torch 2.13).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch

from converter.torch.trust.bounds import UNCHECKED, is_bounded, namespaces
from converter.torch.trust.program_trust import file_operator

__all__ = ["named_file_operator", "named_unbounded_operator", "used_file_operator", "used_unbounded_operator"]

_GAP = r"(?:\s|\\|#[^\n]*\n)*"
_NAMES = r"(from_file|load_tensor|read_file|write_file)"
_FILE_OPERATORS = re.compile(rf"\b{_NAMES}\b|\.{_GAP}(save)\b|\b(?:aten|torch){_GAP}\.{_GAP}(load)\b")
# Operators but torch's own are written ops.quantized.linear; the word stands for nothing else, but for an attribute's name.
_OPS = re.compile(rf"(?<![\w.])ops\b(?!{_GAP}=[^=])(?:{_GAP}\.{_GAP}(\w+))?")
_UNCHECKED = re.compile(rf"\b({UNCHECKED})\b")
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


def named_unbounded_operator(code: str) -> str | None:
    """What in the code may reach beyond its tensors: an operator, or a namespace of such; None where there is nothing."""
    for match in _OPS.finditer(code):
        if match[1] not in namespaces():
            return f"ops.{match[1]}" if match[1] else "ops"
    found = _UNCHECKED.search(_JOINT.sub("", _ESCAPE.sub(_character, code)))
    return found[1] if found else None


def _character(match: re.Match) -> str:
    return chr(int(match[1] or match[2], 16) if match[1] or match[2] else int(match[3], 8))


def used_file_operator(script: torch.jit.ScriptModule) -> str | None:
    """The same for what the loaded module's forward consists of."""
    return next((kind.removeprefix("aten::") for kind in _kinds(script) if file_operator(kind)), None)


def used_unbounded_operator(script: torch.jit.ScriptModule) -> str | None:
    """The first operator of the loaded module's forward that may reach beyond its tensors."""
    return next((kind for kind in _kinds(script) if not is_bounded(kind)), None)


def _kinds(script: torch.jit.ScriptModule) -> Iterator[str]:
    pending = list(script.inlined_graph.nodes()) if hasattr(script, "forward") else []
    while pending:
        node = pending.pop()
        yield node.kind()
        for block in node.blocks():
            pending += block.nodes()
