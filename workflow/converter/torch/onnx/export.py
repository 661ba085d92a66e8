"""PyTorch hub to ONNX: two exporters of torch, opsets in ascending order, and a verification that decides.

torchscript-exporter (`torch.onnx.export(dynamo=False)`) writes opsets 7 to 20, dynamo-exporter (`dynamo=True`) 18 and newer.
Neither is right for all models: what comes out wrong is tried elsewhere, and the report names the exporter that made the file.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, Run, TensorSpec
from converter.hub.informative import typical
from converter.library_patches.replacing import replaced
from converter.library_patches.torch import OPSET_IMPORT
from converter.planning.library_versions import export_packages, versions_of
from converter.planning.parameters import DEFAULT_OPSET
from converter.torch.compositions import composed_program
from converter.torch.exact.exact_program import exact_program
from converter.torch.onnx.model import dynamic_axes, finish_model, model_opset, save
from converter.torch.onnx.quantized_weights import store_quantized_weights
from converter.torch.onnx.script_symbolics import register
from converter.torch.onnx.vision_symbolics import register_vision
from converter.torch.onnx.vision_translations import translations
from converter.torch.program.eager_program import EagerProgram, has_unknown_results, size_choice, value_read
from converter.torch.program.flat import to_tensors
from converter.torch.program.hub_program import read_program, read_script
from converter.torch.program.narrow import advising_float32
from converter.torch.sources.tracing import quiet, reason
from converter.verification.runtimes import OnnxModel, check_interface
from converter.verification.verify import Verification, verify
from converter.wording import first_line

__all__ = ["export"]

LOWEST_OPSET = 7
# What torch 2.13 writes: each exporter's range.
_TORCHSCRIPT_OPSETS = range(LOWEST_OPSET, 21)
_DYNAMO_OPSETS = range(18, 24)


class _Failure(Exception):
    """No file came out. `needed`: the opset from which on the operator in the way exists, if torch says so."""

    def __init__(self, message: str, needed: int | None = None, hopeless: bool = False) -> None:
        super().__init__(message)
        self.needed, self.hopeless = needed, hopeless


@dataclass
class _Made:
    """A file at `staged`, and what verification says of it."""

    exporter: str
    opset: int
    verification: Verification


@advising_float32
def export(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged` at the opset asked for, or at the lowest from 10 on that expresses the model and comes out right.

    Raises UnsupportedError when no exporter can write the model at that opset; a wrong file is returned with its verdict.
    """
    return _Exporter(hub, job, staged).run()


class _Exporter:
    def __init__(self, hub: Hub, job: ExportJob, staged: Path) -> None:
        self._hub, self._job, self._staged = hub, job, staged
        self._runs: list[Run] = hub.reference()
        self._example = tuple(to_tensors(typical(self._runs)[-1].inputs))
        self._versions = {**hub.versions, **versions_of(export_packages("onnx", "pytorch"))}
        self._program: torch.export.ExportedProgram | None = None
        self._script: torch.jit.ScriptModule | None = None
        self._eager: torch.nn.Module | None = None
        if hub.extra.get("form") == "exported":
            self._program = exact_program(read_program(hub), onnx=True)
        else:
            self._script = read_script(hub).eval()
            register(_TORCHSCRIPT_OPSETS)
        register_vision(_TORCHSCRIPT_OPSETS)

    def run(self) -> ExportResult:
        """The first file that is right; of operators that torch has no ONNX for, or a wrong one, after writing them as others."""
        try:
            result = self._written()
        except UnsupportedError:
            if not self._composed():
                raise
            return self._written()
        passed = result.verification is not None and result.verification.passed
        return result if passed or not self._composed() else self._written()

    def _composed(self) -> bool:
        """Write operators as others, where the program has such; whether it had."""
        if self._program is None or value_read(self._program) is not None:
            return False
        with quiet():
            composed = composed_program(self._program)
        if composed is not None:
            self._program, self._eager = composed, None
        return composed is not None

    def _written(self) -> ExportResult:
        asked = self._job.onnx_opset
        wrong: _Made | None = None
        failures: list[tuple[int, str]] = []
        skip_below = 0
        torchscript_is_hopeless = False
        for exporter, opset in self._attempts(asked):
            if opset < skip_below or (exporter == "torchscript-exporter" and torchscript_is_hopeless):
                continue
            try:
                made = self._make(exporter, opset)
            except _Failure as failure:
                failures.append((opset, str(failure)))
                skip_below = max(skip_below, failure.needed or 0)
                torchscript_is_hopeless |= failure.hopeless
                continue
            if made.verification.passed:
                return self._result(made, self._opset_reason(made.opset, failures))
            failures.append((opset, f"it comes out wrong: {made.verification.message}"))
            wrong = made if wrong is None or _excess(made) < _excess(wrong) else wrong
        if wrong is not None:
            made = self._make(wrong.exporter, wrong.opset)
            if asked is not None:
                made.verification.message += "; leave onnx_opset out, and the lowest opset that is right is taken"
            return self._result(made, self._opset_reason(made.opset, failures))
        self._staged.unlink(missing_ok=True)
        raise UnsupportedError(self._no_way(asked, failures))

    def _attempts(self, asked: int | None) -> list[tuple[str, int]]:
        """(exporter, opset) in the order to try them. Below 18 there is one exporter; from there on the newer one first."""
        opsets = [asked] if asked is not None else list(range(DEFAULT_OPSET, 21))
        attempts = []
        for opset in opsets:
            if opset in _DYNAMO_OPSETS and self._program is not None:
                attempts.append(("dynamo-exporter", opset))
            if opset in _TORCHSCRIPT_OPSETS:
                attempts.append(("torchscript-exporter", opset))
        return attempts

    def _make(self, exporter: str, opset: int) -> _Made:
        """Write the file at exactly this opset and verify it. Raises _Failure."""
        model = self._by_dynamo(opset) if exporter == "dynamo-exporter" else self._by_torchscript(opset)
        if model_opset(model) != opset:
            raise _Failure(f"the exporter wrote opset {model_opset(model)} instead")
        store_quantized_weights(model)
        finish_model(model, self._hub, self._runs, self._versions)
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            raise _Failure(f"the exporter makes an invalid model: {first_line(error)}") from error
        save(model, self._staged)
        del model
        try:
            target = OnnxModel(self._staged)
            names = [spec.name for spec in self._hub.inputs], [spec.name for spec in self._hub.outputs]
            check_interface(target, *names)
            verification = verify(self._hub.outputs, self._runs, self._runner(target), self._job.tolerance, target.name)
        except Exception as error:  # onnxruntime's exceptions have no common base class (1.32)
            raise _Failure(f"onnxruntime cannot run it: {first_line(error)}") from error
        return _Made(exporter, opset, verification)

    def _runner(self, target: OnnxModel):  # noqa: ANN202
        """Feeds by name: the exporters drop an input that nothing uses."""
        positions = {spec.name: position for position, spec in enumerate(self._hub.inputs)}

        def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
            return target.run([arrays[positions[spec.name]] for spec in target.inputs])

        return run

    def _by_torchscript(self, opset: int) -> onnx.ModelProto:
        if self._program is not None and (reading := value_read(self._program)) is not None:
            # It traces, and a trace holds the example's values for ever; the other exporter follows the program itself.
            raise _Failure(
                f"the values of its inputs decide sizes or branches ({reading}), which the exporter for opsets below "
                f"{_DYNAMO_OPSETS[0]} cannot follow",
                _DYNAMO_OPSETS[0],
                hopeless=True,
            )
        if self._program is not None and (choosing := size_choice(self._program)) is not None:
            raise _Failure(
                f"sizes are compared with each other ({choosing}), which the exporter for opsets below {_DYNAMO_OPSETS[0]} "
                "cannot follow",
                _DYNAMO_OPSETS[0],
                hopeless=True,
            )
        if self._eager is None:
            self._eager = EagerProgram(self._program) if self._program is not None else self._script
        buffer = io.BytesIO()
        # It prints the whole graph before it raises, and enables that again if told not to (torch 2.13): to the log then.
        torch._C._jit_set_onnx_log_output_stream("stderr")
        try:
            with quiet(), torch.no_grad():
                torch.onnx.export(
                    self._eager,
                    self._example,
                    buffer,
                    dynamo=False,
                    opset_version=opset,
                    input_names=[spec.name for spec in self._hub.inputs],
                    output_names=[spec.name for spec in self._hub.outputs],
                    dynamic_axes=dynamic_axes(self._hub, self._runs),
                    # A program has no other mode, and refuses to be asked for one.
                    training=torch.onnx.TrainingMode.PRESERVE,
                    do_constant_folding=True,
                )
        except Exception as error:  # the exporter raises whatever its symbolic functions raise
            raise _torchscript_failure(error) from error
        return onnx.load_model_from_string(buffer.getvalue())

    def _by_dynamo(self, opset: int) -> onnx.ModelProto:
        program = self._program
        if program is None:
            raise _Failure(f"the exporter for opsets from {_DYNAMO_OPSETS[0]} on takes no TorchScript")
        if value_read(program) is not None or has_unknown_results(program):
            # Exported once, such a program cannot be again (torch 2.13).
            program = exact_program(read_program(self._hub), onnx=True)
        try:
            with quiet(), _one_version_of_own_functions():
                exported = torch.onnx.export(
                    program,
                    (),
                    dynamo=True,
                    opset_version=opset,
                    input_names=[spec.name for spec in self._hub.inputs],
                    output_names=[spec.name for spec in self._hub.outputs],
                    verbose=False,
                    custom_translation_table=translations(program),
                )
                return exported.model_proto
        except Exception as error:  # the exporter wraps what its decompositions raise
            raise _Failure(f"it cannot be expressed: {_dynamo_reason(error)}") from error

    def _result(self, made: _Made, why: str | None) -> ExportResult:
        return ExportResult(
            route=["export_onnx", made.exporter],
            inputs=list(self._hub.inputs),
            outputs=[TensorSpec(spec.name, spec.shape, spec.dtype) for spec in self._hub.outputs],
            verification=made.verification,
            opset=made.opset,
            opset_reason=why,
        )

    def _opset_reason(self, opset: int, failures: list[tuple[int, str]]) -> str | None:
        if self._job.onnx_opset is not None or opset == DEFAULT_OPSET or not failures:
            return None
        below = [(at, why) for at, why in failures if at < opset] or failures
        return f"at opset {below[-1][0]} {below[-1][1]}"

    def _no_way(self, asked: int | None, failures: list[tuple[int, str]]) -> str:
        if not failures:
            highest = max(_DYNAMO_OPSETS if self._program is not None else _TORCHSCRIPT_OPSETS)
            return (
                f"onnx_opset {asked} cannot be written from a PyTorch model, only {LOWEST_OPSET} to {highest}: "
                "set onnx_opset to one of these, or leave it out"
            )
        if asked is not None:
            return (
                f"ONNX opset {asked} cannot express the model ({failures[0][1]}): leave onnx_opset out, "
                "and the lowest sufficient opset is taken"
            )
        return (
            f"ONNX cannot express the model at any opset from {failures[0][0]} to {failures[-1][0]}: {failures[-1][1]}"
        )


@contextlib.contextmanager
def _one_version_of_own_functions() -> Iterator[None]:
    """Inside, graphs within the graph may hold such again (a branch in a loop).

    The dynamo exporter (torch 2.13) calls them functions of a domain of its own, of version 1 where a function calls one, and of
    the file's opset where the graph does; its inliner then raises.
    """
    original = OPSET_IMPORT.find()[1]

    def imported(opset_imports: dict[str, int], domain: str, version: int | None) -> None:
        original(opset_imports, domain, None if domain.startswith("pkg.") else version)

    with replaced((OPSET_IMPORT, imported)):
        yield


def _excess(made: _Made) -> float:
    """By how much the worst output misses its tolerance."""
    ratios = [
        entry["max_abs_diff"] / entry["tolerance"] if entry["max_abs_diff"] and entry["tolerance"] else float("inf")
        for entry in made.verification.outputs
        if not entry["passed"]
    ]
    return max(ratios, default=float("inf"))


def _torchscript_failure(error: Exception) -> _Failure:
    text = str(error)
    operator = re.search(r"operator '([\w:]+)'", text)
    needed = re.search(r"added in version (\d+)", text)
    if isinstance(error, torch.onnx.errors.UnsupportedOperatorError) and operator:
        name = operator[1].removeprefix("aten::")
        if needed:
            return _Failure(f"operator {name} cannot be expressed, it needs opset {needed[1]}", int(needed[1]))
        return _Failure(f"operator {name} cannot be expressed", hopeless="is not supported" in text)
    unsupported = re.search(r"ONNX export of operator (\w+), (.+?)\. Please", text)
    if unsupported:
        return _Failure(f"operator {unsupported[1]} cannot be expressed ({unsupported[2]})")
    translating = re.search(r"Occurred when translating (\w+)", text)
    if translating:  # a symbolic function met a case that it was not written for
        return _Failure(f"operator {translating[1]} cannot be expressed ({reason(error)})")
    return _Failure(f"it cannot be expressed: {reason(error)}")


def _dynamo_reason(error: BaseException) -> str:
    """The innermost cause: the outer message is a page of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return reason(error)
