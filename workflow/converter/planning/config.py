"""The configuration as the rest of the program sees it: validated, in canonical form, with one error sentence per mistake."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Required, TypedDict

import yaml

from converter.errors import ParameterError, nearest
from converter.planning.parameters import DEFAULT_OPSET, PARAMETERS, normalize_all
from converter.planning.sources import model_name
from converter.planning.storage import is_remote
from converter.planning.value_limits import check_values
from converter.planning.value_types import Parameters, Written, is_list, is_mapping
from converter.wording import quoted

__all__ = ["CONVERTED", "Config", "Recipe", "Zoo", "normal_path", "read_config", "report_name"]

# Targets of any name; a job may write elsewhere.
CONVERTED = "converted/"

_KEYS = ("defaults", "models", "jobs", "zoo", "benchmark")
# What benchmarks/{target}.json is measured with (docs/profile.md).
_BENCHMARK: dict[str, Any] = {"runs": 50, "warmup": 5, "threads": 1, "device": "local", "tool": None, "serial": None}


class Recipe(TypedDict, total=False):
    """One of configs/zoo.yaml. file: what it writes; recipe: the kind of step (rules/zoo.py); network: which of those it makes.

    parameters: those of the model that its conversions need.
    """

    file: Required[str]
    recipe: Required[str]
    network: str
    parameters: Parameters


class Zoo(TypedDict):
    """weights: "random" or "pretrained"; only: models, where not all are asked for; recipes: by model."""

    weights: str
    only: list[str] | None
    recipes: dict[str, Recipe]


@dataclass
class Config:
    """`jobs` by target; a job keeps its position in the list as "position"."""

    defaults: Parameters = field(default_factory=Parameters)
    models: dict[str, Parameters] = field(default_factory=dict[str, Parameters])
    jobs: dict[str, Parameters] = field(default_factory=dict[str, Parameters])
    zoo: Zoo = field(default_factory=lambda: Zoo(weights="random", only=None, recipes={}))
    benchmark: dict[str, Any] = field(default_factory=lambda: dict(_BENCHMARK))
    jobs_by_stem: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    files: dict[str, Parameters] = field(default_factory=dict[str, Parameters])  # jobs by file, links resolved
    reports: dict[str, Parameters] = field(default_factory=dict[str, Parameters])  # and by the name of their report


def read_config(values: Written, zoo_recipes: Path | None = None) -> Config:
    """Check the merged configuration. Raises ParameterError, one sentence, for the first mistake."""
    check_values(values, "configuration")
    for key in values:
        if key not in _KEYS:
            close = nearest(str(key), [*_KEYS, *PARAMETERS], 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(_KEYS)}"
            if close and close[0] in PARAMETERS:
                hint = f"{close[0]} belongs below defaults:, models: or jobs:"
            raise ParameterError(f"configuration: unknown key {quoted(key)}: {hint}")
    defaults = normalize_all(_mapping(values, "defaults"), "defaults")
    for name in ("convert_from", "convert_to", "skip"):
        if name in defaults:
            raise ParameterError(f"defaults: {name} cannot be a default; write it in the job")
    if defaults.get("onnx_opset") == DEFAULT_OPSET:  # the shipped configuration names it: counts as not set
        del defaults["onnx_opset"]
    models: dict[str, Parameters] = {}
    for name, entry in _mapping(values, "models").items():
        models[str(name)] = normalize_all(entry or {}, f"models: {name}")
        for unusable in ("convert_to", "skip"):
            if unusable in models[str(name)]:
                raise ParameterError(f"models: {name}: {unusable} belongs in a job")
    config = Config(defaults, models, zoo=_zoo(values, zoo_recipes), benchmark=_benchmark(values))
    jobs: object = values.get("jobs") or []
    if not is_list(jobs):
        raise ParameterError("jobs: expected a list of mappings")
    for position, job in enumerate(jobs, 1):
        _add_job(config, job, position)
    return config


def _mapping(values: Written, key: str) -> Written:
    entry: object = values.get(key) or {}
    if not is_mapping(entry):
        raise ParameterError(f"{key}: expected a mapping")
    return entry


def _add_job(config: Config, values: object, position: int) -> None:
    where = f"job {position}"
    if not is_mapping(values):
        raise ParameterError(f"{where}: expected a mapping of parameters, found {type(values).__name__}")
    if isinstance(values.get("convert_to"), str):
        where += f" ({values['convert_to']})"
    job = normalize_all(values, where)
    for name in ("convert_from", "convert_to"):
        if name not in job:
            raise ParameterError(f"{where}: {name} is missing; every job needs convert_from and convert_to")
    job["position"] = position
    target = job["convert_to"] = normal_path(job["convert_to"])
    job["convert_from"] = normal_path(job["convert_from"])
    if target.startswith(("http://", "https://")):
        raise ParameterError(f"{where}: nothing can be written to {target}: write a path, or an s3:// address")
    if not report_name(target):
        raise ParameterError(f"{where}: convert_to names a folder; write the path of a file")
    if not job.get("skip"):
        _refuse_same(config.files, target if is_remote(target) else os.path.realpath(target), job, f"write {target}")
        name = report_name(target)
        _refuse_same(config.reports, name, job, f"have their report at reports/{name}.json")
    elif target in config.jobs:
        return
    config.jobs[target] = job
    config.jobs_by_stem.setdefault(model_name(job["convert_from"]), []).append(target)


def _refuse_same(known: dict[str, Parameters], key: str, job: Parameters, both: str) -> None:
    other = known.setdefault(key, job)
    if other is not job:
        names = sorted({other["convert_to"], job["convert_to"]})
        raise ParameterError(
            f"jobs {other['position']} and {job['position']} both {both}"
            + (f" ({' and '.join(names)})" if len(names) > 1 else "")
            + ": give one another convert_to"
        )


def report_name(target: str) -> str:
    """The path of the target below converted/, else its whole path, kept inside the folder it is put in."""
    if target.startswith(CONVERTED):
        return target[len(CONVERTED) :]
    if is_remote(target):
        return target.replace("://", "/", 1)
    # Only the first parts of a normal path can be "..".
    return "/".join("__" if part == ".." else part for part in target.strip("/").split("/"))


def normal_path(path: str) -> str:
    """One spelling for each path, the one that Snakemake uses; "" for the working directory itself. Addresses are left alone."""
    if is_remote(path):
        return path
    normal = os.path.normpath(path)
    return "" if normal == "." else "/" + normal.lstrip("/") if path.startswith("/") else normal


def _zoo(values: Written, recipes: Path | None) -> Zoo:
    zoo = _mapping(values, "zoo")
    for key in zoo:
        if key not in ("weights", "only"):
            close = nearest(str(key), ("weights", "only"), 1)
            raise ParameterError(
                f"zoo: unknown key {quoted(key)}: known are weights and only" + (f" ({close[0]}?)" if close else "")
            )
    weights = zoo.get("weights", "random")
    if weights not in ("random", "pretrained"):
        raise ParameterError(f"zoo: weights is {quoted(weights)}; write random or pretrained")
    known: dict[str, Recipe] = yaml.safe_load(recipes.read_text(encoding="utf-8")) if recipes else {}
    only: object = zoo.get("only")
    if only is not None and (not is_list(only) or not all(isinstance(name, str) for name in only)):
        raise ParameterError("zoo: only takes a list of model names")
    for name in only or []:
        if name not in known:
            close = nearest(name, known, 1)
            raise ParameterError(
                f"zoo: no recipe named {quoted(name)}" + (f": did you mean {close[0]}?" if close else "")
            )
    return Zoo(weights=weights, only=only, recipes=known)


def _benchmark(values: Written) -> dict[str, Any]:
    """How files are measured. Numbers may be strings, as everywhere."""
    given = _mapping(values, "benchmark")
    for key in given:
        if key not in _BENCHMARK:
            close = nearest(str(key), _BENCHMARK, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(_BENCHMARK)}"
            raise ParameterError(f"benchmark: unknown key {quoted(key)}: {hint}")
    settings = {**_BENCHMARK, **given}
    for key, least in (("runs", 1), ("warmup", 0), ("threads", 1)):
        text = str(settings[key])
        if not text.isdecimal() or int(text) < least:
            raise ParameterError(f"benchmark: {key} is {quoted(settings[key])}; write a whole number, at least {least}")
        settings[key] = int(text)
    if settings["device"] not in ("local", "android"):
        raise ParameterError(f"benchmark: device is {quoted(settings['device'])}; write local or android")
    return settings
