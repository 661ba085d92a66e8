"""A TensorFlow Lite file as C++: NAME.cc with the bytes, NAME.h with what a program needs beside them.

The header includes nothing of TensorFlow Lite Micro: the function that adds the operators is a template of the resolver, and
compares its answers with kTfLiteOk, which is 0 (tensorflow/lite/core/c/c_api_types.h).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.errors import SourceError

__all__ = ["ALIGNMENT", "CModel", "read_array", "write"]

ALIGNMENT = 16  # of the array and of the arena, as TensorFlow Lite Micro wants them
_A_LINE = 16
_UNSAFE = re.compile(r"[^A-Za-z0-9_ .,:;()+*/=\[\]-]")
_ARRAY = re.compile(r"kModel\[\] = \{([0-9a-fx,\s]*)\};")


@dataclass(frozen=True)
class CModel:
    """data: the TensorFlow Lite file. methods: those that add its operators. arena: bytes for its tensors. variables: how many
    resource variables it has. about, interface: lines of comment, on the file and on its inputs and outputs.
    """

    stem: str
    data: bytes
    methods: Sequence[str]
    arena: int
    variables: int
    about: Sequence[str]
    interface: Sequence[str]

    @property
    def namespace(self) -> str:
        """An identifier that is no word of C++ and is not reserved: "digits_int8_model"."""
        words = "_".join([*re.findall(r"[A-Za-z0-9]+", self.stem), "model"])
        return f"m{words}" if words[0].isdigit() else words


def write(path: Path, header: Path, model: CModel) -> None:
    """Write the array at `path`, and its header."""
    path.write_text(_array(model), encoding="ascii")
    header.write_text(_header(model), encoding="ascii")


def read_array(path: Path) -> bytes:
    """The bytes in a file that `write` wrote. Raises SourceError where it holds none."""
    found = _ARRAY.search(path.read_text(encoding="ascii"))
    if found is None:
        raise SourceError(f"{path} holds no array kModel")
    return bytes(int(number, 16) for number in re.findall(r"0x([0-9a-f]{2})", found[1]))


def _comment(lines: Sequence[str]) -> str:
    """Names are a stranger's: plain characters only, none of which ends or continues a line."""
    return "".join(f"// {_UNSAFE.sub('_', line)}\n" for line in lines)


def _array(model: CModel) -> str:
    rows = [model.data[start : start + _A_LINE] for start in range(0, len(model.data), _A_LINE)]
    body = ",\n".join("    " + ", ".join(f"0x{byte:02x}" for byte in row) for row in rows)
    return f"""{_comment(model.about)}
#include "{model.stem}.h"

namespace {model.namespace} {{

alignas({ALIGNMENT}) const unsigned char kModel[] = {{
{body}}};

static_assert(sizeof(kModel) == kModelSize, "the header is another model's");

}}  // namespace {model.namespace}
"""


def _header(model: CModel) -> str:
    name, guard = model.namespace, f"{model.namespace.upper()}_H_"
    added = " &&\n         ".join(f"static_cast<int>(resolver.{method}()) == 0" for method in model.methods)
    variables = f"constexpr int kResourceVariableCount = {model.variables};\n" if model.variables else ""
    return f"""{_comment(model.about)}//
// In a program, after a check that AddOperators() and AllocateTensors() succeed:
//
//   static tflite::MicroMutableOpResolver<{name}::kOperatorCount> resolver;
//   {name}::AddOperators(resolver);
//   alignas({ALIGNMENT}) static uint8_t arena[{name}::kArenaSize];
//   static tflite::MicroInterpreter interpreter(
//       tflite::GetModel({name}::kModel), resolver, arena, {name}::kArenaSize);
//
{_comment(model.interface)}
#ifndef {guard}
#define {guard}

#include <cstddef>

namespace {name} {{

extern const unsigned char kModel[];
constexpr std::size_t kModelSize = {len(model.data)};

// What the tensors take, measured with the reference kernels on a 64-bit machine. Optimized kernels (CMSIS-NN, ESP-NN) take
// buffers of their own besides.
constexpr std::size_t kArenaSize = {model.arena};

constexpr unsigned int kOperatorCount = {len(model.methods)};
{variables}
// Adds the operators of this model, and no others. Resolver: a tflite::MicroMutableOpResolver. False where one was refused.
template <typename Resolver>
bool AddOperators(Resolver& resolver) {{
  return {added};
}}

}}  // namespace {name}

#endif  // {guard}
"""
