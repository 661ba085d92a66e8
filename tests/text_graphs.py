"""Frozen graphs as text, so that tests of the workflow have real sources without importing TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence


def linear(weights: Sequence[float] = (1.5, -2.0, 0.25, 3.0), name: str = "y") -> str:
    """A .pbtxt: y = x W for x of shape (N, 2) and W, row by row, of shape (2, 2)."""
    values = " ".join(f"float_val: {weight}" for weight in weights)
    return f"""
node {{ name: "x" op: "Placeholder"
  attr {{ key: "dtype" value {{ type: DT_FLOAT }} }}
  attr {{ key: "shape" value {{ shape {{ dim {{ size: -1 }} dim {{ size: 2 }} }} }} }} }}
node {{ name: "w" op: "Const"
  attr {{ key: "dtype" value {{ type: DT_FLOAT }} }}
  attr {{ key: "value" value {{ tensor {{ dtype: DT_FLOAT
    tensor_shape {{ dim {{ size: 2 }} dim {{ size: 2 }} }} {values} }} }} }} }}
node {{ name: "{name}" op: "MatMul" input: "x" input: "w"
  attr {{ key: "T" value {{ type: DT_FLOAT }} }}
  attr {{ key: "transpose_a" value {{ b: false }} }} attr {{ key: "transpose_b" value {{ b: false }} }} }}
versions {{ producer: 27 }}
"""
