"""Run an ONNX hub's model on any inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from converter.hub.hub import Hub

__all__ = ["runner"]


def runner(hub: Hub) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """A function of arrays in the order of the hub's inputs: onnxruntime, or LiteRT where the source was its file."""
    from converter.verification.runtimes import OnnxModel, TFLiteModel

    if (source := hub.path / "model.tflite").exists():
        return TFLiteModel(source).run
    return OnnxModel(hub.path / "model.onnx").run
