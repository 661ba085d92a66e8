"""A hub's exported program, with operators that would come out wrong in some target written as ones that do not."""

from __future__ import annotations

import torch

from converter.hub import Hub
from converter.torch import division, integer_shifts, masked_attention, stable_functions
from converter.torch.rewriting import rewrite

__all__ = ["exact_program", "load_program"]


def load_program(hub: Hub, *, onnx: bool = False) -> torch.export.ExportedProgram:
    """The program of `program.pt2`, for ONNX or for Keras and TensorFlow Lite."""
    return exact_program(torch.export.load(str(hub.path / "program.pt2")), onnx=onnx)


def exact_program(program: torch.export.ExportedProgram, *, onnx: bool = False) -> torch.export.ExportedProgram:
    """Edit the program in place, and return it."""
    rewrite(program, masked_attention.rules(program))
    rewrite(program, integer_shifts.RULES)
    rewrite(program, division.RULES)
    rewrite(program, division.BY_FMOD | stable_functions.RULES if onnx else division.BY_REMAINDER)
    return program
