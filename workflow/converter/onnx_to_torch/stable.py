"""Float64 that only kept sums of exponentials in range, computed so that float32 keeps them there too."""

from __future__ import annotations

from collections import Counter

import onnx

__all__ = ["stable_sums"]

# From there on ReduceLogSumExp takes its axes as ReduceSum does, from an input; before opset 13 both have attributes.
_AXES_ALIKE = (13, 18)


def stable_sums(model: onnx.ModelProto) -> None:
    """Write log(sum(exp(x))) as ReduceLogSumExp, in place, in the model's own graph: exp overflows in float32 beyond 88."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    if _AXES_ALIKE[0] <= opset < _AXES_ALIKE[1]:
        return
    graph = model.graph
    makers = {node.output[0]: node for node in graph.node if node.domain in ("", "ai.onnx") and len(node.output) == 1}
    reads = Counter(name for node in graph.node for name in node.input) + Counter(entry.name for entry in graph.output)
    for node in graph.node:
        total = makers.get(node.input[0]) if node.op_type == "Log" else None
        if total is None or total.op_type != "ReduceSum" or reads[total.output[0]] > 1:
            continue
        power = makers.get(total.input[0])
        if power is None or power.op_type != "Exp":
            continue
        node.op_type = "ReduceLogSumExp"
        node.input[:] = [power.input[0], *total.input[1:]]
        node.attribute.extend(total.attribute)
