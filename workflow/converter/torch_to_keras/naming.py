"""Names of layers and operations: the path of the PyTorch module they come from, unique, the same in every run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["Names", "innermost_module", "module_path", "source_line"]


class Names:
    """Hands out unique names. Keras's own counters live as long as the process; these as long as one conversion."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self._taken = set(reserved)

    def unique(self, wanted: str) -> str:
        """A name that Keras takes and that no layer has yet, as near to `wanted` as possible."""
        base = re.sub(r"[^A-Za-z0-9_.\-]+|\.", "_", wanted).strip("_") or "layer"
        name, count = base, 0
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name


# As onnx_to_torch/module.py calls it.
_ONNX_FILE = "model.onnx"


def innermost_module(node: torch.fx.Node) -> tuple[str, str]:
    """(path, class name) of the module whose forward made the node, ("", "") where the program does not say."""
    stack = node.meta.get("nn_module_stack") or {}
    entries = [entry for key, entry in stack.items() if not key.startswith("_empty_nn_module_stack")]
    if not entries:
        return "", ""
    path, kind = entries[-1]
    # A module that is called twice is "conv1" the first time and "conv1@1" the second.
    path = re.sub(r"@\d+", "", path)
    return path, kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"


def module_path(node: torch.fx.Node) -> str:
    """The path of the module that the node was traced in, such as "features.0"."""
    return innermost_module(node)[0]


def source_line(node: torch.fx.Node) -> str:
    """Where the user's code calls the operator: `in block.conv (net.py line 12: "x = torch.fft.fft(x)")`."""
    place = f"in module {module_path(node)}" if module_path(node) else "in the model's forward"
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\S+)\n(?:\s+(.*))?', node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if not re.search(r"[/\\]torch[/\\]", frame[0])]
    if not (own or frames):
        return place
    file, line, _, code = (own or frames)[-1]
    file = re.split(r"[/\\]", file)[-1]
    if file == _ONNX_FILE:
        return f"of the ONNX node {code.strip()}"
    return f'{place} ({file} line {line}: "{code.strip()}")'
