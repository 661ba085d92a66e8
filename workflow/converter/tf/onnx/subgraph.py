"""tf2onnx's search for the nodes that outputs need, with one walk for all outputs.

Graph.extract_sub_graph_nodes of tf2onnx 1.17 walks from each output, and from each input that is to stay, on its own, and
over what other walks have found: in the loop of a detector, with a non-maximum suppression for each of 90 classes, that was
two fifths of the conversion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import AbstractContextManager

from tf2onnx.graph import Graph, Node

from converter.library_patches.replacing import replaced
from converter.library_patches.tf2onnx import EXTRACT

__all__ = ["sharing_walks"]

_original = EXTRACT.find()[1]


def sharing_walks() -> AbstractContextManager[None]:
    """Let tf2onnx search in one walk; undone on exit. Raises UnsupportedError where it is not as it is known here."""
    return replaced((EXTRACT, _extract_sub_graph_nodes))


def _extract_sub_graph_nodes(
    self: Graph, outputs_name: Iterable[str], input_checker: object = None, remove_unused_inputs: bool = True
) -> list[Node]:
    """As the original, in its order: each walk breadth-first, of which only nodes that none before has found count."""
    if input_checker is not None:  # it may take notes of what it is asked
        return _original(self, outputs_name, input_checker, remove_unused_inputs)
    wanted = list(outputs_name)
    if not remove_unused_inputs:
        wanted += [node.output[0] for node in self.inputs]
    found: dict[Node, None] = {}
    for output in wanted:
        waiting = deque([self.get_node_by_output(output, search_in_parent_graphs=False)])
        reached = set(waiting)
        while waiting:
            node = waiting.popleft()
            if node is None or node in found:
                continue
            found[node] = None
            for name in [*node.input, *node.get_implicit_inputs()]:
                source = self.get_node_by_output(name, search_in_parent_graphs=False)
                if source is not None and source not in found and source not in reached:
                    reached.add(source)
                    waiting.append(source)
    return list(found)
