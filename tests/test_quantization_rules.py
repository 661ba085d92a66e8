"""The quantization table of docs/parameters.md: suffix, block and job, and what contradicts."""

from __future__ import annotations

import pytest

from converter import formats
from converter.errors import ParameterError
from converter.planning.variants import VARIANTS, check_opset, used_keys
from converter.planning.variants import resolve_quantization as resolve

LOAD = {"load": "data/rep.py"}
TFLITE, ONNX = formats.target("tflite"), formats.target("onnx")


def resolve_quantization(block: dict, variant: str | None, written: dict | None = None, target=TFLITE) -> dict:
    return resolve(block, variant, written or {}, target.quantized)


@pytest.mark.parametrize(
    ("block", "variant", "optimization", "kind", "load"),
    [
        ({}, None, "none", "float32", False),
        ({"type": "float32"}, None, "none", "float32", False),
        ({"optimization": "none"}, None, "none", "float32", False),
        ({"optimization": "default"}, None, "default", "float32", False),
        ({"optimization": "default", **LOAD}, None, "default", "float32", True),
        ({"type": "float16"}, None, "default", "float16", False),
        ({"type": "int8", **LOAD}, None, "default", "int8", True),
        ({"type": "uint8", **LOAD}, None, "default", "uint8", True),
        ({}, "float16", "default", "float16", False),
        (LOAD, "int8", "default", "int8", True),
        (LOAD, "uint8", "default", "uint8", True),
        ({}, "dynamic", "default", "float32", False),
        ({"type": "int8", **LOAD}, "dynamic", "default", "float32", False),
        ({"type": "float16", **LOAD}, "int8", "default", "int8", True),
        ({"optimization": "none"}, "float16", "default", "float16", False),
    ],
)
def test_table(block, variant, optimization, kind, load):
    resolved = resolve_quantization(block, variant)
    assert (resolved["optimization"], resolved["type"], "load" in resolved) == (optimization, kind, load)
    assert resolved["opsset"] == "tflite" and list(resolved) == sorted(resolved)


def test_the_rest_of_the_block_is_kept():
    block = {"opsset": "int8", "keep_float": ["Softmax"], "thresholds": {"cosine": 0.99}, **LOAD}
    assert resolve_quantization(block, "int8") == {**block, "optimization": "default", "type": "int8"}


@pytest.mark.parametrize(
    ("block", "variant", "written", "message"),
    [
        ({"type": "int8", "optimization": "none"}, None, {}, "optimization none contradicts quantization.type int8"),
        ({"type": "float16", "optimization": "none"}, None, {}, "write optimization default"),
        ({"type": "int8"}, None, {}, "type int8 needs representative data: write quantization.load"),
        ({}, "uint8", {}, "type uint8 needs representative data"),
        ({"opsset": "int8"}, None, {}, "opsset int8 needs representative data"),
        ({"opsset": "int8", "optimization": "default"}, None, {}, "opsset int8 needs representative data"),
        ({"opsset": "int8", **LOAD}, "dynamic", {}, "opsset int8 contradicts the name's suffix .dynamic"),
        (LOAD, "int8", {"type": "uint8"}, "type uint8 contradicts the name's suffix .int8: write type int8"),
        (LOAD, "int8", {"type": "float32"}, "type float32 contradicts"),
        ({}, "float16", {"optimization": "none"}, "optimization none contradicts the name's suffix .float16"),
    ],
)
def test_contradictions(block, variant, written, message):
    with pytest.raises(ParameterError) as caught:
        resolve_quantization({**block, **written}, variant, written)
    assert message in str(caught.value)


@pytest.mark.parametrize("variant", TFLITE.quantized.suffixes)
def test_a_job_may_repeat_what_its_suffix_says(variant):
    written = {**VARIANTS[variant], **({} if variant == "dynamic" else LOAD)}
    assert resolve_quantization(written, variant, written)["type"] == VARIANTS[variant]["type"]


@pytest.mark.parametrize("variant", ONNX.quantized.suffixes)
def test_onnx_files_have_the_same_suffixes_and_no_opsset(variant):
    block = {} if variant in ("float16", "dynamic", "int4") else LOAD
    resolved = resolve_quantization(block, variant, target=ONNX)
    assert resolved == {**VARIANTS[variant], **block}


def test_a_type_that_the_format_has_not():
    with pytest.raises(
        ParameterError, match="type int4 is no type of files of this format: write type float16, int8 or uint8"
    ):
        resolve_quantization({"type": "int4"}, None)


@pytest.mark.parametrize(("key", "value", "target"), [("opsset", "tf", ONNX), ("calibration", "entropy", TFLITE)])
def test_keys_of_the_other_format(key, value, target):
    block = {key: value, "type": "float16"}
    kept, notes = used_keys(block, {}, target)
    assert kept == {"type": "float16"} and [key in note for note in notes] == [True]
    with pytest.raises(
        ParameterError, match=f"quantization.{key} means nothing for .{target.name} files: leave it out"
    ):
        used_keys(block, block, target)


@pytest.mark.parametrize(
    ("variant", "lowest"), [("int8", 13), ("uint8", 13), ("dynamic", 13), ("int4", 21), ("float16", 7)]
)
def test_the_opset_that_a_kind_needs(variant, lowest):
    block = resolve_quantization(LOAD, variant, target=ONNX)
    check_opset(block, lowest, ONNX.quantized)
    check_opset(block, None, ONNX.quantized)
    if variant != "float16":
        with pytest.raises(
            ParameterError, match=f"onnx_opset {lowest - 1} cannot express a .{variant} file.*opset {lowest}"
        ):
            check_opset(block, lowest - 1, ONNX.quantized)
