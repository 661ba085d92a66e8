"""From a target's name to what must be done: its source, its hub, and the parameters of each step.

Planning reads names and the configuration, never a model, so that thousands of targets cost little. A mistake in one
target becomes its plan's `error`: the others are still made (DESIGN, Targets).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property

from converter.errors import ConverterError, ParameterError, SourceError, UnsupportedError, nearest
from converter.planning.config import CONVERTED, Config, normal_path, report_name
from converter.planning.parameters import EXPORT_PARAMETERS, IMPORT_PARAMETERS
from converter.planning.sources import ModelFolder, model_name, source_format
from converter.planning.storage import Storage, is_mirror, is_remote, mirror
from converter.planning.toolchains import check_available
from converter.planning.variants import VARIANTS, resolve_quantization

__all__ = ["ImportPlan", "Plan", "Planner", "backend_toolchain", "import_parameters_of", "parameters_of", "toolchains"]

# What each target format is made from (DESIGN, Targets).
_FROM = {
    "onnx": ("keras", "savedmodel", "checkpoint", "protobuf", "pytorch"),
    "tflite": ("keras", "savedmodel", "checkpoint", "protobuf", "pytorch"),
    "pb": ("keras", "savedmodel", "checkpoint"),
    "h5": ("pytorch",),
    "hdf5": ("pytorch",),
    "keras": ("pytorch",),
}
# Import parameters that mean something for every format, and for some.
_GENERAL = {"input_shape", "verify", "toolchain", "trusted"}
_USED_BY = {
    "keras": {"input_nodes", "output_nodes", "network_script", "network_name", "network_args"},
    "savedmodel": {"savedmodel_tag", "savedmodel_signature", "constants"},
    "checkpoint": {"input_nodes", "output_nodes", "constants"},
    "protobuf": {"input_nodes", "output_nodes", "constants"},
    "pytorch": {"network_script", "network_name", "network_args", "state_dict_key", "constants"},
}
_EXPORT_USED_BY = {
    "onnx": {"onnx_opset", "backend"},
    "tflite": {"quantization", "input_layout"},
    "pb": {"frozen"},
    "h5": {"input_layout", "backend"},
    "hdf5": {"input_layout", "backend"},
    "keras": {"input_layout", "backend"},
}

# What the original tool's libraries convert.
_BACKENDS = {"keras2onnx": [("keras", "onnx")], "pytorch2keras": [("pytorch", "h5"), ("pytorch", "hdf5")]}


@dataclass(frozen=True)
class ImportPlan:
    """One import, shared by all targets with the same source and import parameters; `made`: a rule writes the source (a
    zoo recipe, or the one that fetches addresses).
    """

    source: str
    format: str
    parameters: dict = field(hash=False)
    made: bool = False

    @cached_property
    def key(self) -> str:
        """The hub's folder below intermediate/: model and format, for people, and a hash of path and parameters."""
        text = json.dumps([self.source, self.format, self.parameters], sort_keys=True)
        return f"{_slug(model_name(self.source))}-{self.format}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def toolchain(self) -> str:
        """The environment that reads the source: "default" or the name of a legacy one."""
        return self.parameters.get("toolchain", "default")


@dataclass(frozen=True)
class Plan:
    """How one target is made. `name`: its path in reports/, logs/ and rejected/. Without `source`, `error` says why."""

    target: str
    name: str
    extension: str
    source: ImportPlan | None = None
    parameters: dict = field(default_factory=dict, hash=False)
    error: str | None = None


class Planner:
    """Plans targets and remembers them. `config` is checked; `models` is the folder of the user's sources."""

    def __init__(self, config: Config, models: ModelFolder | None = None) -> None:
        self.config = config
        self.models = models or ModelFolder()
        self.storage: Storage | None = None  # without one, addresses are taken to exist
        self._plans: dict[str, Plan] = {}
        self._imports: dict[str, ImportPlan] = {}

    @cached_property
    def elsewhere(self) -> dict[str, str]:
        """Targets of jobs outside converted/, by their report's name."""
        return {self.report_name(target): target for target in self.config.jobs if not target.startswith(CONVERTED)}

    @property
    def remote_targets(self) -> list[str]:
        """The jobs' targets that are addresses of object storage."""
        return [target for target in self.config.jobs if is_remote(target)]

    report_name = staticmethod(report_name)

    def target(self, name: str) -> str:
        """The path or address of the target whose report has this name."""
        return self.elsewhere.get(name) or CONVERTED + name

    def plan(self, name: str) -> Plan:
        """The plan of the target whose report is reports/{name}.json; a mistake is its `error`."""
        if name not in self._plans:
            try:
                self._plans[name] = self.require(name)
            except ConverterError as error:
                target = self.target(name)
                self._plans[name] = Plan(target, name, _extension(target), error=str(error))
        return self._plans[name]

    def require(self, name: str) -> Plan:
        """The same plan; a mistake is raised."""
        target = self.target(name)
        return self._plan(target, name, _extension(target))

    def _plan(self, target: str, name: str, extension: str) -> Plan:
        if re.search(r"[\x00-\x1f\x7f]", target):
            raise ParameterError("its name has a line break or another control character: ask for it without")
        if extension not in _FROM:
            known = ", ".join(f".{known}" for known in _FROM)
            close = nearest(extension, _FROM, 1)
            hint = f"did you mean .{close[0]}?" if close else f"write one of {known}"
            raise UnsupportedError(
                f"{'.' + extension if extension else 'a name without extension'} is no target format: {hint}"
            )
        stem = name.rsplit("/")[-1][: -len(extension) - 1]
        job = self.config.jobs.get(target, {})
        model, variant = self._split_variant(stem, extension, target)
        imported, values = self._source(target, model, job)
        if imported.format not in _FROM[extension]:
            possible = ", ".join(f".{known}" for known, formats in _FROM.items() if imported.format in formats)
            raise UnsupportedError(
                f"a {imported.format} source ({imported.source}) does not become .{extension}; write one of {possible}"
            )
        exported = {key: values[key] for key in EXPORT_PARAMETERS if key in values}
        if extension == "tflite":
            exported["quantization"] = resolve_quantization(
                exported.get("quantization", {}), variant, job.get("quantization")
            )
        used = _EXPORT_USED_BY[extension] | {"verify"}
        exported = {key: exported[key] for key in sorted(exported) if key in used}
        if not _fits(exported.get("backend", "default"), imported.format, extension):
            backend = exported.pop("backend")
            if "backend" in job:  # one for a model or for all applies to the targets that it can make
                raise ParameterError(_misfit(backend, imported.format, extension))
        plan = Plan(target, name, extension, imported, exported)
        for toolchain in toolchains(plan):
            check_available(toolchain)
        return plan

    def _split_variant(self, stem: str, extension: str, target: str) -> tuple[str, str | None]:
        base, dot, suffix = stem.rpartition(".")
        if extension != "tflite" or not dot or suffix not in VARIANTS:
            return stem, None
        if target not in self.config.jobs and self._is_known(stem) and not self._is_known(base):
            return stem, None  # the model's own name ends like a variant
        return base, suffix

    def _is_known(self, model: str) -> bool:
        return any(
            model in names for names in (self.models.sources, self.config.models, self.config.zoo.get("recipes", {}))
        )

    def _source(self, target: str, model: str, job: dict) -> tuple[ImportPlan, dict]:
        """The import that `target` starts from, and its merged parameters: job over model over defaults."""
        recipes = self.config.zoo.get("recipes", {})
        entry = self.config.models.get(model, {})
        made = False
        if job:
            source = job["convert_from"]
            entry = self.config.models.get(model_name(source), {})
            made = self._is_made(source)
        elif "convert_from" in entry:
            source = normal_path(entry["convert_from"])
            made = self._is_made(source)
        elif (found := self.models.find(model)) is not None:
            source = found
        elif model in recipes:
            source, made = recipes[model]["file"], True
        else:
            raise self.models.missing(model, [*recipes, *self.config.models])
        if made:
            recipe = next(recipe for recipe in recipes.values() if recipe["file"] == source)
            entry = {**recipe.get("parameters", {}), **entry}
        if is_remote(source):
            if self.storage is not None:
                self.storage.look(source)
            source = mirror(source)
        values = _merge(self.config.defaults, entry, job)
        made = made or is_mirror(source)
        format = source_format(source, made)
        used = import_parameters_of(format)
        parameters = {key: values[key] for key in sorted(IMPORT_PARAMETERS) if key in values and key in used}
        if "verify" in parameters:  # only what shapes the reference belongs to the hub
            reference = {key: value for key, value in parameters["verify"].items() if key in ("samples", "inputs")}
            parameters = {**parameters, "verify": reference} if reference else _without(parameters, "verify")
        imported = ImportPlan(source, format, parameters, made)
        return self._imports.setdefault(imported.key, imported), values

    def _is_made(self, source: str) -> bool:
        return any(recipe["file"] == source for recipe in self.config.zoo.get("recipes", {}).values())

    def import_plan(self, key: str) -> ImportPlan:
        """The import behind a hub's key. A process that was started for one step alone finds it among all known targets."""
        if key not in self._imports:
            stem = key.rsplit("-", 2)[0]
            for name in self._names_like(stem):
                self.plan(name)
                if key in self._imports:
                    break
            else:
                raise SourceError(f"intermediate/{key} belongs to no model that the configuration or models/ knows")
        return self._imports[key]

    def _names_like(self, stem: str) -> list[str]:
        jobs = [
            target
            for source, targets in self.config.jobs_by_stem.items()
            for target in targets
            if _slug(source) == stem
        ]
        models = {*self.models.sources, *self.config.models, *self.config.zoo.get("recipes", {})}
        return [self.report_name(target) for target in jobs] + [
            f"{model}.onnx"
            for model in sorted(models)
            if _slug(model) == stem or "convert_from" in self.config.models.get(model, {})
        ]

    def default_targets(self) -> list[str]:
        """The targets of all jobs that are not skipped."""
        return [target for target, job in self.config.jobs.items() if not job.get("skip")]


def import_parameters_of(format: str) -> set[str]:
    """The import parameters that mean something for this source format."""
    return _GENERAL | _USED_BY[format]


def parameters_of(format: str, extension: str) -> set[str]:
    """The parameters that mean something for conversions of this source format to this target format."""
    return import_parameters_of(format) | _EXPORT_USED_BY[extension]


def _extension(target: str) -> str:
    return target.rsplit("/")[-1].rpartition(".")[2] if "." in target.rsplit("/")[-1] else ""


def backend_toolchain(imported: ImportPlan, parameters: dict) -> str:
    """The environment that an export with these parameters runs in: the source's own legacy one, else tf2.3."""
    if parameters.get("backend", "default") == "default":
        return "default"
    return imported.toolchain if imported.toolchain != "default" else "tf2.3"


def toolchains(plan: Plan) -> list[str]:
    """The legacy environments that a plan needs."""
    if plan.source is None:
        return []
    return sorted({plan.source.toolchain, backend_toolchain(plan.source, plan.parameters)} - {"default"})


def _fits(backend: str, source: str, extension: str) -> bool:
    return backend == "default" or (source, extension) in _BACKENDS[backend]


def _misfit(backend: str, source: str, extension: str) -> str:
    made_from, made = _BACKENDS[backend][0][0], " and .".join(made for _, made in _BACKENDS[backend])
    return f"backend {backend} converts {made_from} to .{made} only, not {source} to .{extension}: leave backend out"


def _slug(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", model).lstrip(".-")[:60] or "model"


def _without(values: dict, key: str) -> dict:
    return {name: value for name, value in values.items() if name != key}


def _merge(*layers: dict) -> dict:
    """Later layers win; mappings merge by key."""
    merged: dict = {}
    for layer in layers:
        for key, value in layer.items():
            nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = {**merged[key], **value} if nested and key in ("verify", "quantization") else value
    return merged
