"""The range of each value that integers are to hold, from representative samples."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np

from converter.quantization.files import Samples
from converter.quantization.onnx.observing import Observed, Ranges, ranges

__all__ = ["METHODS", "calibrated"]

METHODS = ("minmax", "entropy", "percentile")
_BINS, _QUANTIZED_BINS, _PERCENTILE = 1024, 128, 99.999


def calibrated(method: str, observed: Observed, samples: Samples, names: Sequence[str]) -> Ranges:
    """Of each float tensor that has values other than NaN and infinities. `names`: of the inputs that a sample holds.

    minmax: all of them. percentile: without the hundred-thousandth part that lies furthest out. entropy: the range whose
    integers are distributed most like the values, by Kullback-Leibler divergence. The last two are onnxruntime's, on histograms
    over a range that a first pass has found: its own collector begins with that of the first sample.
    """
    whole = ranges(observed, samples(), names)
    if method == "minmax":
        return whole
    from onnxruntime.quantization.calibrate import HistogramCollector

    collector = HistogramCollector(method, False, _BINS, _QUANTIZED_BINS, _PERCENTILE, "same")
    limits = {name: max(map(abs, pair)) for name, pair in whole.items()}
    counts = {name: np.zeros(_BINS, np.int64) for name, limit in limits.items() if limit > 0}
    for sample in samples():
        for name, array in observed.run(sample, names).items():
            if name in counts:
                finite = array[np.isfinite(array)]
                counts[name] += np.histogram(finite, _BINS, range=(-limits[name], limits[name]))[0]
    for name, histogram in counts.items():
        edges = np.linspace(-limits[name], limits[name], _BINS + 1, dtype=np.float32)
        lowest, highest = map(np.float32, whole[name])
        collector.histogram_dict[name] = (histogram, edges, lowest, highest, np.float32(limits[name]))
    if not counts:
        return whole
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        found = collector.compute_collection_result()
    return {**whole} | {name: (float(lowest), float(highest)) for name, (lowest, highest, *_) in found.items()}
