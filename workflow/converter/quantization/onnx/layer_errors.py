"""The own error of each operator of an ONNX model in integers.

A small model of each one computes it twice on the same values, those that the quantizers of its inputs give: in integers, with
the quantizer of its result behind, and as the float model has it, with the float model's weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from converter.onnx.core.graphs import inner_graphs
from converter.quantization.files import LayerError
from converter.quantization.layers import Layer
from converter.quantization.onnx.composition import integer_nodes
from converter.quantization.onnx.observing import Observed

__all__ = ["layer_errors"]

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
# Part of the operator in front where they have no quantizer of their own; the quantizer's range may stand for them.
_FUSED = ("Relu", "Clip")
# What onnxruntime's quantizer (1.32) appends to the name of a graph's output that it quantizes.
_BEFORE = "_QuantizeLinear_Input"


def layer_errors(
    quantized: ModelProto,
    real: ModelProto,
    observed: Observed,
    samples: Iterable[Sequence[np.ndarray]],
    names: Sequence[str],
    available: Sequence[Layer],
) -> list[LayerError]:
    """In order of execution. real, observed: the float model. samples: of inputs with these names. available: its layers."""
    cutting = _Cutting(quantized, real, set(observed.names))
    known = {layer.name: layer for layer in available}
    nodes = [node for node in integer_nodes(quantized.graph).values() if node.name in known]
    pairs = [(known[node.name], cut) for node in nodes if (cut := cutting.cut(node)) is not None]
    errors = [LayerError(layer, cut.scale) for layer, cut in pairs]
    for sample in samples:
        values = observed.run(sample, names)
        for (_, cut), error in zip(pairs, errors, strict=True):
            error.add(*cut.run(values))
    return errors


class _Cut:
    """A model of one operator. feeds: by its inputs, the float model's values. scale: the step of the operator's result."""

    def __init__(self, model: ModelProto, feeds: dict[str, str], scale: float) -> None:
        import onnxruntime

        self._feeds, self.scale = feeds, scale
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, values: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The result in float and in integers, from the float model's values by name."""
        expected, actual = self._session.run(None, {name: values[source] for name, source in self._feeds.items()})
        return expected, actual


class _Cutting:
    """Makes these models. floats: the names of the float model's values."""

    def __init__(self, quantized: ModelProto, real: ModelProto, floats: set[str]) -> None:
        self._model, self._floats = quantized, floats
        self._real = {node.name: node for node in real.graph.node}
        self._makers = {name: node for node in quantized.graph.node for name in node.output if name}
        self._readers, self._real_readers = _readers(quantized), _readers(real)
        self._constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
        self._real_constants = {tensor.name: tensor for tensor in real.graph.initializer}
        self._order = {node.name: place for place, node in enumerate(quantized.graph.node)}

    def cut(self, node: NodeProto) -> _Cut | None:
        """None for what is part of another operator, and for what computes with sizes."""
        if inner_graphs(node) or node.name not in self._real or self._is_fused(node):
            return None
        integers, result, scale = self._in_integers(node)
        floats, expected = self._in_float(node, {other.name for other in integers})
        before = self._before([*integers, *floats])
        if before is None:
            return None
        quantizers, feeds = before
        nodes = [*sorted(quantizers, key=lambda other: self._order[other.name]), *integers, *floats]
        constants = self._real_constants | self._constants
        used = dict.fromkeys(name for other in nodes for name in other.input if name in constants)
        graph = helper.make_graph(
            nodes,
            "layer",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in feeds],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (expected, result)],
            [constants[name] for name in used],
        )
        opsets, version = self._model.opset_import, self._model.ir_version
        return _Cut(helper.make_model(graph, opset_imports=opsets, ir_version=version), feeds, scale)

    def _is_fused(self, node: NodeProto) -> bool:
        maker = self._makers.get(node.input[0])
        return node.op_type in _FUSED and (maker is None or maker.op_type not in _QUANTIZERS)

    def _in_integers(self, node: NodeProto) -> tuple[list[NodeProto], str, float]:
        """The operator with what follows it up to its dequantized result, that result, and its step."""
        nodes, result = [node], node.output[0]
        behind = self._readers.get(result, [])
        if len(behind) == 1 and behind[0].op_type in _FUSED:
            nodes, result = [*nodes, behind[0]], behind[0].output[0]
            behind = self._readers.get(result, [])
        quantizer = next((reader for reader in behind if reader.op_type == "QuantizeLinear"), None)
        readers = self._readers.get(quantizer.output[0], []) if quantizer else []
        back = next((reader for reader in readers if reader.op_type == "DequantizeLinear"), None)
        if quantizer is None or back is None:
            return nodes, result, 0.0
        scale = float(numpy_helper.to_array(self._constants[quantizer.input[1]]).max())
        return [*nodes, quantizer, back], back.output[0], scale

    def _in_float(self, node: NodeProto, integers: set[str]) -> tuple[list[NodeProto], str]:
        """The float model's operator on the dequantized values, and its result."""
        copied = NodeProto()
        copied.CopyFrom(self._real[node.name])
        for place, name in enumerate(copied.input):
            if name not in self._real_constants:
                copied.input[place] = node.input[place]
        first = copied.output[0]
        renamed = {name: f"{name}/expected" for name in copied.output if name}
        behind = self._real_readers.get(first, [])
        for place, name in enumerate(copied.output):
            copied.output[place] = renamed.get(name, "")
        copied.name = f"{copied.name}/expected"
        if len(behind) != 1 or behind[0].op_type not in _FUSED:
            return [copied], copied.output[0]
        if behind[0].name in self._order and behind[0].name not in integers:
            return [copied], copied.output[0]  # it has quantizers of its own
        activation = NodeProto()
        activation.CopyFrom(behind[0])
        activation.input[0] = copied.output[0]
        activation.output[0] = f"{activation.output[0]}/expected"
        activation.name = f"{activation.name}/expected"
        return [copied, activation], activation.output[0]

    def _before(self, nodes: Sequence[NodeProto]) -> tuple[list[NodeProto], dict[str, str]] | None:
        """The quantizers of all inputs, and the float model's values that these take; None where one is no such value."""
        made = {name for node in nodes for name in node.output}
        pending = [name for node in nodes for name in node.input]
        quantizers: dict[str, NodeProto] = {}
        feeds: dict[str, str] = {}
        while pending:
            name = pending.pop()
            if not name or name in self._constants or name in self._real_constants or name in made:
                continue
            maker = self._makers.get(name)
            if maker is not None and maker.op_type in _QUANTIZERS:
                if maker.name not in quantizers:
                    quantizers[maker.name] = maker
                    pending += maker.input
                continue
            source = name if name in self._floats else name.removesuffix(_BEFORE)
            if source not in self._floats:
                return None
            feeds[name] = source
        return list(quantizers.values()), feeds


def _readers(model: ModelProto) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found
