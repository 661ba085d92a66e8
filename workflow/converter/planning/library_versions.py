"""The libraries each step's result depends on: an upgrade rebuilds the steps that use them, and reports name them.

The formats declare them (formats/); those of an export depend on the framework of its source.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable

from converter import formats
from converter.planning.value_types import Parameters
from converter.planning.variants import suffix_of

__all__ = ["all_packages", "export_packages", "step_packages", "versions_of"]

_OTHERS = {"benchmark": ("onnxruntime", "ai-edge-litert", "numpy")}


def all_packages() -> set[str]:
    """Those of any step."""
    imports = {package for entry in formats.sources().values() for package in entry.packages}
    exporters = [exporter for target in formats.targets().values() for exporter in target.exporters.values()]
    exports = {package for exporter in exporters for package in exporter.packages}
    quantizers = {
        package
        for target in formats.targets().values()
        if target.quantized
        for packages in target.quantized.packages.values()
        for package in packages
    }
    return imports | exports | {package for packages in _OTHERS.values() for package in packages} | quantizers


def export_packages(extension: str, framework: str, quantization: Parameters | None = None) -> tuple[str, ...]:
    """Those of an export of a source of this framework to files with this extension.

    quantization: its quantization block, where it has one.
    """
    target = formats.target(extension)
    exporter = target.exporters.get(framework)
    packages = exporter.packages if exporter else ()
    if target.quantized is None or quantization is None:
        return packages
    return (*packages, *target.quantized.packages.get(suffix_of(quantization) or "", ()))


def step_packages(step: str) -> tuple[str, ...]:
    """Those of a step that is neither an import nor an export; none for most."""
    return _OTHERS.get(step, ())


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Their installed versions, by name; one that is not installed is left out."""
    found = {package: _version(package) for package in packages}
    return {package: version for package, version in sorted(found.items()) if version}
