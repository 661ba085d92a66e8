"""Do two model files compute the same? Any formats, on the same inputs, by the rule of every report."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from converter.commands.open_model import ModelFile, is_source, open_model
from converter.errors import ConverterError, ParameterError, UnsupportedError
from converter.hub.hub import Run, TensorSpec
from converter.hub.informative import typical
from converter.hub.reference import make_reference
from converter.publishing.report import worst_output
from converter.verification.tflite import runs_for
from converter.verification.verify import Tolerance, Verification, verify
from converter.wording import shape_text

__all__ = ["check", "sentence"]

# How the other file's inputs and outputs of rank 4 and 5 may lie, as the axis that holds the reference's channels.
_LAYOUTS = {"as in the reference": None, "channels last": -1, "channels first": 1}


def check(
    first: str,
    second: str,
    parameters: Mapping[str, object] | None = None,
    *,
    tolerance: Tolerance = Tolerance(),  # noqa: B008 - frozen
) -> dict:
    """Compare two model files; the result has the keys of a report that say what was measured.

    `parameters`: import parameters, canonical, for whichever file is a source. The reference is the first file, or the
    second if that alone is a source. Raises ConverterError where a file does not open or the two cannot take the same
    inputs.
    """
    parameters = dict(parameters or {})
    swapped = is_source(second) and not is_source(first)
    paths = (second, first) if swapped else (first, second)
    with tempfile.TemporaryDirectory(prefix="converter-check-") as folder:
        reference, other = (open_model(path, parameters, Path(folder, str(i))) for i, path in enumerate(paths))
        feed = _order(reference, other, "inputs")
        layouts = _fitting(reference, other, feed)
        specs = [_merged(spec, other.inputs[i], layouts[0]) for spec, i in zip(reference.inputs, feed, strict=True)]
        if is_source(paths[0]) and not all(_fits(spec, run) for run in reference.runs for spec in enumerate(specs)):
            # The source was run at sizes of its own choice, which the other file does not take.
            shapes = ";".join(",".join("-1" if d is None else str(d) for d in spec.shape) for spec in specs)
            reference = open_model(paths[0], {**parameters, "input_shape": shapes}, Path(folder, "again"))
        runs = reference.runs or _runs_of(reference, specs)
        if any(model.quantizes for model in (reference, other)):
            runs = typical(runs)  # special values leave the ranges that a file was calibrated for
        verdicts = [_compare(reference, other, feed, runs, layout, tolerance) for layout in layouts]
    layout, verdict = next(
        (pair for pair in zip(layouts, verdicts, strict=True) if pair[1].passed), (layouts[0], verdicts[0])
    )
    return {
        "files": [first, second],
        "status": "verified" if verdict.passed else "inaccurate",
        "reason": None
        if verdict.passed
        else f"{other.path} does not compute what {reference.path} computes: {verdict.message}",
        "reference": reference.path,
        "inputs": [spec.to_report() for spec in reference.inputs],
        "outputs": [spec.to_report() for spec in reference.outputs],
        "notes": [f"{other.path} has its channels {layout.split()[-1]}"] if layout.startswith("channels") else [],
        "verification": verdict.to_json(),
    }


def _runs_of(reference: ModelFile, specs: Sequence[TensorSpec]) -> list[Run]:
    try:
        return make_reference(specs, reference.batch_dynamic, reference.run, vocabulary=reference.vocabulary)
    except (ConverterError, MemoryError):
        raise
    except Exception as error:  # whatever the runtime raises for a file that opens and does not run
        reason = " ".join(str(error).split())[:300]
        raise UnsupportedError(f"{reference.path} does not run: {reason}") from error


def sentence(result: dict) -> str:
    """The verdict in one line."""
    if result["status"] != "verified":
        return result["reason"]
    text = f"{' and '.join(result['files'])} compute the same"
    worst = worst_output(result)
    if worst is None:
        return text
    weak = ", but hardly vary with the input: weak evidence" if result["verification"]["weak_evidence"] else ""
    return f"{text}: max difference {worst['max_abs_diff']:.1e} (allowed {worst['tolerance']:.1e}){weak}"


def _order(reference: ModelFile, other: ModelFile, kind: str) -> list[int]:
    """For each of the reference's inputs or outputs its position in the other file: by name, else by order."""
    wanted = [spec.name.removesuffix(":0") for spec in getattr(reference, kind)]
    found = [spec.name.removesuffix(":0") for spec in getattr(other, kind)]
    if len(wanted) != len(found):
        raise UnsupportedError(
            f"{reference.path} has the {kind} {', '.join(wanted)}, and {other.path} has {', '.join(found)}: "
            "they cannot be compared"
        )
    return [found.index(name) for name in wanted] if set(wanted) == set(found) else list(range(len(wanted)))


def _fitting(reference: ModelFile, other: ModelFile, feed: Sequence[int]) -> list[str]:
    """The layouts in which the other file's inputs can take the reference's."""
    pairs = [(spec, other.inputs[position]) for spec, position in zip(reference.inputs, feed, strict=True)]
    layouts = [layout for layout in _LAYOUTS if all(_compatible(a, b, layout) for a, b in pairs)]
    # Without an input of rank 4 or 5 there is nothing to permute.
    if not any(spec.shape and len(spec.shape) in (4, 5) for spec in [*reference.inputs, *reference.outputs]):
        layouts = layouts[:1]
    if not layouts:
        shapes = "; ".join(f"{a.name} {shape_text(a.shape)} and {b.name} {shape_text(b.shape)}" for a, b in pairs)
        raise UnsupportedError(f"{reference.path} and {other.path} take inputs of other shapes: {shapes}")
    return layouts


def _compatible(a: TensorSpec, b: TensorSpec, layout: str) -> bool:
    shape = _permuted_shape(a.shape, layout)
    if shape is None or b.shape is None:
        return True
    if len(shape) != len(b.shape):
        return False
    sizes = list(zip(shape, b.shape, strict=True))
    # A fixed batch of one takes any batch, row by row.
    rest = sizes[1:] if sizes and (sizes[0][1] == 1 or sizes[0][0] == 1) else sizes
    return all(m is None or n is None or m == n for m, n in rest)


def _merged(a: TensorSpec, b: TensorSpec, layout: str) -> TensorSpec:
    """The reference's input, with sizes that only the other file fixes, but for a batch of one."""
    theirs = _permuted_shape(b.shape, layout, back=True)
    if a.shape is None or theirs is None:
        return a if theirs is None else replace(a, shape=theirs)
    sizes = [m if m is not None else n for m, n in zip(a.shape, theirs, strict=True)]
    if a.shape and a.shape[0] is None and theirs[0] == 1:
        sizes[0] = None
    return replace(a, shape=tuple(sizes))


def _fits(numbered: tuple[int, TensorSpec], run: Run) -> bool:
    position, spec = numbered
    array = run.inputs[position]
    return spec.shape is None or all(m is None or m == n for m, n in zip(spec.shape, array.shape, strict=True))


def _compare(
    reference: ModelFile,
    other: ModelFile,
    feed: Sequence[int],
    runs: Sequence[Run],
    layout: str,
    tolerance: Tolerance,
) -> Verification:
    fetch = _order(reference, other, "outputs")

    def run_other(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        inputs: list = [None] * len(feed)
        for array, position in zip(arrays, feed, strict=True):
            inputs[position] = _quantized(_permuted(array, layout), other, position)
        results = other.run(inputs)
        return [_permuted(_dequantized(np.asarray(results[i]), other, i), layout, back=True) for i in fetch]

    inputs = [replace(other.inputs[i], shape=_permuted_shape(other.inputs[i].shape, layout, back=True)) for i in feed]
    fitting = runs_for(inputs, runs)
    try:
        return verify(reference.outputs, fitting, run_other, tolerance, f"{other.runtime} against {reference.runtime}")
    except UnsupportedError:
        raise
    except Exception as error:  # whatever the runtime raises for inputs that it does not take
        reason = " ".join(str(error).split())[:300]
        raise ParameterError(
            f"{other.path} does not run on the inputs of {reference.path}: {reason}; give --input_shape if it takes other sizes"
        ) from error


def _quantized(array: np.ndarray, model: ModelFile, position: int) -> np.ndarray:
    dtype = model.inputs[position].dtype
    if dtype == "string" or array.dtype.name == dtype:
        return array
    scale, zero = (model.input_quantization or [(0.0, 0)] * (position + 1))[position]
    if scale and array.dtype.kind == "f":
        limits = np.iinfo(dtype)
        return np.clip(np.round(array / scale) + zero, limits.min, limits.max).astype(dtype)
    return array.astype(dtype)


def _dequantized(array: np.ndarray, model: ModelFile, position: int) -> np.ndarray:
    scale, zero = (model.output_quantization or [(0.0, 0)] * (position + 1))[position]
    if scale and array.dtype.kind in "iu":
        return ((array.astype(np.float32) - zero) * scale).astype(np.float32)
    return array


def _permuted(array: np.ndarray, layout: str, back: bool = False) -> np.ndarray:
    axis = _LAYOUTS[layout]
    if axis is None or array.ndim not in (4, 5):
        return array
    other = 1 if axis == -1 else -1
    return np.ascontiguousarray(np.moveaxis(array, axis, other) if back else np.moveaxis(array, other, axis))


def _permuted_shape(shape: tuple | None, layout: str, back: bool = False) -> tuple | None:
    axis = _LAYOUTS[layout]
    if shape is None or axis is None or len(shape) not in (4, 5):
        return shape
    rest = list(shape)
    if (axis == -1) != back:
        rest.append(rest.pop(1))
    else:
        rest.insert(1, rest.pop())
    return tuple(rest)
