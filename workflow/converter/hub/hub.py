"""The hub: what an import step leaves in ``intermediate/{key}/`` and every export step starts from.

``hub.json`` holds what is below, ``reference.npz`` the seeded inputs and the source framework's own outputs. TensorFlow:
``graph.pb`` (the inference graph; each variable and each constant above 64 KB is a Placeholder node) and
``weights.safetensors`` (the values of those nodes, by node name). PyTorch: ``program.pt2`` or ``module.pt``. ONNX:
``model.onnx`` with its large weights in ``weights.bin``, and, of a TensorFlow Lite source, ``model.tflite`` itself.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from converter.hub.contents import Cost, Extra, Failure, SourceFile
from converter.hub.weights import Weights, as_dtype

__all__ = ["Hub", "Run", "TensorSpec"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    name: what users see (ONNX name, TFLite signature key). shape: None for an unknown rank, None entries for unknown
    dimensions. dtype: numpy's name, or "string". tensor: its name in the hub's graph, such as "x:0" (TensorFlow only).
    step: the scale of a source's quantized output, whose values are its multiples; 0 for all others.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    tensor: str = ""
    step: float = 0.0

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> TensorSpec:
        """The entry of hub.json, as `asdict` wrote it."""
        shape = entry["shape"]
        return cls(
            entry["name"],
            None if shape is None else tuple(shape),
            entry["dtype"],
            entry.get("tensor", ""),
            entry.get("step", 0.0),
        )

    def to_report(self) -> dict[str, Any]:
        """The entry of a report: name, shape and dtype, without what only the hub's graph knows."""
        return {"name": self.name, "shape": None if self.shape is None else list(self.shape), "dtype": self.dtype}


@dataclass
class Run:
    """One call of the source model: arrays in the order of the hub's inputs and outputs, in the source's layout.

    kind: "typical", or the name of the special values in its inputs ("zeros", "large", ...). Runs of one kind share one
    tolerance, so that large values do not excuse the differences of others.
    """

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    kind: str = "typical"


@dataclass
class Hub:
    """The contents of hub.json; see the module's docstring, and hub/contents.py for its mappings.

    `error` is set instead of all else when the import failed.

    decisions: what was decided that changes what the file means, a few words each, printed beside the target; `notes` are
    the sentences behind them. unproven: why agreement with the reference would prove nothing, one sentence that says what
    to give; every file of this source is then `unverified`. evidence: what the reference's samples are made of.
    user_code: what ran of the user's own code (user_code.Record.to_json), with `key`, the rebuild key that it was run under.
    coverage, weakest: see evidence_coverage in the report's schema. oldest_runtime: of a source that a runtime opens
    (hub/runtime_needs.py), None for all others.
    """

    path: Path
    framework: str = ""
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    batch_dynamic: bool = False
    notes: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    unproven: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])
    coverage: dict[str, Any] = field(default_factory=dict[str, Any])
    weakest: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    operators: dict[str, int] = field(default_factory=dict)
    parameters_count: int = 0
    candidates: dict[str, list[TensorSpec]] = field(default_factory=lambda: {"inputs": [], "outputs": []})
    direct: str | None = None
    oldest_runtime: dict[str, Any] | None = None
    extra: Extra = field(default_factory=Extra)
    source: SourceFile = field(default_factory=SourceFile)
    error: Failure | None = None
    parameters: dict[str, Any] = field(default_factory=dict[str, Any])
    step: Cost = field(default_factory=Cost)
    versions: dict[str, str] = field(default_factory=dict)
    user_code: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def read(cls, path: Path) -> Hub:
        """The hub in the directory `path`; raises FileNotFoundError if no import step has written one."""
        path = Path(path)
        stored = json.loads((path / "hub.json").read_text(encoding="utf-8"))
        for key in ("inputs", "outputs"):
            stored[key] = [TensorSpec.from_json(entry) for entry in stored[key]]
        stored["candidates"] = {
            key: [TensorSpec.from_json(entry) for entry in entries] for key, entries in stored["candidates"].items()
        }
        return cls(path=path, **stored)

    def write(self) -> None:
        """Write hub.json; raises TypeError for a value that JSON has no form for."""
        stored = asdict(self)
        del stored["path"]
        # Halves of characters, which names may have, stand in it as JSON's own escapes.
        text = json.dumps(stored, indent=1, ensure_ascii=False, default=_plain).encode("utf-8", "backslashreplace")
        (self.path / "hub.json").write_bytes(text + b"\n")

    @property
    def graph_path(self) -> Path:
        """The inference graph (a serialized GraphDef) of a TensorFlow source."""
        return self.path / "graph.pb"

    def weights(self) -> Weights:
        """The weights of a TensorFlow source by node name, memory-mapped."""
        return Weights(self.path / "weights.safetensors")

    def write_reference(self, runs: list[Run]) -> None:
        """Write reference.npz: the runs with all arrays as numpy stores them, bfloat16 as float32, strings as bytes."""
        arrays: dict[str, Any] = {}
        for index, run in enumerate(runs):
            arrays |= {f"run{index}_input{position}": _storable(array) for position, array in enumerate(run.inputs)}
            arrays |= {f"run{index}_output{position}": _storable(array) for position, array in enumerate(run.outputs)}
        np.savez(self.path / "reference.npz", kinds=np.array([run.kind for run in runs]), **arrays)

    def reference(self) -> list[Run]:
        """The runs of reference.npz, with the dtypes of the hub's inputs and outputs."""
        with np.load(self.path / "reference.npz", allow_pickle=False) as stored:
            return [
                Run(
                    [_restored(stored[f"run{index}_input{i}"], spec) for i, spec in enumerate(self.inputs)],
                    [_restored(stored[f"run{index}_output{i}"], spec) for i, spec in enumerate(self.outputs)],
                    str(kind),
                )
                for index, kind in enumerate(stored["kinds"])
            ]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()  # pyright: ignore[reportUnknownVariableType]: numpy does not say which number
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not belong in hub.json")


def _storable(array: np.ndarray) -> np.ndarray:
    """npz without pickles: byte strings for object arrays; bfloat16, which numpy cannot name, as float32."""
    array = np.asarray(array)
    if array.dtype.kind in "OU":
        words = [word if isinstance(word, bytes) else str(word).encode() for word in array.reshape(-1)]
        return np.array(words, np.bytes_).reshape(array.shape)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _restored(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    if spec.dtype == "bfloat16":
        return array.astype(as_dtype(spec.dtype))
    return array.astype(object) if array.dtype.kind == "S" else array
