"""The batch that a user asks for: the leading dimension that all inputs share, of a fixed size or of any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from converter.errors import ParameterError
from converter.hub.hub import TensorSpec
from converter.wording import shape_text

__all__ = ["USUAL_BATCH", "may_be_one", "with_batch"]

# A batch of 1 where the leading dimensions may be the batch; else the inputs stay as they are.
USUAL_BATCH = -1


def may_be_one(inputs: Sequence[TensorSpec]) -> bool:
    """Whether all leading dimensions are unknown or 1."""
    return all(spec.shape and spec.shape[0] in (None, 1) for spec in inputs)


def with_batch(inputs: Sequence[TensorSpec], batch: int | None) -> list[TensorSpec]:
    """The inputs with this leading dimension; `batch` as in ImportSpec: a size, 0 for any, USUAL_BATCH, None leaves them as
    they are.

    Raises ParameterError where they have no leading dimension in common that could be one: each is unknown, 1 or `batch`.
    """
    if batch == USUAL_BATCH:
        batch = 1 if may_be_one(inputs) else None
    if batch is None:
        return list(inputs)
    for spec in inputs:
        if not spec.shape or spec.shape[0] not in ({None, 1, batch} if batch else {None, inputs[0].shape[0]}):  # type: ignore[index]
            shape = "no known shape" if spec.shape is None else f"the shape {shape_text(spec.shape) or '()'}"
            raise ParameterError(
                f"batch is {batch or 'free'}, but input {spec.name} has {shape}, so that its leading dimension is not the "
                "batch: leave batch out, and write the sizes in input_shape"
            )
    return [replace(spec, shape=(batch or None, *(spec.shape or ())[1:])) for spec in inputs]
