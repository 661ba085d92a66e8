"""TensorFlow hub -> ONNX: tf2onnx on the graph without its large weights, which are streamed into the file at the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, TensorSpec
from converter.planning.library_versions import export_packages, versions_of
from converter.planning.parameters import DEFAULT_OPSET
from converter.tf.graph.places import cut_advice, places_of
from converter.tf.onnx.convert import ConversionFailure, convert_graph
from converter.tf.onnx.deferred import DeferredTensors
from converter.tf.onnx.file import write_model
from converter.tf.onnx.graph import PreparedGraph, prepare_graph
from converter.tf.onnx.model import check_model, finish_model, output_specs
from converter.tf.onnx.opset import HIGHEST_OPSET, LOWEST_OPSET, lowest_opset
from converter.verification.runtimes import OnnxModel, check_interface
from converter.verification.verify import Verification, verify
from converter.wording import first_line

__all__ = ["export"]


def export(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged` at the opset asked for, or at the lowest from 10 on that expresses the model and comes out right.

    Raises UnsupportedError when no opset, or not the one asked for, can express the model, and above 2 GB.
    """
    if resources := hub.extra.get("resources"):
        raise UnsupportedError(
            f"the model reads {', '.join(resources)}, a resource whose contents are not in its graph, so that ONNX cannot "
            "hold them: cut the model behind it with input_nodes"
        )
    exporter = _Exporter(hub, job, staged)
    return exporter.exact(job.onnx_opset) if job.onnx_opset is not None else exporter.lowest()


@dataclass
class _Attempt:
    """What came of one opset. `problem`: why it will not do; None when the file is written and verified.

    verification: None when nothing could be compared, because there is no file (`written` false), or no kernel for it.
    """

    opset: int
    problem: str | None
    verification: Verification | None = None
    written: bool = False

    def excess(self) -> float:
        """By how much the worst output misses its tolerance."""
        if self.verification is None:
            return float("inf")
        ratios = [_ratio(entry) for entry in self.verification.outputs]
        return max(ratios, default=float("inf"))


def _ratio(entry: dict) -> float:
    if entry["passed"]:
        return 0.0
    return entry["max_abs_diff"] / entry["tolerance"] if entry["max_abs_diff"] and entry["tolerance"] else float("inf")


class _Exporter:
    def __init__(self, hub: Hub, job: ExportJob, staged: Path) -> None:
        self._hub, self._job, self._staged = hub, job, staged
        self._runs = hub.reference()
        self._prepared: PreparedGraph = prepare_graph(hub)
        self._outputs, self._notes = output_specs(hub.inputs, hub.outputs)
        self._versions = {**hub.versions, **versions_of(export_packages("onnx", "tensorflow"))}
        self._needed, self._needing = lowest_opset(self._prepared.operators())

    def lowest(self) -> ExportResult:
        reason = None
        if self._needed > DEFAULT_OPSET:
            reason = self._needing_sentence()
        attempts: list[_Attempt] = []
        for opset in range(max(DEFAULT_OPSET, self._needed), HIGHEST_OPSET + 1):
            attempt = self._attempt(opset)
            attempts.append(attempt)
            if attempt.problem is None:
                return self._result(attempt, reason)
            reason = reason or f"at opset {opset} {attempt.problem}"
        return self._least_bad(attempts, reason)

    def exact(self, opset: int) -> ExportResult:
        if not LOWEST_OPSET <= opset <= HIGHEST_OPSET:
            raise UnsupportedError(
                f"onnx_opset {opset} cannot be written from a TensorFlow model, "
                f"only {LOWEST_OPSET} to {HIGHEST_OPSET}: set onnx_opset to one of these, or leave it out"
            )
        if opset < self._needed:
            raise UnsupportedError(
                f"ONNX opset {opset} cannot express the model, {self._needing_sentence()}: "
                f"set onnx_opset to {self._needed}, or leave it out"
            )
        attempt = self._attempt(opset)
        if attempt.problem is None or (attempt.written and attempt.verification is None):
            return self._result(attempt, None)
        others = range(max(opset + 1, self._needed), HIGHEST_OPSET + 1)
        sufficient = next((other for other in map(self._attempt, others) if other.problem is None), None)
        advice = (
            f"set onnx_opset to {sufficient.opset}, or leave it out" if sufficient else "no higher opset can either"
        )
        if not attempt.written:
            self._staged.unlink(missing_ok=True)
            raise UnsupportedError(f"ONNX opset {opset} cannot express the model ({attempt.problem}): {advice}")
        attempt = self._attempt(opset)
        if sufficient:
            attempt.verification.message += f"; {advice}: it comes out right there"
        return self._result(attempt, None)

    def _needing_sentence(self) -> str:
        plural = len(self._needing) > 1
        return f"the operator{'s' * plural} {', '.join(self._needing)} need{'s' * (not plural)} opset {self._needed}"

    def _least_bad(self, attempts: list[_Attempt], reason: str | None) -> ExportResult:
        """No opset verifies: the first that onnxruntime has no kernels for, else the one that comes closest."""
        unrunnable = [attempt for attempt in attempts if attempt.written and attempt.verification is None]
        compared = [attempt for attempt in attempts if attempt.verification is not None]
        if not unrunnable and not compared:
            self._staged.unlink(missing_ok=True)
            raise UnsupportedError(
                f"ONNX cannot express the model at any opset from {attempts[0].opset} to {HIGHEST_OPSET}: "
                f"{attempts[-1].problem}"
            )
        chosen = min(compared, key=_Attempt.excess) if compared else unrunnable[0]
        repeated = self._attempt(chosen.opset) if chosen is not attempts[-1] else chosen
        return self._result(repeated, reason if chosen.opset > DEFAULT_OPSET else None)

    def _attempt(self, opset: int) -> _Attempt:
        tensors = DeferredTensors()
        self._staged.unlink(missing_ok=True)
        try:
            model = convert_graph(self._prepared, opset, tensors)
            finish_model(model, self._prepared, self._hub, self._outputs, self._runs, tensors, self._versions)
            check_model(model, tensors)
        except ConversionFailure as error:
            if error.unknown:
                places = places_of(self._hub, error.unknown)
                where = f" (in {', '.join(places[:4])}{', ...' if len(places) > 4 else ''})" if places else ""
                raise UnsupportedError(
                    f"there is no way to write the TensorFlow operator{'s' * (len(error.unknown) > 1)} "
                    f"{', '.join(error.unknown)}{where} in ONNX: {cut_advice(self._hub, places)}, or change the layer"
                ) from error
            return _Attempt(opset, f"it cannot be expressed: {error}")
        except onnx.checker.ValidationError as error:
            return _Attempt(opset, f"tf2onnx makes an invalid model: {first_line(error)}")
        write_model(model, tensors, self._staged)
        del model, tensors
        return self._verified(opset)

    def _verified(self, opset: int) -> _Attempt:
        from onnxruntime.capi import onnxruntime_pybind11_state as failures

        try:
            target = OnnxModel(self._staged)
            check_interface(target, [spec.name for spec in self._hub.inputs], [spec.name for spec in self._outputs])
            verification = verify(self._outputs, self._runs, target.run, self._job.tolerance, target.name)
        except failures.NotImplemented as error:
            return _Attempt(opset, f"onnxruntime cannot run it: {first_line(error)}", written=True)
        except tuple(_runtime_failures(failures)) as error:
            return _Attempt(opset, f"onnxruntime refuses it: {first_line(error)}")
        problem = None if verification.passed else f"it comes out wrong: {verification.message}"
        return _Attempt(opset, problem, verification, written=True)

    def _result(self, attempt: _Attempt, reason: str | None) -> ExportResult:
        return ExportResult(
            route=["export_onnx"],
            inputs=list(self._hub.inputs),
            outputs=[TensorSpec(spec.name, spec.shape, spec.dtype) for spec in self._outputs],
            verification=attempt.verification,
            unverified_reason=attempt.problem if attempt.verification is None else None,
            opset=attempt.opset,
            opset_reason=reason,
            notes=self._notes,
        )


def _runtime_failures(module: object) -> Iterable[type[Exception]]:
    """onnxruntime's exceptions have no common base class of their own (1.32)."""
    return [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Exception)]
