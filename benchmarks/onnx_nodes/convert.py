"""One case to one target, in a process of its own: what came of it."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from converter.contracts import ExportJob, ImportSpec
from converter.errors import ConverterError, ParameterError, SourceError, UnsupportedError
from converter.hub.hub import Hub
from converter.planning.input_shapes import InputShape
from onnx_nodes.cases import Case, other_opsets

__all__ = ["OPSETS", "TARGETS", "convert"]

TARGETS = ("tflite", "keras", "onnx", "onnx2")
# Of these the case's first and second other opset.
OPSETS = ("onnx", "onnx2")
# Numbers that say sizes, and weights, are inputs of many cases; of models they are constants.
_LARGEST_SETTING = 16


def convert(case: Case, target: str) -> dict[str, Any]:
    """{"outcome": "verified", "wrong", "refused", "no reference" or "error", "reason", "constants", "cpu_seconds"}."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    result: dict[str, Any] = {}
    for settings in _attempts(case):
        try:
            result = {**_converted(case, target, settings), "constants": sorted(settings)}
        except ConverterError as error:
            result = {"outcome": "refused", "reason": str(error), "constants": sorted(settings)}
        except Exception as error:  # whatever a library raises is a finding
            result = {
                "outcome": "error",
                "reason": f"{type(error).__name__}: {error}"[:300],
                "constants": sorted(settings),
            }
        if result["outcome"] == "verified":
            break
    now = resource.getrusage(resource.RUSAGE_SELF)
    result["cpu_seconds"] = round(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, 2)
    return result


def _attempts(case: Case) -> list[dict[str, Any]]:
    """What is given as constants: nothing; inputs of few whole numbers, or single numbers; all but the first input."""
    names = [entry.name for entry in case.model.graph.input]
    few, rest = {}, {}
    for position, (name, value) in enumerate(zip(names, case.inputs, strict=True)):
        if not position or isinstance(value, list) or value is None:
            continue
        array = rest[name] = np.asarray(value)
        is_few = array.ndim <= 1 and array.size <= _LARGEST_SETTING
        if is_few and (array.dtype.kind in "iub" or array.size <= 1 or name in ("scales", "roi")):
            few[name] = array
    attempts: list[dict[str, Any]] = [{}]
    return attempts + [found for found in ([few] if few != rest else []) + [rest] if found]


def _converted(case: Case, target: str, settings: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        hub = _hub(case, settings, folder)
        if isinstance(hub, str):
            return {"outcome": "no reference", "reason": hub}
        format_ = "onnx" if target in OPSETS else target
        staged = folder / f"model.{format_}"
        result = _exporter(format_)(hub, ExportJob(f"converted/model.{format_}", **_asked(target, case)), staged)
    verification = result.verification
    if verification is None:
        # Of another opset: onnxruntime has no kernel there.
        return {"outcome": "no reference" if target in OPSETS else "refused", "reason": result.unverified_reason}
    return {"outcome": "verified" if verification.passed else "wrong", "reason": verification.message}


def _asked(target: str, case: Case) -> dict[str, Any]:
    if target not in OPSETS:
        return {"input_layout": "nchw"}
    return {"onnx_opset": other_opsets(case)[OPSETS.index(target)]} if other_opsets(case) else {}


def _element_shapes(case: Case) -> list[InputShape]:
    """Of tensors in sequences among the inputs, by their names in hubs, where the model says none: the case's own."""
    found = []
    for entry, value in zip(case.model.graph.input, case.inputs, strict=True):
        kind = entry.type.optional_type.elem_type if entry.type.HasField("optional_type") else entry.type
        if kind.HasField("sequence_type") and not kind.sequence_type.elem_type.tensor_type.HasField("shape"):
            shape = np.asarray(value[0]).shape if value else (2,)
            found += [InputShape(shape, None, f"{entry.name}_{index}") for index in range(2)]
    return found


def _exporter(target: str) -> Callable[..., Any]:
    if target == "onnx":
        from converter.onnx.export import export

        return export
    from converter.onnx_to_torch.exports import export_keras, export_tflite

    return {"tflite": export_tflite, "keras": export_keras}[target]


def _hub(case: Case, settings: dict[str, Any], folder: Path) -> Hub | str:
    """The case's hub, on seeded samples, or on its own inputs where onnxruntime takes no others."""
    from import_onnx import import_model

    source, own = folder / "case.onnx", folder / "inputs.npz"
    onnx.save(case.model, source)
    spec = ImportSpec(source, "onnx", constants=settings, input_shape=_element_shapes(case) or None)
    ways = [spec]
    if not any(
        isinstance(array, list) or array is None for array in case.inputs
    ):  # sequences and optionals have no array
        arrays = {
            entry.name: np.asarray(array)[None]
            for entry, array in zip(case.model.graph.input, case.inputs, strict=True)
            if entry.name not in settings
        }
        np.savez(own, **arrays)
        ways.append(replace(spec, reference_inputs=own))
    failure = ""
    for attempt, given in enumerate(ways):
        out = folder / f"hub{attempt}"
        out.mkdir()
        try:
            hub = import_model(given, out)
        except (SourceError, ParameterError) as error:
            failure = str(error)
            continue
        except UnsupportedError as error:
            if not str(error).startswith("onnxruntime, which"):
                raise
            failure = str(error)  # it has no kernel for the model
            continue
        except ConverterError:
            raise
        except Exception as error:  # what onnxruntime raises as it runs the model
            failure = f"{type(error).__name__}: {error}"
            continue
        hub.source = {"path": str(source), "sha256": "0" * 64}
        hub.write()
        return Hub.read(out)
    return failure[:300]
