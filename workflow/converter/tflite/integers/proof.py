"""Each integer operator of a file on its own: given the integers that the source has in front of it, it must give what follows.

The file is cut at every tensor of integers that the source has too. What reads such a tensor is given the source's own
integers instead, so that no difference adds up: each piece has to come within one step of the source's.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converter.tflite.flatbuffer import TENSOR_DTYPES, read, schema, write
from converter.tflite.integers.scales import Grid
from converter.verification.runtimes import TFLiteModel

__all__ = ["STEPS", "PieceRun", "Pieces", "prove"]

_MOST_AXES = 5
STEPS = 1
"""How far a piece may be from the source."""


@dataclass
class PieceRun:
    """Arrays for the file's inputs, in its order and layout, and the source's integers by the name of their pair, as int8."""

    inputs: list[np.ndarray]
    integers: Mapping[str, np.ndarray]


@dataclass
class Pieces:
    """off: by the name of a pair, how many steps its piece is off at most. values, aside: integers, and those a step off.

    outputs: of each run what the file gives for the source's own integers in front of its outputs, in its order.
    """

    off: dict[str, int] = field(default_factory=dict)
    values: int = 0
    aside: int = 0
    outputs: list[list[np.ndarray]] = field(default_factory=list)

    @property
    def wrong(self) -> set[str]:
        """Names of the pairs whose pieces compute something else."""
        return {name for name, steps in self.off.items() if steps > STEPS}


def prove(path: Path, tensors: Mapping[str, int], pairs: Mapping[str, Grid], runs: Sequence[PieceRun]) -> Pieces:
    """Compare all pieces of the file at `path` on all runs.

    tensors: of each pair, its tensor in the file. Raises ValueError where a tensor has another scale than its pair, or
    cannot be the source's in any order of its axes.
    """
    model = read(path.read_bytes())
    graph = model.subgraphs[0]
    _check_scales(graph, tensors, pairs)
    inputs, outputs = [int(index) for index in graph.inputs], [int(index) for index in graph.outputs]
    # Of several pairs on one tensor one; what is given to the file is no result of it.
    names = {index: name for name, index in tensors.items() if index not in inputs}
    orders = _orders(path, names, runs)
    given = _cut(graph, list(names))
    model.signatureDefs = None
    cut_path = path.with_name(f"{path.name}.pieces")
    try:
        write(cut_path, model)
        runtime = TFLiteModel(cut_path)
        found = Pieces(dict.fromkeys(names.values(), 0))
        for run in runs:
            source = {index: orders[index].applied(run.integers[name]) for index, name in names.items()}
            fed = dict(zip(inputs, run.inputs, strict=True)) | {given[index]: source[index] for index in names}
            answers = runtime.run([fed[_place(spec.name)] for spec in runtime.inputs])
            results = {_place(spec.name): array for spec, array in zip(runtime.outputs, answers, strict=True)}
            for index, name in names.items():
                off = np.abs(results[index].astype(np.int32) - source[index])
                found.off[name] = max(found.off[name], int(off.max(initial=0)))
                found.values += off.size
                found.aside += int(np.count_nonzero(off))
            found.outputs.append([results[index] if index in results else fed[index] for index in outputs])
    finally:
        cut_path.unlink(missing_ok=True)
    return found


def _check_scales(graph: schema.SubGraphT, tensors: Mapping[str, int], pairs: Mapping[str, Grid]) -> None:
    for name, index in tensors.items():
        tensor, grid = graph.tensors[index], pairs[name]
        quantization = tensor.quantization
        same = (
            quantization is not None
            and TENSOR_DTYPES[tensor.type] == "int8"
            and np.array_equal(quantization.scale, grid.scale)
            and np.array_equal(quantization.zeroPoint, grid.signed_zero)
        )
        if not same:
            raise ValueError(f"{tensor.name.decode()} has another scale than the source's")


def _cut(graph: schema.SubGraphT, cuts: Sequence[int]) -> dict[int, int]:
    """Give what reads these tensors new inputs instead, and make the tensors outputs; the new inputs. Tensors are called
    by their numbers after that.
    """
    given: dict[int, int] = {}
    for index in cuts:
        graph.tensors.append(copy.copy(graph.tensors[index]))
        given[index] = len(graph.tensors) - 1
    for operator in graph.operators:
        operator.inputs = [given.get(int(index), int(index)) for index in operator.inputs]
    inputs, outputs = [int(index) for index in graph.inputs], [int(index) for index in graph.outputs]
    graph.inputs = [*inputs, *given.values()]
    graph.outputs = list(dict.fromkeys(index for index in (*outputs, *cuts) if index not in inputs))
    for index, tensor in enumerate(graph.tensors):
        tensor.name = f"tensor_{index}".encode()
    return given


def _place(name: str) -> int:
    return int(name.removeprefix("tensor_"))


@dataclass(frozen=True)
class _Order:
    """How a tensor of the file holds the source's: its axes in another order, and then put together as `shape`."""

    axes: tuple[int, ...]
    shape: tuple[int, ...]

    def applied(self, array: np.ndarray) -> np.ndarray:
        """In the file's layout; the leading size follows the array's where axes are put together."""
        moved = np.ascontiguousarray(array.transpose(self.axes))
        if len(self.shape) == moved.ndim:
            return moved
        return moved.reshape(self.shape if moved.size == int(np.prod(self.shape)) else (-1, *self.shape[1:]))


def _orders(path: Path, names: Mapping[int, str], runs: Sequence[PieceRun]) -> dict[int, _Order]:
    """For each tensor the order of axes in which the source's values are nearest to the file's own."""
    run = max(runs, key=lambda one: sum(array.size for array in one.inputs))
    runtime = TFLiteModel(path, keep_values=True)
    runtime.run(run.inputs)
    found = {}
    for index, name in names.items():
        own, source = runtime.value(index), run.integers[name]
        orders = [] if own is None else list(_candidates(source.shape, own.shape))
        if own is None or not orders:
            raise ValueError(f"{name} has another shape in the file than in the source")
        wide = own.astype(np.int32)
        found[index] = min(orders, key=lambda order: float(np.abs(wide - order.applied(source)).sum()))
    return found


def _candidates(source: tuple[int, ...], own: tuple[int, ...]) -> Iterator[_Order]:
    if np.prod(source) != np.prod(own) or len(source) > _MOST_AXES:
        return
    for axes in itertools.permutations(range(len(source))):
        if len(own) != len(source) or tuple(source[axis] for axis in axes) == own:
            yield _Order(axes, own)
