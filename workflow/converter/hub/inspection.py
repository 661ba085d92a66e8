"""What a source holds and what it can become, from its hub: the report that replaces the "summarize graph tool"."""

from __future__ import annotations

from typing import Any

from converter import formats
from converter.hub.hub import Hub

__all__ = ["inspect_hub"]


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
        "oldest_runtime": hub.oldest_runtime,
        "notes": hub.notes,
        "targets": _targets(hub),
    }


def _targets(hub: Hub) -> dict[str, str]:
    source = formats.source(hub.source.get("format", ""))
    possible = {extension: entry for extension, entry in formats.target_extensions().items() if entry.accepts(source)}
    if hub.error is not None:
        return dict.fromkeys(possible, hub.error["message"])
    return {extension: entry.refusal(hub) or "ok" for extension, entry in possible.items()}
