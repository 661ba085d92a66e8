"""Parameter `constants`: inputs that become values of the model's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from converter.errors import ParameterError, nearest

__all__ = ["fix_constants"]


def fix_constants(model: onnx.ModelProto, path: Path, constants: Mapping[str, object]) -> None:
    """Make initializers of these inputs, in place. Raises ParameterError for what is no input, or no value of its type."""
    inputs = {entry.name: entry for entry in model.graph.input}
    for name, value in constants.items():
        entry = inputs.get(name)
        if entry is None:
            close = nearest(name, inputs)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(inputs)}"
            raise ParameterError(f"constants: {path} has no input {name}; {hint}")
        tensor = entry.type.tensor_type
        try:
            array = np.asarray(value).astype(
                onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), casting="same_kind"
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ParameterError(f"constants: {name} of {path} does not take {value!r}") from error
        if len(tensor.shape.dim) != array.ndim and array.size == 1:
            array = array.reshape([1] * len(tensor.shape.dim))
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        if len(sizes) != array.ndim or any(s not in (None, n) for s, n in zip(sizes, array.shape, strict=True)):
            raise ParameterError(f"constants: {name} of {path} has another shape than the value that is given")
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        model.graph.input.remove(entry)
    if not model.graph.input:
        raise ParameterError(f"constants gives values to all inputs of {path}: leave one out")
