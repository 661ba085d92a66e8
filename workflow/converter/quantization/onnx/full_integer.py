"""Integer arithmetic in an ONNX model: QuantizeLinear and DequantizeLinear around its operators.

onnxruntime's quantizer (1.32) places them. Of what it would do by itself, ranges and types of values come from here: it
calibrates with all values of all samples in memory, and its shape inference gives up early.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from converter.errors import UnsupportedError
from converter.onnx.core.graphs import FreshNames, Scope
from converter.quantization.onnx.graph import is_float
from converter.quantization.onnx.observing import Ranges
from converter.wording import first_line

__all__ = ["to_integers"]

# Sums that grow, choices by size, and masks, whose values are meant to be out of all range.
_LEFT = {"CumSum", "TopK", "Where", "ArgMax", "EmbedLayerNormalization", "Attention"}
_NO_RANGE = 1e30
"""A value beyond is a mask: a step of such a range leaves nothing of all others."""


def to_integers(model: ModelProto, ranges: Ranges, activations: str, keep_float: Collection[str] = ()) -> ModelProto:
    """A model with int8 weights, one scale for each channel, and these activations, int8 or uint8, of a typed model.

    Inputs and outputs stay float32; operators of branches and bodies stay as they are. `keep_float`: names of nodes.
    Raises UnsupportedError where the quantizer refuses the model.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import QuantType
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    operators = sorted({*QLinearOpsRegistry, *QDQRegistry} - _LEFT)
    scope = Scope(model.graph)
    excluded = sorted({*keep_float, *(node.name for node in model.graph.node if _reads_masks(node, scope, ranges))})
    pairs = {
        name: tuple(np.array(value, np.float32) for value in pair)
        for name, pair in ranges.items()
        if max(map(abs, pair)) < _NO_RANGE
    }
    copied = ModelProto()
    copied.CopyFrom(model)
    excluded += _fold_beta(copied, scope)
    try:
        with _quiet():
            quantizer = QDQQuantizer(
                copied,
                True,  # per channel
                False,  # all 8 bits of weights
                QuantType.QInt8,
                QuantType.QInt8 if activations == "int8" else QuantType.QUInt8,
                TensorsData(CalibrationMethod.MinMax, pairs),
                [],
                excluded,
                operators,
                {},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
    except Exception as error:  # it raises whatever its operators' classes raise
        raise UnsupportedError(
            f"onnxruntime's quantizer refuses the model ({first_line(error)}): ask for a .float16.onnx or .dynamic.onnx file"
        ) from error
    return quantizer.model.model


def _fold_beta(model: ModelProto, scope: Scope) -> list[str]:
    """Put the factor beta of Gemm into its constant, in place; names of nodes whose third operand is no constant.

    The quantizer (1.32) gives the wrong scale to a bias with a beta other than 1: SQNR falls from 37 to 15 dB.
    """
    names, others = FreshNames(model), []
    for node in model.graph.node:
        factor = next((attribute for attribute in node.attribute if attribute.name == "beta"), None)
        if node.op_type != "Gemm" or factor is None or factor.f == 1 or len(node.input) < 3:
            continue
        added = scope.constant(node.input[2])
        if added is None:
            others.append(node.name)
            continue
        scaled = numpy_helper.from_array(added * np.float32(factor.f), names(f"{node.input[2]}_times_beta"))
        model.graph.initializer.append(scaled)
        node.input[2], factor.f = scaled.name, 1
    return others


def _reads_masks(node: NodeProto, scope: Scope, ranges: Ranges) -> bool:
    names = [name for name in (*node.input, *node.output) if name and is_float(scope, name)]
    for name in names:
        array = scope.constant(name)
        largest = max(map(abs, ranges[name])) if name in ranges else 0.0
        if array is not None and array.size:
            largest = float(np.abs(array).max())
        if largest >= _NO_RANGE:
            return True
    return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its advice to prepare the model, which was done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
