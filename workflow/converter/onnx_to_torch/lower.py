"""An ONNX hub as a PyTorch hub: the model as an exported program, with the reference of the source's own runtime."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import torch

from converter.errors import ConverterError, UnsupportedError
from converter.hub.hub import Hub, Run
from converter.onnx.precision import (
    float32_note,
    float32_reference,
    float32_runner,
    in_float32,
    rounded_reference,
    widened,
)
from converter.onnx.written_gelu import gather_gelus
from converter.onnx_to_torch.module import OnnxModule
from converter.onnx_to_torch.stable import stable_sums
from converter.torch.exact.quantized_program import has_quantized_operators, rewrite_quantized
from converter.torch.extensions.exported_recurrence import followable_recurrence
from converter.torch.program.inlining import inline_wrapped
from converter.torch.sources.tracing import example_inputs, fixed_dimension, quiet, reason

__all__ = ["torch_hub"]


def torch_hub(hub: Hub, folder: Path, model: onnx.ModelProto | None = None) -> Hub:
    """Write program.pt2 and reference.npz into `folder`, and return their hub.

    model: another form of the hub's own. Raises UnsupportedError that names the operator which torch has no way for, or the
    size that the program fixes.
    """
    model = onnx.load(str(hub.path / "model.onnx")) if model is None else model
    if doubles := in_float32(model, doubles=True):
        stable_sums(model)
    if narrow := in_float32(model):
        hub = _in_float32(hub, folder, float32_note(narrow), float32_reference(hub, float32_runner(model, folder)))
    elif doubles:
        hub = _in_float32(hub, folder, "its float64 is computed with in float32", rounded_reference(hub))
    else:
        shutil.copyfile(hub.path / "reference.npz", folder / "reference.npz")
    gather_gelus(model)
    program = _exported(hub, model)
    torch.export.save(program, folder / "program.pt2")
    operators = {
        node.target._schema.name.removeprefix("aten::"): 1
        for node in program.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload)
    }
    return replace(
        hub,
        path=folder,
        framework="pytorch",
        operators=operators,
        extra={"form": "exported", "module": "OnnxModule", "kind": "module"},
    )


def _in_float32(hub: Hub, folder: Path, note: str, runs: list[Run]) -> Hub:
    """The hub of the model in float32, with these runs as its reference in `folder`."""
    wide = replace(
        hub,
        path=folder,
        inputs=[widened(spec) for spec in hub.inputs],
        outputs=[widened(spec) for spec in hub.outputs],
        notes=[*hub.notes, note],
        decisions=[*hub.decisions, "computed in float32"],
    )
    wide.write_reference(runs)
    return wide


def _exported(hub: Hub, model: onnx.ModelProto) -> torch.export.ExportedProgram:
    module = OnnxModule(model).eval()
    example = example_inputs(hub.inputs, hub.reference())
    dims = [{axis: torch.export.Dim.AUTO for axis, dim in enumerate(s.shape or ()) if dim is None} for s in hub.inputs]
    try:
        with torch.no_grad():
            module(*example)  # weights become parameters where they are read as tensors
        with quiet(), followable_recurrence():
            # forward(*tensors) is one argument to torch.export.
            exported = torch.export.export(module, example, dynamic_shapes=(tuple(dims),), strict=False)
            program = inline_wrapped(exported)
    except (ConverterError, MemoryError):
        raise
    except Exception as error:  # torch raises whatever stands in its way
        raise UnsupportedError(f"torch cannot follow the ONNX model: {reason(error)}") from error
    if has_quantized_operators(program):
        rewrite_quantized(Path(hub.source.get("path", "the model")), program)
    if (fixed := fixed_dimension(program, hub.inputs)) is not None:
        size, axis, name = fixed
        raise UnsupportedError(
            f"the ONNX model can be followed for size {size} of dimension {axis} of {name} only: "
            "give its sizes in input_shape"
        )
    return program
