"""Where a converted file leaves its source's computation: `first_divergence`, and how its tensors compare."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converter.errors import ConverterError

if TYPE_CHECKING:
    from converter.contracts import ExportJob, ExportResult
    from converter.divergence.comparison import Comparison
    from converter.hub.hub import Hub
    from converter.verification.verify import Tolerance

__all__ = ["first_divergence", "open_comparison"]


def first_divergence(hub: Hub, job: ExportJob, path: Path, result: ExportResult) -> dict:
    """Of an inaccurate file: the operator, its layer and source line at which it goes wrong, or `reason` why not known.

    Nothing is raised: the verdict stands without this. Unexpected tracebacks go to the log.
    """
    from converter.divergence.locate import locate, unknown

    if "quantization" in result.metadata:
        target = Path(job.target)
        name = target.stem if target.suffix == ".tflite" else target.name
        return unknown(f"every tensor of a quantized file differs: see reports/{name}.layers.json")
    try:
        return locate(open_comparison(hub, job, path))
    except ConverterError as error:
        return unknown(str(error))
    except (
        Exception
    ) as error:  # a lack of memory, and whatever a runtime raises on a graph with all its tensors as outputs
        traceback.print_exc()
        return unknown(f"comparing the tensors within failed: {type(error).__name__} (see the log)")


def open_comparison(hub: Hub, job: ExportJob, path: Path) -> Comparison:
    """The tensors of both sides on the sample on which they differ most.

    Raises UnsupportedError where one side cannot be followed, or the hub itself is not what the source computes.
    """
    from converter.divergence.comparison import Comparison
    from converter.divergence.sides import open_sides
    from converter.errors import UnsupportedError

    source, target, run = open_sides(hub, job, path)
    again = dict(source.values(source.outputs))
    for spec, name, expected in zip(hub.outputs, source.outputs, run.outputs, strict=True):
        if name in again and not _agree(again[name], expected, job.tolerance):
            raise UnsupportedError(
                f"the graph that was read from the source gives other values of {spec.name} than the source itself, "
                "so that the fault lies in reading it, before any export"
            )
    return Comparison(source, target, job.tolerance.atol)


def _agree(actual: np.ndarray, expected: np.ndarray, tolerance: Tolerance) -> bool:
    """As verify.verify has it, but for the places of NaN and infinities."""
    if actual.shape != expected.shape:
        return False
    if expected.dtype.kind not in "fcV":
        return np.array_equal(actual, expected)
    finite = np.isfinite(expected) & np.isfinite(actual)
    allowed = tolerance.of(float(np.abs(expected[finite]).max(initial=0.0)))
    return float(np.abs(actual - expected)[finite].max(initial=0.0)) <= allowed
