"""Operators that come out wrong in some target, written as ones that do not, in a program that is to be exported."""

from __future__ import annotations

import torch

from converter.torch.exact import (
    adaptive_pooling,
    copies,
    division,
    integer_shifts,
    masked_attention,
    squeezes,
    stable_functions,
)
from converter.torch.exact.complex_pairs import write_pairs
from converter.torch.exact.quantized_program import by_arithmetic
from converter.torch.exact.rewriting import rewrite
from converter.torch.exact.views import views_as_reshapes
from converter.torch.program.asserts import drop_checks

__all__ = ["exact_program"]


def exact_program(
    program: torch.export.ExportedProgram, *, onnx: bool = False, integers: bool = False
) -> torch.export.ExportedProgram:
    """Edit the program in place, for ONNX or for Keras and TensorFlow Lite, and return it.

    integers: fake quantizations that have names stay what they are, for a file of integers.
    """
    drop_checks(program)
    write_pairs(program)
    rewrite(program, masked_attention.rules(program))
    rewrite(program, integer_shifts.RULES)
    rewrite(program, division.RULES | squeezes.RULES)
    if onnx:
        rewrite(program, division.BY_FMOD | stable_functions.RULES | adaptive_pooling.RULES)
        views_as_reshapes(program)
    else:
        rewrite(program, by_arithmetic(of_constants_only=integers) | division.BY_REMAINDER | copies.RULES)
    return program
