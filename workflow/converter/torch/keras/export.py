"""A PyTorch hub's program as a Keras file of ordinary layers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub
from converter.torch.program.narrow import advising_float32
from converter.verification.runtimes import KerasModel
from converter.verification.verify import verify
from converter.wording import channels_last_note

__all__ = ["export"]


@advising_float32
def export(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """A PyTorch hub's program as a Keras file, reopened by plain Keras and compared with the source.

    Raises UnsupportedError where the model has an operator that Keras, or the file's format, cannot hold.
    """
    source = hub.source.get("path", "this model")
    if hub.extra.get("form") != "exported":
        # Where there is only TorchScript in the file, its class may be what torch.export can follow.
        other = ", or give the module's class with network_script" if hub.extra.get("kind") == "torchscript" else ""
        raise UnsupportedError(
            f"{source} could be kept as TorchScript only, and Keras files are made from exported programs: "
            f"ask for .onnx{other}"
        )
    from converter.torch.program.branches import select_branches
    from converter.torch.program.eager_program import ValueRead, value_read
    from converter.torch.program.hub_program import read_program, size_advice

    program = select_branches(read_program(hub))
    if (reading := value_read(program)) is not None:
        raise ValueRead(
            f"{source}: the values of its inputs become sizes, plain numbers or branches ({reading}), which Keras layers "
            "cannot hold: ask for .onnx, or keep them tensors"
        )
    suffix = Path(job.target).suffix
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's keras.json says
    import keras

    from converter.torch.exact.exact_program import exact_program
    from converter.torch_to_keras import build_keras_model
    from converter.torch_to_keras.names import layer_names
    from converter.torch_to_keras.save import save

    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    inputs, outputs = layer_names(hub.inputs, hub.outputs)
    try:
        conversion = build_keras_model(
            exact_program(program),
            inputs,
            outputs,
            channels_last=job.input_layout == "nhwc",
            layers_only=suffix != ".keras",
        )
    except UnsupportedError as error:
        if (advice := size_advice(hub)) is None:
            raise
        raise UnsupportedError(f"{error}; {advice}, or ask for .onnx") from error
    notes = [*conversion.notes, *_permutation_notes(conversion)]
    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        path = Path(folder) / f"model{suffix}"
        save(conversion.model, path)
        file = KerasModel(path)
        verification = verify(hub.outputs, hub.reference(), _runner(file, conversion, inputs, outputs), job.tolerance)
        os.replace(path, staged)
    verification.runtime = file.name
    permuted = conversion.input_permutations or conversion.output_permutations
    decisions = ["channels-last"] if permuted else []
    return ExportResult(["export_keras"], file.inputs, file.outputs, verification, notes=notes, decisions=decisions)


def _permutation_notes(conversion: Any) -> list[str]:
    return [
        channels_last_note(kind, name, permutation)
        for kind, permutations in (
            ("input", conversion.input_permutations),
            ("output", conversion.output_permutations),
        )
        for name, permutation in permutations.items()
    ]


def _runner(file: KerasModel, conversion: Any, inputs: list[str], outputs: list[str]) -> Callable:
    """Runs the file on arrays in the source's layout."""

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        given = [
            array.transpose(conversion.input_permutations.get(name, range(array.ndim)))
            for name, array in zip(inputs, arrays, strict=True)
        ]
        results = zip(outputs, file.run(given), strict=True)
        return [
            array.transpose(np.argsort(conversion.output_permutations.get(name, range(array.ndim))))
            for name, array in results
        ]

    return run
