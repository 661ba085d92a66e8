"""Dtypes that the user left open, and the bounds of integer inputs: found by calling the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from converter.errors import ParameterError
from converter.hub.hub import TensorSpec
from converter.hub.sequence_lengths import sequences_of
from converter.torch.program.flat import Call, numpy_name
from converter.torch.program.watching import OperatorWatch, watching
from converter.torch.sources.loading import Source

if TYPE_CHECKING:
    from converter.planning.input_shapes import InputShape
    from converter.torch.sources.inputs import Inputs

__all__ = ["table_bounds", "vocabulary", "with_dtypes"]


def with_dtypes(source: Source, call: Call, specs: list[TensorSpec], shapes: Sequence[InputShape]) -> list[TensorSpec]:
    """Fill in dtypes that were not given: float32, or whatever the model turns out to need (token numbers: int64).

    Raises ParameterError with the model's own words when no combination of dtypes works.
    """
    open_positions = [position for position, spec in enumerate(specs) if not spec.dtype]
    own = {p.dtype for p in source.module.parameters() if p.is_floating_point()}
    first = numpy_name(own.pop()) if len(own) == 1 else "float32"
    failures = []
    for choice in _dtype_choices(len(open_positions), first):
        trial = list(specs)
        for position, dtype in zip(open_positions, choice, strict=True):
            trial[position] = TensorSpec(specs[position].name, specs[position].shape, dtype)
        failure = None
        for batch, size in ((1, 7), (1, 64), (1, 224), (2, 32)):
            failure = _try_call(source, call, trial, batch, size)
            if failure is None:
                return trial
            if not any(dim is None for spec in specs for dim in spec.shape[1:]):
                break
        failures.append(failure)
    given = ";".join(",".join("-1" if dim is None else str(dim) for dim in shape.dims) for shape in shapes)
    varies = any(dim is None for shape in shapes for dim in shape.dims[1:])
    raise ParameterError(
        f"input_shape: forward of {source.name} does not take inputs of shape {given} "
        f"({', '.join(spec.name for spec in specs)}{'; unknown sizes tried: 7 to 224' if varies else ''}): "
        f"{_message(failures[0])}"
    ) from failures[0]


def _dtype_choices(count: int, first: str) -> list[tuple[str, ...]]:
    """float32 for all, then int64 for all, for one, for all but one, and bool for the last."""
    choices = [(first,) * count, ("int64",) * count]
    for position in range(count):
        choices.append(tuple("int64" if p == position else first for p in range(count)))
    for position in range(count):
        choices.append(tuple(first if p == position else "int64" for p in range(count)))
    for position in range(count):
        for other in (first, "int64"):
            choices.append(tuple("bool" if p == position else other for p in range(count)))
    return list(dict.fromkeys(choices))


def _try_call(source: Source, call: Call, specs: list[TensorSpec], batch: int, size: int) -> Exception | None:
    shapes = [
        [dim if dim is not None else (batch if axis == 0 else size) for axis, dim in enumerate(spec.shape or ())]
        for spec in specs
    ]
    held = [sequences_of(specs, position) for position in range(len(specs))]
    failure: Exception | None = None
    for axis in (1, -1) if any(place is not None for place in held) else (1,):
        tensors = []
        for spec, dims, place in zip(specs, shapes, held, strict=True):
            # Zeros are in every vocabulary, but no length of a sequence.
            value = 0 if place is None else shapes[place][axis]
            tensors.append(torch.full(dims, value, dtype=getattr(torch, spec.dtype)))
        failure = _call_failure(source, call, tensors)
        if failure is None:
            break
    return failure


def _call_failure(source: Source, call: Call, tensors: Sequence[torch.Tensor]) -> Exception | None:
    try:
        with torch.no_grad():
            call(source.module, list(tensors))
    except Exception as error:  # anything that a forward method may raise
        return error
    return None


def vocabulary(source: Source, inputs: Inputs) -> dict[str, int]:
    """Bounds of the integer inputs: the number of embeddings of the first table that each is looked up in.

    Found by watching one call; an integer input that no table takes gets the smallest table's bound, if there is a table.
    """
    integers = [
        i
        for i, spec in enumerate(inputs.specs)
        if spec.dtype.startswith(("int", "uint")) and spec.dtype != "uint8" and sequences_of(inputs.specs, i) is None
    ]
    if not integers:
        return {}
    if all(inputs.specs[i].name in inputs.bounds for i in integers):
        return dict(inputs.bounds)
    bounds = _watched_bounds(source, inputs)
    smallest = min([*_table_sizes(source), *bounds.values()], default=None)
    found = {}
    for index in integers:
        bound = bounds.get(index, smallest)
        if bound is None and inputs.example is not None and inputs.example[index].numel():
            bound = int(inputs.example[index].max()) + 1
        if bound is not None:
            found[inputs.specs[index].name] = bound
    return found | inputs.bounds


def table_bounds(source: Source, inputs: Inputs) -> dict[int, int]:
    """{index of an integer input: rows of the table it is looked up in}; of the smallest table where that is not known."""
    sizes = _table_sizes(source)
    if source.kind == "torchscript" and sizes:
        return {index: min(sizes) for index, spec in enumerate(inputs.specs) if spec.dtype.startswith("int")}
    return _watched_bounds(source, inputs)


def _table_sizes(source: Source) -> list[int]:
    return [
        int(part.weight.shape[0])
        for part in source.module.modules()
        if getattr(part, "original_name", type(part).__name__) in ("Embedding", "EmbeddingBag")
        and hasattr(part, "weight")
    ]


def _watched_bounds(source: Source, inputs: Inputs) -> dict[int, int]:
    """{index of an input: rows of the table it is looked up in}, by the tensors' storage; TorchScript cannot be watched."""
    bounds: dict[int, int] = {}
    if source.kind == "torchscript":
        return bounds
    tensors = [
        torch.zeros([8 if dim is None else dim for dim in spec.shape], dtype=getattr(torch, spec.dtype))
        for spec in inputs.specs
    ]
    pointers = {tensor.untyped_storage().data_ptr(): index for index, tensor in enumerate(tensors)}

    class Watch(OperatorWatch):
        def __torch_dispatch__(
            self, function: Any, types: object, args: tuple = (), kwargs: dict | None = None
        ) -> object:
            for indices, rows in _looked_up(function, args):
                index = pointers.get(indices.untyped_storage().data_ptr())
                if index is not None:
                    bounds[index] = min(bounds.get(index, rows), rows)
            return function(*args, **(kwargs or {}))

    try:
        with watching(Watch()):
            inputs.call(source.module, tensors)
    except Exception:
        return bounds  # sizes of 8 need not suit the model: what was seen until then still holds
    return bounds


def _looked_up(function: object, args: tuple) -> list[tuple[torch.Tensor, int]]:
    """(indices, number of rows they choose from) of an operator that looks tensors up."""
    aten = torch.ops.aten
    if function is aten.embedding.default:
        return [(args[1], args[0].shape[0])]
    if function is aten.index.Tensor:
        chosen = enumerate(args[1])
        return [(i, args[0].shape[d]) for d, i in chosen if i is not None and i.dtype not in (torch.bool, torch.uint8)]
    if function in (aten.index_select.default, aten.gather.default):
        return [(args[2], args[0].shape[args[1]])]
    return [(args[1], args[0].numel())] if function is aten.take.default else []


def _message(error: Exception | None) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines and "Traceback" in lines[0] else lines[0] if lines else type(error).__name__)[:300]
