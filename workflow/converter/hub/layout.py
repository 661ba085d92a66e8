"""Whether a file's images are channels-last where the source's are channels-first."""

from __future__ import annotations

from converter.hub.hub import Hub

__all__ = ["becomes_channels_last"]

_CHANNELS_FIRST = ("pytorch", "onnx")


def becomes_channels_last(hub: Hub, input_layout: str) -> bool:
    """By that parameter, for frameworks of images that are channels-first; not where this model's are channels-last already."""
    return hub.framework in _CHANNELS_FIRST and input_layout == "nhwc" and not hub.extra.get("channels_last")
