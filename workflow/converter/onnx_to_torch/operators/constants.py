"""Constants and copies."""

from __future__ import annotations

import numpy as np
import onnx

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.core.values import Known, Value

__all__: list[str] = []


@operator("Constant")
def _constant(call: Call) -> Known:
    for name in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        found = call.attribute(name)
        if found is not None:
            dtype = None if name == "value" else np.float32 if "float" in name else np.int64
            return call.constant(np.asarray(found, dtype))
    sparse: onnx.SparseTensorProto | None = call.attribute("sparse_value")
    if sparse is None:
        raise call.refusal("holds text, which torch has no tensors of")
    dense = np.zeros(list(sparse.dims), onnx.numpy_helper.to_array(sparse.values).dtype)
    indices = onnx.numpy_helper.to_array(sparse.indices)
    where = np.unravel_index(indices, dense.shape) if indices.ndim == 1 else tuple(indices.T)
    dense[where] = onnx.numpy_helper.to_array(sparse.values)
    return call.constant(dense)


@operator("Identity")
def _identity(call: Call) -> Value:
    return call.inputs[0]
