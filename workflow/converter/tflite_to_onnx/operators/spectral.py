"""Fourier transforms and complex numbers, which ONNX holds as pairs on a last axis more."""

from __future__ import annotations

from converter.tflite_to_onnx.core.registry import Call, operator


@operator("RFFT2D")
def _rfft2d(call: Call) -> str:
    rank = call.rank()
    height, width = call.ints(1, "sizes")[-2:] if call.constant(1, "sizes").size == 2 else (0, 0)
    if rank < 2 or height < 1 or width < 1:
        raise call.refusal("has sizes that mean nothing")
    graph = call.graph
    # DFT takes the axis before the pairs; of a real input the half is asked for.
    x = graph.unsqueeze(call.real(), [rank])
    if call.shape()[-2] is None or call.shape()[-2] != height:
        raise call.refusal("cuts or pads its input")
    x = call.node("DFT", x, graph.constant(width), axis=rank - 1, onesided=1)
    return x if height == 1 else call.node("DFT", x, axis=rank - 2)


def _part(call: Call, place: int) -> str:
    rank = call.rank()
    return call.graph.squeeze(call.graph.slice(call.stored(), place, place + 1, rank), [rank])


@operator("REAL")
def _real(call: Call) -> str:
    return _part(call, 0)


@operator("IMAG")
def _imag(call: Call) -> str:
    return _part(call, 1)


@operator("COMPLEX_ABS")
def _complex_abs(call: Call) -> str:
    return call.graph.reduce("ReduceL2", call.stored(), [call.rank()])
