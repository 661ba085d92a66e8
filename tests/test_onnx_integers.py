"""Quantized ONNX and TensorFlow Lite models become TensorFlow Lite files of integers with their own scales, or are refused."""

from __future__ import annotations

import shutil

import import_onnx
import import_tflite
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import info, model_of, random
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from converter.contracts import ExportJob, ImportSpec
from converter.hub.hub import Hub
from converter.onnx.quantized_form import quantized_form
from converter.onnx_to_torch.exports import export_tflite
from converter.tflite.flatbuffer import TENSOR_DTYPES, constant, is_constant, operators, read, write
from converter.tflite.integers.fold import fold
from converter.tflite.integers.proof import PieceRun, prove
from converter.tflite.integers.scales import Grid
from converter.verification.runtimes import TFLiteModel

node = helper.make_node


def mobile() -> onnx.ModelProto:
    """Depthwise convolutions, one of them strided, a skip, a mean over the image and a softmax."""
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Clip", ["c1", "zero", "six"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], group=8),
        node("Clip", ["c2", "zero", "six"], ["r2"]),
        node("Conv", ["r2", "w3", "b3"], ["c3"]),
        node("Add", ["c3", "r1"], ["s"]),
        node("GlobalAveragePool", ["s"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "w4", "b4"], ["l"], transB=1),
        node("Softmax", ["l"], ["y"]),
    ]
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 1, 3, 3), "b2": (8,), "w3": (8, 8, 1, 1), "b3": (8,)}
    shapes |= {"w4": (5, 8), "b4": (5,)}
    weights = [(name, random(*shape, seed=3)) for name, shape in shapes.items()]
    weights += [("zero", np.float32(0)), ("six", np.float32(6))]
    return model_of(nodes, [info("x", ["n", 3, 12, 12])], [info("y", ["n", 5])], weights)


def branches() -> onnx.ModelProto:
    """Concatenation of unlike ranges, poolings, a sigmoid, a transposition and a flattening between layers."""
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"]),
        node("Sigmoid", ["c2"], ["s2"]),
        node("Concat", ["r1", "s2"], ["c"], axis=1),
        node("MaxPool", ["c"], ["m"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("AveragePool", ["m"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "w3"], ["y"]),
    ]
    shapes = {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (6, 4, 1, 1), "w3": (90, 5)}
    weights = [(name, random(*shape, seed=4)) for name, shape in shapes.items()]
    return model_of(nodes, [info("x", ["n", 3, 12, 12])], [info("y", ["n", 5])], weights)


def linear() -> onnx.ModelProto:
    nodes = [
        node("Gemm", ["x", "w1", "b1"], ["g1"], transB=1),
        node("Tanh", ["g1"], ["t"]),
        node("MatMul", ["t", "w2"], ["m"]),
        node("Mul", ["m", "m"], ["q"]),
        node("Relu", ["q"], ["y"]),
    ]
    weights = [("w1", random(16, 12)), ("b1", random(16)), ("w2", random(16, 6))]
    return model_of(nodes, [info("x", ["n", 12])], [info("y", ["n", 6])], weights)


class _Samples(CalibrationDataReader):
    def __init__(self, model: onnx.ModelProto) -> None:
        dims = [dim.dim_value or 4 for dim in model.graph.input[0].type.tensor_type.shape.dim]
        drawn = np.random.default_rng(0)
        self._samples = iter([{"x": drawn.normal(size=dims).astype(np.float32)} for _ in range(8)])

    def get_next(self) -> dict | None:
        return next(self._samples, None)


def quantized(model, folder, form="QDQ", activations="QInt8", *, per_channel=True, weights="QInt8"):
    """What onnxruntime's quantizer makes of the model."""
    source, target = folder / "float.onnx", folder / "quantized.onnx"
    onnx.save(model, source)
    quantize_static(
        source,
        target,
        _Samples(model),
        quant_format=QuantFormat[form],
        per_channel=per_channel,
        activation_type=QuantType[activations],
        weight_type=QuantType[weights],
    )
    return target


def hub_of(path, folder):
    importer, kind = (import_tflite, "tflite") if path.suffix == ".tflite" else (import_onnx, "onnx")
    out = folder / "hub"
    out.mkdir()
    hub = importer.import_model(ImportSpec(path, kind), out)
    hub.source = {"path": str(path), "sha256": "0" * 64}
    hub.write()
    return Hub.read(out)


def converted(path, folder):
    hub, staged = hub_of(path, folder), folder / "staged.tflite"
    return export_tflite(hub, ExportJob("m.tflite"), staged), staged


def names(path) -> list[str]:
    return [name for _, _, name in operators(read(path.read_bytes()))]


def scales(path) -> set[float]:
    """Of the tensors that are computed."""
    model = read(path.read_bytes())
    tensors = [tensor for tensor in model.subgraphs[0].tensors if not is_constant(model, tensor)]
    return {float(t.quantization.scale[0]) for t in tensors if TENSOR_DTYPES[t.type] in ("int8", "uint8")}


def scales_of_source(path) -> set[float]:
    form = quantized_form(onnx.load(path))
    return {float(grid.scale[0]) for grid in form.pairs.values()}


@pytest.mark.parametrize(
    ("make", "form", "activations", "per_channel"),
    [
        (mobile, "QDQ", "QInt8", True),
        (mobile, "QDQ", "QUInt8", False),
        (mobile, "QOperator", "QUInt8", False),
        (branches, "QDQ", "QInt8", True),
        (branches, "QDQ", "QUInt8", True),
        (branches, "QOperator", "QInt8", False),
        (linear, "QDQ", "QInt8", False),
        (linear, "QOperator", "QUInt8", False),
    ],
)
def test_integers_with_the_sources_scales(tmp_path, make, form, activations, per_channel):
    path = quantized(make(), tmp_path, form, activations, per_channel=per_channel)
    result, staged = converted(path, tmp_path)
    assert result.verification.passed, result.verification.message
    assert result.route[-1] == "fold_integers", result.notes
    described = result.metadata["integers"]
    assert described["steps_off"] <= 1 and described["share_off"] < 0.1
    assert not set(described["float_operators"]) & {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SOFTMAX"}
    assert described["tensors"] >= 4
    # Scales of the source, and those that kernels have one of.
    assert scales(staged) - {1 / 256, 1 / 128} <= scales_of_source(path)
    assert result.inputs[0].dtype == result.outputs[0].dtype == "float32" and result.inputs[0].shape[0] is None
    expected = result.verification.outputs[0]
    assert expected["step"] in scales_of_source(path) and expected["steps_off"] <= 3


def test_weights_are_the_sources_own_integers(tmp_path):
    path = quantized(mobile(), tmp_path)
    _, staged = converted(path, tmp_path)
    source = {onnx.numpy_helper.to_array(tensor).tobytes() for tensor in onnx.load(path).graph.initializer}
    model = read(staged.read_bytes())
    stored = [t for t in model.subgraphs[0].tensors if is_constant(model, t) and TENSOR_DTYPES[t.type] == "int8"]
    assert len(stored) == 4
    for tensor in stored:
        values = constant(model, tensor)
        # Filters as (N, H, W, C), those of single channels as (1, H, W, C); matrices as they are.
        if values.ndim == 4:
            values = values.transpose((3, 0, 1, 2) if values.shape[0] == 1 and len(tensor.shape) == 4 else (0, 3, 1, 2))
        assert np.ascontiguousarray(values).tobytes() in source


def test_asymmetric_weights_stay_in_float(tmp_path):
    result, staged = converted(
        quantized(mobile(), tmp_path, activations="QUInt8", weights="QUInt8", per_channel=False), tmp_path
    )
    assert result.verification.passed and result.metadata["integers"]["float_operators"]["CONV_2D"] == 2
    assert any("stay in float between integers: CONV_2D (2)" in note for note in result.notes)
    assert "ADD" in result.metadata["integers"]["operators"]


def integers_inside(dtype: int = TensorProto.UINT8) -> onnx.ModelProto:
    """Inputs and outputs of integers, convolutions of integers, and what moves them between."""
    kind = np.uint8 if dtype == TensorProto.UINT8 else np.int8
    zero, half = kind(0 if kind is np.int8 else 128), kind(3)
    nodes = [
        node("QLinearConv", ["x", "s1", "z1", "w", "sw", "zw", "s2", "z2"], ["c"], pads=[1, 1, 1, 1]),
        node("MaxPool", ["c"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("QLinearAdd", ["m", "s2", "z2", "m", "s2", "z2", "s3", "z2"], ["a"], domain="com.microsoft"),
        node("Transpose", ["a"], ["t"], perm=[0, 2, 3, 1]),
        node("Reshape", ["t", "shape"], ["y"]),
    ]
    weights = [
        *(("s1", np.float32(0.02)), ("s2", np.float32(0.05)), ("s3", np.float32(0.11)), ("z1", half), ("z2", zero)),
        *(
            ("w", np.random.default_rng(1).integers(-127, 128, (6, 3, 3, 3)).astype(np.int8)),
            ("zw", np.zeros(6, np.int8)),
        ),
        *(("sw", np.linspace(0.001, 0.01, 6).astype(np.float32)), ("shape", np.array([0, -1]))),
    ]
    inputs = [helper.make_tensor_value_info("x", dtype, ["n", 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", dtype, ["n", 96])]
    return model_of(nodes, inputs, outputs, weights, domains=["com.microsoft"])


@pytest.mark.parametrize("dtype", [TensorProto.UINT8, TensorProto.INT8])
def test_inputs_and_outputs_of_integers_stay_such(tmp_path, dtype):
    onnx.save(integers_inside(dtype), tmp_path / "m.onnx")
    result, staged = converted(tmp_path / "m.onnx", tmp_path)
    assert result.verification.passed, result.verification.message
    name = "uint8" if dtype == TensorProto.UINT8 else "int8"
    assert result.inputs[0].dtype == result.outputs[0].dtype == name
    model = TFLiteModel(staged)
    assert model.input_quantization[0] == (pytest.approx(0.02), 3)
    assert model.output_quantization[0] == (pytest.approx(0.11), 128 if name == "uint8" else 0)
    assert not result.metadata["integers"]["float_operators"]
    assert not {"DEQUANTIZE", "CAST", "MUL"} & set(names(staged))


def test_a_quantized_tensorflow_lite_file_again(tmp_path):
    """The ONNX model between holds all: the file that comes out computes what the first did, to the bit."""
    _, first = converted(quantized(mobile(), tmp_path), tmp_path)
    again = tmp_path / "again"
    again.mkdir()
    shutil.copyfile(first, again / "first.tflite")
    result, staged = converted(again / "first.tflite", again)
    assert result.verification.passed and result.route[-1] == "fold_integers"
    assert result.verification.outputs[0]["max_abs_diff"] == 0
    assert sorted(names(staged)) == sorted(names(first))
    assert scales(staged) == scales(first)


def test_transpositions_are_counted(tmp_path):
    """Of the report: none for a convolutional network, and those that the model asks for."""
    onnx.save(mobile(), tmp_path / "m.onnx")
    result, staged = converted(tmp_path / "m.onnx", tmp_path)
    assert result.metadata["transposes"] == 0 and not any("TRANSPOSE" in note for note in result.notes)
    turned = tmp_path / "turned"
    turned.mkdir()
    model = model_of([node("Transpose", ["x"], ["y"], perm=[1, 0])], [info("x", [3, 4])], [info("y", [4, 3])])
    onnx.save(model, turned / "m.onnx")
    result, staged = converted(turned / "m.onnx", turned)
    assert result.metadata["transposes"] == names(staged).count("TRANSPOSE") == 1
    assert "1 TRANSPOSE operator in the file" in result.notes


def test_without_integers_it_stays_what_it_was(tmp_path):
    onnx.save(mobile(), tmp_path / "m.onnx")
    assert quantized_form(mobile()) is None
    result, _ = converted(tmp_path / "m.onnx", tmp_path)
    assert result.verification.passed and "integers" not in result.metadata


# -- what a wrong file would look like --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proven(tmp_path_factory):
    """A file, its pairs and tensors, and runs on which it is right."""
    folder = tmp_path_factory.mktemp("proven")
    path = quantized(branches(), folder)
    seen = {}
    import converter.torch.tflite.integers as integers

    def noting(staged, tensors, pairs, runs):
        seen.update(tensors=tensors, pairs=pairs, runs=runs, content=staged.read_bytes())
        return prove(staged, tensors, pairs, runs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integers, "prove", noting)
        converted(path, folder)
    return seen


def proof(seen, folder, change):
    model = read(seen["content"])
    pairs = change(model) or seen["pairs"]
    write(folder / "changed.tflite", model)
    return prove(folder / "changed.tflite", seen["tensors"], pairs, seen["runs"])


def test_the_file_itself_is_proven(proven, tmp_path):
    assert not proof(proven, tmp_path, lambda model: None).wrong


@pytest.mark.parametrize("factor", [0.5, 0.97, 1.03, 2])
def test_another_scale_in_the_file_is_seen(proven, tmp_path, factor):
    """Of each tensor in turn: by its figure, and, where the proof is made to believe it, by its values."""
    for name, index in proven["tensors"].items():

        def change(model, index=index, name=name):
            quantization = model.subgraphs[0].tensors[index].quantization
            quantization.scale = quantization.scale * np.float32(factor)

        with pytest.raises(ValueError, match="another scale than the source's"):
            proof(proven, tmp_path, change)

        def believed(model, index=index, name=name, change=change):
            change(model)
            grid = proven["pairs"][name]
            return proven["pairs"] | {name: Grid(grid.scale * np.float32(factor), grid.zero, grid.dtype)}

        found = fails(proven, tmp_path, believed)
        assert found, name


def fails(seen, folder, change) -> bool:
    try:
        return bool(proof(seen, folder, change).wrong)
    except (RuntimeError, ValueError):  # kernels ask that some scales are equal
        return True


def test_another_zero_point_or_weight_is_seen(proven, tmp_path):
    def zero(model):
        for index in proven["tensors"].values():
            quantization = model.subgraphs[0].tensors[index].quantization
            quantization.zeroPoint = np.array(quantization.zeroPoint) + 2

    with pytest.raises(ValueError, match="another scale than the source's"):
        proof(proven, tmp_path, zero)

    def weight(model):
        tensors = model.subgraphs[0].tensors
        chosen = [t for t in tensors if is_constant(model, t) and TENSOR_DTYPES[t.type] == "int8" and len(t.shape) == 4]
        values = np.array(model.buffers[chosen[0].buffer].data)
        model.buffers[chosen[0].buffer].data = np.flip(values)

    assert 0 < len(proof(proven, tmp_path, weight).wrong) < len(proven["tensors"])


def test_integers_of_another_tensor_are_seen(proven, tmp_path):
    """A name that stands for another tensor of the source."""
    first, second = list(proven["tensors"])[:2]
    runs = [PieceRun(run.inputs, {**run.integers, second: np.flip(run.integers[second], 1)}) for run in proven["runs"]]
    swapped = {**proven, "runs": runs}
    assert proof(swapped, tmp_path, lambda model: None).wrong
    assert first in proven["tensors"]


def test_what_is_to_stay_in_float_does(tmp_path):
    """A kernel that is more than a step off is left in float, and the file is proven without it."""
    path = quantized(linear(), tmp_path)
    import converter.torch.tflite.integers as integers

    calls = []

    def doubting(model, pairs, weights, boundary, keep=()):
        folded = fold(model, pairs, weights, boundary, keep)
        calls.append(set(keep))
        if not keep:  # the first piece computes something else
            layer = next(op for _, op, name in operators(model) if name == "FULLY_CONNECTED")
            tensor = model.subgraphs[0].tensors[layer.inputs[1]]
            tensor.quantization.scale = tensor.quantization.scale * np.float32(1.5)
        return folded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integers, "fold", doubting)
        result, staged = converted(path, tmp_path)
    assert result.verification.passed and calls[0] == set() and len(calls[1]) >= 1
    assert result.metadata["integers"]["float_operators"] == {"FULLY_CONNECTED": 1}
    assert any("more than a step off" in note for note in result.notes)
