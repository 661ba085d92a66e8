"""From a target's name to what must be done: its source, its hub, and the parameters of each step.

Planning reads names and the configuration, never a model, so that thousands of targets cost little. A mistake in one
target becomes its plan's `error`: the others are still made.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from converter import formats
from converter.errors import ConverterError, ParameterError, SourceError, UnsupportedError, nearest
from converter.planning.applies import applies, import_parameters_of, where_applies
from converter.planning.config import CONVERTED, Config, normal_path, report_name
from converter.planning.devices import made_to_fit, takes_fixed_shapes
from converter.planning.extras import check_extra
from converter.planning.parameters import EXPORT_PARAMETERS, IMPORT_PARAMETERS, PARAMETERS
from converter.planning.same_format import refuse_copies
from converter.planning.sources import ModelFolder, model_name, source_format
from converter.planning.storage import Storage, is_mirror, is_remote, mirror
from converter.planning.toolchains import check_available
from converter.planning.value_types import Parameters, is_mapping
from converter.planning.variants import OTHER_SPELLINGS, PLAIN, VARIANTS, check_opset, resolve_quantization, used_keys

__all__ = ["ImportPlan", "Plan", "Planner", "backend_toolchain", "parameters_of", "toolchains"]


@dataclass(frozen=True)
class ImportPlan:
    """One import, shared by all targets with the same source and import parameters; `made`: a rule writes the source (a
    zoo recipe, or the one that fetches addresses).
    """

    source: str
    format: str
    parameters: Parameters = field(hash=False)
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
    """How one target is made. `name`: its path in reports/, logs/ and rejected/. Without `source`, `error` says why.

    notes: on parameters of the model or of the defaults that mean nothing for this target.
    """

    target: str
    name: str
    extension: str
    source: ImportPlan | None = None
    parameters: Parameters = field(default_factory=Parameters, hash=False)
    error: str | None = None
    notes: tuple[str, ...] = ()


class Planner:
    """Plans targets and remembers them. `config` is checked; `models` is the folder of the user's sources."""

    def __init__(self, config: Config, models: ModelFolder | None = None) -> None:
        self.config = config
        self.models = models or ModelFolder()
        self.storage: Storage | None = None  # without one, addresses are taken to exist
        self.awaits_sources = False  # whether rules of another workflow may make them
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
        targets = formats.target_extensions()
        if extension not in targets:
            known = ", ".join(f".{known}" for known in targets)
            close = nearest(extension, targets, 1)
            hint = f"did you mean .{close[0]}?" if close else f"write one of {known}"
            raise UnsupportedError(
                f"{'.' + extension if extension else 'a name without extension'} is no target format: {hint}"
            )
        stem = name.rsplit("/")[-1][: -len(extension) - 1]
        job = self.config.jobs.get(target, {})
        model, variant = self._split_variant(stem, extension, target)
        imported, values = self._source(target, model, job, targets[extension])
        format = targets[extension]
        source = formats.source(imported.format)
        if not format.accepts(source):
            possible = ", ".join(f".{known}" for known, target in targets.items() if target.accepts(source))
            raise UnsupportedError(
                f"a {imported.format} source ({imported.source}) does not become .{extension}; write one of {possible}"
            )
        if format.beside and is_remote(target):
            raise UnsupportedError(
                f"a .{extension} file comes with a .{format.beside} file, and those are written to folders only: write a path"
            )
        notes = self._unused(imported, extension, job, model_name(job["convert_from"]) if job else model)
        exported = {key: values[key] for key in EXPORT_PARAMETERS if key in values}
        if format.quantized:
            written = job.get("quantization", {})
            block, unused = used_keys(exported.get("quantization", {}), written, format)
            block = resolve_quantization(block, variant, written, format.quantized)
            check_opset(block, exported.get("onnx_opset"), format.quantized)
            exported["quantization"] = block
            if block == PLAIN:
                del exported["quantization"]
            notes += unused
        exported = {key: exported[key] for key in sorted(exported) if applies(key, imported.format, extension)}
        if "device" in exported:
            exported = made_to_fit(exported, extension, "device" in job)
        if not _fits(exported.get("backend", "default"), imported.format, extension):
            misfit = _misfit(exported.pop("backend"), imported.format, extension)
            if "backend" in job:  # one for a model or for all applies to the targets that it can make
                raise ParameterError(misfit)
            notes.append(f"not used: {misfit.partition(':')[0]}")
        refuse_copies(
            imported.source, imported.format, format.name, bool(format.quantized), imported.parameters, exported
        )
        plan = Plan(target, name, extension, imported, exported, notes=tuple(notes))
        for extra in filter(None, (formats.framework(source.framework).requirements, format.requirements)):
            check_extra(extra, imported.source)
        for toolchain in toolchains(plan):
            check_available(toolchain)
        return plan

    def _unused(self, imported: ImportPlan, extension: str, job: Parameters, model: str) -> list[str]:
        """Notes on parameters of the model or the defaults that mean nothing for this source or target: they may stand for
        others. Raises ParameterError for one of the job, which has no other.
        """
        entry = self.config.models.get(model, {})
        notes: list[str] = []
        for key in PARAMETERS:
            given = key in job, key in entry, key in self.config.defaults
            if not any(given) or applies(key, imported.format, extension):
                continue
            if key in job:
                raise ParameterError(
                    f"{where_applies(key)}, not to a {imported.format} source ({imported.source}) that becomes "
                    f".{extension}: leave it out of the job"
                )
            where = f"models: {model}" if key in entry else "defaults"
            notes.append(f"{key} ({where}) was not used: {where_applies(key)}")
        return notes

    def _split_variant(self, stem: str, extension: str, target: str) -> tuple[str, str | None]:
        base, dot, suffix = stem.rpartition(".")
        quantized = formats.target(extension).quantized
        suffixes = quantized.suffixes if quantized else ()
        if not dot:
            return stem, None
        if suffix in suffixes:
            if target not in self.config.jobs and self._is_known(stem) and not self._is_known(base):
                return stem, None  # the model's own name ends like a variant
            return base, suffix
        named = suffix in VARIANTS or suffix in OTHER_SPELLINGS
        if named and target not in self.config.jobs and self._is_known(base) and not self._is_known(stem):
            meant = OTHER_SPELLINGS.get(suffix, "")
            hint = f".{meant}" if meant in suffixes else f"one of .{', .'.join(suffixes)}" if suffixes else base
            raise UnsupportedError(f".{suffix}.{extension} is no kind of file that is made: write {hint}.{extension}")
        return stem, None

    def _is_known(self, model: str) -> bool:
        return any(model in names for names in (self.models.sources, self.config.models, self.config.zoo["recipes"]))

    def _source(
        self, target: str, model: str, job: Parameters, to: formats.TargetFormat
    ) -> tuple[ImportPlan, Parameters]:
        """The import that `target` starts from, and its merged parameters: job over model over defaults."""
        recipes = self.config.zoo["recipes"]
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
        format = source_format(source, made or (self.awaits_sources and not os.path.exists(source)))
        used = import_parameters_of(format)
        if "length" not in job:
            values = _with_length(values, formats.source(format).takes_lengths(Path(source)), to)
        if to.fixes_batch or ("device" in values and takes_fixed_shapes(values["device"], to.extensions)):
            values = _merge({"batch": "usual"}, values)
        parameters = {key: values[key] for key in sorted(IMPORT_PARAMETERS) if key in values and key in used}
        if "verify" in parameters:  # only what shapes the reference belongs to the hub
            reference = {key: value for key, value in parameters["verify"].items() if key in ("samples", "inputs")}
            parameters = {**parameters, "verify": reference} if reference else _without(parameters, "verify")
        imported = ImportPlan(source, format, parameters, made)
        return self._imports.setdefault(imported.key, imported), values

    def _is_made(self, source: str) -> bool:
        return any(recipe["file"] == source for recipe in self.config.zoo["recipes"].values())

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
        models = {*self.models.sources, *self.config.models, *self.config.zoo["recipes"]}
        return [self.report_name(target) for target in jobs] + [
            f"{model}.{extension}"
            for model in sorted(models)
            for extension in formats.target_extensions()
            if _slug(model) == stem or "convert_from" in self.config.models.get(model, {})
        ]

    def default_targets(self) -> list[str]:
        """The targets of all jobs that are not skipped."""
        return [target for target, job in self.config.jobs.items() if not job.get("skip")]


def parameters_of(format: str, extension: str) -> frozenset[str]:
    """The parameters that mean something for conversions of this source format to this target format."""
    return import_parameters_of(format) | formats.target(extension).parameters


def _with_length(values: Parameters, is_taken: bool, to: formats.TargetFormat) -> Parameters:
    """`length` where it means something, with its default; input_shape has all sizes."""
    if not is_taken or "input_shape" in values:
        return _without(values, "length")
    return {"length": "usual", **values} if to.fixes_lengths else values


def _extension(target: str) -> str:
    return target.rsplit("/")[-1].rpartition(".")[2] if "." in target.rsplit("/")[-1] else ""


def backend_toolchain(imported: ImportPlan, parameters: Parameters) -> str:
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
    made = formats.target(extension).backends.get(backend)
    return backend == "default" or (made is not None and source in made.sources and extension in made.extensions)


def _misfit(backend: str, source: str, extension: str) -> str:
    made = next(target.backends[backend] for target in formats.targets().values() if backend in target.backends)
    return (
        f"backend {backend} converts {' and '.join(made.sources)} to .{' and .'.join(made.extensions)} only, "
        f"not {source} to .{extension}: leave backend out"
    )


def _slug(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", model).lstrip(".-")[:60] or "model"


def _without(values: Parameters, key: str) -> Parameters:
    return {name: value for name, value in values.items() if name != key}


def _merge(*layers: Parameters) -> Parameters:
    """Later layers win; mappings merge by key."""
    merged: Parameters = {}
    for layer in layers:
        for key, value in layer.items():
            nested = is_mapping(value) and is_mapping(merged.get(key))
            merged[key] = {**merged[key], **value} if nested and key in ("verify", "quantization") else value
    return merged
