"""ONNX operators in torch against onnxruntime, at the edges of what they mean; kinds that TensorFlow Lite has no kernel of."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT
from onnx import parser

from converter.contracts import ExportJob, ImportSpec
from converter.hub.hub import Hub
from converter.onnx_to_torch.exports import export_tflite
from converter.onnx_to_torch.lower import in_float32, stable_sums
from converter.onnx_to_torch.module import OnnxModule
from converter.torch.compositions.matrices import determinant

sys.path.insert(0, str(ROOT / "scripts"))
from import_onnx import import_model  # noqa: E402


def model_of(text, opset=18):
    imports = f'"" : {opset}, "ai.onnx.ml" : 3'
    model = parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> g {text}")
    onnx.checker.check_model(model)
    return model


def both(model, *arrays):
    """What onnxruntime computes, and torch."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, dict(zip((entry.name for entry in session.get_inputs()), arrays, strict=True)))
    found = OnnxModule(model)(*(torch.from_numpy(np.array(array)) for array in arrays))
    return expected, [np.asarray(tensor) for tensor in found]


def check(model, *arrays):
    for wanted, found in zip(*both(model, *arrays), strict=True):
        assert wanted.dtype == found.dtype and wanted.shape == found.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


PARTS = np.random.default_rng(3).integers(0, 2, (7, 3, 2)).astype(np.float32)


@pytest.mark.parametrize("ordered", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_distinct_parts(axis, ordered):
    along = "" if axis is None else f", axis = {axis}"
    text = (
        f"(float[7, 3, 2] x) => (float[a, b, c] y, int64[n] i, int64[m] j, int64[n] k) "
        f"{{ y, i, j, k = Unique <sorted = {ordered}{along}> (x) }}"
    )
    if axis is None:
        text = text.replace("float[a, b, c] y", "float[n] y")
    check(model_of(text), PARTS)
    check(model_of(text), np.tile(PARTS[:1], (7, 1, 1)))
    known = model_of(text)
    known.graph.initializer.append(onnx.numpy_helper.from_array(PARTS, "x"))
    for found, of_known in zip(both(model_of(text), PARTS)[1], OnnxModule(known)(), strict=True):
        assert (found == of_known.numpy()).all()


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("is_known", [False, True])
def test_shifts_beyond_the_width(dtype, direction, is_known):
    bits = np.iinfo(dtype).bits
    x = np.array([-8, 4, -1, 77, np.iinfo(dtype).min, 5, -5], dtype)
    y = np.array([-1, -bits, 1, bits - 1, 2, bits, bits + 1], dtype)
    expected = [0, 0, 0, 0, 0, 0, 0]
    for index, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        inside = 0 <= b < bits
        if direction == "RIGHT":
            expected[index] = a >> (b if inside else bits)
        elif inside:
            expected[index] = (a << b) % 2**bits
    text = f'({dtype}[7] x, {dtype}[7] y) => ({dtype}[7] z) {{ z = BitShift <direction = "{direction}"> (x, y) }}'
    model = model_of(text, 28)
    arrays = [torch.from_numpy(x), torch.from_numpy(y)]
    if is_known:
        model.graph.initializer.append(onnx.numpy_helper.from_array(y, "y"))
        del model.graph.input[1]
        arrays = arrays[:1]
    (found,) = OnnxModule(model)(*arrays)
    if direction == "LEFT":  # what is cut off at the top
        expected = [number - 2**bits if number >= 2 ** (bits - 1) else number for number in expected]
    assert found.numpy().tolist() == expected


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_powers_of_whole_numbers(dtype):
    """Within the range exact, beyond it what onnxruntime's cast from float64 gives."""
    limit = np.iinfo(dtype)
    bases = np.array([0, 1, -1, 2, -2, 3, 46340, 46341, limit.max, limit.min], dtype)
    for exponents in ([0] * 10, [1] * 10, [2] * 10, [31] * 10, [3, 5, 7, 31, 31, 12, 2, 2, 3, 3]):
        text = f"({dtype}[10] x) => ({dtype}[10] z) <float[10] y = {{{', '.join(map(str, exponents))}}}> {{ z = Pow (x, y) }}"
        expected, found = both(model_of(text), bases)
        exact = np.array([int(b) ** e for b, e in zip(bases, exponents, strict=True)], object)
        inside = np.array([abs(number) < 2**53 for number in exact])  # float64 has no larger ones exactly
        assert (found[0][inside] == expected[0][inside]).all()
        outside = np.array([not limit.min <= number <= limit.max for number in exact])
        assert (found[0][outside] == limit.min).all() and (expected[0][outside] == limit.min).all()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_determinants(size):
    matrices = torch.from_numpy(np.random.default_rng(size).standard_normal((4, size, size)))
    matrices[1, 0, 0] = 0  # the first pivot is another row's
    matrices[2, -1] = matrices[2, 0] * 2 if size > 1 else 0  # singular
    torch.testing.assert_close(determinant(matrices)[0], torch.linalg.det(matrices))
    assert abs(float(determinant(matrices)[0][2])) < 1e-12


@pytest.mark.parametrize("order", [0, 1])
def test_places_of_the_largest_in_padded_windows(order):
    text = (
        "(float[2, 3, 5, 6] x) => (float[2, 3, h, w] y, int64[2, 3, h, w] z) "
        f"{{ y, z = MaxPool <kernel_shape = [3, 3], pads = [2, 1, 0, 2], strides = [2, 1], storage_order = {order}> (x) }}"
    )
    check(model_of(text), np.random.default_rng(1).standard_normal((2, 3, 5, 6)).astype(np.float32))


def test_what_has_no_variance_is_normalized_as_onnxruntime_does():
    text = "(float[2, 3, 2, 2] x) => (float[2, 3, 2, 2] y) { y = MeanVarianceNormalization (x) }"
    x = np.random.default_rng(1).standard_normal((2, 3, 2, 2)).astype(np.float32)
    x[:, 1] = 0
    expected, found = both(model_of(text), x)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6, equal_nan=True)


def test_sums_of_exponentials_of_float64_stay_in_range():
    text = (
        "(double[3, 2] x) => (double[3, 1] y) <int64[1] axes = {1}> "
        "{ e = Exp (x) s = ReduceSum <keepdims = 1> (e, axes) y = Log (s) }"
    )
    model, x = model_of(text), np.array([[500.0, 499.0], [-600.0, -601.0], [1.0, 2.0]])
    (expected,), _ = both(model, x)
    assert in_float32(model, doubles=True) and stable_sums(model) is None
    (found,) = OnnxModule(model)(torch.from_numpy(x.astype(np.float32)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    shared = model_of(text.replace("y = Log (s) }", "z = Log (s) y = Add (z, s) }"))
    stable_sums(shared)  # the sum itself is read too
    assert [node.op_type for node in shared.graph.node] == ["Exp", "ReduceSum", "Log", "Add"]


def test_operators_for_machine_learning():
    x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    take = "(float[3, 4] x, int64[2] i) => (float[3, 2] y) { y = ai.onnx.ml.ArrayFeatureExtractor (x, i) }"
    check(model_of(take), x, np.array([2, 0]))
    check(model_of("(float[3, 4] x) => (float[3, 4] y) { y = ai.onnx.ml.Binarizer <threshold = 0.25> (x) }"), x)
    scale = "offset = [1.0, 2.0, 3.0, 4.0], scale = [2.0, 1.0, 0.5, 3.0]"
    check(model_of(f"(float[3, 4] x) => (float[3, 4] y) {{ y = ai.onnx.ml.Scaler <{scale}> (x) }}"), x)


TFLITE = {
    "transposes of seven axes": "(float[2, 3, 2, 3, 2, 2, 2] x) => (float[2, 2, 3, 2, 2, 2, 3] y) "
    "{ a = Relu (x) y = Transpose <perm = [0, 2, 3, 4, 5, 6, 1]> (a) }",
    "elements of seven axes": "(float[2, 3, 1, 2, 1, 2, 2] x, int64[2, 1, 1, 2, 1, 2, 2] i) => (float[2, 1, 1, 2, 1, 2, 2] y) "
    "{ y = GatherElements <axis = 1> (x, i) }",
    "places of what is not zero": "(float[3, 4] x) => (int64[2, n] y) { y = NonZero (x) }",
    "determinants": "(float[2, 3, 3] x) => (float[2] y) { y = Det (x) }",
    "distinct elements": "(float[8] x) => (float[n] y, int64[n] i, int64[8] j, int64[n] k) "
    "{ r = Round (x) y, i, j, k = Unique (r) }",
    "transposed convolutions of three axes": "(float[1, 1, 3, 4, 5] x, float[1, 2, 3, 3, 3] w) => (float[1, 2, 5, 6, 7] y) "
    "{ y = ConvTranspose (x, w) }",
    "remainders of int64": "(int64[6] x) => (int64[6] y) <int64[6] d = {2, -3, 8, -2, 3, 5}> { y = Mod <fmod = 1> (x, d) }",
    "einsum of one tensor": "(float[3, 5, 5] x) => (float[3, 5] y) { y = Einsum <equation = \"...ii ->...i\"> (x) }",
}  # fmt: skip


@pytest.mark.parametrize("kind", TFLITE)
def test_tensorflow_lite_computes_it(tmp_path, kind):
    onnx.save(model_of(TFLITE[kind]), tmp_path / "m.onnx")
    (tmp_path / "hub").mkdir()
    constants = (
        {"w": np.random.default_rng(1).standard_normal((1, 2, 3, 3, 3)).astype(np.float32)} if "three" in kind else {}
    )
    hub = import_model(ImportSpec(tmp_path / "m.onnx", "onnx", constants=constants), tmp_path / "hub")
    hub.source = {"path": str(tmp_path / "m.onnx"), "sha256": "0" * 64}
    hub.write()
    result = export_tflite(
        Hub.read(tmp_path / "hub"), ExportJob("converted/m.tflite", input_layout="nchw"), tmp_path / "m.tflite"
    )
    assert result.verification is not None and result.verification.passed


def test_numbers_without_axes_are_given_to_onnxruntime(tmp_path):
    from converter.verification.runtimes import OnnxModel

    onnx.save(model_of("(int64 n, bool b) => (int64 y, bool z) { y = Add (n, n) z = Not (b) }"), tmp_path / "m.onnx")
    y, z = OnnxModel(tmp_path / "m.onnx").run([np.int64(4), np.bool_(True)])
    assert y == 8 and not z


@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("mode, samples", [("avg", 0), ("avg", 1), ("avg", 3), ("max", 1), ("max", 3)])
def test_regions_in_and_beyond_the_image(transformation, mode, samples):
    attributes = (
        f'coordinate_transformation_mode = "{transformation}", mode = "{mode}", sampling_ratio = {samples}, '
        "output_height = 3, output_width = 2, spatial_scale = 0.5"
    )
    model = model_of(
        f"(float[2, 3, 9, 7] x, float[k, 4] r, int64[k] i) => (float[k, 3, 3, 2] y) {{ y = RoiAlign <{attributes}> (x, r, i) }}"
    )
    rng = np.random.default_rng(0)
    image = rng.standard_normal((2, 3, 9, 7)).astype(np.float32)
    regions = np.sort(rng.uniform(-4, 22, (5, 2, 2)).astype(np.float32), 1).reshape(5, 4)
    (wanted,), (found,) = both(model, image, regions, np.array([0, 1, 1, 0, 1]))
    np.testing.assert_allclose(found, wanted, atol=3e-6)
