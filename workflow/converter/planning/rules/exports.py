"""What the rules of rules/export.smk and rules/publish.smk ask: hubs, options, and what makes a file stale."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from converter import formats
from converter.planning.library_versions import export_packages, versions_of
from converter.planning.parameters import flags
from converter.planning.planner import backend_toolchain
from converter.planning.profiles import profile
from converter.planning.recorded_code import read_record, record_of
from converter.planning.rules.base import (
    Named,
    Planned,
    added_names,
    environment_of,
    framework_of,
    hash_if_file,
    minutes,
)
from converter.planning.storage import is_remote
from converter.planning.variants import suffix_of

__all__ = ["ExportInputs"]

# Braces in what an input function answers are wildcards to Snakemake (9.27).
_UNUSABLE = re.compile(r"[%{}\x00-\x1f]")


class ExportInputs(Planned):
    """wildcards.name: a target's name below reports/, without wildcards.extension where the rule has one."""

    def hub(self, wildcards: Any) -> str:
        """The hub that a target starts from; a plan with an error has a hub that holds the error."""
        plan = self.plan(wildcards)
        if plan.source is None:
            return f"intermediate/refused/{_UNUSABLE.sub(lambda match: f'%{ord(match[0]):02X}', plan.name)}"
        return f"intermediate/{plan.source.key}"

    def export_environment(self, wildcards: Any) -> list[str]:
        """The environment that a legacy `backend` runs in, and what installs the libraries that only this format needs."""
        plan = self.plan(wildcards)
        if plan.source is None:
            return []
        requirements = formats.target(plan.extension).requirements
        installed = [f"intermediate/toolchains/{requirements}"] if requirements else []
        return [*environment_of(backend_toolchain(plan.source, plan.parameters)), *installed]

    def refusal(self, wildcards: Any) -> str:
        return shlex.quote(self.planner.plan(unquote(wildcards.target)).error or "")

    @staticmethod
    def extensions_of(*targets: str) -> str:
        """A pattern for the extensions of these target formats; of those that CONVERTER_FORMATS adds, for none."""
        names = targets or added_names(formats.TargetFormat)
        return "|".join(re.escape(suffix) for name in names for suffix in formats.targets()[name].extensions) or "(?!)"

    @staticmethod
    def any_extension() -> str:
        """A pattern for the extensions of all target formats."""
        return "|".join(map(re.escape, formats.target_extensions()))

    @staticmethod
    def without_extension(*others: str) -> str:
        """A pattern for names that end in no target's extension, nor in one of `others`."""
        besides = [target.beside for target in formats.targets().values() if target.beside]
        suffixes = (*formats.target_extensions(), *besides, *others)
        return ".+" + "".join(rf"(?<!\.{re.escape(suffix)})" for suffix in suffixes)

    def target(self, wildcards: Any) -> str:
        return shlex.quote(self.prefixed(self.plan(wildcards).target))

    def export_options(self, wildcards: Any) -> str:
        return flags(self.plan(wildcards).parameters)

    def notes(self, wildcards: Any) -> str:
        """What the report says of parameters that the target does not use, as a JSON list."""
        return json.dumps(self.plan(wildcards).notes)

    def data_version(self, wildcards: Any) -> str:
        """A hash of the representative data's file, which is outside the hub, and of the user's code that ran in it."""
        plan = self.plan(wildcards)
        load = plan.parameters.get("quantization", {}).get("load")
        if not load or load.endswith(".npz"):
            return hash_if_file(load)
        record = read_record(record_of(Path(self.prefix, "intermediate/staged", plan.name)))
        return self._code.key(hash_if_file(load), load, record)

    def export_memory(self, wildcards: Any, attempt: int = 1) -> int:
        """MB: a compiler holds the weights several times over."""
        plan = self.plan(wildcards)
        target = formats.target(plan.extension)
        factor = target.memory if plan.source else 0
        if target.quantized and plan.source and suffix_of(plan.parameters.get("quantization", {})):
            factor = max(factor, target.quantized.memory)
        return attempt * (self.base_mb + factor * (self.source_mb(plan.source.source) if plan.source else 0))

    def export_runtime(self, wildcards: Any, attempt: int = 1) -> int:
        """Minutes."""
        plan = self.plan(wildcards)
        return attempt * minutes(self.source_mb(plan.source.source) if plan.source else 0)

    def model_name(self, wildcards: Any) -> str:
        """Part of the parameters, so that a shared cache never takes one model's file for another's."""
        plan = self.plan(wildcards)
        return plan.source.key if plan.source else plan.name

    def export_step(self, wildcards: Any) -> str:
        """As workflow/bin/step takes it: "@PROCESS SCRIPT", of the preloaded process that runs it."""
        plan = self.plan(wildcards)
        target, framework = formats.target(plan.extension), framework_of(plan)
        exporter = target.exporters.get(framework)
        return shlex.join([f"@{exporter.process or ''}" if exporter else "@", target.script])

    def export_code(self, wildcards: Any) -> str:
        """Of what the export of the target runs for sources of its framework."""
        return self.code_of(formats.target(self.plan(wildcards).extension).script, wildcards)

    def analysis_code(self, step: str) -> Callable[[object], str]:
        """Of what a step runs that makes the target's file, and looks at it, for sources of its framework."""
        return lambda wildcards: self.code_of(step, wildcards)

    def export_versions(self, wildcards: Any) -> str:
        """Of the libraries that the export of the target uses for sources of its framework."""
        plan = self.exported(wildcards)
        if plan.source is None:
            return "{}"
        packages = export_packages(plan.extension, framework_of(plan), plan.parameters.get("quantization"))
        device = plan.parameters.get("device")
        profiled = {f"device {device}": repr(profile(device))} if device else {}
        return json.dumps({**versions_of(packages), **profiled})

    def staged_elsewhere(self, wildcards: Any) -> str:
        return f"intermediate/staged/{self.planner.report_name(wildcards.path)}"

    def report_elsewhere(self, wildcards: Any) -> str:
        return f"reports/{self.planner.report_name(wildcards.path)}.json"

    def staged_as(self, extension: str) -> Callable[[Any], str]:
        """Of a job elsewhere whose format has two files: wildcards.path is its path without this extension."""
        return lambda wildcards: str(self._staged(wildcards, extension))

    def beside_as(self, extension: str) -> Callable[[Any], str]:
        """The second file of the same job."""
        return lambda wildcards: str(formats.target(extension).staged_beside(self._staged(wildcards, extension)))

    def report_as(self, extension: str) -> Callable[[Any], str]:
        """The report of the same job."""
        return lambda wildcards: f"reports/{self.planner.report_name(f'{wildcards.path}.{extension}')}.json"

    def _staged(self, wildcards: Any, extension: str) -> Path:
        return Path("intermediate/staged", self.planner.report_name(f"{wildcards.path}.{extension}"))

    def elsewhere_pattern(self, *extensions: str) -> str:
        """A pattern that only the jobs' own paths match, of those that end so, without the extension, where some are given; ""
        where there is none outside converted/ and addresses.
        """
        paths = [target for target in self.planner.elsewhere.values() if not is_remote(target)]
        if extensions:
            paths = [path.rpartition(".")[0] for path in paths if path.rpartition(".")[2] in extensions]
        return "|".join(map(re.escape, paths))

    def inspect_hub(self, wildcards: Any) -> str:
        names = [f"{wildcards.model}.{extension}" for extension in formats.target_extensions()]
        possible = (name for name in names if self.planner.plan(name).error is None)
        return self.hub(Named(next(possible, names[0])))
