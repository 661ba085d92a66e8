"""`backend: keras2onnx` and `backend: pytorch2keras`: the original tool's libraries, in the environment they work in.

They read the source itself, not the hub; what they write is verified against the hub's reference like any other file.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from converter.contracts import ExportJob, ExportResult, import_spec
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, TensorSpec
from converter.legacy.source import call, read_arrays, source_request, write_arrays
from converter.planning.library_versions import export_packages, versions_of
from converter.planning.parameters import DEFAULT_OPSET
from converter.verification.runtimes import OnnxModel
from converter.verification.verify import verify
from converter.wording import channels_last_note

__all__ = ["export_keras2onnx", "export_pytorch2keras"]

# keras2onnx 1.7.0 writes up to 12.
_OPSETS = range(7, 13)


def _toolchain(hub: Hub) -> str:
    """The environment that read the source, else tf2.3."""
    chosen = hub.parameters.get("toolchain", "default")
    return chosen if chosen != "default" else "tf2.3"


def _request(hub: Hub, action: str) -> dict:
    spec = import_spec(Path(hub.source["path"]), hub.source["format"], hub.parameters)
    return {**source_request(spec), "action": action}


def export_keras2onnx(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged` with keras2onnx and verify it in onnxruntime.

    Raises UnsupportedError for an opset that keras2onnx does not write, SourceError for a model it does not convert.
    """
    import onnx
    from onnx import helper

    opset = job.onnx_opset or DEFAULT_OPSET
    if opset not in _OPSETS:
        raise UnsupportedError(
            f"keras2onnx writes onnx_opset {_OPSETS[0]} to {_OPSETS[-1]}, not {opset}: set one of these, or leave backend out"
        )
    toolchain = _toolchain(hub)
    with tempfile.TemporaryDirectory(prefix="converter-legacy-") as folder:
        answer = call(toolchain, {**_request(hub, "keras2onnx"), "onnx_opset": opset}, Path(folder))
        model = onnx.load(Path(folder, "model.onnx"))
    written = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if job.onnx_opset is not None and written != opset:
        # keras2onnx writes the lowest opset that has all operators of the model, never more than it was asked for.
        raise UnsupportedError(
            f"keras2onnx writes this model at opset {written}: set onnx_opset to {written}, or leave it out"
        )
    versions = {**hub.versions, **_versions(toolchain, answer), **versions_of(export_packages("onnx", hub.framework))}
    model.graph.name = "converter"
    helper.set_model_props(
        model,
        {
            "converter.source_sha256": hub.source.get("sha256") or "",
            "converter.versions": json.dumps(dict(sorted(versions.items()))),
        },
    )
    staged.write_bytes(model.SerializeToString(deterministic=True))
    target = OnnxModel(staged)
    order = [answer["inputs"].index(name) for name in _file_inputs(answer)]

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        # onnxruntime lists the inputs in the order of the graph.
        by_name = dict(zip(_file_inputs(answer), arrays, strict=True))
        return target.run([by_name[spec.name] for spec in target.inputs])

    verification = verify(hub.outputs, hub.reference(), run, job.tolerance, target.name)
    return ExportResult(
        route=["export_onnx", "keras2onnx"],
        inputs=[target.inputs[position] for position in order],
        outputs=target.outputs,
        verification=verification,
        opset=written,
        notes=[f"converted by keras2onnx {answer['versions'].get('keras2onnx', '')} in toolchain {toolchain}"],
    )


def _file_inputs(answer: dict) -> list[str]:
    """The file's input names in the order of the model's inputs: by name where keras2onnx kept the names."""
    same = set(answer["inputs"]) == set(answer["model_inputs"])
    return answer["model_inputs"] if same else answer["inputs"]


def export_pytorch2keras(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged` with pytorch2keras and verify it in the Keras that wrote it, which alone opens all its layers.

    With `input_layout: nhwc` inputs and outputs of rank 4 are channels-last. Raises UnsupportedError for what it cannot convert.
    """
    toolchain = _toolchain(hub)
    nhwc = job.input_layout == "nhwc"
    shapes = [[list(spec.shape or ()), spec.dtype] for spec in hub.inputs]
    order = [_order(len(dims), nhwc) for dims, _ in shapes]
    reference = hub.reference()
    permuted = [
        replace(run, inputs=[array.transpose(axes) for array, axes in zip(run.inputs, order, strict=True)])
        for run in reference
    ]
    with tempfile.TemporaryDirectory(prefix="converter-legacy-") as folder:
        request = {**_request(hub, "pytorch2keras"), "input_shape": shapes, "change_ordering": nhwc}
        answer = call(toolchain, {**request, "runs": write_arrays(Path(folder), permuted)}, Path(folder))
        written = [len(answer["outputs"])] * len(reference) if answer["unrunnable"] is None else []
        results = iter(read_arrays(Path(folder), written) if written else [])
        shutil.copyfile(Path(folder, "model.h5"), staged)

    def run(_: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The next run's outputs, which the environment has computed, in the source's layout."""
        arrays = next(results)
        if not nhwc:
            return arrays
        return [array.transpose(np.argsort(_order(array.ndim, True))) for array in arrays]

    runtime = f"keras {answer['versions']['tensorflow']} ({toolchain})"
    verification = verify(hub.outputs, reference, run, job.tolerance, runtime) if written else None
    notes = [
        f"converted by pytorch2keras in toolchain {toolchain}; its file may hold Lambda layers, which only Python 3.8 opens"
    ]
    for spec in hub.inputs if nhwc else []:
        if len(spec.shape or ()) == 4:
            notes.append(channels_last_note("input", spec.name, _order(4, True)))
    return ExportResult(
        route=["export_keras", "pytorch2keras"],
        inputs=_specs(answer["inputs"]),
        outputs=_specs(answer["outputs"]),
        verification=verification,
        unverified_reason=answer["unrunnable"],
        notes=notes,
    )


def _order(rank: int, nhwc: bool) -> tuple[int, ...]:
    return (0, 2, 3, 1) if nhwc and rank == 4 else tuple(range(rank))


def _specs(entries: list[dict]) -> list[TensorSpec]:
    return [TensorSpec.from_json(entry) for entry in entries]


def _versions(toolchain: str, answer: dict) -> dict[str, str]:
    return {f"{toolchain}/{name}": version for name, version in answer["versions"].items()}
