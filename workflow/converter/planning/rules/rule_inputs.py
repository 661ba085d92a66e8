"""Snakemake's input, parameter and resource functions of the plan, so that rules stay declarations."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import unquote

from converter.errors import ConverterError
from converter.planning.code_version import code_version
from converter.planning.library_versions import export_entries, step_versions
from converter.planning.parameters import RESERVED, flags
from converter.planning.planner import Plan, Planner, backend_toolchain
from converter.planning.recorded_code import RecordedCode, read_record, record_of
from converter.planning.rules.overview_inputs import OverviewInputs
from converter.planning.rules.remote_inputs import RemoteInputs
from converter.planning.source_files import file_sha256, source_bytes, source_files, source_sha256, source_stat
from converter.planning.storage import is_mirror, is_remote, url_of
from converter.planning.toolchains import toolchain_version
from converter.planning.variants import VARIANTS

__all__ = ["RuleInputs"]

# Interpreter with TensorFlow or torch, before any model is loaded.
_BASE_MB = 900
# Braces in what an input function answers are wildcards to Snakemake (9.27).
_UNUSABLE = re.compile(r"[%{}\x00-\x1f]")
# Steps that are for sources of one framework.
_FRAMEWORKS = {
    **dict.fromkeys(["import_keras", "import_savedmodel", "import_checkpoint", "import_protobuf"], "tensorflow"),
    "export_protobuf": "tensorflow",
    "import_pytorch": "pytorch",
    "export_keras": "pytorch",
}
# The step behind each kind of recipe in configs/zoo.yaml.
_RECIPE_STEPS = {
    "application": "zoo_keras",
    "recurrent": "zoo_keras",
    "recurrent_torch": "zoo_recurrent_torch",
    "torchvision": "zoo_torchvision",
    "tf1": "zoo_tf1",
}
# What a step on a cluster's node has around it: the Snakemake of the job and that of the step (measured: 300).
_NODE_MB = 500
# Run time that a cluster is asked for, in minutes: many times what was measured, since a job that exceeds it is killed.
_BASE_MINUTES = 10
_MB_A_MINUTE = 20


class RuleInputs(OverviewInputs, RemoteInputs):
    """Functions of a rule's wildcards: `key` names a hub, `name` a target (its path below reports/)."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.on_nodes: Callable[[], bool] = lambda: False  # whether Snakemake starts each step on another machine
        self.requested: Callable[[], Collection[str]] = tuple  # targets named by the user
        self._code = RecordedCode()

    @property
    def _base_mb(self) -> int:
        return _BASE_MB + (_NODE_MB if self.on_nodes() else 0)

    def default_targets(self, wildcards: object) -> list[str]:
        """What `snakemake` without a target makes."""
        targets = self.planner.default_targets()
        return [self.planner.storage.object(target) if is_remote(target) else target for target in targets]

    # --- import rules: wildcards.key

    def source(self, wildcards: object) -> list[str]:
        """The files of the user's source, and the environment that reads it if that is a legacy one.

        A source that is missing by now is the step's own error.
        """
        plan = self.planner.import_plan(wildcards.key)
        environment = _environment(plan.toolchain)
        if plan.made:
            return environment
        try:
            # Names that it reserves, of a SavedModel's files say, end Snakemake (9.27), and so do files that it may not read,
            # which the import says in a sentence. The hash of all is among the params.
            files = (str(path) for path in source_files(Path(plan.source)))
            files = (path for path in files if not RESERVED.search(path) and os.access(path, os.R_OK))
            return [*files, *environment]
        except ConverterError:
            return environment

    def made_source(self, wildcards: object) -> list[str]:
        """The source that a rule makes (a recipe, or a fetched one): when that rule runs, the import runs after it.

        Not ancient: an ancient input's consumer would keep its old output, since Snakemake (9.27) does not even compare the
        parameters of jobs behind one that runs.
        """
        plan = self.planner.import_plan(wildcards.key)
        return [plan.source] if plan.made else []

    def source_path(self, wildcards: object) -> str:
        return shlex.quote(self.planner.import_plan(wildcards.key).source)

    def source_version(self, wildcards: object) -> str:
        """A hash of the source's bytes, of the files its parameters name, and of the user's code that ran in the import.

        The hub remembers size and time of what it read, so that an unchanged file is not hashed again.
        """
        plan = self.planner.import_plan(wildcards.key)
        hub = read_record(Path("intermediate", wildcards.key, "hub.json"))
        digest = hashlib.sha256()
        if is_mirror(plan.source):  # likewise: what the storage says of it stands for its bytes
            digest.update(self._remote_version(plan.source).encode())
        elif plan.made:  # may not exist yet: the recipe stands for its bytes
            digest.update(self.recipe_version(plan.source).encode())
        else:
            digest.update(self._source_sha256(hub, Path(plan.source)).encode())
        if plan.toolchain != "default":
            digest.update(toolchain_version(plan.toolchain).encode())
        script = plan.parameters.get("network_script")
        for path in (script, plan.parameters.get("verify", {}).get("inputs")):
            digest.update(_hash_if_file(path).encode())
        return self._code.key(digest.hexdigest()[:32], script, hub.get("user_code", {}))

    @staticmethod
    def _source_sha256(hub: dict, source: Path) -> str:
        try:
            recorded = hub.get("source", {})
            if recorded.get("sha256") and recorded.get("stat") == source_stat(source):
                return recorded["sha256"]
            return source_sha256(source)
        except (ConverterError, OSError) as error:
            return f"unreadable: {error}"

    def import_options(self, wildcards: object) -> str:
        return flags(self.planner.import_plan(wildcards.key).parameters)

    def import_memory(self, wildcards: object, attempt: int = 1) -> int:
        """MB: loading holds the weights about three times over (file, framework, copy for the hub)."""
        return attempt * (self._base_mb + 4 * self._source_mb(self.planner.import_plan(wildcards.key).source))

    def import_runtime(self, wildcards: object, attempt: int = 1) -> int:
        """Minutes."""
        return attempt * _minutes(self._source_mb(self.planner.import_plan(wildcards.key).source))

    # --- export rules: wildcards.name is the target's name without its extension

    def hub(self, wildcards: object) -> str:
        """The hub that a target starts from; a plan with an error has a hub that holds the error."""
        plan = self._plan(wildcards)
        if plan.error is not None:
            return f"intermediate/refused/{_UNUSABLE.sub(lambda match: f'%{ord(match[0]):02X}', plan.name)}"
        return f"intermediate/{plan.source.key}"

    def backend_environment(self, wildcards: object) -> list[str]:
        """The environment that a legacy `backend` runs in; nothing for the default one."""
        plan = self._plan(wildcards)
        return _environment(backend_toolchain(plan.source, plan.parameters)) if plan.source else []

    def refusal(self, wildcards: object) -> str:
        return shlex.quote(self.planner.plan(unquote(wildcards.target)).error or "")

    @staticmethod
    def keys_of(source_format: str) -> str:
        """A pattern for the keys of hubs of one source format."""
        return rf"[^/]+-{source_format}-[0-9a-f]{{12}}"

    def target(self, wildcards: object) -> str:
        return shlex.quote(self._plan(wildcards).target)

    def export_options(self, wildcards: object) -> str:
        return flags(self._plan(wildcards).parameters)

    def data_version(self, wildcards: object) -> str:
        """A hash of the representative data's file, which is outside the hub, and of the user's code that ran in it."""
        plan = self._plan(wildcards)
        load = plan.parameters.get("quantization", {}).get("load")
        if not load or load.endswith(".npz"):
            return _hash_if_file(load)
        record = read_record(record_of(Path("intermediate/staged", plan.name)))
        return self._code.key(_hash_if_file(load), load, record)

    def export_memory(self, wildcards: object, attempt: int = 1) -> int:
        """MB: a compiler holds the weights several times over."""
        plan = self._plan(wildcards)
        factor = {"onnx": 4, "pb": 3}.get(plan.extension, 12)
        return attempt * (self._base_mb + factor * (self._source_mb(plan.source.source) if plan.source else 0))

    def export_runtime(self, wildcards: object, attempt: int = 1) -> int:
        """Minutes."""
        plan = self._plan(wildcards)
        return attempt * _minutes(self._source_mb(plan.source.source) if plan.source else 0)

    def model_name(self, wildcards: object) -> str:
        """Part of the parameters, so that a shared cache never takes one model's file for another's."""
        plan = self._plan(wildcards)
        return plan.source.key if plan.source else plan.name

    def _plan(self, wildcards: object) -> Plan:
        extension = getattr(wildcards, "extension", None)
        return self.planner.plan(f"{wildcards.name}.{extension}" if extension else wildcards.name)

    def _source_mb(self, source: str) -> int:
        try:
            if is_mirror(source):
                return self.planner.storage.look(url_of(source)).bytes // 1_000_000
            return source_bytes(Path(source)) // 1_000_000
        except (ConverterError, OSError):
            return 200  # a recipe's file that is not there yet

    # --- publishing outside converted/: wildcards.path

    def staged_elsewhere(self, wildcards: object) -> str:
        return f"intermediate/staged/{self.planner.report_name(wildcards.path)}"

    def report_elsewhere(self, wildcards: object) -> str:
        return f"reports/{self.planner.report_name(wildcards.path)}.json"

    def elsewhere_pattern(self) -> str:
        """A pattern that only the jobs' own paths match; "" where all lie below converted/ or at addresses."""
        return "|".join(re.escape(target) for target in self.planner.elsewhere.values() if not is_remote(target))

    # --- recipes: the zoo

    def recipe_options(self, wildcards: object) -> str:
        zoo = self.planner.config.zoo
        recipe = zoo["recipes"][wildcards.model]
        options = [f"--recipe={recipe['recipe']}", f"--name={wildcards.model}", f"--weights={zoo['weights']}"]
        shape = recipe.get("parameters", {}).get("input_shape")
        options += [f"--network={recipe['network']}"] if "network" in recipe else []
        return shlex.join([*options, *([f"--shape={shape}"] if shape and "network" not in recipe else [])])

    def savedmodel_recipes(self) -> str:
        """A pattern for the names of recipes that write a directory."""
        recipes = self.planner.config.zoo["recipes"]
        return "|".join(re.escape(name) for name, recipe in recipes.items() if recipe["file"] == f"zoo/{name}")

    def recipe_version(self, file: str) -> str:
        recipes = self.planner.config.zoo["recipes"]
        recipe = next(recipe for recipe in recipes.values() if recipe["file"] == file)
        code = code_version(_RECIPE_STEPS[recipe["recipe"]])
        return json.dumps([recipe, self.planner.config.zoo["weights"], code], sort_keys=True)

    # --- what is measured of a .tflite target: wildcards.name is its name without that extension

    def layers_hub(self, wildcards: object) -> str:
        return self.hub(_tflite(wildcards))

    def layers_target(self, wildcards: object) -> str:
        return self.target(_tflite(wildcards))

    def layers_options(self, wildcards: object) -> str:
        return self.export_options(_tflite(wildcards))

    def layers_data(self, wildcards: object) -> str:
        return self._load_version(self._plan(_tflite(wildcards)).parameters.get("quantization", {}).get("load"))

    def layers_memory(self, wildcards: object, attempt: int = 1) -> int:
        return self.export_memory(_tflite(wildcards), attempt)

    # --- the page that compares a model's quantized files: wildcards.name is the model's

    def page_hub(self, wildcards: object) -> str:
        return self.hub(_float16(wildcards))

    def page_target(self, wildcards: object) -> str:
        return self.target(_tflite(wildcards))

    def page_options(self, wildcards: object) -> str:
        """Those of one of the files without its quantization, which `page_blocks` gives for each."""
        parameters = self._plan(_float16(wildcards)).parameters
        return flags({name: value for name, value in parameters.items() if name != "quantization"})

    def page_blocks(self, wildcards: object) -> str:
        return shlex.quote(json.dumps(self._blocks(wildcards), sort_keys=True))

    def page_data(self, wildcards: object) -> str:
        """Hashes of the representative data of all files."""
        blocks = [block for block in self._blocks(wildcards).values() if isinstance(block, dict)]
        return json.dumps([self._load_version(path) for path in sorted({block.get("load", "") for block in blocks})])

    def _load_version(self, load: str | None) -> str:
        """What stands for representative data where no record is kept: all Python files beside a script count."""
        if not load or load.endswith(".npz"):
            return _hash_if_file(load)
        return self._code.key(_hash_if_file(load), load, {})

    def page_memory(self, wildcards: object, attempt: int = 1) -> int:
        return self.export_memory(_float16(wildcards), attempt)

    def _blocks(self, wildcards: object) -> dict[str, dict | str]:
        """The quantization block of the float32 file and of each variant, or why there is no such file."""
        common = self._plan(_float16(wildcards))
        opsset = common.parameters.get("quantization", {}).get("opsset", "tflite")
        plain = {"optimization": "none", "opsset": "tflite" if opsset == "int8" else opsset, "type": "float32"}
        blocks: dict[str, dict | str] = {"float32": plain}
        for variant in VARIANTS:
            plan = self.planner.plan(f"{wildcards.name}.{variant}.tflite")
            blocks[variant] = plan.error or plan.parameters["quantization"]
            if plan.source and common.source and plan.source != common.source:
                blocks[variant] = f"its job makes it from {plan.source.source}, or reads that otherwise"
        return blocks

    # --- inspection

    def inspect_hub(self, wildcards: object) -> str:
        return self.hub(_Named(f"{wildcards.model}.onnx"))

    # --- the code and the libraries of a step

    @staticmethod
    def versions(step: str) -> str:
        return json.dumps(step_versions(step))

    @staticmethod
    def code(step: str) -> str:
        return code_version(step, _FRAMEWORKS.get(step))

    def export_code(self, step: str) -> Callable[[object], str]:
        """Of what a step runs for sources of the target's framework."""
        return lambda wildcards: code_version(step, _framework(self._exported(wildcards)))

    def export_versions(self, step: str) -> Callable[[object], str]:
        """Of the libraries that a step uses for sources of the target's framework."""

        def versions(wildcards: object) -> str:
            plan = self._exported(wildcards)
            return json.dumps(
                step_versions(*export_entries(step, _framework(plan), plan.parameters.get("quantization")))
            )

        return versions

    def page_versions(self, wildcards: object) -> str:
        plan = self._exported(wildcards)
        return json.dumps(step_versions(*export_entries("export_tflite", _framework(plan)), "quantize_dynamic"))

    def _exported(self, wildcards: object) -> Plan:
        """The plan of the wildcards' target, or, where they name none, of what is measured of a .tflite file."""
        if hasattr(wildcards, "extension"):
            return self._plan(wildcards)
        layers = self._plan(_tflite(wildcards))
        return layers if layers.source else self._plan(_float16(wildcards))


def _framework(plan: Plan) -> str:
    return "pytorch" if plan.source is not None and plan.source.format == "pytorch" else "tensorflow"


def _minutes(megabytes: int) -> int:
    return _BASE_MINUTES + megabytes // _MB_A_MINUTE


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name


def _tflite(wildcards: object) -> _Named:
    return _Named(f"{wildcards.name}.tflite")


def _float16(wildcards: object) -> _Named:
    """The variant that every model may have: it needs no data."""
    return _Named(f"{wildcards.name}.float16.tflite")


def _environment(toolchain: str) -> list[str]:
    """What rule toolchain_legacy makes, where the toolchain is a legacy one."""
    return [] if toolchain == "default" else [f"intermediate/toolchains/{toolchain}/ready"]


def _hash_if_file(path: str | None) -> str:
    if not path:
        return ""
    return file_sha256(Path(path)) if Path(path).is_file() else "missing"
