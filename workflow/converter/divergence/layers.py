"""How a converted float file differs from its source, layer by layer: reports/{name}.{onnx,tflite}.layers.json."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from converter.contracts import ExportJob, ExportResult
from converter.divergence import first_divergence, open_comparison
from converter.divergence.comparison import Comparison, Pair
from converter.divergence.locate import doubtful_tensors
from converter.errors import ParameterError, UnsupportedError
from converter.hub.hub import Hub

__all__ = ["layer_differences"]

_LEAST_SIMILARITY = 0.9  # of a tensor that differs to the one that it is listed beside


def layer_differences(
    hub: Hub, job: ExportJob, export: Callable[[Hub, ExportJob, Path], ExportResult], folder: Path
) -> dict:
    """The table as a mapping (schema: configs/layer_differences.schema.json). `folder` is for files in between.

    Raises ParameterError for a quantized target, UnsupportedError where the file cannot be made, run or compared.
    """
    name, extension = Path(job.target).stem, Path(job.target).suffix
    if extension not in (".onnx", ".tflite"):
        raise UnsupportedError(f"{job.target}: the layers of .onnx and .tflite files are compared, and of no others")
    if job.quantization.get("optimization", "none") != "none":
        raise ParameterError(
            f"{job.target} is quantized, so that every layer differs: reports/{name}.layers.json ranks those of an "
            ".int8 or .uint8 file"
        )
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary) / f"staged{extension}"
        result = export(hub, job, path)
        if result.verification is None:
            raise UnsupportedError(f"{job.target} cannot be compared: {result.unverified_reason}")
        comparison = open_comparison(hub, job, path)
        rows = _rows(comparison)
        divergence = None if result.verification.passed else first_divergence(hub, job, path, result)
    compared = [row for row in rows if row["target_tensor"] is not None]
    worst = max(compared, key=_share, default=None)
    summary = f"{len(compared)} of {len(rows)} tensors compared"
    if worst is not None:
        share = _share(worst)
        more = (
            "NaN or infinite values in other places" if share == float("inf") else f"largest difference {share:.1e} of"
        )
        summary += f", {more}{'' if share == float('inf') else ' the largest value'} ({worst['tensor']})"
    for row in compared:
        if row["max_abs_diff"] == float("inf"):
            row["max_abs_diff"] = None
    return {
        "target": job.target,
        "source": {key: hub.source.get(key) for key in ("path", "format", "sha256", "bytes")},
        "verified": result.verification.passed,
        "summary": summary,
        "layers": rows,
        "first_divergence": divergence,
    }


def _share(row: dict) -> float:
    return row["max_abs_diff"] / row["max_abs_reference"] if row["max_abs_reference"] else row["max_abs_diff"]


def _rows(comparison: Comparison) -> list[dict]:
    """An entry for each of the source's tensors, in order of execution; figures None where the file has no such tensor."""
    source, target = comparison.source, comparison.target
    pairs: dict[str, Pair] = dict(comparison.equal)
    open_here, open_there = doubtful_tensors(comparison)
    there = [name for name in open_there if name in target.sketches]
    outputs = dict(zip(source.outputs, target.outputs, strict=True))
    for name in open_here:
        if name in source.sketches:
            others = [outputs[name]] if outputs.get(name) in there else there
            pair = comparison.counterpart([name], others, -1.0 if name in outputs else _LEAST_SIMILARITY)
            pairs |= {name: pair} if pair is not None else {}
    figures = comparison.figures([pairs[name] for name in source.sketches if name in pairs])
    rows = []
    for name in source.sketches:
        if name in source.maker:
            other = pairs[name].target if name in pairs else None
            missing = dict.fromkeys(("max_abs_diff", "max_abs_reference", "cosine"))
            where = {"target_tensor": other, "target_operator": target.operator_of(other) if other else None}
            rows.append({"tensor": name, **source.maker[name].described(), **where, **figures.get(name, missing)})
    return rows
