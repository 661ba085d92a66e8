"""Which of torch's operators stay within their tensors; a file that calls others reads and writes any of the process's memory."""

from __future__ import annotations

import re

__all__ = ["UNCHECKED", "is_bounded", "namespaces", "unbounded_operator"]

# Whose operators look at their tensors' sizes. Those that torch's compilers write do not (inductor::_reinterpret_tensor,
# mkldnn::data_ptr): a program of them reads and writes any of the process's memory.
_NAMESPACES = {"aten", "prim", "prims", "profiler", "quantized", "quantized_decomposed", "torchvision"}
# Operators that take sizes, lengths or indices as they are (torch 2.13), and that make a tensor larger than its values.
UNCHECKED = r"_reshape_alias\w*|_sparse_\w+_unsafe|_convert_indices_\w+|segment_reduce"
_UNBOUNDED = re.compile(
    rf"aten::({UNCHECKED}|_?resize\w*|set_|_copy_from\w*|_empty_(affine|per_channel_affine)_quantized)|prims::(empty\w*|resize)"
)


def unbounded_operator(name: str) -> bool:
    """Whether the operator of a schema's name ("aten::resize_") may read or write beyond its tensors' values."""
    return _UNBOUNDED.fullmatch(name) is not None


def namespaces() -> frozenset[str]:
    """Those of the operators that models consist of."""
    return frozenset(_NAMESPACES)


def is_bounded(name: str) -> bool:
    """Whether the operator of a schema's name ("aten::relu") is one that models consist of, and stays within its tensors."""
    return name.partition("::")[0] in _NAMESPACES and not unbounded_operator(name)
