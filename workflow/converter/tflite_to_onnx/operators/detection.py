"""Suppression of boxes that overlap."""

from __future__ import annotations

import numpy as np

from converter.errors import SourceError
from converter.tflite_to_onnx.core.registry import Call, operator


@operator("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5")
def _non_max_suppression(call: Call) -> tuple[str, ...]:
    soft = call.name == "NON_MAX_SUPPRESSION_V5"
    if soft and call.number(5, "sigma") != 0:
        raise call.refusal("lowers the scores of boxes that overlap, which ONNX has no operator for")
    if call.rank(0) != 2 or call.rank(1) != 1:
        raise SourceError(f"its operator {call.name} has boxes of {call.rank(0)} axes")
    graph = call.graph
    most = graph.reshape(call.int64(2), [1])
    boxes, scores = graph.unsqueeze(call.real(0), [0]), graph.unsqueeze(call.real(1), [0, 1])
    limits = (graph.reshape(call.real(position), [1]) for position in (3, 4))
    found = call.node("NonMaxSuppression", boxes, scores, most, *limits)
    chosen = graph.squeeze(graph.slice(found, 2, 3, 1), [1])
    count = call.node("Shape", chosen)
    pads = call.node("Concat", graph.constant([0]), call.node("Sub", most, count), axis=0)
    indices = graph.cast(call.node("Pad", chosen, pads), call.output(0).dtype)
    number = graph.cast(graph.squeeze(count, [0]), np.int32)
    if not soft:
        return indices, number
    picked = call.node("Pad", call.node("Gather", call.real(1), chosen), pads)
    return indices, picked, number
