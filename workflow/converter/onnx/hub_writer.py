"""From an ONNX model to its hub: model.onnx with its large weights beside it, and what onnxruntime computes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from converter.contracts import ImportSpec
from converter.errors import ConverterError, SourceError, UnsupportedError
from converter.evidence.coverage import assess
from converter.evidence.probe import Probe
from converter.hub.hub import Hub, Run, TensorSpec
from converter.hub.informative import typical, write_evidence
from converter.hub.npz import read_arrays_file
from converter.hub.reference import follows_batch, make_reference
from converter.onnx.interface import is_channels_last, share_batch, vocabulary
from converter.onnx.reading import all_nodes, operators
from converter.wording import first_line, shape_text

__all__ = ["write_hub"]

RunSource = Callable[[list[np.ndarray]], Sequence[np.ndarray]]

_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
_RANKING = {"NonMaxSuppression", "TopK", "ArgMax", "ArgMin", "Unique"}


def write_hub(
    spec: ImportSpec,
    out: Path,
    model: onnx.ModelProto,
    specs: tuple[list[TensorSpec], list[TensorSpec]],
    run: RunSource,
    *,
    kind: str,
    candidates: dict[str, list[TensorSpec]],
    probe: Callable[[onnx.ModelProto, Run], Probe],
) -> Hub:
    """The hub of a model that lies in `out` already; `run_import` writes it.

    specs: inputs and outputs. run: the source's own runtime, of arrays in that order. kind: "onnx" or "tflite".
    probe: what shows which of its weights the samples exercise.
    """
    inputs, outputs = specs
    drawn = sorted({node.op_type for node in all_nodes(model.graph)} & _RANDOM)
    if drawn:
        raise UnsupportedError(
            f"{spec.source} draws random numbers ({', '.join(drawn)}), so that no two runs of it agree: export the model "
            "again with them as an input"
        )
    _check_steps(spec.source, model, {entry.name for entry in inputs})
    bounds = vocabulary(model, inputs)
    left_out: dict[str, str] = {}
    batch_dynamic, runs = _reference(spec, model, inputs, run, bounds, left_out)
    _check_repeatable(spec.source, runs[0], run)
    hub = Hub(
        out,
        framework="onnx",
        inputs=inputs,
        outputs=_with_sizes(spec.source, outputs, runs, inputs),
        batch_dynamic=batch_dynamic,
        operators=operators(model),
        parameters_count=sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer),
        candidates=candidates,
        extra={"kind": kind, "channels_last": kind == "tflite" or is_channels_last(model)},
    )
    added = assess(
        hub,
        runs,
        lambda: probe(model, typical(runs)[-1]),
        run,
        vocabulary=bounds,
        may_add=spec.reference_inputs is None,
    )
    write_evidence(hub, [*runs, *added], left_out)
    return hub


def _reference(
    spec: ImportSpec,
    model: onnx.ModelProto,
    inputs: list[TensorSpec],
    run: RunSource,
    bounds: dict[str, int],
    left_out: dict[str, str],
) -> tuple[bool, list[Run]]:
    """Whether the leading dimension is the batch, and the runs."""
    given = None
    if spec.reference_inputs is not None:
        given = read_arrays_file(spec.reference_inputs, "verify.inputs")
    ranking = any(node.op_type in _RANKING for node in all_nodes(model.graph))

    def make(batch_dynamic: bool) -> list[Run]:
        return make_reference(
            inputs,
            batch_dynamic,
            run,
            samples=spec.samples,
            vocabulary=bounds,
            user_inputs=given,
            left_out=left_out,
            ranks=lambda: ranking,
        )

    failure: Exception | None = None
    try:
        if share_batch(model, inputs):
            try:
                runs = make(True)
                if any(follows_batch(runs, position) for position in range(len(runs[0].outputs))):
                    return True, runs
            except Exception as error:  # what onnxruntime raises for sizes that it cannot take
                if given is not None and isinstance(error, ConverterError):
                    raise
                failure = error
        return False, make(False)
    except ConverterError as error:
        raise (failure if isinstance(failure, ConverterError) else error) from failure
    except Exception as error:  # whatever the runtime raises
        shapes = ", ".join(f"{entry.name} {shape_text(entry.shape or ())}" for entry in inputs)
        raise SourceError(
            f"{spec.source}: the model itself fails on inputs of the shapes {shapes}: {first_line(failure or error)}"
        ) from error


def _check_steps(path: Path, model: onnx.ModelProto, inputs: set[str]) -> None:
    """onnxruntime (1.32) divides by the step of STFT without a look at it: a step of 0 ends the process."""
    for node in all_nodes(model.graph):
        if node.op_type == "STFT" and len(node.input) > 1 and node.input[1] in inputs:
            raise UnsupportedError(
                f"{path}: input {node.input[1]} is the step of the operator STFT, which must be known before the model "
                f"runs: give it in constants"
            )


def _check_repeatable(path: Path, run: Run, source: RunSource) -> None:
    again = [np.asarray(output) for output in source(run.inputs)]
    if not all(_alike(a, b) for a, b in zip(run.outputs, again, strict=True)):
        raise UnsupportedError(
            f"{path} answers differently to the same inputs, so that no file can be compared with it"
        )


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind not in "fc":
        return bool((a == b).all())
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True))


def _with_sizes(
    path: Path, outputs: Sequence[TensorSpec], runs: Sequence[Run], inputs: Sequence[TensorSpec]
) -> list[TensorSpec]:
    """The outputs with the shapes that they have: a dimension is unknown where it differs between runs, or may."""
    varies = any(spec.shape is None or None in spec.shape for spec in inputs)
    found = []
    for position, spec in enumerate(outputs):
        arrays = [run.outputs[position] for run in runs]
        if len({array.ndim for array in arrays}) > 1:
            raise UnsupportedError(f"output {spec.name} of {path} has another number of dimensions for another input")
        sizes = [set(dims) for dims in zip(*(array.shape for array in arrays), strict=True)]
        said = spec.shape if spec.shape is not None and len(spec.shape) == len(sizes) else (None,) * len(sizes)
        shape = tuple(
            dims.copy().pop() if len(dims) == 1 and (dim is not None or not varies) else None
            for dims, dim in zip(sizes, said, strict=True)
        )
        dtype = spec.dtype if spec.dtype in ("string", "bfloat16") else np.asarray(arrays[0]).dtype.name
        found.append(replace(spec, shape=shape, dtype=dtype))
    return found
