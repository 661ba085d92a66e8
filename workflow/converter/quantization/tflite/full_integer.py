"""Integer arithmetic in a TensorFlow Lite model: calibration on representative data, then TensorFlow's quantizer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from converter.errors import ParameterError, UnsupportedError
from converter.tflite.flatbuffer import read, write
from converter.wording import first_line

__all__ = ["calibrate", "to_integers"]


def calibrate(path: Path, samples: Callable[[], Iterable[Sequence[np.ndarray]]]) -> bytes:
    """The float model at `path` with the range of each tensor over the samples.

    `samples()` yields the arrays of one invocation each, in the order of the file's inputs and of one size. Raises
    UnsupportedError where the calibrator cannot run the model.
    """
    from tensorflow.lite.python.optimize import calibrator

    _import_constants_as_constants(path)
    calibrating = calibrator.Calibrator(calibrator.add_intermediate_tensors(path.read_bytes()))
    try:
        return calibrating.calibrate(lambda: (list(sample) for sample in samples()))
    except ParameterError:
        raise
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(
            f"the model cannot be run for calibration ({first_line(error)}): ask for a .float16.tflite or "
            ".dynamic.tflite file"
        ) from error


def to_integers(
    calibrated: bytes, boundary: str, keep_float: Collection[str] = (), *, compare_layers: bool = False
) -> bytes:
    """The calibrated model with int8 weights and activations; its float inputs and outputs become `boundary`.

    `boundary` is float32, int8 or uint8. `keep_float`: names of the (first) outputs of operators that stay float.
    `compare_layers`: let each operator run a second time in float, on the same values, with an operator NumericVerify
    behind both (for measuring, with boundary float32). Raises UnsupportedError where the quantizer refuses the model.
    """
    import tensorflow as tf
    from tensorflow.lite.python import convert

    dtype = tf.as_dtype(boundary)
    try:
        return convert.mlir_quantize(
            calibrated,
            input_data_type=dtype,
            output_data_type=dtype,
            denylisted_nodes=set(keep_float) or None,
            enable_numeric_verify=compare_layers,
        )
    except Exception as error:  # the bindings raise plain Exception, with MLIR's text
        raise UnsupportedError(
            f"TensorFlow's quantizer refuses the model ({first_line(error)}): ask for a .float16.tflite or "
            ".dynamic.tflite file"
        ) from error


def _import_constants_as_constants(path: Path) -> None:
    """Drop a mark of litert-torch (0.10) that makes the quantizer import weights as StableHLO constants.

    Of a convolution with such a weight TensorFlow 2.21 says nothing, and leaves it in float.
    """
    model = read(path.read_bytes())
    kept = [entry for entry in model.metadata or [] if entry.name != b"keep_stablehlo_constant"]
    if len(kept) < len(model.metadata or []):
        model.metadata = kept
        write(path.with_suffix(".rewritten"), model)
        path.with_suffix(".rewritten").replace(path)
