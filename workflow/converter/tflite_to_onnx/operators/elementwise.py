"""Operators of one tensor, element by element."""

from __future__ import annotations

import math

import numpy as np

from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx.core.registry import Call, operator

_SAME = {
    "ABS": "Abs",
    "CEIL": "Ceil",
    "COS": "Cos",
    "ELU": "Elu",
    "EXP": "Exp",
    "FLOOR": "Floor",
    "HARD_SWISH": "HardSwish",
    "LOG": "Log",
    "LOGICAL_NOT": "Not",
    "LOGISTIC": "Sigmoid",
    "NEG": "Neg",
    "RELU": "Relu",
    "ROUND": "Round",  # half to even, in both
    "SIGN": "Sign",
    "SIN": "Sin",
    "SQRT": "Sqrt",
    "TANH": "Tanh",
}


@operator(*_SAME)
def _same(call: Call) -> str:
    return call.node(_SAME[call.name], call.real())


@operator("RELU6", "RELU_N1_TO_1", "RELU_0_TO_1")
def _clipped(call: Call) -> str:
    low, high = {"RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)}[call.name]
    return call.clipped(call.real(), low, high, call.dtype())


@operator("LEAKY_RELU")
def _leaky_relu(call: Call) -> str:
    return call.node("LeakyRelu", call.real(), alpha=float(call.options(schema.LeakyReluOptionsT).alpha))


@operator("PRELU")
def _prelu(call: Call) -> str:
    return call.node("PRelu", call.real(0), call.real(1))


@operator("GELU", opset=20)
def _gelu(call: Call) -> str:
    approximate = call.options(schema.GeluOptionsT).approximate
    return call.node("Gelu", call.real(), approximate="tanh" if approximate else None)


@operator("RSQRT")
def _rsqrt(call: Call) -> str:
    return call.node("Reciprocal", call.node("Sqrt", call.real()))


@operator("SQUARE")
def _square(call: Call) -> str:
    return call.node("Mul", call.real(), call.real())


@operator("SOFTMAX")
def _softmax(call: Call) -> str:
    beta = call.options(schema.SoftmaxOptionsT).beta
    x = call.real()
    if beta not in (0.0, 1.0):
        x = call.node("Mul", x, call.scalar(beta))
    return call.node("Softmax", x, axis=-1)


@operator("LOG_SOFTMAX")
def _log_softmax(call: Call) -> str:
    return call.node("LogSoftmax", call.real(), axis=-1)


@operator("L2_NORMALIZATION")
def _l2_normalization(call: Call) -> str:
    x = call.real()
    norm = call.graph.reduce("ReduceL2", x, [call.rank() - 1], keepdims=True)
    # LiteRT's epsilon (tensorflow/lite/kernels/internal/reference/l2normalization.h).
    unit = call.node("Div", x, call.node("Max", norm, call.scalar(1e-6)))
    return call.activated(unit, call.options(schema.L2NormOptionsT).fusedActivationFunction)


@operator("LOCAL_RESPONSE_NORMALIZATION")
def _local_response_normalization(call: Call) -> str:
    options = call.options(schema.LocalResponseNormalizationOptionsT)
    size = 2 * options.radius + 1
    if not 0 < size < 1 << 16:
        raise call.refusal(f"has the radius {options.radius}")
    # ONNX divides by the size, TensorFlow Lite does not.
    y = call.node(
        "LRN",
        call.graph.transpose(call.real(), (0, 3, 1, 2)),
        size=size,
        alpha=float(options.alpha * size),
        beta=float(options.beta),
        bias=float(options.bias),
    )
    return call.graph.transpose(y, (0, 2, 3, 1))


@operator("CAST")
def _cast(call: Call) -> str:
    # Of the stored numbers: it knows no quantization.
    source, target = call.input(0).dtype, call.output().dtype
    if "c" in (source.kind, target.kind):
        raise call.refusal(f"makes {target} of {source}, which ONNX has no operator for")
    return call.node("Cast", call.stored(), to=_onnx_type(target))


def _onnx_type(dtype: np.dtype) -> int:
    import onnx

    return onnx.helper.np_dtype_to_tensor_dtype(dtype)


@operator("ZEROS_LIKE")
def _zeros_like(call: Call) -> str:
    zero = np.zeros(1, call.out_dtype())
    return call.node("ConstantOfShape", call.node("Shape", call.real()), value=_tensor(zero))


def _tensor(array: np.ndarray) -> object:
    import onnx

    return onnx.numpy_helper.from_array(array)


@operator("BUCKETIZE")
def _bucketize(call: Call) -> str:
    boundaries = np.asarray(call.options(schema.BucketizeOptionsT).boundaries, np.float32)
    x = call.graph.unsqueeze(call.real(), [call.rank()])
    if call.dtype() != np.float32:
        x = call.graph.cast(x, np.float32)
    reached = call.node("GreaterOrEqual", x, call.graph.constant(boundaries, np.float32))
    counts = call.graph.reduce("ReduceSum", call.graph.cast(reached, np.int64), [call.rank()])
    return call.graph.cast(counts, call.out_dtype())


@operator("FAKE_QUANT")
def _fake_quant(call: Call) -> str:
    options = call.options(schema.FakeQuantOptionsT)
    if not 2 <= options.numBits <= 16 or not options.min < options.max or not math.isfinite(options.max - options.min):
        raise call.refusal("has a range or number of bits that means nothing")
    # The range is moved so that 0 is hit (fake_quant: Nudge).
    low, high = int(bool(options.narrowRange)), 2**options.numBits - 1
    scale = (options.max - options.min) / (high - low)
    zero = min(max(round(low - options.min / scale), low), high)
    smallest, largest = (low - zero) * scale, (high - zero) * scale
    x = call.clipped(call.real(), smallest, largest)
    steps = call.node("Div", call.node("Sub", x, call.scalar(smallest)), call.scalar(scale))
    rounded = call.node("Floor", call.node("Add", steps, call.scalar(0.5)))
    return call.node("Add", call.node("Mul", rounded, call.scalar(scale)), call.scalar(smallest))
