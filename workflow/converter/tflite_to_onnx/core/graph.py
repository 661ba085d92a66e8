"""An ONNX graph that is being written: nodes in order, and constants that all graphs of the model share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from converter.errors import SourceError
from converter.tflite_to_onnx.core.inference import TensorType, known_numbers, output_types

__all__ = ["Constants", "Graph"]

# Equal constants up to this size become one.
_SHARED_BYTES = 256
# Their graphs give what nothing can tell before they are there.
_WITH_GRAPHS = {"If", "Loop", "Scan"}


class Constants:
    """What is common to all graphs of a model: names that are taken, constants by name, and what is known of all tensors.

    numbers: whole numbers of few elements, sizes most often; None where the data tell one.
    """

    def __init__(self, opset: int, most_bytes: int) -> None:
        self.opset = opset
        self.arrays: dict[str, np.ndarray] = {}
        self.types: dict[str, TensorType] = {}
        self.numbers: dict[str, np.ndarray] = {}
        self._bytes_left = most_bytes
        self._taken: dict[str, int] = {}
        self._shared: dict[tuple, str] = {}

    def reserve(self, names: Sequence[str]) -> None:
        """Keep these names for inputs and outputs."""
        self._taken.update(dict.fromkeys(names, 1))

    def name(self, base: str) -> str:
        """A name like this one that nothing has yet."""
        while True:
            count = self._taken.get(base, 0)
            self._taken[base] = count + 1
            name = f"{base}_{count}" if count else base
            if name == base or name not in self._taken:
                self._taken.setdefault(name, 1)
                return name

    def add(self, array: np.ndarray, name: str = "constant") -> str:
        """The name of a constant of this value. Raises SourceError where constants are more than a file of its size can mean."""
        if array.nbytes > _SHARED_BYTES:
            return self._added(array, name)
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self._shared:
            self._shared[key] = self._added(array, name)
        return self._shared[key]

    def _added(self, array: np.ndarray, name: str) -> str:
        self._bytes_left -= array.nbytes
        if self._bytes_left < 0:
            raise SourceError("it uses the same constants again and again")
        found = self.name(name)
        self.arrays[found] = array
        self.types[found] = TensorType.of(array)
        if array.nbytes <= _SHARED_BYTES and array.dtype in (np.int32, np.int64):
            self.numbers[found] = array.astype(object)
        return found

    def declare(self, name: str, dtype: Any, shape: Sequence[int | None] | None) -> str:
        """Say what a tensor is that no node of ours gives. Returns its name."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.types[name] = TensorType(kind, None if shape is None else tuple(shape))
        return name


class Graph:
    """Nodes in order of execution."""

    def __init__(self, constants: Constants) -> None:
        self.constants = constants
        self.nodes: list[onnx.NodeProto] = []

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node. Returns the name of its output, a tuple of names where there are more. Attributes: None is none.

        Sizes that are known are constants, and no node is written.
        """
        constants = self.constants
        names = [constants.name(kind) for _ in range(outputs)]
        given = {key: value for key, value in attributes.items() if value is not None}
        node = onnx.helper.make_node(kind, list(inputs), names, name=names[0], **given)
        if kind not in _WITH_GRAPHS:
            found = output_types(node, constants.types, constants.arrays, constants.numbers, constants.opset)
            numbers = known_numbers(node, constants.types, constants.numbers, found[names[0]]) if outputs == 1 else None
            if numbers is not None and None not in numbers.reshape(-1).tolist():
                dtype = onnx.helper.tensor_dtype_to_np_dtype(found[names[0]].kind)
                return constants.add(numbers.astype(dtype))
            constants.types.update(found)
            if numbers is not None:
                constants.numbers[names[0]] = numbers
        self.nodes.append(node)
        return names[0] if outputs == 1 else tuple(names)

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        """The name of a constant."""
        return self.constants.add(np.asarray(values, dtype))

    def cast(self, name: str, dtype: Any) -> str:
        """That tensor in this dtype."""
        return self.node("Cast", name, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reduce(self, kind: str, name: str, axes: Sequence[int], keepdims: bool = False) -> str:
        """A reduction over these axes: an input of the operator from opset 18 on, of ReduceSum from 13 on."""
        if self.constants.opset >= 18 or kind == "ReduceSum":
            return self.node(kind, name, self.constant(list(axes)), keepdims=int(keepdims))
        return self.node(kind, name, axes=list(axes), keepdims=int(keepdims))

    def transpose(self, name: str, perm: Sequence[int]) -> str:
        """That tensor with its axes in this order."""
        return self.node("Transpose", name, perm=list(perm))

    def squeeze(self, name: str, axes: Sequence[int]) -> str:
        """That tensor without these axes."""
        return self.node("Squeeze", name, self.constant(list(axes)))

    def unsqueeze(self, name: str, axes: Sequence[int]) -> str:
        """That tensor with these axes more, of size 1."""
        return self.node("Unsqueeze", name, self.constant(list(axes)))

    def slice(self, name: str, start: int, stop: int, axis: int, step: int = 1) -> str:
        """A part of one axis."""
        bounds = [self.constant([number]) for number in (start, stop, axis, step)]
        return self.node("Slice", name, *bounds)

    def size(self, name: str, axis: int) -> str:
        """The size of one axis, a vector of one int64."""
        return self.node("Gather", self.node("Shape", name), self.constant([axis]))

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """What is known of the shape: None for an axis of free size, and for a shape of an unknown number of axes."""
        return self.constants.types[name].shape

    def sizes(self, name: str) -> list[int | str]:
        """The size of each axis: a number where it is fixed, else the name of a vector of one int64."""
        shape = self.shape(name)
        if shape is None:
            raise SourceError("it has a tensor of an unknown number of axes")
        return [self.size(name, axis) if dim is None else dim for axis, dim in enumerate(shape)]

    def times(self, size: int | str, factor: int) -> int | str:
        """A size, multiplied."""
        return size * factor if isinstance(size, int) else self.node("Mul", size, self.constant([factor]))

    def over(self, size: int | str, divisor: int) -> int | str:
        """A size, divided."""
        return size // divisor if isinstance(size, int) else self.node("Div", size, self.constant([divisor]))

    def plus(self, size: int | str, number: int) -> int | str:
        """A size and a number more."""
        return size + number if isinstance(size, int) else self.node("Add", size, self.constant([number]))

    def vector(self, sizes: Sequence[int | str]) -> str:
        """Sizes as one tensor of int64."""
        if all(isinstance(size, int) for size in sizes):
            return self.constant(list(sizes))
        parts = [self.constant([size]) if isinstance(size, int) else size for size in sizes]
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)

    def reshape(self, name: str, sizes: Sequence[int | str]) -> str:
        """That tensor in this shape."""
        return self.reshape_to(name, self.vector(sizes))

    def reshape_to(self, name: str, sizes: str) -> str:
        """That tensor in the shape that another tensor has; one size that only the data tell is left to the operator."""
        known = self.constants.numbers.get(sizes)
        if known is not None and known.ndim == 1 and known.tolist().count(None) == 1 and min([*_numbers(known), 1]) > 0:
            sizes = self.constant([-1 if size is None else size for size in known.tolist()])
            return self.node("Reshape", name, sizes)
        zero = known is None or None in known.tolist() or 0 in known.tolist()
        return self.node("Reshape", name, sizes, allowzero=1 if zero else None)


def _numbers(sizes: np.ndarray) -> list[int]:
    return [size for size in sizes.tolist() if size is not None]
