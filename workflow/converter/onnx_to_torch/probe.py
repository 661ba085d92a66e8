"""Which weights of an ONNX model the samples exercise: by the gradients of its module of torch."""

from __future__ import annotations

import onnx
import torch

from converter.errors import UnsupportedError
from converter.evidence.probe import NoEvidence, Probe
from converter.evidence.torch_gradients import TorchProbe
from converter.hub.hub import Run
from converter.onnx_to_torch.module import OnnxModule
from converter.torch.program.flat import to_tensors

__all__ = ["module_probe"]


def module_probe(model: onnx.ModelProto, run: Run) -> Probe:
    """Of the model, whose weights become parameters as they are read on `run`.

    Raises NoEvidence where torch has no way for one of its operators.
    """
    try:
        module = OnnxModule(model)
        with torch.no_grad():
            module(*to_tensors(run.inputs))
        return TorchProbe(module)
    except UnsupportedError as error:
        raise NoEvidence(f"its gradients are not known: {error}") from error
