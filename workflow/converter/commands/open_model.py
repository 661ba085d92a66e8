"""Any model file as something that runs: sources through their import step, converted files in their runtime."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from converter import errors, formats
from converter.errors import ConverterError, SourceError, UnsupportedError
from converter.hub.hub import Hub, Run, TensorSpec
from converter.installation import ROOT, SCRIPTS
from converter.planning.applies import import_parameters_of
from converter.planning.extras import check_extra
from converter.planning.parameters import IMPORT_PARAMETERS
from converter.planning.sources import source_format
from converter.safety.onnx_external import refuse_external_data

__all__ = ["ModelFile", "install", "is_source", "open_model"]


@dataclass
class ModelFile:
    """`run` takes and returns arrays in the order of `inputs` and `outputs`; `runs`: a source's own outputs on its inputs.

    `*_quantization`: (scale, zero point) of a TFLite file's inputs and outputs, scale 0 where there is none.
    """

    path: str
    runtime: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    run: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
    batch_dynamic: bool
    runs: list[Run] = field(default_factory=list)
    vocabulary: dict[str, int] = field(default_factory=dict)
    input_quantization: list[tuple[float, int]] | None = None
    output_quantization: list[tuple[float, int]] | None = None

    @property
    def quantizes(self) -> bool:
        """Whether an input or output of the file is quantized."""
        return any(scale for scale, _ in [*(self.input_quantization or []), *(self.output_quantization or [])])


def is_source(path: str) -> bool:
    """Whether the path is to be imported: no format that a runtime opens by itself."""
    found = formats.find_target(Path(path).suffix[1:])
    return found is None or found.runtime is None


def open_model(path: str, parameters: Mapping[str, object], hub: Path) -> ModelFile:
    """The model of `path`; `hub` is a new folder for what an import step writes.

    `parameters` are import parameters in canonical form; those that mean nothing for the file's format are left out.
    Raises ConverterError.
    """
    return _source(path, parameters, hub) if is_source(path) else _converted(path)


def _converted(path: str) -> ModelFile:
    if not Path(path).is_file():
        raise SourceError(f"{path} does not exist: write the path of an existing file")
    if Path(path).suffix == ".onnx":
        refuse_external_data(Path(path))
    try:
        model = formats.load(formats.target(Path(path).suffix[1:]).runtime)(Path(path))
    except Exception as error:  # whatever the runtime raises for bytes that are no model, or operators it lacks
        raise UnsupportedError(f"{path} does not open: {' '.join(str(error).split())[:300]}") from error
    batch_dynamic = all(spec.shape and spec.shape[0] is None for spec in model.inputs)
    quantization = {name: getattr(model, name, None) for name in ("input_quantization", "output_quantization")}
    return ModelFile(path, model.name, model.inputs, model.outputs, model.run, batch_dynamic, **quantization)


def _source(path: str, parameters: Mapping[str, object], folder: Path) -> ModelFile:
    name = source_format(path)
    declared = formats.source(name)
    framework = formats.framework(declared.framework)
    if framework.requirements:
        install(path)
    used = [key for key in IMPORT_PARAMETERS if key in parameters and key in import_parameters_of(name)]
    command = [sys.executable, str(SCRIPTS / f"{declared.script}.py")]
    command += [declared.name] if declared.importer else []
    command += [f"--{key}={_text(parameters[key])}" for key in used]
    run = subprocess.run([*command, "--", path, str(folder)], capture_output=True, text=True)
    if run.returncode or not (folder / "hub.json").is_file():
        raise SourceError(f"{path}: the import ended with status {run.returncode}: {_last_line(run.stderr)}")
    hub = Hub.read(folder)
    if hub.error is not None:
        kind = getattr(errors, hub.error["kind"], ConverterError)
        raise kind(hub.error["message"])
    # A legacy environment's outputs are its own framework's.
    module = framework.module
    version = hub.versions.get(f"{parameters.get('toolchain')}/{module}") or hub.versions.get(module, "")
    runtime = f"{module or framework.title} {version}".strip()
    vocabulary = hub.extra.get("vocabulary", {})
    return ModelFile(path, runtime, hub.inputs, hub.outputs, _Hub(hub), hub.batch_dynamic, hub.reference(), vocabulary)


class _Hub:
    """Runs a hub, loaded at the first call: of two sources the first is known by its reference already."""

    def __init__(self, hub: Hub) -> None:
        self._hub, self._run = hub, None

    def __call__(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        if self._run is None:
            self._run = formats.load(formats.framework(self._hub.framework).runner)(self._hub)
        return self._run(arrays)


def install(path: str) -> None:
    """PyTorch is installed when a first source asks for it. Raises ConverterError where it cannot be, or where its user does."""
    check_extra("torch", path)
    command = [sys.executable, str(SCRIPTS / "install_toolchain.py"), str(ROOT), "torch"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise ConverterError(
            f"{path} needs PyTorch, which cannot be installed ({_last_line(run.stderr)}): {shlex.join(command)} shows why"
        )


def _text(value: object) -> str:
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:300]


# What runs here runs as it does in the steps: on the CPU, without TensorFlow's start-up messages.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
