"""The libraries each step's result depends on: an upgrade rebuilds the steps that use them, and reports name them."""

from __future__ import annotations

import functools
import importlib.metadata

__all__ = ["STEP_PACKAGES", "step_versions"]

_TENSORFLOW = ("tensorflow", "keras", "numpy")
_TORCH = ("torch", "numpy")

STEP_PACKAGES = {
    "import_keras": (*_TENSORFLOW, "tf_keras", "h5py"),
    "import_savedmodel": _TENSORFLOW,
    "import_checkpoint": _TENSORFLOW,
    "import_protobuf": _TENSORFLOW,
    "import_pytorch": _TORCH,
    "export_onnx": ("tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy"),
    "export_tflite": ("tensorflow", "ai-edge-litert", "numpy"),
    "export_protobuf": ("tensorflow", "numpy"),
    "export_onnx_pytorch": (*_TORCH, "onnxscript", "onnx", "onnxruntime"),
    "export_tflite_pytorch": (*_TORCH, "litert-torch", "ai-edge-quantizer", "ai-edge-litert", "tensorflow"),
    "layer_differences": ("tensorflow", "torch", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert", "numpy"),
    "benchmark": ("onnxruntime", "ai-edge-litert", "numpy"),
    "export_keras": (*_TORCH, "keras", "tensorflow"),
}


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def step_versions(step: str) -> dict[str, str]:
    """Installed versions of the packages of `step`, by name; one that is not installed is left out."""
    found = {package: _version(package) for package in STEP_PACKAGES.get(step, ())}
    return {package: version for package, version in sorted(found.items()) if version}
