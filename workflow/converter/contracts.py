"""What steps are asked for, and what they answer: the contracts between the runner of steps and importers and exporters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from converter.hub.hub import Hub, TensorSpec
from converter.importing.batch import USUAL_BATCH
from converter.planning.input_shapes import InputShape, parse_input_shape
from converter.planning.network_args import read_arguments
from converter.verification.verify import Tolerance, Verification

__all__ = ["Export", "ExportJob", "ExportResult", "ImportSpec", "export_job", "import_spec"]

_BATCHES = {"free": 0, "usual": USUAL_BATCH}


@dataclass(frozen=True)
class ImportSpec:
    """What an import step is asked for, in canonical form (see planning/parameters.py).

    batch: the leading dimension that the inputs share: a size, 0 for any (the user asked for that), None where nobody said,
    USUAL_BATCH for 1 where that can be.
    length: of texts and recordings: a number, "usual", or "free"; None where nobody said: free where that can be.
    """

    source: Path
    format: str
    input_nodes: list[str] = field(default_factory=list)
    output_nodes: list[str] = field(default_factory=list)
    input_shape: list[InputShape] | None = None
    batch: int | None = None
    length: str | None = None
    constants: dict = field(default_factory=dict)
    network_script: Path | None = None
    network_name: str | None = None
    network_args: dict | list | None = None
    state_dict_key: str | None = None
    strict: bool = True
    savedmodel_tag: list[str] = field(default_factory=lambda: ["serve"])
    savedmodel_signature: str = "serving_default"
    toolchain: str = "default"
    trusted: bool = False
    samples: int = 4
    reference_inputs: Path | None = None


@dataclass(frozen=True)
class ExportJob:
    """What an export step is asked for. `onnx_opset` None: not set by the user, the default 10 may be raised.

    `reference_inputs`: the file of `verify.inputs`, on which the hub's reference was made, if there is one. accuracy_drop: by how
    much the share of right answers to its labels may fall in a quantized file.
    """

    target: str
    onnx_opset: int | None = None
    frozen: bool = True
    quantization: dict = field(default_factory=dict)
    input_layout: str = "nhwc"
    backend: str = "default"
    device: str | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    reference_inputs: Path | None = None
    accuracy_drop: float | None = None


@dataclass
class ExportResult:
    """What an export step made of the staged file. `route`: the names of its own steps; `inputs`, `outputs`: the file's.

    decisions: as in Hub. first_divergence: where an inaccurate file leaves the source's computation, None if not known.
    oldest_runtime: which release of its runtime can open the file (hub/runtime_needs.py), None where its format does not say.
    device: whether it fits the job's device (devices/fit.py).
    """

    route: list[str]
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    verification: Verification | None
    unverified_reason: str | None = None
    opset: int | None = None
    opset_reason: str | None = None
    notes: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    first_divergence: dict | None = None
    oldest_runtime: dict | None = None
    device: dict | None = None
    metadata: dict = field(default_factory=dict)


Export = Callable[[Hub, ExportJob, Path], ExportResult]
"""What writes a file from a hub, as declarations of target formats name it."""


def import_spec(source: Path, format: str, parameters: dict) -> ImportSpec:
    """The spec of canonical import parameters (see planning/parameters.py).

    Raises ParameterError where the file that network_args names holds no arguments.
    """
    verify = parameters.get("verify", {})
    values = {name: value for name, value in parameters.items() if name != "verify"}
    if "input_shape" in values:
        values["input_shape"] = parse_input_shape(values["input_shape"])
    if "batch" in values:
        values["batch"] = _BATCHES[values["batch"]] if values["batch"] in _BATCHES else int(values["batch"])
    if "network_script" in values:
        values["network_script"] = Path(values["network_script"])
    if isinstance(values.get("network_args"), str):
        values["network_args"] = read_arguments(Path(values["network_args"]))
    reference = verify.get("inputs")
    return ImportSpec(
        source,
        format,
        **values,
        samples=verify.get("samples", 4),
        reference_inputs=Path(reference) if reference else None,
    )


def export_job(target: str, parameters: dict) -> ExportJob:
    """The job of canonical export parameters (see planning/parameters.py)."""
    verify = parameters.get("verify", {})
    values = {name: value for name, value in parameters.items() if name != "verify"}
    tolerance = Tolerance(**{key: verify[key] for key in ("rtol", "atol") if key in verify})
    reference = verify.get("inputs")
    return ExportJob(
        target,
        **values,
        tolerance=tolerance,
        reference_inputs=Path(reference) if reference else None,
        accuracy_drop=verify.get("accuracy_drop"),
    )
