"""What each operator of a converted file costs: python -m converter.profiling.operator_times FILE.

ONNX: onnxruntime's own profile of whole runs. TensorFlow Lite: LiteRT's Python interface (2.3) has no profile, so each
operator is put into a file of its own and timed alone, with its own constants and random inputs of the sizes that the
whole model gives it. What a delegate fuses in the whole model is not fused there: the parts then sum to more than the whole.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converter.errors import UnsupportedError
from converter.hub.hub import TensorSpec
from converter.profiling.latency import random_inputs
from converter.tflite import flatbuffer

__all__ = ["METHODS", "OperatorTime", "operator_times"]

METHODS = {".onnx": "profile of whole runs", ".tflite": "each operator alone"}
_SECONDS = 0.05  # spent on one operator of a TensorFlow Lite file, at most


@dataclass(frozen=True)
class OperatorTime:
    """One operator of a file: its type, the name of its node or first output, and its median time in ms (None: not run)."""

    type: str
    name: str
    ms: float | None


def operator_times(path: Path, *, runs: int = 20, threads: int = 1) -> list[OperatorTime]:
    """In the order in which the operators run. Raises UnsupportedError for other files than .onnx and .tflite."""
    measure = {".onnx": _onnx, ".tflite": _tflite}.get(path.suffix)
    if measure is None:
        raise UnsupportedError(f"{path}: only .tflite and .onnx files are profiled")
    return measure(path, runs, threads)


def _onnx(path: Path, runs: int, threads: int) -> list[OperatorTime]:
    import onnxruntime

    from converter.verification.runtimes import OnnxModel

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    specs = OnnxModel(path, threads).inputs
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feeds = dict(zip([spec.name for spec in specs], random_inputs(specs), strict=True))
        for _ in range(runs + 1):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["name"].removesuffix("_kernel_time")].append(event["dur"] / 1000)
    return [OperatorTime(*key, round(float(np.median(values)), 5)) for key, values in times.items()]


def _tflite(path: Path, runs: int, threads: int) -> list[OperatorTime]:
    model = flatbuffer.read(path.read_bytes())
    shapes = _shapes(path, threads)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder, "operator.tflite")
        graph = model.subgraphs[0]
        for operator in graph.operators:
            name = graph.tensors[operator.outputs[0]].name.decode() if len(operator.outputs) else ""
            kind = flatbuffer.operator_name(model, operator)
            _write_alone(alone, model, operator, shapes)
            found.append(OperatorTime(kind, name, _time_alone(alone, runs, threads)))
    return found


def _shapes(path: Path, threads: int) -> dict[int, list[int]]:
    """Sizes of the main subgraph's tensors with unknown sizes taken as 1, by index."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    for entry in interpreter.get_input_details():
        interpreter.resize_tensor_input(entry["index"], [max(int(size), 1) for size in entry["shape_signature"]])
    interpreter.allocate_tensors()
    return {entry["index"]: [int(size) for size in entry["shape"]] for entry in interpreter.get_tensor_details()}


def _write_alone(path: Path, model: Any, operator: Any, shapes: dict[int, list[int]]) -> None:
    """A file of one operator: its constants stay, its other inputs become the file's."""
    schema = flatbuffer.schema
    graph = model.subgraphs[0]
    alone, subgraph = schema.ModelT(), schema.SubGraphT()
    alone.version, alone.operatorCodes, alone.subgraphs = model.version, model.operatorCodes, [subgraph]
    alone.buffers, subgraph.tensors, subgraph.inputs, subgraph.outputs = [schema.BufferT()], [], [], []
    numbers: dict[int, int] = {-1: -1}  # -1: an optional input that is left out

    def number(index: int) -> int:
        index = int(index)
        if index not in numbers:
            tensor, old = schema.TensorT(), graph.tensors[index]
            tensor.__dict__.update(old.__dict__)
            tensor.shape, tensor.shapeSignature = shapes.get(index, old.shape), None
            tensor.buffer = 0
            numbers[index] = len(subgraph.tensors)
            subgraph.tensors.append(tensor)
            if flatbuffer.is_constant(model, old):
                tensor.buffer = len(alone.buffers)
                alone.buffers.append(model.buffers[old.buffer])
        return numbers[index]

    copy = schema.OperatorT()
    copy.__dict__.update(operator.__dict__)
    copy.inputs = [number(index) for index in operator.inputs]
    subgraph.inputs = sorted({place for place in copy.inputs if place >= 0 and subgraph.tensors[place].buffer == 0})
    copy.outputs = subgraph.outputs = [number(index) for index in operator.outputs]
    copy.intermediates = None
    subgraph.operators = [copy]
    flatbuffer.write(path, alone)


def _time_alone(path: Path, runs: int, threads: int) -> float | None:
    """Median ms of a run; None where the operator does not run without the rest (control flow, state)."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
        details = interpreter.get_input_details()
        specs = [TensorSpec("", tuple(entry["shape"]), np.dtype(entry["dtype"]).name) for entry in details]
        for entry, array in zip(details, random_inputs(specs), strict=True):
            interpreter.set_tensor(entry["index"], array)
        interpreter.invoke()
    except (RuntimeError, ValueError):
        return None
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < runs and (not times or time.perf_counter() < end):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(1000 * (time.perf_counter() - start))
    return round(float(np.median(times)), 5)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m converter.profiling.operator_times", description=__doc__)
    parser.add_argument("file", type=Path, help=".tflite or .onnx file")
    parser.add_argument("--runs", type=int, default=20, help="runs of each (default 20)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the runtime (default 1)")
    args = parser.parse_args(argv)
    print(json.dumps([asdict(entry) for entry in operator_times(args.file, runs=args.runs, threads=args.threads)]))


if __name__ == "__main__":
    main()
