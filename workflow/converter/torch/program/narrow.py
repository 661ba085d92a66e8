"""Models that compute in half precision or bfloat16: what no exporter can write, or comes out rounded otherwise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import torch

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub

__all__ = ["advising_float32", "computes_in"]

_NARROW = (torch.float16, torch.bfloat16)
Export = Callable[[Hub, ExportJob, Path], ExportResult]


def computes_in(traced: torch.export.ExportedProgram | torch.jit.ScriptModule) -> str | None:
    """ "float16" or "bfloat16" where an operator makes such numbers of such; narrow weights that are widened first are none.

    Of TorchScript, whose graph need not tell, the dtype of its parameters.
    """
    if isinstance(traced, torch.jit.ScriptModule):
        found = [parameter.dtype for parameter in traced.parameters() if parameter.dtype in _NARROW]
    else:
        found = [
            dtype
            for node in traced.graph.nodes
            if node.op == "call_function"
            for dtype in _dtypes([node.meta.get("val")])
            if dtype in _NARROW and dtype in _dtypes([source.meta.get("val") for source in node.all_input_nodes])
        ]
    return str(found[0]).removeprefix("torch.") if found else None


def _dtypes(values: list[object]) -> list[torch.dtype]:
    return [value.dtype for value in values if isinstance(value, torch.Tensor)]


def advising_float32(export: Export) -> Export:
    """The export of a PyTorch hub; where it fails for a model that computes in few bits, the sentence says what to do."""

    @functools.wraps(export)
    def advised(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
        dtype = hub.extra.get("computes_in")
        if dtype is None:
            return export(hub, job, staged)
        advice = "call .float() on the model before saving it, which keeps its weights"
        try:
            result = export(hub, job, staged)
        except UnsupportedError as error:
            source = hub.source.get("path", "the model")
            raise UnsupportedError(
                f"{source} computes in {dtype}, which this target cannot ({str(error)[:200]}): {advice}"
            ) from error
        if result.verification is not None and not result.verification.passed:
            result.verification.message += (
                f"; it computes in {dtype}, which each library rounds in its own way: {advice}"
            )
        return result

    return advised
