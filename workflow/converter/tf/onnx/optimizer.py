"""tf2onnx's optimizers, with its transpose optimizer made linear.

TransposeOptimizer of tf2onnx 1.17 starts again from the first node after every transpose that it moves, and sorts the whole
graph after every reshaped filter: three quarters of the conversion of a network with 700 nodes. What it does to a transpose is
unchanged here, only the order in which transposes get their turn.
"""

from __future__ import annotations

import itertools

import numpy as np
from tf2onnx import optimizer
from tf2onnx.graph import Graph, Node
from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer, is_transpose, is_useless_transpose

from converter.library_patches.replacing import check
from converter.library_patches.tf2onnx import OPTIMIZERS

__all__ = ["optimize"]


def optimize(graph: Graph, *, catch_errors: bool) -> Graph:
    """The graph after all optimizers. `catch_errors`: go on without one that fails, for which each gets a deep copy.

    Raises UnsupportedError where tf2onnx is not as it is known here.
    """
    check(OPTIMIZERS)
    optimizers = optimizer._get_optimizers() | {"optimize_transpose": _TransposeOptimizer}
    return optimizer.optimize_graph(graph, catch_errors=catch_errors, optimizers=optimizers)


class _TransposeOptimizer(TransposeOptimizer):
    def pre_optimize_action(self) -> None:
        graph = self._g
        self._output_names = [graph.get_node_by_output(name).name for name in graph.outputs]
        reshapes = [
            node
            for node in graph.get_nodes()
            if node.type == "Reshape" and all(source.is_const() for source in node.inputs)
        ]
        for node in reshapes:
            data, shape = node.inputs[0].get_tensor_value(as_list=False), node.inputs[1].get_tensor_value(as_list=True)
            shape = [data.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]  # 0: unchanged
            (name,) = node.output
            graph.remove_node(node.name)
            graph.make_const(name, np.reshape(data, shape))
        if reshapes:
            graph.topological_sort(graph.get_nodes())

    def _optimize_at_current_graph_level(self, graph: Graph) -> Graph:
        self._g = graph
        self.pre_optimize_action()
        while self._pass(graph):
            self.graph_been_opt = True
        self.merge_duplicated_transposes()
        self.post_optimize_action()
        return graph

    def _pass(self, graph: Graph) -> bool:
        """One turn for every transpose, and at once for those that a moved one gives rise to; whether any was moved."""
        moved = False
        self._force_stop = {}
        waiting = [node for node in graph.get_nodes() if node.type == "Transpose"][::-1]
        while waiting and not self._force_stop.get("stop"):
            node, last = waiting.pop(), graph.get_nodes()[-1]
            if _present(graph, node) and self._handled(graph, node):
                moved = True
                # New nodes are at the end; should one be missed, the next pass finds it.
                added = itertools.takewhile(lambda other, last=last: other is not last, reversed(graph.get_nodes()))
                waiting += [other for other in added if other.type == "Transpose"]
        return moved

    def _add_handler(self, trans: Node, node: Node) -> bool:
        """tf2onnx makes the constant a bias of the convolution before it: it fails on a scalar, which leaves every transpose
        where it is, and takes one that lies along another axis than the channels for a bias where the sizes agree.
        """
        constant = node.inputs[1]
        if constant.is_const():
            shape = constant.get_tensor_value(as_list=False).shape
            if not shape or any(size != 1 for size in shape[:-1]):
                return self._handle_node_having_branches(trans, node)
        return super()._add_handler(trans, node)

    def _handled(self, graph: Graph, node: Node) -> bool:
        if is_transpose(node) and self._handle_nhwc_tranpose(node):
            return True
        if _present(graph, node) and is_useless_transpose(node):
            self._remove_useless_tranpose(node)
            return True
        return False


def _present(graph: Graph, node: Node) -> bool:
    return graph.get_node_by_name(node.name) is node
