"""The traced form of a PyTorch model, from its hub."""

from __future__ import annotations

import torch

from converter.hub.hub import Hub
from converter.torch.extensions.vision import vision_operators
from converter.torch.trust.generated_code import refusals_raised

__all__ = ["read_program", "read_script", "size_advice"]


def read_program(hub: Hub) -> torch.export.ExportedProgram:
    """The program of a hub of form "exported". Raises UntrustedError where names in it are code, which no import writes."""
    if any(name.startswith("torchvision::") for name in hub.operators or ()):
        vision_operators()
    with refusals_raised():
        return torch.export.load(str(hub.path / "program.pt2"))


def read_script(hub: Hub) -> torch.jit.ScriptModule:
    """The module of a hub of form "torchscript", on the CPU."""
    return torch.jit.load(hub.path / "module.pt", map_location="cpu")


def size_advice(hub: Hub) -> str | None:
    """How to give sizes that are unknown, beside that of the batch; None where there are none."""
    first = 1 if hub.batch_dynamic else 0
    if all(dim is not None for spec in hub.inputs for dim in spec.shape[first:]):
        return None
    if hub.extra.get("kind") == "program":
        return "export the program again without dynamic_shapes for these sizes"
    return "give its sizes in input_shape"
