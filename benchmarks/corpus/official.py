"""The official routes, as their pages show them: torch.onnx.export(dynamo=True) and litert_torch.convert, one process each.

Each is forked from one that has imported the libraries, as Converter's steps are, and is judged as Converter judges its
own files, on the example it was exported with and on another of its size.
"""

from __future__ import annotations

import functools
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch

from converter.hub.hub import Hub, Run, TensorSpec
from converter.hub.informative import typical
from converter.torch.program.flat import flat_outputs, to_arrays, to_tensors
from converter.torch.sources.tracing import quiet, reason
from converter.torch.sources.variations import moved
from converter.verification.runtimes import TFLiteModel
from converter.verification.verify import Tolerance, verify
from corpus.sources import Model, load

__all__ = ["ROUTES", "Task", "run_routes", "start_up_seconds"]

_FORK = multiprocessing.get_context("fork")
ROUTES = ("onnx", "tflite")


@dataclass(frozen=True)
class Task:
    """One model by one route. folder: of the models. hub: of Converter's import, which has the example."""

    model: Model
    route: str
    folder: Path
    hub: Path


def run_routes(tasks: Sequence[Task], seconds: float, at_once: int) -> dict[tuple[str, str], dict[str, Any]]:
    """By the model's stem and the route: {"outcome": "verified", "wrong", "failed" or "timeout", "reason", "cpu_seconds",
    "peak_memory_mb"}. Each has a process of its own, forked here, `at_once` of them side by side."""
    waiting, running = list(reversed(tasks)), {}
    results: dict[tuple[str, str], dict[str, Any]] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            task = waiting.pop()
            here, there = _FORK.Pipe()
            process = _FORK.Process(target=_work, args=(there, task))
            process.start()
            there.close()
            running[here] = (task, process, time.monotonic() + seconds)
        ready = wait(list(running), timeout=1)
        for here, (task, process, end) in list(running.items()):
            if here in ready:
                try:
                    result = here.recv()
                except EOFError:
                    result = {"outcome": "failed", "reason": "the process ended"}
            elif time.monotonic() > end:
                result = {"outcome": "timeout", "reason": f"{seconds} s"}
            else:
                continue
            process.kill()
            process.join()
            del running[here]
            results[task.model.stem, task.route] = result
    return results


_IMPORTS = {"onnx": "import torch, onnxscript, onnxruntime", "tflite": "import torch, litert_torch"}
_MODELS = {"transformers": "from transformers import AutoModel, PreTrainedModel", "timm": "import timm"}


@functools.cache
def start_up_seconds(family: str, route: str) -> float:
    """CPU seconds until the libraries are imported, which each run of a script as the routes' pages show it takes besides."""
    # A torchvision of another build than torch's does not import by itself.
    vision = "from converter.torch.extensions.vision import import_torchvision; import_torchvision()"
    code = f"{_IMPORTS[route]}; {vision}; {_MODELS.get(family, 'import torchvision')}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime, 2)


def _work(answer: Connection, task: Task) -> None:
    result: dict[str, Any] = {}
    used = resource.getrusage(resource.RUSAGE_SELF)
    try:
        with quiet(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            message = {"onnx": _onnx, "tflite": _tflite}[task.route](task.model, task.folder, Hub.read(task.hub))
        result = {"outcome": "verified" if message is None else "wrong", "reason": message}
    except BaseException as error:  # whatever an exporter raises; SystemExit too
        result = {"outcome": "failed", "reason": f"{type(error).__name__}: {reason(error)}"}
    now = resource.getrusage(resource.RUSAGE_SELF)
    result["cpu_seconds"] = round(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, 2)
    result["peak_memory_mb"] = now.ru_maxrss >> 10
    answer.send(result)


def _prepared(model: Model, folder: Path, hub: Hub) -> tuple[torch.nn.Module, list[str], list[Run]]:
    """The network, its arguments' names, and two runs of one size."""
    network = load(model, folder)
    names = [spec.name for spec in hub.inputs]
    example = list(typical(hub.reference())[-1].inputs)
    runs = []
    for arrays in (example, moved(example, seed=1)):
        found = _call(network, model, names, to_tensors(arrays))
        runs.append(Run(arrays, to_arrays(flat_outputs(found)[1])))
    return network, names, runs


def _call(network: torch.nn.Module, model: Model, names: Sequence[str], tensors: Sequence[torch.Tensor]) -> Any:
    if model.family == "transformers":
        return network(**dict(zip(names, tensors, strict=True)))
    return network(*tensors)


def _judged(runs: list[Run], run: Any) -> str | None:
    specs = [TensorSpec(f"output {i}", None, str(array.dtype)) for i, array in enumerate(runs[0].outputs)]
    return verify(specs, runs, run, Tolerance()).message


def _onnx(model: Model, folder: Path, hub: Hub) -> str | None:
    import onnxruntime

    network, names, runs = _prepared(model, folder, hub)
    tensors = tuple(to_tensors(runs[0].inputs))
    given = (
        {"args": (), "kwargs": dict(zip(names, tensors, strict=True))}
        if model.family == "transformers"
        else {"args": tensors}
    )
    with tempfile.TemporaryDirectory() as place:
        path = f"{place}/model.onnx"
        torch.onnx.export(network, f=path, dynamo=True, external_data=False, verbose=False, **given)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        named = dict(zip(names, arrays, strict=True))
        positional = {entry.name: array for entry, array in zip(session.get_inputs(), arrays, strict=False)}
        wanted = {entry.name for entry in session.get_inputs()}
        return session.run(
            None, {k: v for k, v in (named if wanted <= named.keys() else positional).items() if k in wanted}
        )

    return _judged(runs, run)


def _tflite(model: Model, folder: Path, hub: Hub) -> str | None:
    import litert_torch

    network, names, runs = _prepared(model, folder, hub)
    tensors = to_tensors(runs[0].inputs)
    if model.family == "transformers":
        converted = litert_torch.convert(network, sample_kwargs=dict(zip(names, tensors, strict=True)))
    else:
        converted = litert_torch.convert(network, tuple(tensors))

    with tempfile.TemporaryDirectory() as place:
        converted.export(f"{place}/model.tflite")
        file = TFLiteModel(Path(place) / "model.tflite")
    own = [spec.name for spec in file.inputs]

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        """In the file's dtypes: it has 32 bits where the source has 64, which is no fault of its values."""
        given = dict(zip(names, arrays, strict=True))
        ordered = [given[name] for name in own] if set(own) == set(given) else arrays
        found = file.run([array.astype(spec.dtype) for array, spec in zip(ordered, file.inputs, strict=True)])
        return [array.astype(wanted.dtype) for array, wanted in zip(found, runs[0].outputs, strict=True)]

    return _judged(runs, run)
