"""Run a TensorFlow Lite file in TensorFlow Lite Micro, and measure the memory that its tensors take.

The package tflite-micro holds the interpreter and the reference kernels, compiled for Linux on x86-64. It says what fails on
stderr only, and what it allocates likewise.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from converter.errors import UnsupportedError
from converter.tflite.c_array import ALIGNMENT
from converter.tflite.flatbuffer import read
from converter.verification.runtimes import TFLiteModel
from converter.wording import first_line

__all__ = ["MicroModel", "MicroRefusal", "measure_arena", "name", "resource_variables"]

# Tried one after the other, for what is measured and then given as much as it takes.
_PLENTY = (64 << 20, 1 << 30)
# Bytes that preparing an operator takes for a while, where the values of the tensors will lie later.
_TEMPORARY = 1024
_LINE = re.compile(r"Arena allocation (head|tail) (\d+) bytes")
_COMMON = ("Failed to", "Node ", "Didn't find op")


class MicroRefusal(UnsupportedError):
    """TensorFlow Lite Micro does not prepare or run the file."""


def name() -> str:
    """The runtime and its version, as reports have it."""
    return f"tflite-micro {importlib.metadata.version('tflite-micro')}"


class MicroModel(TFLiteModel):
    """A file in TensorFlow Lite Micro, with the names that LiteRT has for its inputs and outputs. Its sizes are fixed.

    arena: bytes for the tensors; plenty where it is None.
    """

    def __init__(self, path: Path, arena: int | None = None) -> None:
        super().__init__(path)
        self.name = name()
        self._micro = _opened(Path(path).read_bytes(), _PLENTY[0] if arena is None else arena)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of inputs, both in the order of the file's signature, from a fresh state. Raises MicroRefusal."""
        with _said() as said:
            try:
                self._micro.reset()
                for spec, array in zip(self.inputs, arrays, strict=True):
                    self._micro.set_input(np.ascontiguousarray(array), self.input_places[spec.name])
                self._micro.invoke()
            except (RuntimeError, ValueError) as error:
                raise _refusal(error, said) from error
        return [np.array(self._micro.get_output(self.output_places[spec.name])) for spec in self.outputs]


def measure_arena(data: bytes) -> int:
    """Bytes that the tensors of a file take, in which it was prepared; a multiple of the alignment. Raises MicroRefusal."""
    for size in _PLENTY:
        try:
            interpreter = _opened(data, size)
            break
        except MicroRefusal:
            if size == _PLENTY[-1]:
                raise
    with _said() as said:
        interpreter.print_allocations()
    parts = {part: int(count) for part, count in _LINE.findall(said())}
    if set(parts) != {"head", "tail"}:
        raise RuntimeError(f"{name()} does not say what it allocates as expected: {first_line(said())}")
    arena = max(parts["head"], _TEMPORARY) + parts["tail"]
    arena = -(-arena // ALIGNMENT) * ALIGNMENT
    _opened(data, arena)
    return arena


def resource_variables(data: bytes) -> int:
    """How many resource variables a program must make room for."""
    from tflite_micro import runtime

    return runtime.count_resource_variables(data)


def _opened(data: bytes, arena: int) -> Any:
    try:
        from tflite_micro import runtime
    except ImportError as error:
        raise UnsupportedError(
            "tflite-micro is not installed, and C arrays are run in it: pip install --requirement requirements-micro.txt"
        ) from error

    # It takes the inputs of the main subgraph for granted, and ends the process where there are none.
    if not len(read(data).subgraphs[0].inputs):
        raise MicroRefusal("TensorFlow Lite Micro needs a model with inputs: ask for a .tflite file")
    with _said() as said:
        try:
            return runtime.Interpreter.from_bytes(data, arena_size=arena)
        except (RuntimeError, ValueError) as error:
            raise _refusal(error, said) from error


def _refusal(error: Exception, said: Any) -> MicroRefusal:
    lines = [line.strip() for line in said().splitlines() if line.strip()]
    # The kernel's own line, where there is one, says more than what follows from it.
    telling = [line for line in lines if not line.startswith(_COMMON)] or lines
    reason = telling[-1] if telling else first_line(error)
    node = next((line for line in reversed(lines) if line.startswith("Node ")), None)
    where = f", at {node.partition(' (')[0].removeprefix('Node ')}" if node else ""
    return MicroRefusal(
        f"TensorFlow Lite Micro does not run the model ({reason[:200]}{where}): write quantization.type int8 or float32, or "
        "ask for a .tflite file"
    )


@contextmanager
def _said() -> Iterator[Any]:
    """A function that gives what the C++ side has written to stderr in between; it goes there all the same."""
    sys.stderr.flush()
    kept, held = os.dup(2), os.memfd_create("said")
    os.dup2(held, 2)
    done: list[bytes] = []

    def said() -> str:
        return (done[0] if done else _contents(held)).decode("utf-8", "replace")

    try:
        yield said
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        done.append(_contents(held))
        os.close(held)
        os.write(2, done[0])


def _contents(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
