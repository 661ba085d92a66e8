"""Loops and branches of graphs that TensorFlow 1 wrote: what lies within them, and what they read from outside.

A loop: Enter hands a value in, Merge takes it or that of NextIteration, Switch hands it on or to Exit (Yu et al., "Dynamic
Control Flow in Large-Scale Machine Learning", 2018). A branch: Switch to Merge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

__all__ = ["in_order", "inside", "read_by_loops"]


def _is(op: tf.Operation, kind: str) -> bool:
    return op.type.removeprefix("Ref") == kind


def read_by_loops(graph: tf.Graph) -> dict[tf.Operation, list[tf.Tensor]]:
    """What an outermost loop takes from outside, for each of its Exits."""
    entered: dict[str, list[tf.Tensor]] = {}
    left: dict[tf.Operation, str] = {}
    for enter in graph.get_operations():
        if not _is(enter, "Enter"):
            continue
        frame = enter.get_attr("frame_name").decode()
        entered.setdefault(frame, []).append(enter.inputs[0])
        stack, seen = [(enter, 0)], set()
        while stack:
            op, level = stack.pop()
            for reader in (reader for tensor in op.outputs for reader in tensor.consumers()):
                deeper = level + _is(reader, "Enter") - _is(reader, "Exit")
                if deeper < 0:
                    left[reader] = frame
                elif reader not in seen:
                    seen.add(reader)
                    stack.append((reader, deeper))
    return {op: entered[frame] for op, frame in left.items()}


def in_order(graph: tf.Graph, loops: Mapping[tf.Operation, Sequence[tf.Tensor]]) -> list[tf.Operation]:
    """Producers first, what a loop reads before its Exits; the edges that lead back (NextIteration) are cut."""
    order, seen = [], set()
    for root in graph.get_operations():
        stack = [(root, False)]
        while stack:
            op, leaving = stack.pop()
            if leaving:
                order.append(op)
            elif op not in seen:
                seen.add(op)
                stack.append((op, True))
                if not _is(op, "NextIteration"):
                    stack += [(x.op, False) for x in reversed([*loops.get(op, []), *op.inputs]) if x.op not in seen]
    return order


def inside(order: Sequence[tf.Operation]) -> set[tf.Operation]:
    """The operations whose results cannot be fetched, since they lie within a loop or in a branch that may not be taken."""
    turning = {op for op in order if _is(op, "Merge") and any(_is(x.op, "NextIteration") for x in op.inputs)}
    depth: dict[tf.Operation, int] = {}
    for op in order:
        below = max((depth[x.op] for x in op.inputs if x.op in depth), default=0)
        if _is(op, "NextIteration"):
            below = 1
        elif _is(op, "Enter") or (_is(op, "Switch") and op.inputs[0].op not in turning):
            below += 1
        elif _is(op, "Exit") or (_is(op, "Merge") and op not in turning):
            below -= 1
        depth[op] = below
    return {op for op in order if depth[op] > 0}
