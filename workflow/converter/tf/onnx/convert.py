"""One run of tf2onnx at one opset, on a prepared graph."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import tensorflow as tf
from onnx import ModelProto

from converter.tf.onnx.deferred import DeferredTensors, deterministic_tf2onnx
from converter.tf.onnx.graph import PreparedGraph
from converter.tf.onnx.opset import has_handler
from converter.wording import first_line

if TYPE_CHECKING:
    from tf2onnx.graph import Graph

__all__ = ["ConversionFailure", "convert_graph"]


class ConversionFailure(Exception):
    """tf2onnx could not express the graph at this opset; the message is its own, in one line.

    unknown: TensorFlow operators that it knows at no opset.
    """

    def __init__(self, message: str, unknown: list[str]) -> None:
        super().__init__(message)
        self.unknown = unknown


def convert_graph(prepared: PreparedGraph, opset: int, tensors: DeferredTensors) -> ModelProto:
    """tf2onnx's model of the graph, optimized; its large initializers are stand-ins of `tensors`.

    Raises ConversionFailure.
    """
    import converter.tf.onnx.handlers
    import converter.tf.onnx.optimizer  # noqa: F401  (tf2onnx, before its modules are patched)
    import converter.tf.onnx.text_operator  # noqa: F401
    from converter.tf.onnx.subgraph import sharing_walks

    with deterministic_tf2onnx(tensors) as messages, sharing_walks():
        try:
            graph = _optimize(prepared, opset, tensors)
            model = graph.make_model("")
        except Exception as error:  # whatever a handler of tf2onnx trips over
            detail = first_line(error).removeprefix("make_sure failure: ") or type(error).__name__
            raise ConversionFailure(detail, _unknown(messages)) from error
    if unmapped := sorted(set(_UNMAPPED.findall("\n".join(messages)))):
        raise ConversionFailure(f"no ONNX operators for {', '.join(unmapped)} at this opset", _unknown(messages))
    return model


# tf2onnx goes on without a handler, and leaves a node of TensorFlow's type in the model.
_UNMAPPED = re.compile(r"Tensorflow op \[.*: (\w+)\] is not supported")


def _unknown(messages: list[str]) -> list[str]:
    return sorted(name for name in set(_UNMAPPED.findall("\n".join(messages))) if not has_handler(name))


def _process(prepared: PreparedGraph, opset: int, tensors: DeferredTensors) -> Graph:
    """What tf2onnx.tfonnx.process_tf_graph does, with the weights made constants after parsing."""
    from tf2onnx import tfonnx
    from tf2onnx.tf_loader import clear_functions

    clear_functions()
    with tf.Graph().as_default() as tf_graph:
        tf.import_graph_def(prepared.graph_def, name="")
        main, subgraphs = tfonnx.graphs_from_tf(tf_graph, prepared.inputs, prepared.outputs)
    for node in main.get_nodes():
        if node.name in prepared.weights:
            tensor = tensors.stand_in(prepared.weights[node.name], node.output[0])
            node.type = "Const"
            node.attr.clear()
            node.set_attr("value", tensor)
    for graph in [main, *subgraphs]:
        graph.set_config(None, opset, None)
    return tfonnx.process_graphs(main, subgraphs, None, [], [], False, None, prepared.tables, None)


def _optimize(prepared: PreparedGraph, opset: int, tensors: DeferredTensors) -> Graph:
    """Deep copies of the graph, which make optimizers that fail harmless, take half of the time: at first without."""
    from converter.tf.onnx.optimizer import optimize

    graph = _process(prepared, opset, tensors)  # what cannot be expressed fails here, and would fail again
    try:
        return optimize(graph, catch_errors=False)
    except Exception:
        return optimize(_process(prepared, opset, tensors), catch_errors=True)
