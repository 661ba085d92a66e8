"""The quantization table of docs/parameters.md: suffix, block and job, and what contradicts."""

from __future__ import annotations

import pytest

from converter.errors import ParameterError
from converter.planning.variants import VARIANTS, resolve_quantization

LOAD = {"load": "data/rep.py"}


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


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_job_may_repeat_what_its_suffix_says(variant):
    written = {**VARIANTS[variant], **({} if variant == "dynamic" else LOAD)}
    assert resolve_quantization(written, variant, written)["type"] == VARIANTS[variant]["type"]
