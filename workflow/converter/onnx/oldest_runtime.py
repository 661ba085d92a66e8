"""The oldest release of onnxruntime that can open a file, from its opset and its version of the format (IR).

The table: https://onnxruntime.ai/docs/reference/compatibility.html for 1.0 to 1.14. From 1.15 on, releases were asked: each
opened files of one Identity, of every opset and IR version (1.15 refused opset 19, which that page promises of it).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx

from converter.hub.runtime_needs import RuntimeNeed, oldest_runtime
from converter.onnx.reading import all_nodes

__all__ = ["RELEASES", "RUNTIME", "needs", "of_file"]

RUNTIME = "onnxruntime"
# Release: the highest opset of the standard domain, the highest IR version. Between two entries nothing changed.
RELEASES = {
    "1.0": (11, 6),
    "1.3": (12, 7),
    "1.6": (13, 7),
    "1.8": (14, 7),
    "1.9": (15, 8),
    "1.11": (16, 8),
    "1.12": (17, 8),
    "1.14": (18, 8),
    "1.15": (18, 9),
    "1.16": (19, 9),
    "1.17": (20, 9),
    "1.18": (21, 10),
    "1.21": (22, 10),
    "1.23": (23, 11),
    "1.24": (25, 13),
    "1.25": (26, 13),
    "1.32": (28, 14),
}
_LOWEST_OPSET = 7  # of onnxruntime 0.1 to today
_STANDARD = ("", "ai.onnx")


def of_file(path: Path) -> dict[str, Any]:
    """What reports say of a file: see `runtime_needs.oldest_runtime`. Weights outside of it are not read."""
    return oldest_runtime(RUNTIME, needs(onnx.load(str(path), load_external_data=False)))


def needs(model: onnx.ModelProto) -> list[RuntimeNeed]:
    """The opset, the IR version, and the other domains whose operators are used, with the releases that brought them."""
    opset = next((entry.version for entry in model.opset_import if entry.domain in _STANDARD), 1)
    nodes = (node for part in (model.graph, *model.functions) for node in all_nodes(part))
    domains = Counter(f"{node.op_type} of {node.domain}" for node in nodes if node.domain not in _STANDARD)
    return [
        RuntimeNeed(f"opset {opset}", _first(opset, 0) if opset >= _LOWEST_OPSET else None),
        RuntimeNeed(f"IR version {model.ir_version}", _first(model.ir_version, 1)),
        *(RuntimeNeed(name, None, count) for name, count in sorted(domains.items())),
    ]


def _first(version: int, place: int) -> str | None:
    return next((release for release, highest in RELEASES.items() if highest[place] >= version), None)
