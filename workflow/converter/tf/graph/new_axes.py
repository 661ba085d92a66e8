"""New axes of a StridedSlice, `x[None, :, None]`, as ExpandDims: TFLite's converter (TensorFlow 2.21) has no kernel for
the first where sizes are free.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from converter.tf.graph.graph import GraphDef, NodeDef
from converter.tf.graph.rewrite import Emitter, replace_operators

__all__ = ["expand_new_axes"]

_MASKS = ("begin_mask", "end_mask", "shrink_axis_mask", "ellipsis_mask")


def expand_new_axes(graph_def: GraphDef) -> None:
    """Replace, in place, each slice of constant bounds that makes new axes, in the graph and in its functions."""
    replace_operators(graph_def, {"StridedSlice": _split})


def _split(node: NodeDef, emit: Emitter, value: Callable) -> tuple[str, tf.DType] | None:
    """The slice without its new axes, and then these."""
    new, bounds = node.attr["new_axis_mask"].i, [value(source) for source in node.input[1:4]]
    if not new or any(bound is None for bound in bounds):
        return None
    masks = {name: node.attr[name].i for name in _MASKS}
    # An ellipsis wins over a new axis at the same place.
    count = len(bounds[0])
    entries = ["new" if _has(new, i) and not _has(masks["ellipsis_mask"], i) else "old" for i in range(count)]
    kept = [i for i in range(count) if entries[i] == "old"]
    dtype, index = tf.as_dtype(node.attr["T"].type), tf.as_dtype(node.attr["Index"].type)
    tensor = node.input[0]
    if not _takes_all(masks, bounds, kept):
        moved = {name: sum(1 << place for place, i in enumerate(kept) if _has(mask, i)) for name, mask in masks.items()}
        parts = [emit.const(np.array([bound[i] for i in kept]), index) for bound in bounds]
        tensor = emit("StridedSlice", tensor, *parts, T=dtype, Index=index, new_axis_mask=0, **moved)
    ellipsis = next((i for i in range(count) if _has(masks["ellipsis_mask"], i)), count)
    for axis in _axes(entries, masks["shrink_axis_mask"], ellipsis):
        tensor = emit("ExpandDims", tensor, emit.const(axis, tf.int32), T=dtype, Tdim=tf.int32)
    return tensor, dtype


def _has(mask: int, place: int) -> bool:
    return bool(mask >> place & 1)


def _takes_all(masks: dict[str, int], bounds: list[np.ndarray], kept: list[int]) -> bool:
    """Whether the rest of the slice changes nothing."""
    return all(
        _has(masks["ellipsis_mask"], i)
        or (_has(masks["begin_mask"], i) and _has(masks["end_mask"], i) and bounds[2][i] == 1)
        and not _has(masks["shrink_axis_mask"], i)
        for i in kept
    )


def _axes(entries: list[str], shrink: int, ellipsis: int) -> list[int]:
    """Where ExpandDims puts the axes: counted from the front before the ellipsis, in their order, and from the end behind it."""
    front, place = [], 0
    for i in range(ellipsis):
        if entries[i] == "new":
            front.append(place)
        place += entries[i] == "new" or not _has(shrink, i)
    back, place = [], -1
    for i in reversed(range(ellipsis + 1, len(entries))):
        if entries[i] == "new":
            back.append(place)
        place -= entries[i] == "new" or not _has(shrink, i)
    return front + back
