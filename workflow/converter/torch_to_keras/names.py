"""Names of inputs and outputs as Keras and TensorFlow take them for layers and scopes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from converter.hub.hub import TensorSpec

__all__ = ["layer_names"]


def layer_names(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[list[str], list[str]]:
    """Those of the inputs and of the outputs, all different; what has a meaning in a scope's name becomes an underscore."""
    names: list[str] = []
    for spec in (*inputs, *outputs):
        base = name = re.sub(r"[^A-Za-z0-9_.\-]", "_", spec.name)
        count = 1
        while name in names:
            name, count = f"{base}_{count}", count + 1
        names.append(name)
    return names[: len(inputs)], names[len(inputs) :]
