"""What can be read and what can be written: one small file for each format, from which all else is derived.

`frameworks.py` declares what sources are computed in, `source_formats/` and `target_formats/` the formats themselves.
Planning, rules, steps, versions, memory, inspection, `converter check`, `aup.dlconvert` and the tables of the documentation
ask here. Formats of your own are added without a change of this program: CONVERTER_FORMATS names Python files that define
FORMATS, a list of declarations (docs/extending.md).
"""

from converter.formats.declarations import Backend, Exporter, Framework, Quantized, SourceFormat, TargetFormat, load
from converter.formats.registry import (
    added,
    extensions_of_sources,
    find_target,
    framework,
    frameworks,
    source,
    sources,
    target,
    target_extensions,
    targets,
)

__all__ = [
    "Backend",
    "Exporter",
    "Framework",
    "Quantized",
    "SourceFormat",
    "TargetFormat",
    "added",
    "extensions_of_sources",
    "find_target",
    "framework",
    "frameworks",
    "load",
    "source",
    "sources",
    "target",
    "target_extensions",
    "targets",
]
