"""Where a parameter applies: for which sources it means something, and for which targets."""

from __future__ import annotations

from collections.abc import Iterable

from converter import formats

__all__ = ["applies", "import_parameters_of", "where_applies"]

# Import parameters that mean something for every format.
_GENERAL = frozenset({"input_shape", "batch", "verify", "toolchain", "trusted"})


def import_parameters_of(format: str) -> frozenset[str]:
    """The import parameters that mean something for this source format."""
    return _GENERAL | formats.source(format).parameters


def applies(name: str, format: str, extension: str) -> bool:
    """Whether parameter `name` means something for conversions of this source format to files with this extension."""
    if _sources(name):
        return name in formats.source(format).parameters
    if _extensions(name):
        target = formats.target(extension)
        return name in target.parameters and format in target.only_from.get(name, (format,))
    return True


def where_applies(name: str) -> str:
    """ "quantization applies to .tflite": what a sentence on a parameter that does not apply goes on with."""
    if sources := _sources(name):
        return f"{name} applies to {_listed(sources)} sources"
    extensions = _extensions(name)
    text = f"{name} applies to {_listed(f'.{extension}' for extension in extensions)}"
    if only_from := formats.target(extensions[0]).only_from.get(name):
        text += f" from {_listed(only_from)} sources"
    return text


def _sources(name: str) -> list[str]:
    return [source.name for source in formats.sources().values() if name in source.parameters]


def _extensions(name: str) -> list[str]:
    return [extension for extension, target in formats.target_extensions().items() if name in target.parameters]


def _listed(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
