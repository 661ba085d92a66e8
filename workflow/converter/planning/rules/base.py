"""What all input and parameter functions of the rules start from: the plan, sizes, and rebuild keys."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from converter import formats
from converter.errors import ConverterError
from converter.exporting import functions_of
from converter.planning.code_version import code_version
from converter.planning.libraries import LISTS, state
from converter.planning.library_versions import step_packages, versions_of
from converter.planning.planner import Plan, Planner
from converter.planning.recorded_code import RecordedCode
from converter.planning.source_files import file_sha256, source_bytes
from converter.planning.storage import Storage, is_mirror, is_remote, url_of

__all__ = [
    "Named",
    "Planned",
    "added_names",
    "environment_of",
    "float16_of",
    "float_of",
    "framework_of",
    "hash_if_file",
    "minutes",
]

# Interpreter with TensorFlow or torch, before any model is loaded.
_BASE_MB = 900
# What a step on a cluster's node has around it: the Snakemake of the job and that of the step (measured: 300).
_NODE_MB = 500
# Run time that a cluster is asked for, in minutes: many times what was measured, since a job that exceeds it is killed.
_BASE_MINUTES = 10
_MB_A_MINUTE = 20


class Planned:
    """Functions of a rule's wildcards: `key` names a hub, `name` a target (its path below reports/).

    on_nodes: whether Snakemake starts each step on another machine. requested: the targets that the user named.
    """

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.on_nodes: Callable[[], bool] = lambda: False  # whether Snakemake starts each step on another machine
        self.requested: Callable[[], Collection[str]] = tuple  # targets named by the user
        self._code = RecordedCode()
        self.prefix = ""  # of the module that the workflow is, with its slash
        self.outside: Callable[[str], Any] = str  # marks a file that the prefix is not for

    @property
    def base_mb(self) -> int:
        return _BASE_MB + (_NODE_MB if self.on_nodes() else 0)

    @property
    def storage(self) -> Storage:
        """What looks at addresses: the Snakefile gives the planner one. Raises LookupError before that."""
        if self.planner.storage is None:
            raise LookupError("the planner has no storage, by which it would look at addresses")
        return self.planner.storage

    def plan(self, wildcards: Any) -> Plan:
        extension = getattr(wildcards, "extension", None)
        return self.planner.plan(f"{wildcards.name}.{extension}" if extension else wildcards.name)

    def prefixed(self, path: str) -> str:
        """A file of the workflow's own, as Snakemake names it."""
        kept = os.path.isabs(path) or path.startswith("..") or is_remote(path)
        return path if kept else self.prefix + path

    def source_mb(self, source: str) -> int:
        try:
            if is_mirror(source):
                return self.storage.look(url_of(source)).bytes // 1_000_000
            return source_bytes(Path(source)) // 1_000_000
        except (ConverterError, OSError):
            return 200  # a recipe's file that is not there yet

    def exported(self, wildcards: Any) -> Plan:
        """The plan of the wildcards' target, or, where they name none, of what is measured of its quantized files."""
        if hasattr(wildcards, "extension"):
            return self.plan(wildcards)
        layers = self.plan(float_of(wildcards))
        return layers if layers.source else self.plan(float16_of(wildcards))

    def code_of(self, step: str, wildcards: Any) -> str:
        plan = self.exported(wildcards)
        framework = framework_of(plan)
        return code_version(step, framework, functions_of(formats.target(plan.extension), framework))

    @staticmethod
    def versions(step: str) -> str:
        return json.dumps(versions_of(step_packages(step)))

    @staticmethod
    def libraries() -> str:
        """A pattern of what rules/toolchains.smk installs into this environment."""
        return "|".join(LISTS)

    def library_state(self, wildcards: Any) -> str:
        """So that another pin, and an environment that was made anew, are noticed."""
        return state(wildcards.libraries, Path(self.prefix, "intermediate/toolchains", wildcards.libraries))

    @staticmethod
    def code(step: str) -> str:
        return code_version(step)


def added_names(kind: type) -> list[str]:
    """Of the source or target formats that CONVERTER_FORMATS adds."""
    return [entry.name for entry in formats.added() if isinstance(entry, kind)]


def framework_of(plan: Plan) -> str:
    """Of its source; of a plan without one, which becomes no more than a sentence, any."""
    return formats.source(plan.source.format).framework if plan.source else next(iter(formats.frameworks()))


def minutes(megabytes: int) -> int:
    """Of run time, for a source of this size."""
    return _BASE_MINUTES + megabytes // _MB_A_MINUTE


class Named:
    """Wildcards of a target that no rule was asked for by name."""

    def __init__(self, name: str) -> None:
        self.name = name


def float_of(wildcards: Any) -> Named:
    """The target that `name` means where it has no extension: a TensorFlow Lite file, or what `ending` names."""
    return Named(f"{wildcards.name}.{getattr(wildcards, 'ending', 'tflite')}")


def float16_of(wildcards: Any) -> Named:
    """The variant that every model may have: it needs no data."""
    return Named(f"{wildcards.name}.float16.{getattr(wildcards, 'ending', 'tflite')}")


def environment_of(toolchain: str) -> list[str]:
    """What rule toolchain_legacy makes, where the toolchain is a legacy one."""
    return [] if toolchain == "default" else [f"intermediate/toolchains/{toolchain}/ready"]


def hash_if_file(path: str | None) -> str:
    """The SHA-256 of its bytes; "" without a path, "missing" where no file is."""
    if not path:
        return ""
    return file_sha256(Path(path)) if Path(path).is_file() else "missing"
