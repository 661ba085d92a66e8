"""What a node of the program stands for while its Keras model is built, and the arithmetic of its sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

__all__ = [
    "expression_of",
    "known_size",
    "Constant",
    "Dim",
    "KerasTensor",
    "Value",
    "channels_last",
    "keras_shape",
    "magnitude",
    "quotient",
    "same",
    "same_shape",
    "static",
]

Dim = int | torch.SymInt  # a size, known or symbolic
KerasTensor = Any  # keras.KerasTensor; Keras says no types


@dataclass(frozen=True)
class Value:
    """A tensor of the model.

    `shape` is PyTorch's, axis by axis; axis i of the Keras `tensor` is PyTorch's axis ``order[i]``. A permutation in the
    program only changes `order`; data moves where a layer needs another one (convolutions: channels last).
    nonnegative: no element is below zero, so that zeros may pad a maximum.
    features: the last axis holds PyTorch's features in this sequence (flattened channels-last); `linear` undoes it.
    parts: the slices along axis 0 where the tensor stacks them (states of recurrent layers).
    """

    tensor: KerasTensor
    shape: tuple[Dim, ...]
    order: tuple[int, ...]
    nonnegative: bool = False
    features: np.ndarray | None = None
    parts: tuple[Value, ...] | None = None

    def like(self, tensor: KerasTensor, *, nonnegative: bool = False) -> Value:
        """The result of a function applied to each element: same shape, order and features."""
        return replace(self, tensor=tensor, nonnegative=nonnegative, parts=None)

    def axis(self, torch_axis: int) -> int:
        """The Keras axis of a PyTorch axis, which may be negative."""
        return self.order.index(torch_axis % len(self.shape))

    @property
    def storage_shape(self) -> tuple[Dim, ...]:
        """The shape in the order in which the Keras tensor has the axes."""
        return tuple(self.shape[axis] for axis in self.order)

    @property
    def is_float(self) -> bool:
        """Whether the values are of floating point."""
        return "float" in self.tensor.dtype


@dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the inputs: a parameter, a buffer, or what was computed from them alone.

    `array` is broadcast to `shape` where that has symbolic sizes. `name` is that of the one parameter or buffer it
    was made from, if it was one; `trainable` tells whether a parameter went into it.
    """

    array: torch.Tensor
    shape: tuple[Dim, ...]
    name: str | None = None
    trainable: bool = False

    @cached_property
    def numpy(self) -> np.ndarray:
        """The array with its own dtype, also bfloat16."""
        array = self.array.detach()
        if array.dtype == torch.bfloat16:
            import ml_dtypes

            return array.float().numpy().astype(ml_dtypes.bfloat16)
        return array.numpy()

    @property
    def is_whole(self) -> bool:
        """Whether the array has the shape that the program sees, and is not still to be broadcast."""
        return same_shape(tuple(self.array.shape), self.shape)

    @property
    def uniform(self) -> int | float | bool | None:
        """The one value of all elements as a Python number, or None."""
        if self.array.numel() == 1:
            return self.array.item()
        if self.array.numel() == 0 or self.array.is_complex():
            return None
        first = self.array.reshape(-1)[0]
        return first.item() if bool((self.array == first).all()) else None


def static(dim: Dim) -> int | None:
    """The size as a number, None if it is symbolic."""
    if isinstance(dim, int):
        return dim
    expression = dim.node.expr
    return int(expression) if expression.is_number else None


def known_size(dim: Dim) -> int:
    """The size as a number, where it is known to be one."""
    found = static(dim)
    assert found is not None, dim
    return found


def expression_of(dim: Dim) -> Any:
    """The size as a number or an expression of sympy."""
    return dim if isinstance(dim, int) else dim.node.expr


def same(a: Dim, b: Dim) -> bool:
    """Whether two sizes are equal for every value of the symbols; `==` on a SymInt would specialise it."""
    a, b = expression_of(a), expression_of(b)
    if a == b:
        return True
    if isinstance(a, int) and isinstance(b, int):
        return False
    import sympy

    return sympy.simplify(a - b) == 0


def same_shape(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """Whether all dimensions are equal, as far as symbolic ones can be known to be."""
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def quotient(a: Dim, b: Dim) -> int | None:
    """a / b where that is a whole number for every value of the symbols, else None."""
    import sympy

    ratio = sympy.simplify(sympy.sympify(expression_of(a)) / expression_of(b))
    return int(ratio) if ratio.is_Integer else None


def magnitude(dim: Dim) -> int:
    """A number to compare sizes by: the size, or a symbolic one with some prime for each symbol.

    A stored program need not know the sizes it was exported with, so they cannot serve.
    """
    known = static(dim)
    if known is not None:
        return known
    expression = dim.node.expr
    symbols = sorted(expression.free_symbols, key=str)
    return int(expression.subs({symbol: 1009 + 2 * i for i, symbol in enumerate(symbols)}))


def keras_shape(shape: Sequence[Dim]) -> tuple[int | None, ...]:
    """The shape as Keras has it: None for what is not known."""
    return tuple(static(dim) for dim in shape)


def channels_last(rank: int) -> tuple[int, ...]:
    """The order of channels-last storage: (0, 2, 3, 1) for rank 4."""
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))
