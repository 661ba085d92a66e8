"""A source format and a target format of no library: matrices as JSON in, NumPy's .npz out. The example of docs/extending.md."""

import json

import numpy as np

from converter.contracts import ExportResult
from converter.errors import SourceError
from converter.formats import Exporter, Framework, SourceFormat, TargetFormat
from converter.hub.hub import Hub, TensorSpec
from converter.hub.reference import make_reference
from converter.verification.verify import verify


def import_model(spec, out):
    """{"weights": [[...], ...]}: x @ weights."""
    weights = np.array(json.loads(spec.source.read_text())["weights"], np.float32)
    if weights.ndim != 2:
        raise SourceError(f"{spec.source}: weights has {weights.ndim} axes: write a list of rows")
    np.save(out / "weights.npy", weights)
    hub = Hub(out, framework="matrices", batch_dynamic=True, operators={"matmul": 1}, parameters_count=weights.size)
    hub.inputs = [TensorSpec("x", (None, weights.shape[0]), "float32")]
    hub.outputs = [TensorSpec("y", (None, weights.shape[1]), "float32")]
    hub.write_reference(make_reference(hub.inputs, True, runner(hub), samples=spec.samples))
    return hub


def runner(hub):
    weights = np.load(hub.path / "weights.npy")
    return lambda arrays: [arrays[0] @ weights]


def export_matrices(hub, job, staged):
    with staged.open("wb") as file:
        np.savez(file, matrix=np.load(hub.path / "weights.npy"))
    model = NpzModel(staged)
    return ExportResult(
        ["export_matrices"], hub.inputs, hub.outputs, verify(hub.outputs, hub.reference(), model.run, job.tolerance)
    )


class NpzModel:
    """The runtime of .mat.npz files, for verification and for `converter check`."""

    name = f"numpy {np.__version__}"

    def __init__(self, path):
        self._matrix = np.load(path)["matrix"]
        self.inputs = [TensorSpec("x", (None, self._matrix.shape[0]), "float32")]
        self.outputs = [TensorSpec("y", (None, self._matrix.shape[1]), "float32")]

    def run(self, arrays):
        return [arrays[0] @ self._matrix]


FORMATS = [
    Framework("matrices", "Matrices", "numpy", "toy_formats:runner"),
    SourceFormat(
        "matrices",
        "Matrices",
        "matrices",
        extensions=(".matrix",),
        packages=("numpy",),
        importer="toy_formats:import_model",
    ),
    TargetFormat(
        "npz",
        "NumPy",
        extensions=("npz",),
        exporters={"matrices": Exporter("toy_formats:export_matrices", packages=("numpy",))},
        runtime="toy_formats:NpzModel",
    ),
]
