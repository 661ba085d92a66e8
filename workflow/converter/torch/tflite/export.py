"""PyTorch hub to TensorFlow Lite: Keras and TensorFlow's own converter, and for what they refuse, litert-torch.

Inputs and outputs of rank 4 and 5 are channels-last unless `input_layout` is nchw; the report lists each permutation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, TensorSpec
from converter.tflite.flatbuffer import write
from converter.torch.exact import error_function, integer_bits, places
from converter.torch.exact.exact_program import exact_program
from converter.torch.exact.rewriting import rewrite
from converter.torch.program.branches import select_branches
from converter.torch.program.eager_program import ValueRead, value_read
from converter.torch.program.flat import to_tensors
from converter.torch.program.hub_program import read_program, size_advice
from converter.torch.program.narrow import advising_float32
from converter.torch.sources.tracing import reason
from converter.torch.tflite.batch import with_free_batch
from converter.torch.tflite.layout import FileLayout
from converter.torch.tflite.litert import LitertFailure, convert_program
from converter.torch.tflite.transposes import note_transposes
from converter.verification.runtimes import TFLiteModel
from converter.verification.tflite import RuntimeRefusal, in_order, runs_for
from converter.verification.verify import Tolerance, Verification, verify

__all__ = ["export"]

# Operators that choose or repeat, which become If and While.
_WRITTEN = (torch.ops.higher_order.cond, torch.ops.higher_order.while_loop)


@advising_float32
def export(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged`, verified in LiteRT. Raises UnsupportedError where no route leads to a file that runs."""
    if hub.extra.get("form") != "exported":
        raise UnsupportedError(
            f"TensorFlow Lite files are made from models that torch.export can follow, and this one was {hub.notes[-1]}: "
            "ask for an .onnx file"
        )
    program = read_program(hub)
    if (reading := value_read(program, _WRITTEN)) is not None:
        raise ValueRead(
            f"TensorFlow Lite cannot express the model: the values of its inputs become sizes, plain numbers or branches "
            f"({reading}): ask for an .onnx file, or keep them tensors"
        )
    exact_program(program)
    rewrite(program, integer_bits.RULES | error_function.RULES | places.RULES)
    failures: list[str] = []
    best: tuple[int, str, ExportResult] | None = None
    for route in _routes():
        candidate = staged.with_name(f"{staged.name}.{route.__name__.strip('_')}")
        try:
            for result in route(hub, job, program, candidate, failures):
                rank = _rank(hub, result)
                if best is None or rank > best[0]:
                    best = rank, route.__name__, result
                    candidate.replace(staged)
        finally:
            candidate.unlink(missing_ok=True)
        if best is not None and best[0] == _BEST:
            break
    if best is None:
        # A kernel that is missing is missing for all sizes.
        advice = None if failures[0].startswith("TensorFlow Lite has no kernel") else size_advice(hub)
        sizes = f"; {advice}" if advice is not None else ""
        raise UnsupportedError(f"TensorFlow Lite cannot express the model: {'; '.join(failures)}{sizes}")
    _, name, result = best
    result.notes += [f"not made by Keras: {failure}" for failure in failures[:1] if name == "_by_litert"]
    note_transposes(staged, result)
    return result


# Measured with litert-torch 0.10 on five torchvision classifiers: by Keras 10 to 18 CPU s and 1.1 to 1.3 GB, by litert-torch
# 11 to 30 CPU s and 0.7 to 0.9 GB, latencies alike. Keras keeps an unknown batch and unknown sizes, litert-torch fixes them.
# litert-torch has operators that Keras or TensorFlow's converter lacks (rolled windows, unusual attention).
_BEST = 2


def _routes() -> list[Callable]:
    return [_by_keras, _by_litert]


def _rank(hub: Hub, result: ExportResult) -> int:
    """2: right, and the batch as free as the source's; 1: right, but with a batch of 1; 0: wrong, or not run."""
    if result.verification is None or not result.verification.passed:
        return 0
    return _BEST if _keeps_batch(hub, result) else 1


def _keeps_batch(hub: Hub, result: ExportResult) -> bool:
    return not hub.batch_dynamic or all(spec.shape[0] is None for spec in result.inputs)


def _by_litert(
    hub: Hub, job: ExportJob, program: torch.export.ExportedProgram, staged: Path, failures: list[str]
) -> Iterator[ExportResult]:
    """What litert-torch makes of the model: with the batch freed where that runs, else with a batch of 1."""
    unknown = [
        s.name for s in hub.inputs if any(dim is None for dim in (s.shape[1:] if hub.batch_dynamic else s.shape))
    ]
    if unknown:
        failures.append(f"litert-torch needs fixed sizes, and input {unknown[0]} has unknown ones")
        return
    if (reading := value_read(select_branches(program))) is not None:
        failures.append(f"litert-torch has no branches and no loops ({reading})")
        return
    layout = FileLayout.of(hub, job)
    runs = hub.reference()
    arrays = [array[:1] if hub.batch_dynamic else array for array in runs[0].inputs]
    wide = any(spec.dtype in ("int64", "float64") for spec in [*hub.inputs, *hub.outputs])
    for keep_64_bit in (True, False) if wide else (False,):
        try:
            model = convert_program(
                program,
                to_tensors(arrays),
                layout.inputs,
                layout.outputs,
                [spec.name for spec in hub.inputs],
                [spec.name for spec in hub.outputs],
                keep_64_bit=keep_64_bit,
            )
        except LitertFailure as failure:
            failures.append(str(failure))
            continue
        for is_free in (True, False) if hub.batch_dynamic else (False,):
            write(staged, with_free_batch(model) if is_free else model)
            try:
                verification, inputs, outputs = _verify(staged, hub, layout, job.tolerance)
            except RuntimeRefusal as refusal:
                if not is_free:
                    failures.append(f"LiteRT cannot run what litert-torch makes of it ({refusal})")
                continue
            if is_free and not verification.passed:
                continue
            if not verification.passed:
                failures.append(f"by litert-torch it comes out wrong: {verification.message}")
            notes = layout.notes(hub)
            if hub.batch_dynamic and not is_free:
                notes.append("the batch is fixed at 1, since shapes within the model depend on it")
            if wide and not keep_64_bit:
                notes.append("64-bit inputs and outputs are 32 bits wide in the file")
            yield ExportResult(
                ["export_tflite", "litert-torch"],
                inputs,
                outputs,
                verification,
                notes=notes,
                decisions=layout.decisions(),
            )


def _verify(
    path: Path, hub: Hub, layout: FileLayout, tolerance: Tolerance
) -> tuple[Verification, list[TensorSpec], list[TensorSpec]]:
    """Run the file on the reference: permuted on the way in and back on the way out, in the file's dtypes.

    Raises RuntimeRefusal where LiteRT does not run it.
    """
    try:
        model = TFLiteModel(path)
        names = [spec.name for spec in hub.inputs], [spec.name for spec in hub.outputs]
        inputs, outputs, run = in_order(model, *names)

        def run_in_source_layout(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            return layout.returned(run(layout.given(arrays, inputs)))

        verification = verify(
            hub.outputs, runs_for(inputs, hub.reference()), run_in_source_layout, tolerance, model.name
        )
    except (RuntimeError, ValueError) as error:  # what the interpreter raises for a node it cannot prepare or invoke
        raise RuntimeRefusal(str(error).strip().partition("\n")[0][:300]) from error
    return verification, inputs, outputs


def _by_keras(
    hub: Hub, job: ExportJob, program: torch.export.ExportedProgram, staged: Path, failures: list[str]
) -> Iterator[ExportResult]:
    """By the Keras model of the program, frozen, and TensorFlow's converter; nothing, and a line in `failures`, if refused."""
    from converter.tf.tflite.export import export as export_tensorflow
    from converter.torch.tflite.keras_route import tensorflow_hub

    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        try:
            converted = tensorflow_hub(hub, program, Path(folder), channels_last=job.input_layout == "nhwc")
            result = export_tensorflow(converted, job, staged)
        except MemoryError:
            raise
        except UnsupportedError as error:
            failures.append(str(error))
            return
        except (
            Exception
        ) as error:  # ours for an operator without a counterpart, Keras's and TensorFlow's own for the rest
            failures.append(reason(error))
            return
    result.route = ["torch_to_keras", *result.route]
    layout = FileLayout.of(hub, job)
    result.notes = [*layout.notes(hub), *converted.notes, *result.notes]
    result.decisions += layout.decisions()
    if result.verification is not None and not result.verification.passed:
        failures.append(f"by Keras it comes out wrong: {result.verification.message}")
    yield result
