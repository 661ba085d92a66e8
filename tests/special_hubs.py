"""Hubs whose reference is made of values chosen by a test, and what each target's verification says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from converter.contracts import ExportJob, ExportResult
from converter.hub.hub import Hub, Run, TensorSpec

__all__ = ["Function", "export_to", "function_hub", "program_hub"]

Samples = Mapping[str, list[np.ndarray]]
"""The inputs of each kind of samples; the first axis of every array is the batch."""


class Function(torch.nn.Module):
    """A module around a function of tensors."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> object:
        return self.function(*tensors)


def program_hub(folder: Path, module: Callable, samples: Samples, *, shared_batch: bool = False) -> Hub:
    """The hub of a PyTorch module, or of a function of tensors, that gives a tensor or a tuple of them.

    shared_batch: the first axes of all inputs are one batch, as imports declare it, and not each of a size of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    is_function = not isinstance(module, torch.nn.Module)
    module = (Function(module) if is_function else module).eval()

    def call(arrays: list[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            result = module(*[torch.from_numpy(array.copy()) for array in arrays])
        return [y.numpy() for y in (result if isinstance(result, tuple) else (result,))]

    runs = [Run(list(arrays), call(arrays), kind) for kind, arrays in samples.items()]
    example = tuple(torch.from_numpy(array.copy()) for array in runs[0].inputs)
    batch = torch.export.Dim("batch") if shared_batch else torch.export.Dim.AUTO
    shapes = tuple({0: batch} for _ in example)
    program = torch.export.export(module, example, dynamic_shapes=(shapes,) if is_function else shapes)
    torch.export.save(program, folder / "program.pt2")
    inputs, outputs = (
        [TensorSpec(f"{letter}{i}", (None, *a.shape[1:]), a.dtype.name) for i, a in enumerate(arrays)]
        for letter, arrays in (("x", runs[0].inputs), ("y", runs[0].outputs))
    )
    return _stored(Hub(folder, "pytorch", inputs, outputs, True, extra={"form": "exported"}), runs)


def function_hub(folder: Path, function: Callable, samples: Samples) -> Hub:
    """The hub of a function of TensorFlow tensors."""
    import tensorflow as tf

    from converter.tf.sources.freeze import freeze_function

    folder.mkdir(parents=True, exist_ok=True)
    arrays = next(iter(samples.values()))
    specs = [tf.TensorSpec((None, *array.shape[1:]), array.dtype, f"x{i}") for i, array in enumerate(arrays)]

    @tf.function(input_signature=specs, autograph=False)
    def named(*tensors: tf.Tensor) -> list[tf.Tensor]:
        return [tf.identity(y) for y in tf.nest.flatten(function(*tensors))]

    concrete = named.get_concrete_function()
    inputs = [
        TensorSpec(spec.name, tuple(spec.shape), spec.dtype.name, tensor.name)
        for spec, tensor in zip(specs, concrete.inputs, strict=True)
    ]
    outputs = [TensorSpec(f"y{i}", None, t.dtype.name, t.name) for i, t in enumerate(concrete.outputs)]
    frozen = freeze_function(concrete, inputs, outputs, folder)
    runs = [
        Run(list(given), [y.numpy() for y in concrete(*map(tf.constant, given))], kind)
        for kind, given in samples.items()
    ]
    return _stored(Hub(folder, "tensorflow", frozen.inputs, frozen.outputs, True), runs)


def _stored(hub: Hub, runs: list[Run]) -> Hub:
    hub.write_reference(runs)
    hub.write()
    return Hub.read(hub.path)


def export_to(hub: Hub, target: str, folder: Path) -> ExportResult:
    """target: "onnx-17" (opset 17), "tflite", "litert" (TensorFlow Lite by litert-torch alone) or "keras"."""
    kind, _, opset = target.partition("-")
    job = ExportJob(f"converted/x.{kind}", onnx_opset=int(opset) if opset else None)
    path = folder / f"model.{kind}"
    if kind == "keras":
        from export_keras import export_model

        return export_model(hub, job, path)
    if kind == "onnx":
        from converter.tf.onnx import export as tensorflow
        from converter.torch.onnx import export as pytorch
    else:
        from converter.tf.tflite import export as tensorflow
        from converter.torch.tflite import export as pytorch
    if kind == "litert":
        from converter.torch.exact.exact_program import exact_program
        from converter.torch.program.hub_program import read_program

        refusals: list[str] = []
        results = list(pytorch._by_litert(hub, job, exact_program(read_program(hub)), path, refusals))
        assert results, refusals
        return results[-1]
    return (pytorch if hub.framework == "pytorch" else tensorflow).export(hub, job, path)
