"""How fast a converted file runs here: python -m converter.profiling.latency FILE (.tflite in LiteRT, .onnx in onnxruntime).

Each file is measured in a process of its own, which loads nothing else: initialisation and memory are the file's, and
no other file's threads or caches disturb it. Several files take turns, so that a machine that is busy for a while does not
make one of them look slow.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from converter import formats
from converter.errors import UnsupportedError
from converter.hub.hub import TensorSpec
from converter.installation import PACKAGES
from converter.running.reader import confined_reader

__all__ = ["Latency", "Timings", "latencies", "latency", "random_inputs", "time_file"]


@dataclass(frozen=True)
class Timings:
    """What one process measured. run_ms: one entry per timed run, from arrays in to arrays out; warmup_ms: those before.

    init_ms: from the file's path to a model that is ready to run. Memory is resident MB, None on systems without /proc:
    `memory_before_mb` with the runtime imported and no file open, `peak_memory_mb` the highest until the end.
    """

    runtime: str
    batch: int
    init_ms: float
    warmup_ms: list[float]
    run_ms: list[float]
    memory_before_mb: float | None
    peak_memory_mb: float | None


@dataclass(frozen=True)
class Latency:
    """The figures of one file. `batch`: leading dimension of the inputs; throughput: samples per second at the median.

    first_ms: the first of the warm-up runs, None without any.
    """

    runtime: str
    threads: int
    runs: int
    warmup: int
    batch: int
    init_ms: float
    first_ms: float | None
    median_ms: float
    p90_ms: float
    p99_ms: float
    throughput_per_second: float
    memory_before_mb: float | None
    peak_memory_mb: float | None

    def to_json(self) -> dict:
        """As a mapping for JSON; times in milliseconds, as the attributes' names say."""
        return asdict(self)


def latency(path: Path, *, runs: int = 50, warmup: int = 5, threads: int = 1) -> Latency:
    """Measure one file in a fresh process. Raises UnsupportedError where its runtime does not run it."""
    return latencies([path], runs=runs, warmup=warmup, threads=threads, rounds=1)[0]


def latencies(
    paths: Sequence[Path], *, runs: int = 50, warmup: int = 5, threads: int = 1, rounds: int = 3
) -> list[Latency]:
    """Measure several files in turns: `rounds` fresh processes each, which share the `runs` between them."""
    each = -(-runs // rounds)
    timings: list[list[Timings]] = [[] for _ in paths]
    for _ in range(rounds):
        for path, found in zip(paths, timings, strict=True):
            found.append(_in_fresh_process(path, each, warmup, threads))
    return [_summary(found, warmup, threads) for found in timings]


def _summary(timings: Sequence[Timings], warmup: int, threads: int) -> Latency:
    batch = timings[0].batch
    run_ms = np.concatenate([timing.run_ms for timing in timings])
    median, p90, p99 = (round(float(value), 4) for value in np.percentile(run_ms, [50, 90, 99]))
    return Latency(
        timings[0].runtime,
        threads,
        len(run_ms),
        warmup,
        batch,
        init_ms=round(float(np.median([timing.init_ms for timing in timings])), 3),
        first_ms=round(float(np.median([timing.warmup_ms[0] for timing in timings])), 4) if warmup else None,
        median_ms=median,
        p90_ms=p90,
        p99_ms=p99,
        throughput_per_second=round(1000 * batch / float(np.median(run_ms)), 2),
        memory_before_mb=_largest([timing.memory_before_mb for timing in timings]),
        peak_memory_mb=_largest([timing.peak_memory_mb for timing in timings]),
    )


def _largest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(max(known), 1) if known else None


def _in_fresh_process(path: Path, runs: int, warmup: int, threads: int) -> Timings:
    command = [sys.executable, "-P", "-m", "converter.profiling.latency", str(path)]
    command += [f"--runs={runs}", f"--warmup={warmup}", f"--threads={threads}"]
    packages = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")]))
    # A thread of numpy's, begun with its import, would keep the rights that the process then gives up.
    environ = {**os.environ, "PYTHONPATH": packages, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UnsupportedError(f"{path} cannot be run here: {lines[-1][:300]}")
    return Timings(**json.loads(done.stdout.splitlines()[-1]))


def time_file(path: Path, *, runs: int, warmup: int, threads: int) -> Timings:
    """Measure in this process. Inputs are seeded and random, unknown sizes 1; they are set before each run, in its time."""
    found = formats.find_target(path.suffix[1:])
    if found is None or found.timer is None:
        timed = [f".{entry.extensions[0]}" for entry in formats.targets().values() if entry.timer]
        raise UnsupportedError(f"{path}: only {' and '.join(timed)} files are run for their latency")
    opening = formats.load(found.timer)()
    before = _status_mb("VmRSS")
    start = time.perf_counter()
    runtime, inputs, run = opening(path, threads)
    init_ms = 1000 * (time.perf_counter() - start)
    run_ms = []
    for _ in range(warmup + runs):
        start = time.perf_counter()
        run()
        run_ms.append(round(1000 * (time.perf_counter() - start), 5))
    batch = next((array.shape[0] for array in inputs if array.ndim), 1)
    return Timings(runtime, batch, round(init_ms, 3), run_ms[:warmup], run_ms[warmup:], before, _status_mb("VmHWM"))


def random_inputs(specs: Sequence[TensorSpec], seed: int = 0) -> list[np.ndarray]:
    """Floats of a standard normal distribution, 8-bit integers of all values, other integers 0 or 1 (they are often indices)."""
    generator = np.random.default_rng(seed)
    arrays = []
    for spec in specs:
        shape = tuple(dim or 1 for dim in spec.shape or ())
        if spec.dtype == "string":
            arrays.append(np.full(shape, "a", object))
        elif spec.dtype in ("int8", "uint8"):
            limits = np.iinfo(spec.dtype)
            arrays.append(generator.integers(limits.min, limits.max + 1, shape, np.dtype(spec.dtype)))
        elif np.dtype(spec.dtype).kind in "biu":
            arrays.append(generator.integers(0, 2, shape).astype(spec.dtype))
        else:
            arrays.append(generator.standard_normal(shape).astype(spec.dtype))
    return arrays


Opened = tuple[str, list[np.ndarray], Callable[[], object]]


def litert_timer() -> Callable[[Path, int], Opened]:
    from ai_edge_litert.interpreter import Interpreter

    from converter.verification.runtimes import TFLiteModel

    def opened(path: Path, threads: int) -> Opened:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        details = interpreter.get_input_details()
        inputs = random_inputs([TFLiteModel.spec(entry["name"], entry) for entry in details])
        for entry, array in zip(details, inputs, strict=True):
            interpreter.resize_tensor_input(entry["index"], list(array.shape))
        interpreter.allocate_tensors()
        outputs = interpreter.get_output_details()

        def run() -> None:
            for entry, array in zip(details, inputs, strict=True):
                interpreter.set_tensor(entry["index"], array)
            interpreter.invoke()
            for entry in outputs:
                interpreter.get_tensor(entry["index"])

        return f"ai-edge-litert {version('ai-edge-litert')}", inputs, run

    return opened


def onnxruntime_timer() -> Callable[[Path, int], Opened]:
    import onnxruntime  # noqa: F401  (before memory is read)

    from converter.verification.runtimes import OnnxModel

    def opened(path: Path, threads: int) -> Opened:
        model = OnnxModel(path, threads)
        inputs = random_inputs(model.inputs)
        return model.name, inputs, lambda: model.run(inputs)

    return opened


def _status_mb(key: str) -> float | None:
    """MB of VmRSS or VmHWM of this process (proc(5)); None where there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    return int(status.partition(f"{key}:")[2].split()[0]) / 1024


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m converter.profiling.latency", description=__doc__)
    parser.add_argument("file", type=Path, help=".tflite or .onnx file")
    parser.add_argument("--runs", type=int, default=50, help="timed runs (default 50)")
    parser.add_argument("--warmup", type=int, default=5, help="runs before them (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the runtime (default 1)")
    args = parser.parse_args(argv)
    with confined_reader(args.file) if argv is None else nullcontext():
        timings = time_file(args.file, runs=args.runs, warmup=args.warmup, threads=args.threads)
    print(json.dumps(asdict(timings)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
