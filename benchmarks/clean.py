"""Are our files as clean and as fast as the official route's? Needs the files that the other sections leave behind.

    clean.py OURS THEIRS        prints one line of JSON: operators, leftovers, and latencies taken alternately

Latency: both files in one process, one run of each in turn, the median of each side; a difference that the machine makes
meets both alike. Each comparison runs in a process of its own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

__all__ = ["compare", "leftover_nodes", "onnx_operators", "section", "tflite_operators"]

_RUNS = 40
_SECONDS = 20


def onnx_operators(path: Path) -> Counter:
    """Nodes by operator, those of loops' and branches' bodies included."""
    import onnx

    counts: Counter = Counter()
    pending = [onnx.load(path, load_external_data=False).graph]
    while pending:
        for node in pending.pop().node:
            counts[node.op_type] += 1
            pending += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return counts


def leftover_nodes(path: Path) -> list[str]:
    """Nodes of the main graph whose inputs are all constants: what a converter should have computed itself."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    constant = {tensor.name for tensor in graph.initializer}
    constant |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    names = [node for node in graph.node if node.input and all(name in constant for name in node.input if name)]
    return [f"{node.op_type} {node.name}" for node in names]


def tflite_operators(path: Path) -> Counter:
    from converter.tflite.flatbuffer import operators, read

    return Counter(name for _, _, name in operators(read(Path(path).read_bytes())))


def compare(ours: Path, theirs: Path) -> dict:
    """{"operators": [ours, theirs], "leftovers": [...], "milliseconds": [ours, theirs], "same": ...} of two files."""
    from converter.verification.runtimes import OnnxModel, TFLiteModel

    onnx_file = ours.suffix == ".onnx"
    count = onnx_operators if onnx_file else tflite_operators
    counts = [count(ours), count(theirs)]
    models = [(OnnxModel if onnx_file else TFLiteModel)(path, 1) for path in (ours, theirs)]
    rng = np.random.default_rng(7)
    arrays = []
    for model in models:
        shapes = [tuple(dim or 1 for dim in spec.shape) for spec in model.inputs]
        arrays.append(
            [rng.standard_normal(shape).astype(spec.dtype) for shape, spec in zip(shapes, model.inputs, strict=True)]
        )
    taken: list[list[float]] = [[], []]
    began = time.monotonic()
    for turn in range(_RUNS + 2):
        for side in ((0, 1), (1, 0))[turn % 2]:
            start = time.process_time()
            models[side].run(arrays[side])
            if turn >= 2:
                taken[side].append(1000 * (time.process_time() - start))
        if turn > 6 and time.monotonic() - began > _SECONDS:
            break
    return {
        "operators": [counts[0].total(), counts[1].total()],
        "differences": {
            name: [counts[0][name], counts[1][name]]
            for name in sorted(counts[0] | counts[1])
            if counts[0][name] != counts[1][name]
        },
        "leftovers": leftover_nodes(ours) if onnx_file else [],
        "milliseconds": [round(statistics.median(values), 3) for values in taken],
        "ratio": round(statistics.median(a / b for a, b in zip(*taken, strict=True)), 3),
    }


def section(bench) -> None:  # noqa: ANN001 (bench.Bench, which imports this module)
    for ours in sorted((bench.folder / "converted").iterdir()):
        theirs = bench.folder / "official" / ours.name
        if not theirs.exists() or "-" in ours.stem and not ours.stem.endswith(("-000", "-001", "-002", "-003")):
            continue
        run = subprocess.run(
            [sys.executable, __file__, str(ours), str(theirs)], env=bench.environment, capture_output=True, text=True
        )
        if run.returncode:
            bench.add(case=ours.name, error=run.stderr.strip().splitlines()[-1])
        else:
            bench.add(case=ours.name, **json.loads(run.stdout.splitlines()[-1]))


if __name__ == "__main__":
    print(json.dumps(compare(Path(sys.argv[1]), Path(sys.argv[2]))))
