"""tf2onnx with its large constants outside of the graph, and with the same result every time.

tf2onnx 1.17 copies every tensor through protobuf at each pass, and deep-copies the graph before each of its twelve
optimizers: a model of 500 MB needs over 15 GB. Here a large constant is a Const node like any other, so that every
rewriter and optimizer treats it as one, but its TensorProto holds a token in place of the bytes; the array behind the
token is a view of the mapped weights file, or what an optimizer computed from it (a transpose is a view again).

It also iterates over sets of names and of objects, so that names, order, and the optimizers' choices change with the
hash seed and with memory addresses. Inside `deterministic_tf2onnx` its modules use sets that keep insertion order.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import types
from collections.abc import Iterable, Iterator, MutableSet

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from converter.errors import UnsupportedError
from converter.library_patches.replacing import replaced
from converter.library_patches.tf2onnx import COUNTER, NUMPY_HELPER

__all__ = ["INLINE_BYTES", "DeferredTensors", "InsertionSet", "deterministic_tf2onnx"]

INLINE_BYTES = 64 * 1024
"""Constants up to this size stay in the graph: shapes, paddings, axes, biases, whatever a rewriter may look into."""

_MARK = b"\0converter deferred tensor\0"


class DeferredTensors:
    """Arrays that stand outside of a model, by token; equal arrays share a token, as tf2onnx merges equal constants."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._alike: dict[tuple, list[int]] = {}

    def stand_in(self, array: np.ndarray, name: str = "") -> TensorProto:
        """A TensorProto with the array's shape and dtype, and a token where its bytes would be."""
        tensor = TensorProto(name=name, dims=array.shape, raw_data=_MARK + self._index(array).to_bytes(4, "little"))
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        return tensor

    @staticmethod
    def is_stand_in(tensor: TensorProto) -> bool:
        """Whether the initializer stands for weights that are written into the file later."""
        return tensor.raw_data.startswith(_MARK)

    def array(self, tensor: TensorProto) -> np.ndarray:
        """The array behind a stand-in; read-only where it is a view of the weights file."""
        return self._arrays[int.from_bytes(tensor.raw_data[len(_MARK) :], "little")].reshape(tuple(tensor.dims))

    def _index(self, array: np.ndarray) -> int:
        # 64 values spread over the tensor tell most tensors of one shape apart; only the others are compared in full.
        sample = array.flat[:: max(1, array.size // 64)][:64].tobytes() if array.size else b""
        alike = self._alike.setdefault((array.dtype.name, array.shape, sample), [])
        for index in alike:
            if np.array_equal(_bits(self._arrays[index]), _bits(array)):
                return index
        self._arrays.append(array)
        alike.append(len(self._arrays) - 1)
        return alike[-1]


def _bits(array: np.ndarray) -> np.ndarray:
    """As integers, so that NaN equals itself."""
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.itemsize in (1, 2, 4, 8) else array


class _DeferringHelper(types.ModuleType):
    """onnx.numpy_helper as tf2onnx.graph sees it: large arrays become stand-ins, stand-ins arrays."""

    def __init__(self, tensors: DeferredTensors) -> None:
        super().__init__("numpy_helper")
        self._tensors = tensors

    def __getattr__(self, name: str) -> object:
        return getattr(numpy_helper, name)

    def to_array(self, tensor: TensorProto, *args: object) -> np.ndarray:
        return (
            self._tensors.array(tensor) if self._tensors.is_stand_in(tensor) else numpy_helper.to_array(tensor, *args)
        )

    def from_array(self, array: np.ndarray, name: str | None = None) -> TensorProto:
        if array.dtype != object and array.nbytes > INLINE_BYTES:
            return self._tensors.stand_in(array, name or "")
        return numpy_helper.from_array(array, name)


class InsertionSet(MutableSet):
    """A set that iterates in insertion order, with the methods of `set` that tf2onnx uses."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable = ()) -> None:
        self._items = dict.fromkeys(items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: object) -> None:
        """As `set.add`."""
        self._items[item] = None

    def discard(self, item: object) -> None:
        """As `set.discard`."""
        self._items.pop(item, None)

    def update(self, *others: Iterable) -> None:
        """As `set.update`."""
        for other in others:
            self._items.update(dict.fromkeys(other))

    def copy(self) -> InsertionSet:
        """As `set.copy`."""
        return InsertionSet(self._items)

    def union(self, *others: Iterable) -> InsertionSet:
        """As `set.union`, in the order of insertion."""
        result = self.copy()
        result.update(*others)
        return result

    def intersection(self, other: Iterable) -> InsertionSet:
        """As `set.intersection`, in this set's order."""
        other = InsertionSet(other)
        return InsertionSet(item for item in self._items if item in other)

    def difference(self, other: Iterable) -> InsertionSet:
        """As `set.difference`, in this set's order."""
        other = InsertionSet(other)
        return InsertionSet(item for item in self._items if item not in other)

    def issubset(self, other: Iterable) -> bool:
        """As `set.issubset`."""
        other = InsertionSet(other)
        return all(item in other for item in self._items)

    __or__ = union
    __and__ = intersection
    __sub__ = difference


class _Messages(logging.Handler):
    """tf2onnx logs what went wrong and often carries on: the messages, for the error that follows."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextlib.contextmanager
def deterministic_tf2onnx(tensors: DeferredTensors) -> Iterator[list[str]]:
    """Run tf2onnx with deferred constants and ordered sets; yields the list of its error messages. Undone on exit.

    Raises UnsupportedError where it is not as it is known here.
    """
    import tf2onnx.graph
    import tf2onnx.tfonnx  # noqa: F401  (its modules, before they get other sets)

    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "tf2onnx" and module]
    logger, messages = logging.getLogger("tf2onnx"), _Messages()
    level, propagate = logger.level, logger.propagate
    if own := [module.__name__ for module in modules if "set" in vars(module)]:
        raise UnsupportedError(
            f"tf2onnx {tf2onnx.__version__} is not as it is known here ({own[0]} has a set of its own): "
            "install the version that constraints.txt names"
        )
    with replaced((NUMPY_HELPER, _DeferringHelper(tensors)), (COUNTER, 1)):
        for module in modules:
            module.set = InsertionSet
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        logger.addHandler(messages)
        try:
            yield messages.lines
        finally:
            logger.removeHandler(messages)
            logger.setLevel(level)
            logger.propagate = propagate
            for module in modules:
                del module.set
