"""Integer arithmetic in an ONNX model: QuantizeLinear and DequantizeLinear around its operators.

onnxruntime's quantizer (1.32) places them. Of what it would do by itself, ranges and types of values come from here: it
calibrates with all values of all samples in memory, and its shape inference gives up early.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from converter.errors import UnsupportedError
from converter.onnx.core.graphs import FreshNames, Scope
from converter.onnx.simplify import remove_unused
from converter.quantization.onnx.graph import is_float
from converter.quantization.onnx.observing import Ranges
from converter.wording import first_line

__all__ = ["to_integers"]

# Sums that grow, choices by size, and masks, whose values are meant to be out of all range.
_LEFT = {"CumSum", "TopK", "Where", "ArgMax", "EmbedLayerNormalization", "Attention"}
_NORMALIZATIONS = {"InstanceNormalization", "LayerNormalization", "BatchNormalization"}
_NO_RANGE = 1e30
"""A value beyond is a mask: a step of such a range leaves nothing of all others."""


def to_integers(model: ModelProto, ranges: Ranges, activations: str, keep_float: Collection[str] = ()) -> ModelProto:
    """A model with int8 weights, one scale for each channel, and these activations, int8 or uint8, of a typed model.

    Inputs and outputs stay float32; operators of branches and bodies stay as they are. `keep_float`: names of nodes.
    Raises UnsupportedError where the quantizer refuses the model.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import QuantType
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    operators = sorted({*QLinearOpsRegistry, *QDQRegistry} - _LEFT)
    scope = Scope(model.graph)
    unfit = [
        node for node in model.graph.node if _reads_masks(node, scope, ranges) or _without_range(node, scope, ranges)
    ]
    excluded = sorted({*keep_float, *(node.name for node in unfit)})
    pairs: dict[str, TensorData | tuple[Any, ...]] = {
        name: tuple(np.array(value, np.float32) for value in pair)
        for name, pair in ranges.items()
        if max(map(abs, pair)) < _NO_RANGE
    }
    copied = ModelProto()
    copied.CopyFrom(model)
    excluded += _simple_biases(copied, scope)
    remove_unused(copied)
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


def _simple_biases(model: ModelProto, scope: Scope) -> list[str]:
    """Give each Gemm a bias of rank 1, and no factor of it, in place; names of nodes that have none such.

    The quantizer (1.32) stops at any other shape, at normalizations with scales of higher rank too, and gives the wrong scale to
    a bias with a beta other than 1: SQNR falls from 37 to 15 dB.
    """
    names, others = FreshNames(model), []
    for node in model.graph.node:
        operands = [scope.constant(name) for name in node.input[1:]]
        if node.op_type in _NORMALIZATIONS and any(array is None or array.ndim != 1 for array in operands):
            others.append(node.name)
        if node.op_type != "Gemm" or len(operands) < 2:
            continue
        values = _row(node, *operands)
        if values is None:
            others.append(node.name)
            continue
        model.graph.initializer.append(numpy_helper.from_array(values, names(f"{node.input[2]}_bias")))
        node.input[2] = model.graph.initializer[-1].name
        for attribute in node.attribute:
            if attribute.name == "beta":
                attribute.f = 1
    return others


def _row(node: NodeProto, matrix: np.ndarray | None, added: np.ndarray | None) -> np.ndarray | None:
    """What a Gemm adds to each row, where that is the same and known."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if matrix is None or added is None or any(size != 1 for size in added.shape[:-1]):
        return None
    columns = matrix.shape[0 if "transB" in attributes and attributes["transB"].i else 1]
    factor = attributes["beta"].f if "beta" in attributes else 1.0
    return np.broadcast_to(added.reshape(-1), (columns,)) * np.float32(factor)


def _without_range(node: NodeProto, scope: Scope, ranges: Ranges) -> bool:
    """Whether a value that the node takes or gives was empty, or never a number, on the samples."""
    computed = [name for name in (*node.input, *node.output) if name and scope.constant(name) is None]
    return any(is_float(scope, name) and name not in ranges for name in computed)


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
