"""PyTorch models by way of their ONNX form: for what torch.export cannot follow, and what no other route can write."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.hub.hub import Hub

__all__ = ["through_onnx"]

# Where control flow is written as If and Loop with all that onnxruntime has.
_OPSET = 18


def through_onnx(hub: Hub, job: ExportJob, folder: Path) -> Hub:
    """A hub of a torch.export program of what the model's ONNX file computes, which is verified first.

    Raises UnsupportedError where there is no right ONNX file, or torch has no way for one of its operators.
    """
    from converter.onnx_to_torch.lower import torch_hub
    from converter.torch.onnx.export import export

    inner = folder / "onnx"
    inner.mkdir()
    result = export(hub, replace(job, target="model.onnx", onnx_opset=_OPSET, quantization={}), inner / "model.onnx")
    if result.verification is None or not result.verification.passed:
        why = result.verification.message if result.verification else result.unverified_reason
        raise UnsupportedError(f"its ONNX form comes out wrong: {why}")
    shutil.copyfile(hub.path / "reference.npz", inner / "reference.npz")
    onnx_hub = replace(hub, path=inner, framework="onnx", extra={"kind": "onnx"})
    outer = folder / "program"
    outer.mkdir()
    return replace(torch_hub(onnx_hub, outer), extra={"form": "exported", "module": "OnnxModule", "kind": "module"})
