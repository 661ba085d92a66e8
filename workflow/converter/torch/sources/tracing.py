"""From a callable module to the hub's form: a torch.export program where possible, else TorchScript with its control flow.

What comes out is run on the reference inputs, at more than one batch size and with different values, and on samples that
the source is given after the trace, before it is believed: an exported program is silently specialised where Python code
branches on a size or asks whether it is being exported (torch 2.13).
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from converter.errors import SourceError, UntrustedError
from converter.hub.hub import Run, TensorSpec
from converter.hub.informative import typical
from converter.library_patches.replacing import replaced
from converter.library_patches.torch import EXPORTING
from converter.torch.exact.quantized_program import has_quantized_operators, rewrite_quantized
from converter.torch.extensions.exported_detection import followable_detection
from converter.torch.extensions.exported_norms import followable_batch_norm
from converter.torch.extensions.exported_recurrence import followable_recurrence
from converter.torch.program.eager_program import misdescribed
from converter.torch.program.flat import Call, flat_outputs, to_arrays, to_tensors
from converter.torch.program.inlining import inline_wrapped
from converter.torch.program.kept_state import all_nodes, changed_attribute
from converter.torch.program.script_graph import ScriptGraphModule, script_constants
from converter.torch.program.source_lines import model_lines
from converter.torch.sources.inputs import Inputs
from converter.torch.sources.loading import Source
from converter.torch.sources.variations import moved
from converter.torch.trust.generated_code import refusals_raised
from converter.verification.verify import Tolerance, verify

__all__ = ["FlatModule", "TraceError", "example_inputs", "export_program", "fixed_dimension", "to_torchscript"]

# The traced form is the same computation by the same library; only the order of additions may differ.
_SAME = Tolerance(rtol=1e-5, atol=1e-6)


class TraceError(Exception):
    """Why a model could not be traced, as a clause that may follow a colon."""


class FlatModule(torch.nn.Module):
    """A module called with tensors by position only, and giving a tuple of tensors only."""

    def __init__(self, module: torch.nn.Module, call: Call) -> None:
        super().__init__()
        self.model = module
        self._call = call

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the model; returns its tensors as a flat tuple."""
        return tuple(flat_outputs(self._call(self.model, tensors))[1])


def export_program(
    source: Source,
    inputs: Inputs,
    outputs: Sequence[TensorSpec],
    runs: Sequence[Run],
    fresh: Callable[[], list[Run]],
    flat_result: bool,
) -> torch.export.ExportedProgram:
    """The source as a program that takes the flat inputs by position and computes what `runs` hold.

    `fresh`: runs the source on samples that are new, once the program is there. `flat_result`: the model's result is one
    that a program may return as it is (flat.is_flat_result). Unknown dimensions of `inputs.specs` stay unknown. Raises
    TraceError where that cannot be.
    """
    try:
        module = ScriptGraphModule(source.module) if source.kind == "torchscript" else source.module
    except Exception as error:  # parts with the names of torch.nn.Module's own, and what forward changes
        raise TraceError(reason(error)) from error
    is_flat = inputs.call.plain and flat_result and not (source.kind == "module" and _is_variadic(module))
    if source.program is not None and _fixes_more(source.program, inputs.specs):
        is_flat = False  # exported again, with these sizes
    elif source.program is not None and is_flat:
        with refusals_raised():
            program = inline_wrapped(source.program)
        # After the inlining: operators of a part that runs under no_grad read values as any others do.
        wrong = misdescribed(program, to_tensors(typical(runs)[-1].inputs))
        if wrong is not None:
            raise SourceError(
                f"{source.path} is damaged: it says of {wrong} that it gives a tensor where it gives a number, or the other "
                "way round; export the model again"
            )
        return program
    target = module if is_flat else FlatModule(module, inputs.call)
    example = example_inputs(inputs.specs, runs)
    dims = [{axis: torch.export.Dim.AUTO for axis, dim in enumerate(s.shape) if dim is None} for s in inputs.specs]
    # The wrapper's forward(*tensors) is one argument to torch.export; a plain forward may leave others at their default.
    shapes: object = (tuple(dims),) if _is_variadic(target) else tuple(dims)
    # Code that asks whether it is being exported may compute something else then: the second time the answer is no.
    problem: str | None = None
    for told in (True, False):
        try:
            with contextlib.ExitStack() as stack:
                for context in (
                    quiet,
                    refusals_raised,
                    followable_detection,
                    followable_batch_norm,
                    followable_recurrence,
                ):
                    stack.enter_context(context())
                if not told:
                    stack.enter_context(_unnoticed())
                program = inline_wrapped(torch.export.export(target, example, dynamic_shapes=shapes, strict=False))
            if has_quantized_operators(program):
                rewrite_quantized(source.path, program)
        except UntrustedError:
            raise
        except Exception as error:  # torch.export raises whatever stands in its way
            raise TraceError(problem or reason(error)) from error
        if (fixed := fixed_dimension(program, inputs.specs)) is not None:
            size, axis, name = fixed
            raise TraceError(f"its code works for size {size} of dimension {axis} of {name} only")
        found = _problem(program.module(check_guards=False), outputs, [*runs, *fresh()])
        if found is None:
            if not told:
                source.notes.append(
                    "its code computes something else while it is exported: what it computes elsewhere is kept"
                )
            return program
        problem = problem or f"the exported program {found}: its code branches on a size, or on being exported"
    raise TraceError(problem)


def _unnoticed() -> contextlib.AbstractContextManager[None]:
    """What torch offers models to ask whether they are being exported says no; torch.export itself does not ask these."""
    return replaced(*((question, lambda: False) for question in EXPORTING))


def _fixes_more(program: torch.export.ExportedProgram, specs: Sequence[TensorSpec]) -> bool:
    """Whether a dimension is fixed in `specs` that the program leaves open."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    tensors = [
        value for name in program.graph_signature.user_inputs if isinstance(value := values.get(name), torch.Tensor)
    ]
    return any(
        dim is not None and not isinstance(size, int)
        for spec, value in zip(specs, tensors, strict=True)
        for dim, size in zip(spec.shape or (), value.shape, strict=True)
    )


def _is_variadic(module: torch.nn.Module) -> bool:
    """Whether forward takes *args or **kwargs: torch.export wants the shapes of what is given, in containers of its own."""
    return any(
        p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in inspect.signature(module.forward).parameters.values()
    )


def example_inputs(specs: Sequence[TensorSpec], runs: Sequence[Run]) -> tuple[torch.Tensor, ...]:
    """Inputs to trace with: the last typical run's, which has the largest batch; a size of 1 would become a constant."""
    tensors = to_tensors(typical(runs)[-1].inputs)
    for position, spec in enumerate(specs):
        for axis, dim in enumerate(spec.shape or ()):
            if dim is None and tensors[position].shape[axis] == 1:
                tensors[position] = tensors[position].repeat_interleave(2, axis)
    return tuple(tensors)


def fixed_dimension(program: torch.export.ExportedProgram, specs: Sequence[TensorSpec]) -> tuple[int, int, str] | None:
    """(size, axis, input) of an unknown dimension that has become a number: Dim.AUTO lets torch.export fix one silently."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    for spec, name in zip(specs, program.graph_signature.user_inputs, strict=True):
        for axis, dim in enumerate(spec.shape or ()):
            size = values[name].shape[axis]
            if dim is None and (isinstance(size, int) or size.node.expr.is_number):
                return int(size), axis, spec.name
    return None


def _problem(module: torch.nn.Module, outputs: Sequence[TensorSpec], runs: Sequence[Run]) -> str | None:
    """What is wrong with a traced form on the runs, None when it agrees."""

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return to_arrays(flat_outputs(module(*to_tensors(arrays)))[1])

    try:
        verification = verify(outputs, runs, run, _SAME)
    except Exception as error:  # a specialised program raises from within an operator
        return f"fails on another batch or size ({reason(error)})"
    return None if verification.passed else f"is wrong on another input ({verification.message})"


def to_torchscript(
    source: Source,
    inputs: Inputs,
    outputs: Sequence[TensorSpec],
    runs: Sequence[Run],
    fresh: Callable[[], list[Run]],
) -> torch.jit.ScriptModule:
    """TorchScript that keeps control flow: the source itself, or the module scripted. Raises TraceError.

    A module that cannot be scripted is traced, unless the trace took a decision or a value that depends on data; so is one
    whose script asks for types, which no exporter writes. `fresh` as in export_program.
    """
    if not inputs.call.plain:
        raise TraceError("its arguments are not all tensors given by position")
    if source.kind == "torchscript":
        if (attribute := changed_attribute(source.module)) is not None:
            raise TraceError(f"forward keeps state in the attribute {attribute}")
        return source.module
    if source.kind == "program":
        raise TraceError("the program itself does not run")
    failures = []
    second_best: torch.jit.ScriptModule | None = None
    for make in (_scripted, _traced):
        try:
            with quiet():
                script = make(source.module, example_inputs(inputs.specs, runs))
        except Exception as error:  # the TorchScript compiler raises whatever its parts raise
            failures.append(reason(error))
            continue
        problem = _problem(script, outputs, [*runs, *fresh()])
        if problem is None and (attribute := changed_attribute(script)) is not None:
            problem = f"keeps state in the attribute {attribute}"
        if problem is None and make is _scripted and _asks_for_types(script):
            second_best = script
        elif problem is None:
            return script
        else:
            failures.append(f"{make.__name__.strip('_')}, it {problem}")
    if second_best is not None:
        return second_best
    raise TraceError("; ".join(failures))


def _asks_for_types(script: torch.jit.ScriptModule) -> bool:
    """Whether there is an isinstance in it, as in the functions of torch.nn.utils.rnn; a trace has the answer instead."""
    return any(node.kind() == "prim::isinstance" for node in all_nodes(script.inlined_graph))


def _scripted(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> torch.jit.ScriptModule:
    return torch.jit.script(module)


def _traced(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> torch.jit.ScriptModule:
    """A trace, and the same again with other values: whatever constant differs was taken from the example."""
    script = _trace_once(module, example)
    other = to_tensors(moved(to_arrays(example), seed=1))
    try:
        with torch.no_grad():
            module(*other)
    except Exception:  # values that the model does not take: whether some were fixed is left to the runs
        return script
    if script_constants(_trace_once(module, tuple(other))) != script_constants(script):
        raise TraceError("values of the example would be fixed in it")
    return script


# Recurrent layers decide on data only whether to raise (torch 2.13): sizes of packed sequences and of the state.
_CHECKS_ONLY = (torch.nn.modules.rnn.__file__, torch.nn.utils.rnn.__file__)


def _trace_once(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> torch.jit.ScriptModule:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        script = torch.jit.trace(module, example, check_trace=False)
    for warning in caught:
        if issubclass(warning.category, torch.jit.TracerWarning) and "might cause the trace to be incorrect" in str(
            warning.message
        ):
            if warning.filename in _CHECKS_ONLY:
                continue
            place = f"{warning.filename.rsplit('/', 1)[-1]}, line {warning.lineno}"
            raise TraceError(f"a decision that depends on the data would be fixed ({place})")
    return script


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch.export prints whole graphs to stderr before it raises; what matters of them is in our sentence."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.fx", "torch._dynamo", "torch.export", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def reason(error: BaseException) -> str:
    """One clause: what was raised, in its first telling line, and the line of the user's code it was raised for."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    if first == "in user code:":  # TensorFlow puts the stack first
        raised = re.search(r"^\s*(\w*(?:Error|Exception): .+)$", text, re.MULTILINE)
        first = raised[1] if raised else type(error).__name__
    if "data-dependent" in first:
        first = "control flow depends on the data"
    places = model_lines(text)
    if places and "line " not in first:
        file, line, function = places[-1]
        code = _code_of(text, file, line)
        first += f" in {function} ({file.rsplit('/', 1)[-1]}, line {line}{code})"
    return first[:400].rstrip(".:")


def _code_of(text: str, file: str, line: str) -> str:
    """The source line that follows a frame in a printed stack."""
    match = re.search(re.escape(f'File "{file}", line {line}') + r", in \S+\n\s*(\S.*)", text)
    return f": {match[1].strip()[:80]}" if match and not match[1].startswith("File ") else ""
