"""What the rules of rules/import.smk ask: sources, and what makes an import stale."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

from converter import formats
from converter.errors import ConverterError
from converter.importing.installed import distribution_of, is_dotted
from converter.planning.code_version import code_version
from converter.planning.library_versions import versions_of
from converter.planning.parameters import RESERVED, flags
from converter.planning.planner import ImportPlan
from converter.planning.recorded_code import read_record
from converter.planning.rules.base import added_names, environment_of, hash_if_file, minutes
from converter.planning.rules.storage import StorageInputs
from converter.planning.rules.zoo import ZooInputs
from converter.planning.source_files import source_files, source_sha256, source_stat
from converter.planning.storage import is_mirror
from converter.planning.toolchains import toolchain_version

__all__ = ["ImportInputs"]

# In place of the bytes of a source that a rule of another workflow is yet to make.
_AWAITED = "awaited"


class ImportInputs(ZooInputs, StorageInputs):
    """wildcards.key: a hub below intermediate/."""

    def source(self, wildcards: Any) -> list[str]:
        """The files of the user's source, and the environment that reads it if that is a legacy one.

        A source that is missing by now is the step's own error.
        """
        plan = self.planner.import_plan(wildcards.key)
        environment = environment_of(plan.toolchain)
        if plan.made or self.planner.awaits_sources:
            return environment
        try:
            # Names that it reserves or cannot write, of a SavedModel's files say, end Snakemake (9.27); so do files that it
            # may not read, which the import says in a sentence. The hash of all is among the params.
            files = (str(path) for path in source_files(Path(plan.source)))
            files = (path for path in files if not RESERVED.search(path) and _is_text(path))
            files = (path for path in files if os.access(path, os.R_OK))
            return [*files, *environment]
        except ConverterError:
            return environment

    def made_source(self, wildcards: Any) -> list[str]:
        """The source that a rule makes (a recipe, or a fetched one): when that rule runs, the import runs after it.

        Not ancient: an ancient input's consumer would keep its old output, since Snakemake (9.27) does not even compare the
        parameters of jobs behind one that runs.
        """
        plan = self.planner.import_plan(wildcards.key)
        if plan.made:
            return [plan.source]
        if not self.planner.awaits_sources:
            return []
        # Of another workflow's rules: a file is one that they may make, a directory is made as a whole.
        whole = os.path.isdir(plan.source) or not os.path.exists(plan.source)
        return [self.outside(str(path)) for path in ([plan.source] if whole else source_files(Path(plan.source)))]

    def source_path(self, wildcards: Any) -> str:
        plan = self.planner.import_plan(wildcards.key)
        return shlex.quote(self.prefixed(plan.source) if plan.made else plan.source)

    def source_version(self, wildcards: Any) -> str:
        """A hash of the source's bytes, of the files its parameters name, and of the user's code that ran in the import.

        The hub remembers size and time of what it read, so that an unchanged file is not hashed again.
        """
        plan = self.planner.import_plan(wildcards.key)
        hub = read_record(Path(self.prefix, "intermediate", wildcards.key, "hub.json"))
        if is_mirror(plan.source):  # likewise: what the storage says of it stands for its bytes
            source = self.version_at(plan.source)
        elif plan.made:  # may not exist yet: the recipe stands for its bytes
            source = self.recipe_version(plan.source)
        else:
            source = self._source_sha256(hub, Path(plan.source))
        base = self._import_version(plan, source)
        record = hub.get("user_code", {})
        if self.planner.awaits_sources and source == hub.get("source", {}).get("sha256"):
            # What was read is what is there, though it was not when its import was planned.
            awaited = self._import_version(plan, _AWAITED)
            base = awaited if str(record.get("key", "")).partition(".")[0] == awaited else base
        return self._code.key(base, plan.parameters.get("network_script"), record)

    @staticmethod
    def _import_version(plan: ImportPlan, source: str) -> str:
        """source: what stands for the source's bytes."""
        digest = hashlib.sha256(source.encode())
        if plan.toolchain != "default":
            digest.update(toolchain_version(plan.toolchain).encode())
        script = plan.parameters.get("network_script")
        arguments = plan.parameters.get("network_args")
        named = [
            script,
            arguments if isinstance(arguments, str) else None,
            plan.parameters.get("verify", {}).get("inputs"),
        ]
        for path in named:
            digest.update(hash_if_file(path).encode())
        name = plan.parameters.get("network_name", "")
        if script is None and is_dotted(name) and (builder := distribution_of(name)) is not None:
            digest.update(f"{builder.name} {builder.version}".encode())
        return digest.hexdigest()[:32]

    def _source_sha256(self, hub: dict[str, Any], source: Path) -> str:
        if self.planner.awaits_sources and not os.path.exists(source):
            return _AWAITED
        try:
            recorded = hub.get("source", {})
            if recorded.get("sha256") and recorded.get("stat") == source_stat(source):
                return recorded["sha256"]
            return source_sha256(source)
        except (ConverterError, OSError) as error:
            return f"unreadable: {error}"

    def source_environment(self, wildcards: Any) -> list[str]:
        """What installs the framework of the source, where a first such source asks for it."""
        requirements = formats.framework(self._import_format(wildcards).framework).requirements
        return [f"intermediate/toolchains/{requirements}"] if requirements else []

    @staticmethod
    def keys_of(*source_formats: str) -> str:
        """A pattern for the keys of hubs of these source formats; of those that CONVERTER_FORMATS adds, for none."""
        names = source_formats or added_names(formats.SourceFormat)
        return rf"[^/]+-({'|'.join(map(re.escape, names))})-[0-9a-f]{{12}}" if names else "(?!)"

    def import_options(self, wildcards: Any) -> str:
        return flags(self.planner.import_plan(wildcards.key).parameters)

    def import_memory(self, wildcards: Any, attempt: int = 1) -> int:
        """MB: loading holds the weights about three times over (file, framework, copy for the hub)."""
        factor = self._import_format(wildcards).memory
        return attempt * (self.base_mb + factor * self.source_mb(self.planner.import_plan(wildcards.key).source))

    def import_step(self, wildcards: Any) -> str:
        """As workflow/bin/step takes it: "@PROCESS SCRIPT", of the preloaded process that runs it."""
        found = self._import_format(wildcards)
        added = [found.name] if found.importer else []
        return shlex.join([f"@{formats.framework(found.framework).module}", found.script, *added])

    def import_code(self, wildcards: Any) -> str:
        found = self._import_format(wildcards)
        return code_version(found.script, found.framework, (found.importer,) if found.importer else ())

    def import_versions(self, wildcards: Any) -> str:
        return json.dumps(versions_of(self._import_format(wildcards).packages))

    def _import_format(self, wildcards: Any) -> formats.SourceFormat:
        return formats.source(self.planner.import_plan(wildcards.key).format)

    def import_runtime(self, wildcards: Any, attempt: int = 1) -> int:
        """Minutes."""
        return attempt * minutes(self.source_mb(self.planner.import_plan(wildcards.key).source))


def _is_text(path: str) -> bool:
    """Not a name of any bytes, which Python reads as halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in path)
