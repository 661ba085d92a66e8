"""`input_shape` and `batch`, for sources whose file says what its inputs are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from converter.errors import ParameterError
from converter.hub.hub import TensorSpec
from converter.importing.batch import with_batch
from converter.planning.input_shapes import InputShape, shapes_by_name
from converter.wording import shape_text

if TYPE_CHECKING:
    from converter.contracts import ImportSpec

__all__ = ["override_shapes"]


def override_shapes(spec: ImportSpec, inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The inputs with the shapes and dtypes of `input_shape` and `batch`. Raises ParameterError where these do not fit them."""
    given = _given_shapes(spec, [entry.name for entry in inputs])
    unknown = [entry.name for entry, shape in zip(inputs, given, strict=True) if shape is None and entry.shape is None]
    if unknown:
        raise ParameterError(
            f"{spec.source}: the graph does not say the shape of {', '.join(unknown)}: "
            'give input_shape, such as "-1,224,224,3", ";" between inputs'
        )
    overridden: list[TensorSpec] = []
    for entry, shape in zip(inputs, given, strict=True):
        if shape is None:
            overridden.append(entry)
            continue
        if shape.dtype is not None and shape.dtype != entry.dtype:
            raise ParameterError(
                f"input_shape: {entry.name} is {entry.dtype} in the model, not {shape.dtype}: leave the dtype out"
            )
        if entry.shape is not None and len(entry.shape) != len(shape.dims):
            raise ParameterError(
                f"input_shape: {entry.name} has {len(entry.shape)} dimensions ({shape_text(entry.shape)}), "
                f"not {len(shape.dims)} ({shape_text(shape.dims)})"
            )
        overridden.append(TensorSpec(entry.name, shape.dims, entry.dtype, entry.tensor))
    return with_batch(overridden, spec.batch)


def _given_shapes(spec: ImportSpec, names: Sequence[str]) -> list[InputShape | None]:
    """The shape that input_shape gives to each of these inputs, None where it gives none."""
    if spec.input_shape is None:
        return [None] * len(names)
    if spec.input_shape[0].name is not None:
        return shapes_by_name(spec.input_shape, names)
    if len(spec.input_shape) != len(names):
        raise ParameterError(
            f"input_shape has {len(spec.input_shape)} shapes for {len(names)} inputs ({', '.join(names)}): "
            'write one for each, ";" between them, or the names of those that you give'
        )
    return list(spec.input_shape)
