"""Reductions over axes, and what is largest along one."""

from __future__ import annotations

import numpy as np

from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx.core.registry import Call, operator

_KINDS = {
    "SUM": "ReduceSum",
    "MEAN": "ReduceMean",
    "REDUCE_PROD": "ReduceProd",
    "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin",
}


@operator("SUM", "MEAN", "REDUCE_PROD")
def _computed(call: Call) -> str:
    return _reduced(call)


@operator("REDUCE_MAX", "REDUCE_MIN", moves=True)
def _chosen(call: Call) -> str:
    return _reduced(call)


def _reduced(call: Call) -> str:
    axes = call.axes(1, call.rank())
    if not axes:
        return call.node("Identity", call.real())
    keepdims = bool(call.options(schema.ReducerOptionsT).keepDims)
    return call.graph.reduce(_KINDS[call.name], call.real(), axes, keepdims)


@operator("REDUCE_ANY", "REDUCE_ALL")
def _logical(call: Call) -> str:
    axes = call.axes(1, call.rank())
    if not axes:
        return call.node("Identity", call.real())
    kind = "ReduceMax" if call.name == "REDUCE_ANY" else "ReduceMin"
    keepdims = bool(call.options(schema.ReducerOptionsT).keepDims)
    # ONNX has the largest of truth values from opset 20 on.
    found = call.graph.reduce(kind, call.graph.cast(call.real(), np.int32), axes, keepdims)
    return call.graph.cast(found, np.bool_)


@operator("ARG_MAX", "ARG_MIN")
def _arg(call: Call) -> str:
    axis = call.axis(int(call.number(1, "axis")), call.rank())
    kind = "ArgMax" if call.name == "ARG_MAX" else "ArgMin"
    found = call.node(kind, call.real(), axis=axis, keepdims=0)
    return found if call.output().dtype == np.int64 else call.graph.cast(found, call.output().dtype)


@operator("TOPK_V2")
def _top_k(call: Call) -> tuple[str, ...]:
    count = call.graph.reshape(call.int64(1), [1])
    values, indices = call.node("TopK", call.real(), count, outputs=2, axis=-1)
    return values, indices if call.output(1).dtype == np.int64 else call.graph.cast(indices, call.output(1).dtype)


@operator("CUMSUM")
def _cumsum(call: Call) -> str:
    options = call.options(schema.CumsumOptionsT)
    axis = call.graph.constant(call.axis(int(call.number(1, "axis")), call.rank()))
    return call.node("CumSum", call.real(), axis, exclusive=int(options.exclusive), reverse=int(options.reverse))
