"""What a source holds and what it can become, from its hub: the report that replaces the "summarize graph tool"."""

from __future__ import annotations

from typing import Any

from converter.hub.hub import Hub

__all__ = ["inspect_hub"]

_TARGETS = {"tensorflow": ("onnx", "tflite", "pb"), "pytorch": ("onnx", "tflite", "h5", "keras")}


def inspect_hub(hub: Hub) -> dict[str, Any]:
    """The inspection as a mapping; `targets` holds "ok", or why a target cannot be made, as far as names and types tell."""
    listed = {kind: [spec.to_report() for spec in specs] for kind, specs in hub.candidates.items()}
    return {
        "source": {key: hub.source.get(key) for key in ("path", "format", "sha256", "bytes")},
        "inputs": [spec.to_report() for spec in hub.inputs],
        "outputs": [spec.to_report() for spec in hub.outputs],
        "candidates": listed,
        "operators": dict(sorted(hub.operators.items())),
        "parameters_count": hub.parameters_count,
        "notes": hub.notes,
        "targets": _targets(hub),
    }


def _targets(hub: Hub) -> dict[str, str]:
    if hub.error is not None:
        formats = _TARGETS.get(hub.framework, ("onnx", "tflite"))
        return dict.fromkeys(formats, hub.error["message"])
    verdicts = dict.fromkeys(_TARGETS[hub.framework], "ok")
    if hub.source.get("format") == "protobuf":
        verdicts.pop("pb", None)
    texts = [spec.name for spec in hub.inputs if spec.dtype == "string"]
    if texts:
        verdicts["tflite"] = (
            f"input {', '.join(texts)} is text, which TensorFlow Lite cannot take: "
            "cut the model behind its text processing"
        )
    return verdicts
