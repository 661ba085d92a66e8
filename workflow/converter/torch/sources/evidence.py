"""What a traced form is compared with: runs of the source on samples of its own, before and after it was traced."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from converter.errors import SourceError, UnsupportedError
from converter.hub.hub import Run
from converter.hub.informative import typical
from converter.hub.npz import read_arrays_file
from converter.hub.reference import make_reference
from converter.torch.exact.quantized_program import output_scales
from converter.torch.extensions.vision_operators import are_defined
from converter.torch.program.flat import flat_outputs, to_arrays, to_tensors
from converter.torch.program.watching import OperatorWatch, watching
from converter.torch.sources.dtypes import table_bounds, vocabulary
from converter.torch.sources.inputs import Inputs
from converter.torch.sources.loading import Source
from converter.torch.sources.quantized_script import ROWS, is_quantized
from converter.torch.sources.variations import candidates, other_batches, unvaried, vary

if TYPE_CHECKING:
    from converter.contracts import ImportSpec

__all__ = [
    "FirstCalls",
    "Reference",
    "attention_notes",
    "check_steady",
    "check_still",
    "copied",
    "fresh_runs",
    "make_runs",
    "run_source",
]


@dataclass
class Reference:
    """Runs of the eager source. `result`: what it returned in one of them, as its forward method built it.

    unproven, evidence: as in Hub.
    """

    runs: list[Run]
    result: object
    unproven: str | None = None
    evidence: dict = field(default_factory=dict)


def run_source(source: Source, inputs: Inputs, arrays: Sequence[np.ndarray]) -> object:
    """Call the source module on arrays, without gradients; returns whatever it returns."""
    with torch.no_grad(), _ordinary_attention():
        return inputs.call(source.module, to_tensors(arrays))


class _Suppressions(OperatorWatch):
    """Whether boxes are taken in the order of their scores: in which order those of equal scores are is not defined."""

    found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> object:
        self.found |= str(func).startswith("torchvision.nms")
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def _ordinary_attention() -> Iterator[None]:
    """Without the fast path of nn.MultiheadAttention, which no exported program takes.

    Where a mask hides a whole sequence it gives NaN (torch 2.13) and the ordinary path, which a model in training takes
    too, 0. All else is the same; `attention_notes` says so in the report.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def attention_notes(source: Source, inputs: Inputs, runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """Notes and decisions on `_ordinary_attention`, for a model that has such a fast path."""
    parts = {getattr(part, "original_name", type(part).__name__) for part in source.module.modules()}
    if source.kind == "program" or not parts & {"MultiheadAttention", "TransformerEncoderLayer"}:
        return [], []
    note = "attention is computed as in training: without the fast path of torch.nn.MultiheadAttention, as in any file"
    for run in runs:
        try:
            with torch.no_grad():
                outputs = to_arrays(flat_outputs(inputs.call(source.module, to_tensors(run.inputs)))[1])
        except Exception:  # nested tensors do not take all that the ordinary path takes
            outputs = []
        if not _alike(run.outputs, outputs):
            what = "where a mask hides a whole sequence, the fast path gives NaN or another result"
            return [f"{note}; {what} (torch {torch.__version__.partition('+')[0]})"], [
                "attention without its fast path"
            ]
    return [note], []


def make_runs(source: Source, inputs: Inputs, batch_dynamic: bool, spec: ImportSpec) -> Reference:
    """The source on seeded samples, on the user's, or on `example_inputs` and what can be made of them.

    No input has one value only, unless the source takes no other: then `unproven` says so. Raises what forward raises, and
    SourceError where it returns no tensor.
    """
    result: object = None
    last: list[np.ndarray] = []

    def call(arrays: list[np.ndarray]) -> list[np.ndarray]:
        nonlocal result, last
        result, last = run_source(source, inputs, arrays), arrays
        return to_arrays(flat_outputs(result)[1])

    @functools.cache
    def ranks() -> bool:
        if not are_defined():  # no model of this process calls them
            return False
        seen = _Suppressions()
        with watching(seen):
            run_source(source, inputs, last)
        return seen.found

    user_inputs = None
    if spec.reference_inputs is not None:
        user_inputs = read_arrays_file(spec.reference_inputs, "verify.inputs")
    quantized = source.kind == "torchscript" and is_quantized(source.module)
    quantized |= source.program is not None and any(output_scales(source.program))
    bounds = vocabulary(source, inputs)
    origin = "verify.inputs" if user_inputs is not None else "seeded"
    example = to_arrays(inputs.example) if inputs.example is not None and user_inputs is None else None
    try:
        runs = make_reference(
            inputs.specs,
            batch_dynamic,
            call,
            samples=max(spec.samples, ROWS) if quantized else spec.samples,
            vocabulary=bounds,
            user_inputs=user_inputs,
            left_out=inputs.left_out,
            ranks=ranks,
        )
        # A random mask may well hide everything, and NaN is an answer then; random offsets and lengths may be nonsense.
        kinds = {array.dtype.kind for array in example or []}
        counts = bool(kinds & {"i", "u"}) and "b" not in kinds
        suits = not counts or _is_finite(typical(runs)) or not _is_finite([Run(example, call(example))])
    except Exception:
        if example is None:
            raise
        suits = False
    if not suits:
        # Random values need not suit the model (lengths, masks, positions): the script's own example does.
        origin = "example_inputs"
        inputs.left_out.clear()
        runs = [Run(example, call(example))]
        if batch_dynamic:
            runs = sorted([*runs, _first(call, other_batches(example))], key=lambda run: len(run.inputs[0]))
    if not runs[0].outputs:
        raise SourceError(f"{source.path}: forward of {source.name} returns no tensor")
    # Whatever graph is made is made from one of these samples: an input that never varies may be fixed in it.
    must_be_finite = _is_finite(typical(runs))

    def call_within(arrays: list[np.ndarray]) -> list[np.ndarray]:
        outputs = call(arrays)
        if must_be_finite and not _is_finite([Run(arrays, outputs)]):
            raise ValueError("no longer finite: the sample is outside of what the model is made for")
        return outputs

    made = vary(typical(runs)[-1].inputs, call_within) if unvaried(runs) else []
    runs = [*made, *runs]
    still = unvaried(runs)
    if still:  # a table of one row has one number only
        rows = table_bounds(source, inputs)
        still = [inputs.specs[position].name for position in still if rows.get(position, 2) > 1]
    evidence = {"samples_from": origin, **({"varied": len(made)} if made else {})}
    if quantized:
        evidence["steps"] = (
            "outputs on a grid are compared in steps of their scale, with the share of values that are off"
        )
    return Reference(runs, result, _unproven(source, still, origin) if still else None, evidence)


def _is_finite(runs: Sequence[Run]) -> bool:
    """Whether no output is NaN or infinite: empty segments, say, have no mean."""
    return all(np.isfinite(output).all() for run in runs for output in run.outputs if output.dtype.kind in "fc")


def _first(call: Callable[[list[np.ndarray]], list[np.ndarray]], samples: Sequence[list[np.ndarray]]) -> Run:
    """The run on the first sample that the source takes. Raises what it raised for the last."""
    failure: Exception | None = None
    for arrays in samples:
        try:
            return Run(arrays, call(arrays))
        except Exception as error:  # whatever forward raises for a batch that it does not take
            failure = error
    raise failure  # type: ignore[misc]


def _unproven(source: Source, names: list[str], origin: str) -> str:
    what = f"input{'s' * (len(names) > 1)} {', '.join(names)}"
    given = {"seeded": "drawn for it", "example_inputs": "in example_inputs", "verify.inputs": "in verify.inputs"}[
        origin
    ]
    return (
        f"{source.path} takes no other values of {what} than those {given}, so that nothing shows whether these are fixed "
        f"in the file: write verify.inputs, an .npz file in which several samples of each input differ in {names[0]}"
    )


def check_still(source: Source, inputs: Inputs, runs: Sequence[Run]) -> None:
    """After a trace: the source still gives what it gave before. Raises UnsupportedError where it does not."""
    for run in {id(run): run for run in (runs[0], typical(runs)[-1])}.values():
        check_steady(source, inputs, run, " before and after it was traced")


def check_steady(source: Source, inputs: Inputs, run: Run, when: str = "") -> None:
    """Raise where the source answers the same inputs differently: such a model cannot be converted."""
    again = to_arrays(flat_outputs(run_source(source, inputs, run.inputs))[1])
    if not _alike(run.outputs, again):
        raise UnsupportedError(
            f"{source.path} gives different outputs for the same input{when}, since forward draws random numbers or keeps "
            "state from call to call: convert a module that takes its state as an input and returns it"
        )


def fresh_runs(source: Source, inputs: Inputs, runs: Sequence[Run]) -> list[Run]:
    """The source, run now, on samples that no trace has seen: one of each of two shapes that `runs` have, if it takes any."""

    def call(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return to_arrays(flat_outputs(run_source(source, inputs, arrays))[1])

    samples = {tuple(array.shape for array in run.inputs): run.inputs for run in typical(runs)}
    made = []
    for seed, arrays in enumerate(list(samples.values())[-2:], start=101):
        for other in candidates(arrays, seed):
            try:
                made.append(Run(other, call(other)))
                break
            except Exception:  # whatever forward raises for numbers that it does not take
                continue
    return made


# A warm-up or an annealing that is longer than this is not noticed.
_MORE_CALLS = 16


class FirstCalls:
    """What a module was before it was called: whether its first call is like any other, and forward leaves its weights.

    untouched: a copy that has the same parameters, and has not been called; None where there can be none.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.untouched = copied(source.module) if source.kind == "module" else None
        self._sums = _sums(source.module)

    def check(self, inputs: Inputs, runs: Sequence[Run]) -> None:
        """Raise UnsupportedError where forward changed weights, or answers otherwise when it is called first, or later on.

        Once: the second time there is nothing left to check.
        """
        # A sample that the module has not seen: what its first call left behind is of another one.
        run = (fresh_runs(self._source, inputs, runs) or typical(runs))[-1]
        path, name = self._source.path, self._source.name
        module, self.untouched = self.untouched, None
        after = _sums(self._source.module)
        changed = [key for key, before in self._sums.items() if after.get(key, before) != before]
        if changed:
            raise UnsupportedError(
                f"{path}: forward of {name} changes its own weights ({', '.join(changed[:3])}), so that no file computes "
                "what it does: save the module after the calls that settle them, and take the assignment out of forward"
            )
        self._sums = {}
        if module is None:
            return
        before = _counters(self._source.module)
        check_steady(self._source, inputs, runs[0])
        if _counters(self._source.module) != before:  # what counts its calls may change its mind
            for _ in range(_MORE_CALLS):
                check_steady(self._source, inputs, runs[0], f" within {_MORE_CALLS} calls")
        try:
            with torch.no_grad(), _ordinary_attention():
                outputs = to_arrays(flat_outputs(inputs.call(module, to_tensors(run.inputs)))[1])
        except Exception:  # a copy that lacks what hooks and closures hold of the module says nothing
            return
        if not _alike(run.outputs, outputs):
            raise UnsupportedError(
                f"{path}: the first call of {name} gives another result than later ones for the same input, since forward "
                "keeps state: convert a module whose forward sets no attributes"
            )


def _counters(module: torch.nn.Module) -> list[object]:
    """Plain numbers, and buffers of one number, that the parts of a module hold."""
    numbers = [value for part in module.modules() for value in vars(part).values() if isinstance(value, int | float)]
    return numbers + [buffer.item() for buffer in module.buffers() if buffer.numel() == 1]


def copied(module: torch.nn.Module | None, shared: bool = True) -> torch.nn.Module | None:
    """Another module with buffers of its own, and with the same parameters if they are to be shared.

    None where it holds what cannot be copied, and of None.
    """
    if module is None:
        return None
    memo: dict[int, object] = {id(parameter): parameter for parameter in module.parameters() if shared}
    for part in module.modules():
        # A plain attribute computed from parameters (the weight of an old weight_norm) is refused by torch's own copy.
        memo |= {
            id(value): value.detach().clone()
            for value in vars(part).values()
            if isinstance(value, torch.Tensor) and not value.is_leaf
        }
    try:
        return copy.deepcopy(module, memo)
    except Exception:  # locks, handles, generators: each class has its own error
        return None


def _sums(module: torch.nn.Module) -> dict[str, str]:
    """A sum of each parameter, which differs when its values do. Lazy ones have no values before the first call."""
    return {
        name: str(parameter.detach().sum(dtype=torch.complex128 if parameter.is_complex() else torch.float64).item())
        for name, parameter in module.named_parameters()
        if not torch.nn.parameter.is_lazy(parameter)
    }


def _alike(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> bool:
    return len(first) == len(second) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)
        for a, b in zip(first, second, strict=True)
    )
