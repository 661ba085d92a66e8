"""Models that compute in half precision, bfloat16 or float64, as ones that compute with the same weights in float32.

Few kernels of any runtime take other numbers, and each library rounds them in its own way: of float16 arithmetic nothing
could be verified but that both are roughly right. In float32 the source itself is run on the samples, so that the file is held
to the usual tolerance; how far the source's own arithmetic is from that is measured and said.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from converter.library_patches.replacing import replaced
from converter.library_patches.torch import AUTOCAST
from converter.torch.program.flat import flat_outputs, numpy_name
from converter.torch.program.kept_state import all_nodes
from converter.torch.program.watching import OperatorWatch, watching
from converter.torch.sources.evidence import FirstCalls, copied
from converter.torch.sources.inputs import Inputs
from converter.torch.sources.loading import Source
from converter.torch.sources.tracing import quiet

__all__ = ["in_float32", "no_autocast"]

_NARROW = (torch.float16, torch.bfloat16)
# Beyond the default tolerance of a file, float32 is not what a model of float64 means.
_MOST_OF_DOUBLE = 1e-4
_CASTS = {torch.Tensor.half: torch.float16, torch.Tensor.bfloat16: torch.bfloat16, torch.Tensor.double: torch.float64}


def in_float32(source: Source, inputs: Inputs, first_calls: FirstCalls) -> tuple[Source, Inputs, FirstCalls]:
    """The same model in float32 arithmetic, its inputs and what FirstCalls keeps of it; as they are where it computes so.

    Where float32 arithmetic cannot be had (casts that nothing shows), or is not what a float64 model computes, all three
    are as they were: exporters then say what to do (program/narrow.py).
    """
    for tensors in _samples(inputs):
        dtypes = _computed_in(source, inputs, tensors)
        if dtypes is not None:
            break
    else:
        return source, inputs, first_calls
    if torch.float64 not in _kept(source):  # what computes in it on the way is meant so
        dtypes -= {torch.float64}
    if not dtypes:
        return source, inputs, first_calls
    wide = [tensor.float() if tensor.dtype in dtypes else tensor for tensor in tensors]
    specs = [
        replace(spec, dtype="float32") if getattr(torch, spec.dtype, None) in dtypes else spec for spec in inputs.specs
    ]
    example = inputs.example and [tensor.float() if tensor.dtype in dtypes else tensor for tensor in inputs.example]
    changed = replace(inputs, specs=specs, example=example)
    for candidate in _candidates(source, changed, dtypes, first_calls, wide):
        fresh = FirstCalls(candidate)
        left = _computed_in(candidate, changed, wide)
        if left is None or left & dtypes:
            continue
        away, largest = _distance(source, inputs, tensors, candidate, changed, wide)
        if torch.float64 in dtypes and not away <= _MOST_OF_DOUBLE * largest:
            break
        names = " and ".join(sorted(map(numpy_name, dtypes)))
        candidate.notes.append(
            f"{candidate.path} computes in {names}: what is converted and verified is float32 arithmetic of the same weights"
            f"{' rounded to float32' * (torch.float64 in dtypes)}, from which its own was {away:.2g} away in outputs up to "
            f"{largest:.2g}"
        )
        candidate.decisions.append(f"{names} arithmetic as float32")
        return candidate, changed, fresh
    return source, inputs, first_calls


def _samples(inputs: Inputs) -> Iterator[list[torch.Tensor]]:
    """Tensors that the model may take, for each unknown size as dtypes.with_dtypes tries them. Zeros are in every vocabulary."""
    if inputs.example is not None:
        yield inputs.example
        return
    for size in (7, 64, 224, 32):
        generator = torch.Generator().manual_seed(0)
        tensors = []
        for spec in inputs.specs:
            dims = [dim or (size if axis else 2) for axis, dim in enumerate(spec.shape or ())]
            dtype = getattr(torch, spec.dtype)
            drawn = dtype.is_floating_point
            tensors.append((torch.randn(dims, generator=generator) if drawn else torch.zeros(dims)).to(dtype))
        yield tensors


class _Watch(OperatorWatch):
    """Notes the dtypes but float32 of which an operator makes floating-point numbers of such."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[torch.dtype] = set()

    def __torch_dispatch__(self, function: Any, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = function(*args, **(kwargs or {}))
        given, made = _dtypes((args, kwargs)), _dtypes(result)
        self.found |= given & made & {*_NARROW, torch.float64}
        return result


def _dtypes(tree: object) -> set[torch.dtype]:
    return {leaf.dtype for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)}


def _computed_in(source: Source, inputs: Inputs, tensors: Sequence[torch.Tensor]) -> set[torch.dtype] | None:
    """The dtypes but float32 that the model computes in; None where it does not take these tensors."""
    try:
        watch = _Watch()
        with watching(watch):
            inputs.call(source.module, [tensor.clone() for tensor in tensors])
    except Exception:  # whatever forward raises
        return None
    return watch.found | (_kept(source) & {*_NARROW} if source.kind == "torchscript" else set())


def _kept(source: Source) -> set[torch.dtype]:
    return {tensor.dtype for tensor in (*source.module.parameters(), *source.module.buffers())}


def _candidates(
    source: Source, inputs: Inputs, dtypes: set[torch.dtype], first_calls: FirstCalls, tensors: Sequence[torch.Tensor]
) -> Iterator[Source]:
    """Models of float32 that have not been called yet, the plainest first."""
    if source.kind == "program":
        program = _rewritten(source.program, inputs, dtypes, tensors)
        if program is not None:
            yield _other(source, program.module(check_guards=False), program)
        return
    if source.kind == "torchscript":
        script = _reloaded(source.module)
        _widen(script, dtypes)
        _widen_constants(script, dtypes)
        yield _other(source, script, None)
        return
    for casts in (False, True):
        module = copied(first_calls.untouched, shared=False)
        if module is None:
            return
        _widen(module, dtypes)
        if casts:
            _widen_casts(module, dtypes)
        yield _other(source, module, None)


def _other(source: Source, module: torch.nn.Module, program: torch.export.ExportedProgram | None) -> Source:
    return replace(source, module=module, program=program, notes=[*source.notes], decisions=[*source.decisions])


def _widen(module: torch.nn.Module, dtypes: set[torch.dtype]) -> None:
    module._apply(lambda tensor: tensor.float() if tensor.dtype in dtypes else tensor)


def _reloaded(script: torch.nn.Module) -> torch.jit.ScriptModule:
    """The same with graphs of its own: a copy shares them."""
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer, map_location="cpu").eval()


# As TorchScript writes dtypes (c10/core/ScalarType.h).
_NUMBERS = {5: torch.float16, 7: torch.float64, 15: torch.bfloat16}
_FLOAT32 = 6


def _widen_constants(script: torch.jit.ScriptModule, dtypes: set[torch.dtype]) -> None:
    """Constants in the place of arguments that are dtypes, of a module that has not run and whose graphs nobody has inlined."""
    parts: Any = script.modules()
    for part in parts:
        for method in part._c._method_names():
            graph = part._c._get_method(method).graph
            nodes: Any = list(all_nodes(graph))
            for node in nodes:
                if node.kind().startswith("aten::") and node.schema() != "(no schema)":
                    _widen_arguments(graph, node, dtypes)


def _widen_arguments(graph: Any, node: Any, dtypes: set[torch.dtype]) -> None:
    named = torch._C.parse_schema(node.schema()).arguments
    for position, (argument, value) in enumerate(zip(named, node.inputs(), strict=True)):
        constant = value.node()
        if argument.name != "dtype" or constant.kind() != "prim::Constant" or not isinstance(value.toIValue(), int):
            continue
        if _NUMBERS.get(value.toIValue()) in dtypes:
            graph.setInsertPoint(node)
            node.replaceInput(position, graph.insertConstant(_FLOAT32))


class _Float32(TorchFunctionMode):
    """Functions that are asked for tensors of these dtypes give float32."""

    def __init__(self, dtypes: set[torch.dtype]) -> None:
        super().__init__()
        self._wide = dict.fromkeys(dtypes, torch.float32)

    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if _CASTS.get(function) in self._wide:
            function = torch.Tensor.float

        def wide(leaf: object) -> object:
            return self._wide.get(leaf, leaf) if isinstance(leaf, torch.dtype) else leaf

        return function(*(wide(leaf) for leaf in args), **{key: wide(leaf) for key, leaf in (kwargs or {}).items()})


def _widen_casts(module: torch.nn.Module, dtypes: set[torch.dtype]) -> None:
    """Casts in forward's own code become ones to float32, and torch.autocast does nothing."""
    kind = type(module)

    @functools.wraps(kind.forward)
    def forward(self: torch.nn.Module, *args: object, **kwargs: object) -> object:
        with _Float32(dtypes), no_autocast():
            return kind.forward(self, *args, **kwargs)

    names = {"forward": forward, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    module.__class__ = type(kind.__name__, (kind,), names)


def no_autocast() -> contextlib.AbstractContextManager[None]:
    """Inside, `with torch.autocast(...)` changes nothing."""
    return replaced((AUTOCAST["enter"], lambda self: self), (AUTOCAST["exit"], lambda self, *error: None))


def _rewritten(
    program: torch.export.ExportedProgram | None,
    inputs: Inputs,
    dtypes: set[torch.dtype],
    tensors: Sequence[torch.Tensor],
) -> torch.export.ExportedProgram | None:
    """The program with float32 in the place of these dtypes, exported again; None where that cannot be."""
    assert program is not None
    module: Any = copied(program.module(check_guards=False), shared=False)
    if module is None:
        return None
    _widen(module, dtypes)
    for node in module.graph.nodes:
        if node.op == "get_attr":  # constants are plain attributes
            owner, _, name = node.target.rpartition(".")
            part = module.get_submodule(owner)
            value = getattr(part, name)
            if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter) and value.dtype in dtypes:
                setattr(part, name, value.float())
        node.args, node.kwargs = pytree.tree_map(
            lambda leaf: torch.float32 if leaf in dtypes else leaf,
            (node.args, node.kwargs),
            is_leaf=lambda leaf: isinstance(leaf, torch.dtype),
        )
    module.recompile()
    args, kwargs = inputs.call.arguments(tensors)
    free = {
        id(tensor): {axis: torch.export.Dim.AUTO for axis, dim in enumerate(spec.shape or ()) if dim is None}
        for tensor, spec in zip(tensors, inputs.specs, strict=True)
    }
    shapes = pytree.tree_map(lambda leaf: free.get(id(leaf)), (args, kwargs))
    try:
        with quiet():
            again = torch.export.export(
                module, args, kwargs, dynamic_shapes=(*shapes[0],) if not kwargs else None, strict=False
            )
    except Exception:  # torch.export raises whatever stands in its way
        return None
    return again if list(again.graph_signature.user_inputs) == list(program.graph_signature.user_inputs) else None


def _distance(
    source: Source,
    inputs: Inputs,
    tensors: Sequence[torch.Tensor],
    other: Source,
    changed: Inputs,
    wide: Sequence[torch.Tensor],
) -> tuple[float, float]:
    """The largest difference between the two models' floating-point outputs, and the largest value of the second's."""
    with torch.no_grad():
        first = flat_outputs(inputs.call(source.module, [tensor.clone() for tensor in tensors]))[1]
        second = flat_outputs(changed.call(other.module, [tensor.clone() for tensor in wide]))[1]
    pairs = [
        (a.double(), b.double()) for a, b in zip(first, second, strict=True) if b.is_floating_point() and b.numel()
    ]
    away = max((float((a - b).abs().max()) for a, b in pairs), default=0.0)
    return away, max((float(b.abs().max()) for _, b in pairs), default=0.0)
