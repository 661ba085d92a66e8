"""The libraries each step's result depends on: an upgrade rebuilds the steps that use them, and reports name them.

The formats declare them (formats/); an export depends on the framework of its source: `export_entries` names its entries.
"""

from __future__ import annotations

import functools
import importlib.metadata

from converter import formats
from converter.planning.variants import is_dynamic

__all__ = ["export_entries", "step_packages", "step_versions"]

# Of steps that are neither an import nor an export.
_OTHERS = {"quantize_dynamic": ("ai-edge-quantizer",), "benchmark": ("onnxruntime", "ai-edge-litert", "numpy")}


@functools.cache
def step_packages() -> dict[str, tuple[str, ...]]:
    """Packages by step; those of exports by "STEP FRAMEWORK" (`export_entries`)."""
    imports = {entry.step: entry.packages for entry in formats.sources().values()}
    exports = {
        f"{target.script} {framework}": exporter.packages
        for target in formats.targets().values()
        for framework, exporter in target.exporters.items()
    }
    return {**imports, **exports, **_OTHERS}


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def export_entries(extension: str, framework: str, quantization: dict | None = None) -> list[str]:
    """The entries of `step_packages` for an export of a source of this framework to files with this extension.

    quantization: its quantization block, where it has one.
    """
    entries = [f"{formats.target(extension).script} {framework}"]
    return [*entries, "quantize_dynamic"] if quantization and is_dynamic(quantization) else entries


def step_versions(*steps: str) -> dict[str, str]:
    """Installed versions of the packages of these steps, by name; one that is not installed is left out."""
    found = {package: _version(package) for step in steps for package in step_packages().get(step, ())}
    return {package: version for package, version in sorted(found.items()) if version}
