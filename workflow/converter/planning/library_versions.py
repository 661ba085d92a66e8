"""The libraries each step's result depends on: an upgrade rebuilds the steps that use them, and reports name them.

An export depends on the framework of its source: `export_entries` names its entries.
"""

from __future__ import annotations

import functools
import importlib.metadata

from converter.planning.variants import is_dynamic

__all__ = ["STEP_PACKAGES", "export_entries", "step_versions"]

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
    "export_tflite_pytorch": (*_TORCH, "litert-torch", "ai-edge-litert", "keras", "tensorflow"),
    "quantize_dynamic": ("ai-edge-quantizer",),
    "layer_differences": ("tensorflow", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert", "numpy"),
    "layer_differences_pytorch": (
        *_TORCH,
        "onnxscript",
        "litert-torch",
        "onnx",
        "onnxruntime",
        "ai-edge-litert",
        "tensorflow",
    ),
    "benchmark": ("onnxruntime", "ai-edge-litert", "numpy"),
    "export_keras": (*_TORCH, "keras", "tensorflow"),
}


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def export_entries(step: str, framework: str, quantization: dict | None = None) -> list[str]:
    """The entries of STEP_PACKAGES for an export of a source of this framework, with this quantization block."""
    own = f"{step}_pytorch"
    entries = [own if framework == "pytorch" and own in STEP_PACKAGES else step]
    return [*entries, "quantize_dynamic"] if quantization and is_dynamic(quantization) else entries


def step_versions(*steps: str) -> dict[str, str]:
    """Installed versions of the packages of these steps, by name; one that is not installed is left out."""
    found = {package: _version(package) for step in steps for package in STEP_PACKAGES.get(step, ())}
    return {package: version for package, version in sorted(found.items()) if version}
