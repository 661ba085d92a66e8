"""Verification of a TFLite file in LiteRT against the source's outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converter.errors import UnsupportedError
from converter.hub.hub import Run, TensorSpec
from converter.hub.reference import split_rows
from converter.verification.runtimes import TFLiteModel, check_interface, open_tflite
from converter.verification.verify import Tolerance, Verification, verify

if TYPE_CHECKING:
    from converter.tf.runtime.flex_model import FlexModel

__all__ = ["RuntimeRefusal", "in_order", "runs_for", "verify_tflite"]


class RuntimeRefusal(Exception):
    """The interpreter cannot load the file, or cannot run it on the reference's inputs."""


def in_order(
    model: TFLiteModel | FlexModel, inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[list[TensorSpec], list[TensorSpec], Callable[[Sequence[np.ndarray]], list[np.ndarray]]]:
    """The file's inputs and outputs in the order of these names, and a function that runs it in that order.

    Raises ValueError where the file's own names or order are others.
    """
    check_interface(model, inputs, outputs)
    input_names = [spec.name for spec in model.inputs]
    output_names = [spec.name for spec in model.outputs]
    feed = [inputs.index(name) for name in input_names]
    fetch = [output_names.index(name) for name in outputs]

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        results = model.run([arrays[position] for position in feed])
        return [results[position] for position in fetch]

    specs = {spec.name: spec for spec in model.inputs}
    return [specs[name] for name in inputs], [model.outputs[position] for position in fetch], run


def runs_for(model_inputs: Sequence[TensorSpec], runs: Sequence[Run]) -> list[Run]:
    """The runs as they fit a file: row by row where its batch is fixed at 1 and the reference has larger ones."""
    fixed = [spec.shape[0] for spec in model_inputs if spec.shape]
    sizes = {array.shape[0] for run in runs for array in run.inputs if array.ndim}
    if fixed and set(fixed) == {1} and sizes != {1}:
        rows = split_rows(runs)
        if not rows:
            raise UnsupportedError(
                "TensorFlow Lite takes this model with a batch of 1 only, and its outputs cannot be told apart by row: "
                "give input_shape with the batch that you need"
            )
        return rows
    return list(runs)


def verify_tflite(
    path: Path,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    runs: Sequence[Run],
    tolerance: Tolerance,
) -> tuple[Verification, list[TensorSpec], list[TensorSpec]]:
    """Run the file on the reference; returns the verdict, and its inputs and outputs as the file has them.

    Raises RuntimeRefusal where LiteRT, with TensorFlow for operators of Select-TF, does not run the file.
    """
    try:
        model = open_tflite(path)
        file_inputs, file_outputs, run = in_order(model, [s.name for s in inputs], [s.name for s in outputs])
        verification = verify(outputs, runs_for(file_inputs, runs), run, tolerance, runtime=model.name)
    except (RuntimeError, ValueError) as error:  # what the interpreter raises for a node it cannot prepare or invoke
        raise RuntimeRefusal(str(error).strip().partition("\n")[0][:300]) from error
    return verification, file_inputs, file_outputs
