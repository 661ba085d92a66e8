"""Quantized TensorFlow Lite files: each is what its name says, read from the file, and loses what the report says."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from export_tflite import export_model
from tf_hub import dense, make_hub, perturb

from converter import formats
from converter.contracts import ExportJob, ExportResult
from converter.errors import ConverterError, ParameterError, UnsupportedError
from converter.hub.hub import Hub
from converter.planning.variants import resolve_quantization
from converter.quantization.representative import RepresentativeData
from converter.quantization.tflite.composition import composition
from converter.quantization.tflite.full_integer import calibrate, to_integers
from converter.tflite.flatbuffer import TENSOR_DTYPES, is_constant, operators, read, schema, write
from converter.verification.runtimes import TFLiteModel

ROOT = Path(__file__).resolve().parent.parent
IMAGE = tf.TensorSpec([None, 12, 12, 3], tf.float32, "image")
VARIANTS = {
    "float16": {"type": "float16"},
    "dynamic": {"type": "float32"},
    "integer": {"type": "float32", "load": True},
    "int8": {"type": "int8", "load": True},
    "uint8": {"type": "uint8", "load": True},
}


class Net(tf.Module):
    """An image classifier (N, 12, 12, 3) -> (N, 10) of 60,000 weights, sure of its classes."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.first, self.second = dense(rng, 3, 3, 3, 32), dense(rng, 3, 3, 32, 128)
        self.bias, self.hidden, self.last = tf.Variable(tf.ones(32) * 0.1), dense(rng, 128, 160), dense(rng, 160, 10)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(tf.nn.conv2d(image, self.first, 2, "SAME") + self.bias)
        x = tf.reduce_max(tf.nn.relu(tf.nn.conv2d(x, self.second, 2, "SAME")), [1, 2])
        return tf.nn.softmax(4 * (tf.nn.relu(x @ self.hidden) @ self.last))


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Hub:
    return make_hub(tmp_path_factory.mktemp("net"), Net(), [IMAGE], ["p"])


@pytest.fixture(scope="module")
def load(tmp_path_factory) -> Path:
    """120 images, as the seeded inputs are: standard normal."""
    path = tmp_path_factory.mktemp("data") / "rep.py"
    path.write_text(
        "import numpy as np\n"
        "def get_dataset():\n"
        "    rng = np.random.default_rng(1)\n"
        "    for _ in range(120):\n"
        "        yield rng.standard_normal((1, 12, 12, 3)).astype(np.float32)\n"
    )
    return path


def convert(hub: Hub, path: Path, load: Path | None = None, **block) -> ExportResult:
    if load is not None:
        block["load"] = str(load)
    quantization = {"optimization": "default", "opsset": "tflite", **block}
    return export_model(hub, ExportJob("converted/x.tflite", quantization=quantization), path)


def boundary(path: Path) -> tuple[list[str], list[str]]:
    model = TFLiteModel(path)
    return [spec.dtype for spec in model.inputs], [spec.dtype for spec in model.outputs]


def constants(path: Path) -> set[str]:
    """The dtypes of matrices and filters in the file."""
    model = read(path.read_bytes())
    tensors = [tensor for subgraph in model.subgraphs for tensor in subgraph.tensors if is_constant(model, tensor)]
    return {
        TENSOR_DTYPES[tensor.type]
        for tensor in tensors
        if tensor.shape is not None and len(tensor.shape) > 1 and np.prod(tensor.shape) > 50
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_is_what_it_is_called_and_measured(hub, load, tmp_path, variant):
    block = dict(VARIANTS[variant])
    export_model(hub, ExportJob("converted/x.tflite"), tmp_path / "float.tflite")
    result = convert(hub, tmp_path / "x.tflite", load if block.pop("load", None) else None, **block)
    expected = variant if variant in ("int8", "uint8") else "float32"
    assert boundary(tmp_path / "x.tflite") == ([expected], [expected])
    assert [spec.dtype for spec in [*result.inputs, *result.outputs]] == [expected] * 2
    assert [spec.name for spec in [*result.inputs, *result.outputs]] == ["image", "p"]
    assert result.inputs[0].shape == (None, 12, 12, 3)
    assert constants(tmp_path / "x.tflite") == {"float16" if variant == "float16" else "int8"}
    ratio = (tmp_path / "x.tflite").stat().st_size / (tmp_path / "float.tflite").stat().st_size
    assert ratio < (0.54 if variant == "float16" else 0.32)
    entry = result.verification.outputs[0]
    assert result.verification.passed and entry["cosine"] > 0.99 and entry["sqnr_db"] > 15
    assert result.verification.samples == (24 if "load" in VARIANTS[variant] else 4)
    assert result.route == ["export_tflite", f"quantize_{'int8' if variant == 'integer' else variant}"]
    described = result.metadata["quantization"]
    assert ("held out" in described["evaluated_on"]) is ("load" in VARIANTS[variant])
    assert described["float32_bytes"] == (tmp_path / "float.tflite").stat().st_size


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_spoilt_float_file_is_not_quantized(load, tmp_path, variant):
    hub = make_hub(tmp_path / "hub", Net(), [IMAGE], ["p"])
    perturb(hub, hub.extra["variables"][0], 1.05)
    block = dict(VARIANTS[variant])
    result = convert(hub, tmp_path / "x.tflite", load if block.pop("load", None) else None, **block)
    assert not result.verification.passed and (tmp_path / "x.tflite").stat().st_size > 0


def test_a_loss_of_accuracy_fails(hub, tmp_path):
    """Calibrated on data a thousand times too small, the ranges saturate."""
    path = tmp_path / "tiny.npz"
    images = np.random.default_rng(0).standard_normal((50, 12, 12, 3)).astype(np.float32) * 1e-3
    images[4::5] *= 1e3  # the held-out part is what the model will meet
    np.savez(path, image=images)
    result = convert(hub, tmp_path / "x.tflite", path, type="int8")
    assert not result.verification.passed and "output p" in result.verification.message
    assert any("50 samples" in note for note in result.notes)


def test_thresholds_of_the_job(hub, load, tmp_path):
    assert not convert(hub, tmp_path / "x.tflite", type="float16", thresholds={"sqnr": 200.0}).verification.passed
    assert convert(hub, tmp_path / "x.tflite", load, type="int8", thresholds={"cosine": 0.5}).verification.passed


def test_one_sample_calibrates(hub, tmp_path):
    np.savez(tmp_path / "one.npz", np.random.default_rng(0).standard_normal((1, 12, 12, 3)).astype(np.float32))
    result = convert(hub, tmp_path / "x.tflite", tmp_path / "one.npz", type="int8")
    assert boundary(tmp_path / "x.tflite") == (["int8"], ["int8"])
    assert any("1 sample;" in note for note in result.notes)


COMBINATIONS = list(
    itertools.product(
        ["none", "default"], ["float32", "float16", "int8", "uint8"], ["tflite", "tf", "int8"], [False, True]
    )
)


def table() -> list[list[str]]:
    """The rows of the table in docs/parameters.md: optimization, type, load, result."""
    lines = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| optimization | type | `load` | result |") + 2
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start:])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def expected_of(optimization: str, dtype: str, opsset: str, with_load: bool) -> tuple[str, str] | None:
    """(dtype of inputs and outputs, dtype of the weights) by the table of the interface; None for an error."""
    (result,) = [
        result
        for option, types, load, result in table()
        if option == optimization
        and (dtype in types.split(", ") or (types == "any other" and dtype != "float32"))
        and load in ("ignored", "", "with" if with_load else "without")
    ]
    if opsset == "int8" and "integer arithmetic" not in result:
        return None  # integer kernels only
    if result == "float32":
        return "float32", "float32"
    if result.startswith("error"):
        return None
    weights = "float16" if "weights float16" in result else "int8"
    if result.endswith("float in and out"):
        return "float32", weights
    assert result == "integer arithmetic; inputs and outputs of exactly that type in `.tflite`, float in `.onnx`"
    return dtype, weights


def test_the_table_has_what_the_combinations_need():
    assert len(COMBINATIONS) == 48 and len(table()) == 8
    allowed = [combination for combination in COMBINATIONS if expected_of(*combination)]
    assert len(allowed) == 19


@pytest.mark.parametrize("optimization, dtype, opsset, with_load", COMBINATIONS)
def test_every_combination_of_the_table(hub, load, tmp_path, optimization, dtype, opsset, with_load):
    block = {"optimization": optimization, "type": dtype, "opsset": opsset} | ({"load": str(load)} if with_load else {})
    expected = expected_of(optimization, dtype, opsset, with_load)
    job = ExportJob("converted/x.tflite")
    if expected is None:
        with pytest.raises(ConverterError):
            quantization = resolve_quantization(block, None, {}, formats.target("tflite").quantized)
            export_model(hub, ExportJob(job.target, quantization=quantization), tmp_path / "x.tflite")
        return
    quantization = resolve_quantization(block, None, {}, formats.target("tflite").quantized)
    result = export_model(hub, ExportJob(job.target, quantization=quantization), tmp_path / "x.tflite")
    assert boundary(tmp_path / "x.tflite") == ([expected[0]], [expected[0]])
    assert constants(tmp_path / "x.tflite") == {expected[1]}
    assert result.verification.passed
    if opsset == "int8":
        assert not composition(read((tmp_path / "x.tflite").read_bytes())).float_operators
    ignored = with_load and expected[1] in ("float16", "float32")
    assert any("load is not used" in note for note in result.notes) is ignored


def test_integer_only_names_the_operators_that_are_not(tmp_path):
    rng = np.random.default_rng(0)
    matrix = dense(rng, 12, 12)
    hub = make_hub(
        tmp_path / "hub",
        lambda x: tf.math.floormod(x @ matrix, 0.7),
        [tf.TensorSpec([None, 12], tf.float32, "x")],
        ["y"],
    )
    np.savez(tmp_path / "data.npz", rng.standard_normal((100, 12)).astype(np.float32))
    with pytest.raises(UnsupportedError, match="FLOOR_MOD cannot be computed in integers only.*opsset tflite"):
        convert(hub, tmp_path / "x.tflite", tmp_path / "data.npz", type="int8", opsset="int8")
    result = convert(hub, tmp_path / "x.tflite", tmp_path / "data.npz", type="int8")
    assert "operators left in float: FLOOR_MOD" in result.notes
    assert result.metadata["quantization"]["float_operators"] == {"FLOOR_MOD": 1}
    assert boundary(tmp_path / "x.tflite") == (["int8"], ["int8"])


def test_kept_operators_stay_float(hub, load, tmp_path):
    result = convert(hub, tmp_path / "x.tflite", load, type="float32", keep_float=["SOFTMAX"])
    assert result.metadata["quantization"]["float_operators"] == {"SOFTMAX": 1}


def test_a_softmax_too_fine_for_int8_stays_float_where_the_outputs_do(tmp_path):
    rng = np.random.default_rng(0)
    matrix = dense(rng, 12, 2000)
    spec = tf.TensorSpec([None, 12], tf.float32, "x")
    hub = make_hub(tmp_path / "hub", lambda x: tf.nn.softmax(x @ matrix), [spec], ["p"])
    np.savez(tmp_path / "data.npz", rng.standard_normal((100, 12)).astype(np.float32))
    result = convert(hub, tmp_path / "x.tflite", tmp_path / "data.npz", type="float32")
    assert result.verification.passed and any("SOFTMAX stays in float" in note for note in result.notes)
    result = convert(hub, tmp_path / "x.tflite", tmp_path / "data.npz", type="int8")
    assert not result.verification.passed and "cannot resolve its values" in result.verification.message


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_inputs_one_of_them_integer(tmp_path, variant):
    rng = np.random.default_rng(0)
    matrix, table, last = (
        dense(rng, 8, 32),
        tf.Variable(rng.standard_normal((40, 32)).astype(np.float32)),
        dense(rng, 32, 5),
    )
    specs = [tf.TensorSpec([None, 8], tf.float32, "x"), tf.TensorSpec([None, 3], tf.int32, "ids")]
    hub = make_hub(
        tmp_path / "hub",
        lambda x, ids: tf.nn.relu(x @ matrix + tf.reduce_sum(tf.gather(table, ids), 1)) @ last,
        specs,
        ["y"],
    )
    x, ids = rng.standard_normal((100, 8)).astype(np.float32), rng.integers(0, 40, (100, 3)).astype(np.int32)
    np.savez(tmp_path / "data.npz", x=x, ids=ids)
    block = dict(VARIANTS[variant])
    result = convert(hub, tmp_path / "x.tflite", tmp_path / "data.npz" if block.pop("load", None) else None, **block)
    expected = variant if variant in ("int8", "uint8") else "float32"
    assert boundary(tmp_path / "x.tflite") == ([expected, "int32"], [expected])
    assert result.verification.passed
    assert constants(tmp_path / "x.tflite") == {"float16" if variant == "float16" else "int8"}


def test_half_precision_keeps_what_does_not_fit(tmp_path):
    rng = np.random.default_rng(0)
    large, small = tf.Variable(tf.ones([1, 200]) * 1e6), dense(rng, 200, 20)
    hub = make_hub(
        tmp_path / "hub",
        lambda x: tf.tanh((x * large + 1e-9) / 1e6) @ small,
        [tf.TensorSpec([None, 200], tf.float32, "x")],
        ["y"],
    )
    assert convert(hub, tmp_path / "x.tflite", type="float16").verification.passed
    assert constants(tmp_path / "x.tflite") == {"float16", "float32"}


def test_nothing_to_quantize(tmp_path):
    hub = make_hub(tmp_path / "hub", lambda x: tf.tanh(x), [tf.TensorSpec([None, 4], tf.float32, "x")], ["y"])
    for dtype in ("float16", "float32"):
        result = convert(hub, tmp_path / "x.tflite", type=dtype)
        assert result.verification.passed and any("no float weights" in note for note in result.notes)


def test_select_tf_is_stored_as_half_but_never_calibrated(tmp_path):
    matrix = dense(np.random.default_rng(0), 8, 200)
    hub = make_hub(
        tmp_path / "hub",
        lambda x: tf.nn.max_pool3d(tf.reshape(x @ matrix, [-1, 2, 2, 2, 25]), 2, 2, "SAME"),
        [tf.TensorSpec([None, 8], tf.float32, "x")],
        ["y"],
    )
    result = convert(hub, tmp_path / "x.tflite", type="float16", opsset="tf")
    assert result.verification.passed and "tensorflow" in result.verification.runtime
    assert any("FlexMaxPool3D" in note for note in result.notes)
    assert any(name.startswith("Flex") for _, _, name in operators(read((tmp_path / "x.tflite").read_bytes())))
    np.savez(tmp_path / "data.npz", np.zeros((100, 8), np.float32))
    with pytest.raises(UnsupportedError, match="cannot be run for calibration"):
        convert(hub, tmp_path / "x.tflite", tmp_path / "data.npz", type="int8", opsset="tf")


def test_bad_representative_data_leaves_no_file(hub, tmp_path):
    np.savez(tmp_path / "data.npz", np.zeros((10, 5, 5, 3), np.float32))
    with pytest.raises(ParameterError, match="expected float32 \\[-1,12,12,3\\], found float32 \\[1,5,5,3\\]"):
        convert(hub, tmp_path / "x.tflite", tmp_path / "data.npz", type="int8")
    assert not (tmp_path / "x.tflite").exists()


def test_same_inputs_same_bytes_in_another_process(hub, load, tmp_path):
    block = {"optimization": "default", "opsset": "tflite", "type": "int8", "load": str(load)}
    convert(hub, tmp_path / "here.tflite", **block)
    command = [sys.executable, ROOT / "scripts/export_tflite.py", hub.path, tmp_path / "there.tflite"]
    command += ["--report", tmp_path / "report.json", "--target", "converted/x.int8.tflite"]
    command += ["--quantization", json.dumps(block)]
    environ = {"PYTHONHASHSEED": "7", "PATH": "", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, check=True, env=environ, capture_output=True)
    assert (tmp_path / "there.tflite").read_bytes() == (tmp_path / "here.tflite").read_bytes()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["status"] == "verified" and report["verification"]["outputs"][0]["sqnr_db"] > 15


def test_weights_of_int8_and_half_precision_are_the_same_bytes_again(hub, tmp_path):
    for dtype in ("float32", "float16"):
        for name in ("a.tflite", "b.tflite"):
            convert(hub, tmp_path / name, type=dtype)
        assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


def test_weights_marked_as_stablehlo_constants_are_quantized_all_the_same(hub, load, tmp_path):
    """litert-torch leaves this mark in its files, and TensorFlow's quantizer then passes over their weights."""
    path = tmp_path / "float.tflite"
    export_model(hub, ExportJob("converted/x.tflite"), path)
    model = read(path.read_bytes())
    mark = schema.MetadataT()
    mark.name, mark.buffer = b"keep_stablehlo_constant", model.metadata[0].buffer
    model.metadata.append(mark)
    write(path, model)
    samples = RepresentativeData(load, hub.inputs, by_row=True)
    (tmp_path / "x.tflite").write_bytes(to_integers(calibrate(path, samples.calibration), "int8"))
    assert constants(tmp_path / "x.tflite") == {"int8"}
