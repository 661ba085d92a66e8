"""The vocabulary of declarations. Functions and classes are named as "module:name", so that a declaration imports none."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.hub.hub import Hub

__all__ = ["Backend", "Declaration", "Exporter", "Framework", "Quantized", "SourceFormat", "TargetFormat", "load"]


def load(name: str) -> Any:
    """What "module:name" names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True)
class Framework:
    """What a source is computed in; every hub has one.

    module: what a step of it imports first. runner: a function of a hub that returns a function of lists of arrays, the
    source's own computation. code: packages of this program that only its conversions use. requirements: the rule's
    environment (rules/toolchains.smk) that is installed when a first source asks; None where it is always there.
    """

    name: str
    title: str
    module: str
    runner: str
    code: tuple[str, ...] = ()
    requirements: str | None = None


@dataclass(frozen=True)
class SourceFormat:
    """A format of models that people have.

    extensions: of its files, with the dot. contains: the files by one of which a directory of this format is known.
    parameters: import parameters that it takes besides those that every format takes. takes_lengths: whether the model in
    this path has inputs whose length nobody has to say (texts, recordings), as far as can be told without opening it.
    packages: the libraries whose upgrade makes an import stale. importer: a function of an ImportSpec and the hub's folder
    that returns the Hub, where scripts/ has no import_NAME.py with one. memory: megabytes that an import takes for each
    megabyte of the source.
    """

    name: str
    title: str
    framework: str
    extensions: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    parameters: frozenset[str] = frozenset()
    packages: tuple[str, ...] = ()
    takes_lengths: Callable[[Path], bool] = field(default=lambda path: False)
    memory: int = 4
    importer: str | None = None

    @property
    def step(self) -> str:
        """As reports name it."""
        return f"import_{self.name}"

    @property
    def script(self) -> str:
        """In scripts/. import_added.py takes the format's name as its first argument."""
        return "import_added" if self.importer else self.step


@dataclass(frozen=True)
class Exporter:
    """How sources of one framework become files of a target.

    function: of a hub, an ExportJob and the path to write, returning an ExportResult. packages: the libraries whose
    upgrade makes the file stale. process: which preloaded process runs the step (running/fork_server.py).
    """

    function: str
    packages: tuple[str, ...]
    process: str | None = None


@dataclass(frozen=True)
class Backend:
    """A library of the original tool's, which parameter `backend` names: an exporter for these sources and extensions."""

    function: str
    sources: tuple[str, ...]
    extensions: tuple[str, ...]


@dataclass(frozen=True)
class Quantized:
    """The quantized files of a target format.

    suffixes: of their names, such as "int8" (planning/variants.py says what they stand for). keys: of the block `quantization`
    that mean something for it. files: a class as quantization/files.py describes (FloatFile). needs: functions of this
    program's that `files` runs and that lie in packages of one framework alone, so that they count for the sources of all.
    packages: by suffix, the libraries that making such files takes besides the exporter's. lowest_opsets: by suffix, where
    files have opsets. memory: as a target format's, with the float file in it.
    """

    suffixes: tuple[str, ...]
    keys: frozenset[str]
    files: str
    needs: tuple[str, ...] = ()
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    lowest_opsets: Mapping[str, int] = field(default_factory=dict[str, int])
    memory: int = 12


@dataclass(frozen=True)
class TargetFormat:
    """A format of converted files.

    extensions: without the dot, the usual one first. exporters: by framework. sources: the formats that it is made from,
    None for all those of the exporters' frameworks. parameters: export parameters that it takes. only_from: those that mean
    something for these source formats alone. runtime: a class of verification/runtimes.py that opens a file; None where
    `converter check` does not. quantized: for formats with quantized files. backends: by the values of `backend`. timer: a
    function that returns how `benchmarks/` opens a file (profiling/latency.py), None where nothing times it. memory:
    megabytes that an export takes for each megabyte of the source. fixes_lengths: whether texts and recordings get the usual
    length where the user says nothing, since files of this format are run with fixed sizes. script: its entry in scripts/.
    refusal: why a hub cannot become this, as far as names and types tell; None for no objection. oldest_runtime: a function
    of a file's path, which oldest release of its runtime can open it, as `hub.runtime_needs.oldest_runtime` says it.
    fixes_batch: whether the batch is 1 where the user says nothing, since the runtime knows fixed sizes only. beside: the
    extension, without the dot, of a second file that belongs to each; both are published or neither. requirements: the
    rule's environment (rules/toolchains.smk) that is installed when a first target asks for it. writer: a function as an
    exporter's, that takes the exporter as a fourth argument and writes the file in its stead.
    """

    name: str
    title: str
    extensions: tuple[str, ...]
    exporters: Mapping[str, Exporter]
    sources: tuple[str, ...] | None = None
    parameters: frozenset[str] = frozenset()
    only_from: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    runtime: str | None = None
    quantized: Quantized | None = None
    backends: Mapping[str, Backend] = field(default_factory=dict[str, Backend])
    timer: str | None = None
    memory: int = 12
    fixes_lengths: bool = False
    script: str = "export_added"
    oldest_runtime: str | None = None
    fixes_batch: bool = False
    beside: str | None = None
    requirements: str | None = None
    writer: str | None = None
    refusal: Callable[[Hub], str | None] = field(default=lambda hub: None)

    def beside_of(self, path: Path) -> Path | None:
        """The second file of the one at `path`; None where there is none."""
        return path.with_suffix(f".{self.beside}") if self.beside else None

    def staged_beside(self, staged: Path) -> Path | None:
        """The same of a file that is not published yet: with the extension after the file's own."""
        return staged.with_name(f"{staged.name}.{self.beside}") if self.beside else None

    def accepts(self, source: SourceFormat) -> bool:
        """Whether a source of this format can become this at all."""
        return source.framework in self.exporters and (self.sources is None or source.name in self.sources)


Declaration = Framework | SourceFormat | TargetFormat
