"""Products of matrices, and look-ups in a table."""

from __future__ import annotations

from converter.errors import SourceError
from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx.core.registry import Call, operator


@operator("FULLY_CONNECTED")
def _fully_connected(call: Call) -> str:
    options = call.options(schema.FullyConnectedOptionsT)
    if options.weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        raise call.refusal("has weights in an order for one processor")
    x, shape, weights = call.real(0), call.shape(0), call.shape(1)
    if len(weights) != 2 or not shape:
        raise SourceError(f"its operator FULLY_CONNECTED has weights of {len(weights)} axes, input of {len(shape)}")
    keeps = options.keepNumDims and len(shape) > 2
    if not keeps and (len(shape) != 2 or shape[1] != weights[1]):
        x = call.graph.reshape(x, [-1, *call.graph.sizes(call.real(1))[1:]])
    bias = call.bias(2)
    if keeps:
        y = call.node("MatMul", x, call.weights(1, (1, 0)))
        y = y if bias is None else call.node("Add", y, bias)
    else:
        y = call.node("Gemm", x, call.real(1), *([] if bias is None else [bias]), transB=1)
    return call.activated(y, options.fusedActivationFunction)


@operator("BATCH_MATMUL")
def _batch_matmul(call: Call) -> str:
    options = call.options(schema.BatchMatMulOptionsT)
    names = []
    for position, turned in enumerate((options.adjX, options.adjY)):
        rank = call.rank(position)
        if rank < 2:
            raise SourceError(f"its operator BATCH_MATMUL has an input of {rank} axes")
        perm = [*range(rank - 2), rank - 1, rank - 2]
        names.append(call.weights(position, perm) if turned else call.real(position))
    return call.node("MatMul", *names)


@operator("EMBEDDING_LOOKUP")
def _embedding_lookup(call: Call) -> str:
    return call.node("Gather", call.real(1), call.stored(0))
