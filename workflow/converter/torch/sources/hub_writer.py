"""From a loaded model to its hub: reference runs, the traced form, and what the report says about both."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from converter.errors import ConverterError, ParameterError, SourceError, UnsupportedError
from converter.evidence.coverage import assess
from converter.evidence.torch_gradients import TorchProbe
from converter.hub.hub import Hub, TensorSpec
from converter.hub.informative import write_evidence
from converter.torch.exact.quantized_program import output_scales
from converter.torch.program.flat import flat_outputs, is_flat_result, to_arrays
from converter.torch.program.kept_state import kept_state
from converter.torch.program.narrow import computes_in
from converter.torch.program.storages import separate_dtypes
from converter.torch.sources.dtypes import vocabulary
from converter.torch.sources.evidence import (
    FirstCalls,
    Reference,
    attention_notes,
    check_steady,
    check_still,
    fresh_runs,
    make_runs,
    run_source,
)
from converter.torch.sources.inputs import Inputs
from converter.torch.sources.loading import Source, fold_parametrizations
from converter.torch.sources.quantized_script import output_steps
from converter.torch.sources.tracing import TraceError, export_program, quiet, reason, to_torchscript
from converter.torch.sources.unwritten import write_program, write_script

if TYPE_CHECKING:
    from converter.contracts import ImportSpec

__all__ = ["write_hub"]


def write_hub(source: Source, inputs: Inputs, first_calls: FirstCalls, spec: ImportSpec, out: Path) -> Hub:
    """Write program.pt2 or module.pt, and reference.npz. Raises ConverterError where the model cannot be traced.

    A batch that may vary is tried first. Where the model or torch.export takes one size only, the batch is fixed at what
    input_shape says, and a note says why; unless the user asked for an unknown one.
    """
    batch_dynamic = all(tensor.shape and tensor.shape[0] is None for tensor in inputs.specs)
    attempts = [inputs]
    if batch_dynamic and not inputs.batch_asked and source.kind != "program":
        attempts.append(_with_fixed_batch(inputs))
    obstacle: tuple[Inputs, list[TensorSpec], Reference, str] | None = None
    first_failure: str | None = None
    raised: Exception | None = None
    for attempt in attempts:
        is_batch = batch_dynamic and attempt is inputs
        try:
            reference = make_runs(source, attempt, is_batch, spec)
            check_steady(source, attempt, reference.runs[0])
            first_calls.check(attempt, reference.runs)
        except ConverterError:
            raise
        except Exception as error:  # whatever the user's forward raises
            first_failure = first_failure or f"forward raised {type(error).__name__}: {reason(error)}"
            raised = raised or error
            continue
        outputs = _outputs(source, attempt, reference)
        try:
            if attempt is attempts[0]:
                folded = source.kind == "module" and fold_parametrizations(source.module)
                if folded:
                    source.notes.append("weight normalisation was folded into the weights")
            fresh = partial(fresh_runs, source, attempt, reference.runs)
            program = export_program(source, attempt, outputs, reference.runs, fresh, is_flat_result(reference.result))
            outputs = _with_unknown_sizes(outputs, program)
        except TraceError as error:
            check_still(source, attempt, reference.runs)
            first_failure = first_failure or str(error)
            obstacle = obstacle or (attempt, outputs, reference, str(error))
            continue
        check_still(source, attempt, reference.runs)
        with quiet():
            state = kept_state(program)
        if state is not None:
            raise UnsupportedError(
                f"{source.path}: forward of {source.name} keeps state in {state} from call to call, so that no file computes "
                "what it does: convert a module that takes its state as an input and returns it"
            )
        more_notes, more_decisions = attention_notes(source, attempt, reference.runs)
        notes, decisions = [*source.notes, *more_notes], [*source.decisions, *more_decisions]
        if attempt is not inputs:
            size = attempt.specs[0].shape[0]
            notes.append(f"the batch is fixed at {size}: {first_failure}")
            decisions.append(f"batch fixed at {size}")
        separate_dtypes(program)
        torch.export.save(write_program(program), out / "program.pt2")
        return _hub(source, attempt, outputs, reference, is_batch, (notes, decisions), spec, out, "exported", program)
    if obstacle is None:
        shapes = "; ".join(f"{s.name} {s.dtype} {list(s.shape)}" for s in inputs.specs)
        raise ParameterError(
            f"{source.path} does not run on inputs of the given shapes ({shapes}): {first_failure}"
        ) from raised
    attempt, outputs, reference, failure = obstacle
    try:
        fresh = partial(fresh_runs, source, attempt, reference.runs)
        script = to_torchscript(source, attempt, outputs, reference.runs, fresh)
    except TraceError as error:
        if inputs.batch_asked and "dimension 0" in failure:
            raise ParameterError(
                f"input_shape asks for an unknown batch, but the model takes one size only: {failure}; write the size"
            ) from error
        raise UnsupportedError(f"{source.path} cannot be traced: {failure}; as TorchScript: {error}") from error
    write_script(script)
    try:
        torch.jit.save(script, out / "module.pt")
    except RuntimeError as error:  # what torch.jit.load leaves for later: a damaged table of source lines
        raise SourceError(f"{source.path} is damaged: TorchScript cannot write it again ({reason(error)})") from error
    try:
        torch.jit.load(out / "module.pt")
    except RuntimeError as error:
        raise UnsupportedError(
            f"{source.path}: TorchScript cannot read again what it writes of it ({reason(error)}): "
            "name its modules with letters, digits and underscores"
        ) from error
    check_still(source, attempt, reference.runs)
    more_notes, more_decisions = attention_notes(source, attempt, reference.runs)
    notes = [*source.notes, *more_notes, f"kept as TorchScript, since torch.export cannot follow it: {failure}"]
    decisions = [*source.decisions, *more_decisions, "kept as TorchScript"]
    is_batch = batch_dynamic and attempt is inputs
    return _hub(source, attempt, outputs, reference, is_batch, (notes, decisions), spec, out, "torchscript", script)


def _with_fixed_batch(inputs: Inputs) -> Inputs:
    sizes = [tensor.shape[0] for tensor in inputs.example] if inputs.example is not None else [1] * len(inputs.specs)
    specs = [replace(spec, shape=(size, *spec.shape[1:])) for spec, size in zip(inputs.specs, sizes, strict=True)]
    return replace(inputs, specs=specs)


def _outputs(source: Source, inputs: Inputs, reference: Reference) -> list[TensorSpec]:
    """Names from the result's structure; a dimension is unknown where it differs between runs or follows the batch."""
    names, _ = flat_outputs(reference.result, [spec.name for spec in inputs.specs])
    runs = reference.runs
    varies = any(dim is None for spec in inputs.specs for dim in spec.shape)
    steps = output_steps(source.module) if source.kind == "torchscript" else []
    steps = output_scales(source.program) if source.program is not None else steps
    # Results of another structure than the graph's returns (nested tuples) have no steps, and the usual tolerance.
    steps = steps if len(steps) == len(names) else [0.0] * len(names)
    specs = []
    for position, name in enumerate(names):
        arrays = [run.outputs[position] for run in runs]
        if len({array.ndim for array in arrays}) > 1:
            raise UnsupportedError(f"output {name} of {source.path} has another number of dimensions for another input")
        shape = tuple(
            sizes[0] if len(set(sizes)) == 1 and (len(runs) > 1 or not varies) else None
            for sizes in zip(*(array.shape for array in arrays), strict=True)
        )
        specs.append(TensorSpec(name, shape, arrays[0].dtype.name, step=steps[position]))
    return specs


def _with_unknown_sizes(outputs: list[TensorSpec], program: torch.export.ExportedProgram) -> list[TensorSpec]:
    """Sizes that depend on the inputs are unknown, though they were the same in all runs: numbers of boxes, say."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    results = [values.get(name) for name in program.graph_signature.user_outputs]
    tensors = [value for value in results if isinstance(value, torch.Tensor)]
    if len(tensors) != len(outputs):
        return outputs
    return [
        replace(spec, shape=tuple(dim if isinstance(size, int) else None for dim, size in zip(*shapes, strict=True)))
        for spec, *shapes in ((spec, spec.shape, value.shape) for spec, value in zip(outputs, tensors, strict=True))
    ]


def _hub(
    source: Source,
    inputs: Inputs,
    outputs: list[TensorSpec],
    reference: Reference,
    batch_dynamic: bool,
    said: tuple[list[str], list[str]],
    spec: ImportSpec,
    out: Path,
    form: Literal["exported", "torchscript"],
    traced: torch.export.ExportedProgram | torch.jit.ScriptModule,
) -> Hub:
    """`said`: notes and decisions."""
    parameters = {id(p): p.numel() for p in source.module.parameters()}
    hub = Hub(
        path=out,
        framework="pytorch",
        inputs=list(inputs.specs),
        outputs=outputs,
        batch_dynamic=batch_dynamic,
        notes=said[0],
        decisions=said[1],
        unproven=reference.unproven,
        operators=_operators(traced),
        parameters_count=sum(parameters.values()),
        candidates={"inputs": list(inputs.specs), "outputs": list(outputs)},
        extra={"form": form, "module": source.name, "kind": source.kind},
    )
    if (narrow := computes_in(traced)) is not None:
        hub.extra["computes_in"] = narrow
    added = assess(
        hub,
        reference.runs,
        lambda: _probe(traced),
        lambda arrays: to_arrays(flat_outputs(run_source(source, inputs, arrays))[1]),
        vocabulary=vocabulary(source, inputs),
        may_add=spec.reference_inputs is None,
    )
    write_evidence(hub, [*reference.runs, *added], inputs.left_out)
    hub.evidence |= reference.evidence
    return hub


def _probe(traced: torch.export.ExportedProgram | torch.jit.ScriptModule) -> TorchProbe:
    if isinstance(traced, torch.jit.ScriptModule):
        return TorchProbe(traced)
    prefix = "model." if all(name.startswith("model.") for name in traced.state_dict) else ""
    return TorchProbe(
        traced.module(check_guards=False), prefix, list(traced.graph_signature.buffers_to_mutate.values())
    )


def _operators(traced: torch.export.ExportedProgram | torch.jit.ScriptModule) -> dict[str, int]:
    """How often each ATen operator occurs, most frequent first."""
    if isinstance(traced, torch.export.ExportedProgram):
        names = [
            node.target._schema.name.removeprefix("aten::")
            for node in traced.graph.nodes
            if isinstance(node.target, torch._ops.OpOverload)
        ]
    else:
        names = _script_operators(traced.inlined_graph.nodes())
    return dict(Counter(name for name in names if name != "sym_size").most_common())


def _script_operators(nodes: Any) -> list[str]:
    found = []
    for node in nodes:
        if node.kind().startswith("aten::"):
            found.append(node.kind().removeprefix("aten::"))
        for block in node.blocks():
            found += _script_operators(block.nodes())
    return found
