"""Where a parameter applies: for which sources it means something, and for which targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Applies"]


@dataclass(frozen=True)
class Applies:
    """The parameters that only some conversions have.

    sources: by source format, the import parameters that it takes. targets: by a target's extension, the export parameters
    that it takes. only_from: export parameters that mean something for files of these source formats alone.
    """

    sources: Mapping[str, set[str]]
    targets: Mapping[str, set[str]]
    only_from: Mapping[str, tuple[str, ...]]

    def to(self, name: str, format: str, extension: str) -> bool:
        """Whether parameter `name` means something for conversions of this source format to this target format."""
        if self._formats(name):
            return name in self.sources[format]
        if self._extensions(name):
            return name in self.targets[extension] and format in self.only_from.get(name, (format,))
        return True

    def where(self, name: str) -> str:
        """ "quantization applies to .tflite": what a sentence on a parameter that does not apply goes on with."""
        if formats := self._formats(name):
            return f"{name} applies to {_listed(formats)} sources"
        text = f"{name} applies to {_listed(f'.{extension}' for extension in self._extensions(name))}"
        if name in self.only_from:
            text += f" from {_listed(self.only_from[name])} sources"
        return text

    def _formats(self, name: str) -> list[str]:
        return [format for format, names in self.sources.items() if name in names]

    def _extensions(self, name: str) -> list[str]:
        return [extension for extension, names in self.targets.items() if name in names]


def _listed(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
