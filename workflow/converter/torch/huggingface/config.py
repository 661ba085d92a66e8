"""config.json of a model's directory: which library and class it is of, without what would run code or load other files."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

from converter.errors import ParameterError, SourceError, UnsupportedError, UntrustedError, nearest
from converter.importing.network_script import load_script
from converter.wording import TRUST, first_line

__all__ = ["configuration", "model_class", "offline", "read_config", "read_json"]

# A configuration lists labels and sizes; larger ones do not occur.
_MAX_JSON = 32 * 1024 * 1024
# What transformers (5.23) takes from a configuration to load code, kernels or files of other names, or to change how it runs.
_NOT_TAKEN = (
    *("auto_map", "custom_pipelines", "attn_implementation", "_attn_implementation", "_attn_implementation_autoset"),
    *("experts_implementation", "_experts_implementation", "kernel_config", "fusion_config", "distributed_config"),
    *("transformers_weights", "use_pretrained_backbone", "_name_or_path", "name_or_path", "base_model_tp_plan"),
)


def offline() -> None:
    """Nothing is downloaded, whatever a configuration names. Before transformers, timm or huggingface_hub are imported."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file of a directory. Raises SourceError for anything else."""
    try:
        if path.stat().st_size > _MAX_JSON:
            raise SourceError(f"{path} is larger than a configuration can be ({path.stat().st_size / 1e6:,.0f} MB)")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is no JSON file: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise SourceError(f"{path} holds no mapping")
    return found


def read_config(folder: Path, trusted: bool) -> dict[str, Any]:
    """What config.json says of the model. Raises UntrustedError where the model's code is to come with it."""
    path = folder / "config.json"
    if not path.is_file():
        raise SourceError(f"{folder} has no config.json, which says what model its weights are of")
    config = read_json(path)
    if not any(isinstance(config.get(key), str) for key in ("model_type", "architecture")):
        raise SourceError(
            f"{path} names neither a model_type (transformers) nor an architecture (timm): "
            "give a directory that save_pretrained wrote"
        )
    if "auto_map" in config and not trusted:
        raise UntrustedError(
            f"{path} asks for Python code of its own (auto_map), which would be run: convert a model of transformers "
            f"itself, or {TRUST}"
        )
    if config.get("quantization_config"):
        method = config["quantization_config"]
        kind = method.get("quant_method", "unknown") if isinstance(method, dict) else "unknown"
        raise UnsupportedError(
            f"{folder} holds weights quantized with {str(kind)[:40]}, which no exporter takes: "
            "give the float model, and ask for a quantized file of it"
        )
    return config


def configuration(folder: Path, config: dict[str, Any], own: type | None = None) -> Any:
    """The configuration object of transformers, or of the class `own`. Raises SourceError where it does not take it."""
    if own is not None:
        return _built(folder, config, own)
    from transformers.models.auto import configuration_auto

    kind, known = str(config.get("model_type")), configuration_auto.CONFIG_MAPPING
    if kind not in known:
        import transformers

        close = nearest(kind, known.keys())
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise SourceError(
            f"{folder}: transformers {transformers.__version__} knows no model of type {kind[:60]!r}{hint}; "
            "load it with its own code in network_script, and give the weights file"
        )
    return _built(folder, config, known[kind])


def _built(folder: Path, config: dict[str, Any], kind: Any) -> Any:
    try:
        found = kind.from_dict(_without(config))
    except Exception as error:  # whatever a configuration's own checks raise
        raise SourceError(f"{folder}/config.json does not fit {kind.__name__}: {first_line(error)}") from error
    _no_cache(found)
    return found


def _without(value: Any) -> Any:
    """A copy of a JSON value without the keys that would run code or load other files, at any depth.

    Infinities and NaN, which JSON has not, are as transformers writes them: {"__float__": "Infinity"}.
    """
    if isinstance(value, dict):
        if value.keys() == {"__float__"} and value["__float__"] in ("Infinity", "-Infinity", "NaN"):
            return float(value["__float__"])
        return {key: _without(entry) for key, entry in value.items() if key not in _NOT_TAKEN}
    if isinstance(value, list):
        return [_without(entry) for entry in value]
    return value


def _no_cache(config: Any) -> None:
    """Past keys and values are neither taken nor given, in none of a model's parts."""
    for part in [config, *(value for value in vars(config).values() if hasattr(value, "model_type"))]:
        for name in ("use_cache", "use_mems_eval"):  # of XLNet the second
            if getattr(part, name, None):
                setattr(part, name, False)
    config.return_dict = True


def model_class(folder: Path, config: dict[str, Any], named: str | None) -> type:
    """The class of transformers that the user names, or else the configuration. Raises where there is no such class."""
    import transformers
    from transformers import PreTrainedModel

    names = config.get("architectures") or []
    if named is None and (not names or not isinstance(names, list)):
        raise ParameterError(
            f"{folder}/config.json does not say the model's class (architectures): write it in network_name, "
            "such as AutoModelForSequenceClassification or BertForMaskedLM"
        )
    name = str(named or names[0])
    if "auto_map" in config:  # only of a source that is trusted
        return _own_class(folder, config["auto_map"], name)
    if name.startswith("AutoModel"):
        found = _of_auto_class(folder, config, name)
    else:
        found = _attribute(transformers, name) or _from_module(str(config["model_type"]), name)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        origin = "network_name" if named is not None else f"{folder}/config.json"
        close = nearest(name, dir(transformers))
        hint = f"did you mean {' or '.join(close)}?" if close else "name a class that it has"
        raise ParameterError(
            f"{origin}: transformers {transformers.__version__} has no model class {name[:80]!r}; {hint}"
        )
    return found


def _own_class(folder: Path, mapping: Any, name: str) -> type:
    """The class in a Python file of the directory that auto_map names. Runs that file."""
    references = [entry for entry in mapping.values() if isinstance(entry, str)] if isinstance(mapping, dict) else []
    found = next((r for r in references if r.rpartition(".")[2] == name or mapping.get(name) == r), None)
    if found is None:
        raise SourceError(f"{folder}/config.json: auto_map names no file with the class {name[:80]!r}")
    module = found.rpartition(".")[0]
    if not module.isidentifier() or not (folder / f"{module}.py").is_file():
        raise SourceError(
            f"{folder}/config.json takes {name} from {found[:100]!r}, which is no Python file beside it: copy the file there"
        )
    kind = load_script(folder / f"{module}.py", "auto_map").attribute(found.rpartition(".")[2], "auto_map")
    if not (isinstance(kind, type) and hasattr(kind, "from_pretrained") and getattr(kind, "config_class", None)):
        raise SourceError(f"{folder}/{module}.py: {name} is no model class with a config_class")
    return kind


def _attribute(module: Any, name: str) -> Any:
    try:
        return getattr(module, name, None)
    except ImportError as error:  # a library that only this class needs
        raise UnsupportedError(
            f"{name} of transformers needs a library that is not installed: {first_line(error)}"
        ) from error


def _from_module(kind: str, name: str) -> Any:
    """Classes that their own module has, but not the package."""
    from transformers.models.auto.configuration_auto import model_type_to_module_name

    folder = model_type_to_module_name(kind)
    try:
        return getattr(importlib.import_module(f"transformers.models.{folder}.modeling_{folder}"), name, None)
    except ImportError:
        return None


def _of_auto_class(folder: Path, config: dict[str, Any], name: str) -> Any:
    import transformers

    auto = _attribute(transformers, name)
    mapping = getattr(
        getattr(auto, "_model_mapping", None), "_model_mapping", None
    )  # names by type, of all its classes
    if mapping is None:
        return None
    names = mapping.get(config["model_type"])
    if names is None:
        raise ParameterError(f"network_name: {name} has no class for models of type {config['model_type']} ({folder})")
    return _attribute(transformers, names[0] if isinstance(names, list | tuple) else names)
