"""Where a wrong file goes wrong: faults put into exported files are found again, at the layer that they are in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import keras
import numpy as np
import pytest
import torch
from conftest import ROOT, Project
from divergence_models import HUBS
from file_faults import Fault, onnx_faults, tflite_faults

from converter import divergence
from converter.contracts import ExportJob, ExportResult
from converter.divergence import first_divergence, open_comparison
from converter.divergence.layers import layer_differences
from converter.divergence.tensorflow_graph import layer_names
from converter.divergence.torch_program import source_line
from converter.errors import ConverterError, ParameterError
from converter.hub.hub import Hub
from converter.running.step_runner import run_export
from converter.verification.runtimes import OnnxModel, TFLiteModel

FAULTS = {".onnx": onnx_faults, ".tflite": tflite_faults}
SCHEMA = json.loads((ROOT / "configs" / "report.schema.json").read_text())
SCHEMA = {**SCHEMA["properties"]["first_divergence"], "$defs": SCHEMA["$defs"]}


class Exported:
    """A model's right file, and what is said of wrong ones."""

    def __init__(self, framework: str, kind: str, extension: str, folder: Path) -> None:
        import export_onnx
        import export_tflite

        self.folder, self.extension = folder, extension
        self.hub: Hub = HUBS[framework](kind, folder)
        self.job = ExportJob(f"converted/x{extension}")
        self.path = folder / f"x{extension}"
        export = {".onnx": export_onnx, ".tflite": export_tflite}[extension].export_model
        self.result: ExportResult = export(self.hub, self.job, self.path)
        assert self.result.verification.passed

    def faults(self) -> list[Fault]:
        return list(FAULTS[self.extension](self.path))

    def diverging(self, fault: Fault) -> dict:
        path = self.folder / f"wrong{self.extension}"
        fault.write(path)
        found = first_divergence(self.hub, self.job, path, self.result)
        jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(found, allow_nan=False)))
        return found


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    made: dict[tuple[str, str, str], Exported] = {}

    def get(framework: str, kind: str, extension: str) -> Exported:
        key = framework, kind, extension
        if key not in made:
            made[key] = Exported(*key, tmp_path_factory.mktemp("_".join([framework, kind])))
        return made[key]

    return get


# model, target, kind of fault, operator of the file, which of them; the operator and layer of the source that is at fault,
# and the layers of all that became one operator of the file.
CASES = [
    ("torch cnn .onnx", "weight", "Gemm", 0, "aten.linear", "fc", {"fc"}),
    ("torch cnn .onnx", "epsilon", "BatchNormalization", 0, "aten.batch_norm", "bn", {"bn"}),
    ("torch cnn .tflite", "weight", "CONV_2D", 0, "aten.conv2d", "conv", {"conv", "bn", None}),
    ("torch cnn .tflite", "weight", "FULLY_CONNECTED", 0, "aten.linear", "fc", {"fc"}),
    ("torch residual .onnx", "channel", "Conv", 1, "aten.conv2d", "first", {"first", "first_norm"}),
    ("torch residual .onnx", "activation", "Sigmoid", 0, "aten.sigmoid", None, {None}),
    ("torch residual .tflite", "weight", "CONV_2D", 2, "aten.conv2d", "second", {"second", "second_norm"}),
    ("torch recurrent .onnx", "weight", "GRU", 0, "aten.gru", "rnn", {"rnn"}),
    ("torch recurrent .tflite", "weight", "FULLY_CONNECTED", -1, "aten.linear", "narrow", {"narrow"}),
    ("torch transformer .onnx", "axis", "Softmax", 0, "aten.scaled_dot_product_attention", "self_attn", {"self_attn"}),
    ("torch transformer .onnx", "weight", "MatMul", -1, "aten.linear", "linear2", {"linear2"}),
    ("torch script .onnx", "weight", "Gemm", 1, "aten.linear", "second", {"second"}),
    ("keras cnn .onnx", "padding", "Conv", 0, "Conv2D", "first", {"first", "first_norm", "first_relu"}),
    ("keras cnn .tflite", "weight", "CONV_2D", 1, "Conv2D", "second", {"second"}),
    ("keras cnn .tflite", "activation", "MAX_POOL_2D", 0, "MaxPool", "pool", {"pool"}),
    ("keras residual .onnx", "missing", "Add", 0, "AddV2", "first_norm", {"first_norm"}),
    ("keras residual .onnx", "missing", "Add", -1, "BiasAdd", "scores", {"scores"}),
    ("keras residual .tflite", "weight", "DEPTHWISE_CONV_2D", 0, "DepthwiseConv2dNative", "second", {"second"}),
    ("keras recurrent .onnx", "weight", "LSTM", 0, "While", "lstm", {"lstm"}),
    ("keras recurrent .onnx", "weight", "Gather", 0, "GatherV2", "embedding", {"embedding"}),
    ("keras recurrent .tflite", "weight", "FULLY_CONNECTED", -1, "MatMul", "scores", {"scores"}),
    ("keras transformer .onnx", "activation", "Erf", 0, None, "wide", {"wide"}),
    ("keras transformer .tflite", "weight", "FULLY_CONNECTED", -1, None, "narrow", {"narrow"}),
    ("tensorflow plain .onnx", "channel", "Conv", 1, "Conv2D", "block", {"block"}),
    ("tensorflow plain .tflite", "weight", "CONV_2D", 0, "Conv2D", "stem", {"stem"}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]} {case[2]}")
def test_the_layer_at_fault_is_named(exported, case):
    model, kind, operator, position, source_operator, layer, layers = case
    file = exported(*model.split())
    fault = [fault for fault in file.faults() if fault.kind == kind and fault.operator == operator]
    outputs = list(dict.fromkeys(fault.output for fault in fault))
    found = file.diverging(next(f for f in fault if f.output == outputs[position]))
    assert (found["layer"] or "").rpartition(".")[2].rpartition("/")[2] == (layer or ""), found
    assert source_operator in (None, found["operator"]), found
    last = {entry["layer"] and entry["layer"].rpartition(".")[2].rpartition("/")[2] for entry in found["group"]}
    assert last <= layers, found
    assert found["reason"] is None and found["max_abs_diff"] > 1e-5 * found["max_abs_reference"]


def test_a_pytorch_operator_is_named_by_its_line(exported):
    file = exported("torch", "residual", ".onnx")
    relu = next(fault for fault in file.faults() if fault.operator == "Relu")
    found = file.diverging(relu)
    assert found["operator"] == "aten.relu" and found["target_operator"] in ("Sigmoid", "LeakyRelu")
    assert found["source_line"].startswith("divergence_models.py:")
    assert found["source_line"].endswith(": y = F.relu(self.first_norm(self.first(x)))")
    script = exported("torch", "script", ".onnx")
    found = script.diverging(next(fault for fault in script.faults() if fault.operator == "Tanh"))
    assert found["operator"] == "aten.tanh" and found["source_line"].startswith("divergence_models.py:")


def test_the_lines_are_the_models_not_the_libraries():
    trace = (
        'File "/home/a/net.py", line 7, in forward\n    x = self.conv(x)\n'
        '  File "/v/site-packages/torch/nn/modules/conv.py", line 565, in forward\n    return self._conv_forward(input)'
    )
    assert source_line(trace) == "net.py:7: x = self.conv(x)"
    assert source_line('File "/v/site-packages/torch/nn/modules/conv.py", line 1, in f\n  y') is None
    assert source_line(None) is None


def test_layers_are_named_as_their_variables():
    weights = ["digits/conv1/kernel", "digits/block/conv_1/kernel"]
    nodes = ["digits_1/conv1_1/convolution", "digits_1/relu_1/Relu", "digits_1/block_1/conv_1_1/BiasAdd", "y"]
    named = layer_names(nodes, weights, drop_model=True)
    assert list(named.values()) == ["conv1", "relu", "block/conv_1", None]
    called = layer_names(["StatefulPartitionedCall_1/digits_1/conv1_1/Conv2D"], weights, drop_model=False)
    assert list(called.values()) == ["digits/conv1"]
    apart = layer_names(["digits_1/conv1_1/Conv2D", "digits_1/relu_1/Relu"], ["conv1/kernel"], drop_model=False)
    assert list(apart.values()) == ["conv1", "relu"]
    plain = layer_names(["a/conv_1/Conv2D", "a/add"], ["a/conv_1/kernel"], drop_model=False)
    assert list(plain.values()) == ["a/conv_1", "a"]


# --- how many of many faults are found


MODELS = [
    *(("torch", kind, extension) for kind in ("cnn", "residual", "transformer") for extension in FAULTS),
    *(("keras", kind, extension) for kind in ("cnn", "residual", "recurrent", "transformer") for extension in FAULTS),
    *(("tensorflow", "plain", extension) for extension in FAULTS),
]


def _changes(file: Exported, path: Path) -> bool:
    """Whether the file would be inaccurate."""
    target, _ = _runner(file, path)
    for run in file.hub.reference():
        for expected, actual in zip(run.outputs, target(run.inputs), strict=True):
            if np.abs(expected - actual).max() > file.job.tolerance.of(float(np.abs(expected).max())):
                return True
    return False


def _runner(file: Exported, path: Path):
    model = OnnxModel(path) if file.extension == ".onnx" else TFLiteModel(path)
    is_torch = file.extension == ".tflite" and file.hub.framework == "pytorch"

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        fed = [a.transpose(0, 2, 3, 1).copy() if is_torch and a.ndim == 4 else a for a in arrays]
        return model.run(fed)

    return run, model


def _layers_of(fault: Fault, layers: set[str]) -> set[str]:
    """The layers that the file's own name of the tensor holds: exporters build names of the layers they came from."""
    name = re.sub(r"_\d+(?=[/;:#])", "", fault.output)  # counters of second traces
    words = f"_{re.sub('[^a-z0-9]+', '_', name)}_"
    found = {layer for layer in layers if f"_{re.sub('[^a-z0-9]+', '_', layer)}_" in words}
    return {layer for layer in found if not any(other.startswith(f"{layer}/") for other in found)}


@pytest.mark.slow
def test_the_share_of_seeded_faults_that_are_found(exported, capsys):
    """Five faults of each of sixteen files, drawn among those that make the file inaccurate."""
    rng = np.random.default_rng(0)
    exact, held, missed = [], [], []
    for key in MODELS:
        file = exported(*key)
        comparison = open_comparison(file.hub, file.job, file.path)
        layers = {op.layer for op in comparison.source.operators if op.layer}
        count = 0
        for fault in (file.faults()[i] for i in rng.permutation(len(file.faults()))):
            fault.write(file.folder / f"drawn{file.extension}")
            expected = _layers_of(fault, layers)
            if count == 5 or not expected or not _changes(file, file.folder / f"drawn{file.extension}"):
                continue
            count += 1
            found = file.diverging(fault)
            named = {entry["layer"] for entry in found["group"]}
            # Of a convolution whose activation is gone, the activation is what is named; in PyTorch it is no layer.
            is_relu = fault.kind == "activation" and (found["operator"] or "").lower().endswith("relu")
            place = exact if found["layer"] in expected or is_relu else held if named & expected else missed
            place.append((key, str(fault), found["operator"], found["layer"]))
    total = len(exact) + len(held) + len(missed)
    with capsys.disabled():
        print(f"\n{len(exact)} of {total} faults at their layer, {len(held)} in the group named, missed: {missed}")
    assert total >= 55 and len(exact) >= 0.9 * total and len(exact) + len(held) >= 0.97 * total


# --- layer by layer


def _table(file: Exported, folder: Path) -> dict:
    import layer_differences as script

    table = layer_differences(file.hub, file.job, script.export, folder)
    schema = json.loads((ROOT / "configs" / "layer_differences.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(
        json.loads(json.dumps(table | {"steps": [], "versions": {}}, allow_nan=False))
    )
    return table


def test_the_differences_are_those_of_a_direct_computation(exported, tmp_path):
    """A PyTorch convolution by a hook and onnxruntime; a Keras layer by a submodel and LiteRT."""
    import onnx

    file = exported("torch", "cnn", ".onnx")
    table = _table(file, tmp_path)
    (row,) = (row for row in table["layers"] if row["layer"] == "conv")
    assert row["operator"] == "aten.conv2d" and row["source_line"].startswith("pytorch_networks.py:")
    model = onnx.load(file.path)
    model.graph.output.append(onnx.ValueInfoProto(name=row["target_tensor"]))
    onnx.save(model, tmp_path / "wide.onnx")
    program = torch.load(file.folder / "source.pt", weights_only=False)
    found = []
    for run in file.hub.reference():
        (wanted,) = (
            i for i, s in enumerate(OnnxModel(tmp_path / "wide.onnx").outputs) if s.name == row["target_tensor"]
        )
        actual = OnnxModel(tmp_path / "wide.onnx").run(run.inputs)[wanted]
        expected = program.conv(torch.from_numpy(run.inputs[0])).detach().numpy()
        found.append((np.abs(expected.astype(np.float64) - actual).max(), np.abs(expected).max()))
    assert any(
        row["max_abs_diff"] == pytest.approx(d, abs=2e-6) and row["max_abs_reference"] == pytest.approx(m)
        for d, m in found
    )

    file = exported("keras", "cnn", ".tflite")
    table = _table(file, tmp_path)
    (row,) = (row for row in table["layers"] if row["layer"] == "second" and row["operator"] == "Relu")
    source = keras.models.load_model(file.folder / "source.keras")
    part = keras.Model(source.inputs, source.get_layer("second").output)
    largest = [float(np.abs(part.predict(run.inputs[0], verbose=0)).max()) for run in file.hub.reference()]
    assert any(row["max_abs_reference"] == pytest.approx(value, rel=1e-6) for value in largest)
    assert row["target_operator"] == "CONV_2D" and 0 <= row["max_abs_diff"] < 1e-5 * row["max_abs_reference"]
    conv = next(row for row in table["layers"] if row["operator"] == "Conv2D")
    assert conv["target_tensor"] is None and conv["max_abs_diff"] is None  # folded and fused
    assert table["verified"] and table["first_divergence"] is None


def test_a_wrong_file_has_a_table_too(exported, tmp_path):
    file = exported("keras", "cnn", ".onnx")
    fault = next(fault for fault in file.faults() if fault.kind == "weight" and fault.operator == "MatMul")

    def export(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
        fault.write(staged)
        file.result.verification.passed = False
        return file.result

    try:
        table = layer_differences(file.hub, file.job, export, tmp_path)
    finally:
        file.result.verification.passed = True
    rows = {(row["layer"], row["operator"]): row for row in table["layers"]}
    before, after = rows["pool", "MaxPool"], rows["hidden", "MatMul"]
    assert before["max_abs_diff"] < 1e-5 * before["max_abs_reference"]
    assert after["max_abs_diff"] == pytest.approx(0.05 * after["max_abs_reference"], rel=1e-3)  # every weight by 5 %
    assert table["first_divergence"]["layer"] == "hidden" and not table["verified"]
    assert table["layers"][-1]["target_tensor"] is not None


def test_quantized_and_other_files_have_no_such_table(exported, tmp_path):
    hub = exported("keras", "cnn", ".onnx").hub
    job = ExportJob("converted/x.int8.tflite", quantization={"optimization": "default", "type": "int8"})
    with pytest.raises(ParameterError, match="reports/x.int8.layers.json"):
        layer_differences(hub, job, None, tmp_path)
    with pytest.raises(ConverterError, match=".onnx and .tflite files"):
        layer_differences(hub, ExportJob("converted/x.pb"), None, tmp_path)


# --- in the report


def _run(file: Exported, result: ExportResult, fault: Fault | None, tmp_path: Path) -> dict:
    def export_model(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
        fault.write(staged) if fault else staged.write_bytes(file.path.read_bytes())
        return result

    report = tmp_path / "report.json"
    arguments = [
        str(file.hub.path),
        str(tmp_path / "staged.onnx"),
        "--report",
        str(report),
        "--target",
        file.job.target,
    ]
    assert run_export("export_onnx", export_model, arguments, explain=first_divergence) == 0
    return json.loads(report.read_text())


def test_only_inaccurate_files_are_looked_into(exported, tmp_path, monkeypatch, capfd):
    file = exported("keras", "cnn", ".onnx")
    fault = next(fault for fault in file.faults() if fault.kind == "weight" and fault.operator == "MatMul")
    calls = []
    opened = divergence.open_comparison
    monkeypatch.setattr(divergence, "open_comparison", lambda *given: calls.append(given) or opened(*given))
    good = _run(file, file.result, None, tmp_path)
    assert good["status"] == "verified" and good["first_divergence"] is None and not calls
    wrong = ExportResult([], file.result.inputs, file.result.outputs, file.result.verification)
    monkeypatch.setattr(wrong.verification, "passed", False)
    bad = _run(file, wrong, fault, tmp_path)
    assert bad["status"] == "inaccurate" and bad["first_divergence"]["layer"] == "hidden" and len(calls) == 1
    assert bad["reason"].endswith("; it goes wrong at MatMul of hidden")

    def fails(*given: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(divergence, "open_comparison", fails)
    bad = _run(file, wrong, fault, tmp_path)
    assert bad["status"] == "inaccurate" and bad["first_divergence"]["operator"] is None
    assert "RuntimeError (see the log)" in bad["first_divergence"]["reason"] and "broken" in capfd.readouterr().err


def test_from_the_command_line(project: Project):
    """A weight changed behind the importer's back is no fault of the export; the layers of a good file agree."""
    import shutil

    from test_perturbation import _perturb

    shutil.copyfile(ROOT / "models" / "digits.h5", project.folder / "models" / "digits.h5")
    targets = ["reports/digits.onnx.layers.json", "reports/digits.tflite.layers.json"]
    run = project.snakemake(*targets)
    assert run.returncode == 0, run.stderr
    table = project.report("digits.tflite.layers")
    assert table["verified"] and table["steps"][0]["name"] == "layer_differences"
    assert {"conv1", "conv2", "hidden", "digit"} <= {row["layer"] for row in table["layers"]}
    assert "Nothing to be done" in (again := project.snakemake(*targets)).stdout + again.stderr
    _perturb(project, "digits", 0.5)
    assert project.snakemake("converted/digits.onnx").returncode == 1
    found = project.report("digits.onnx")["first_divergence"]
    assert found["operator"] is None and "before any export" in found["reason"]
