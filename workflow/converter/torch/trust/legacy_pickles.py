"""Whole modules in the format of torch before 1.6, for torch's weights-only unpickler.

There each module class stands in the pickle as a persistent id, ``("module", class, file, source text)``, and the
weights-only unpickler accepts those of storages only (torch 2.13). `with_plain_classes` rewrites them into a call of
`container_class`, which returns the class: the unpickler's own allow-list then decides about the class as anywhere else.
"""

from __future__ import annotations

import pickletools
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

__all__ = ["CONTAINER_CLASS", "container_class", "with_plain_classes"]

CONTAINER_CLASS = "converter.container_class"
_CALL = b"cconverter\ncontainer_class\n"
_PERSISTENT_ID, _REDUCE = b"Q", b"R"


def container_class(kind: str, module_class: type, file: str, source: str) -> type:
    """What a module's persistent id stands for. The source text in it is ignored, as torch.load ignores it."""
    return module_class


def with_plain_classes(path: Path) -> BinaryIO | None:
    """A rewritten copy of the file, open for reading from its start; None where no class needs it."""
    with open(path, "rb") as stream:
        # The object is the fourth pickle, behind a magic number, a version and system information.
        for _ in range(3):
            for _opcode in pickletools.genops(stream):
                pass
        start = stream.tell()
        edits = _edits(stream)
        end = stream.tell()
        if not edits:
            return None
        stream.seek(0)
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller reads and closes it
        copy.write(stream.read(start))
        content = stream.read(end - start)
        position = 0
        for offset, replaced, replacement in sorted(edits):
            copy.write(content[position : offset - start])
            copy.write(replacement)
            position = offset - start + replaced
        copy.write(content[position:])
        shutil.copyfileobj(stream, copy)
        copy.seek(0)
        return copy


def _edits(stream: BinaryIO) -> list[tuple[int, int, bytes]]:
    """(offset, bytes to drop, bytes to write) that turn each class's persistent id into a call."""
    edits: list[tuple[int, int, bytes]] = []
    marks: list[int] = []
    first_string: dict[int, str | None] = {}
    memo: dict[int, str] = {}
    tuple_start, last_string, after_mark = None, None, False
    for opcode, argument, offset in pickletools.genops(stream):
        name = opcode.name
        if name == "MARK":
            marks.append(offset)
            first_string[offset] = None
        elif name == "BINPERSID":
            if tuple_start is not None and first_string.get(tuple_start) == "module":
                edits += [(tuple_start, 0, _CALL), (offset, 1, _REDUCE)]
        elif name in ("BINUNICODE", "BINGET", "LONG_BINGET"):
            last_string = argument if name == "BINUNICODE" else memo.get(argument)
            if after_mark:
                first_string[marks[-1]] = last_string
        elif name in ("BINPUT", "LONG_BINPUT"):
            if last_string is not None:
                memo[argument] = last_string
            continue
        elif name in ("TUPLE", "APPENDS", "SETITEMS", "LIST", "DICT"):
            tuple_start = marks.pop() if marks else None
        after_mark = name == "MARK"
        if name not in ("BINUNICODE", "BINGET", "LONG_BINGET"):
            last_string = None
    return edits
