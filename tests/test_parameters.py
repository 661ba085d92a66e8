"""The parameters: every way to write a value, one canonical form, and a sentence for everything else."""

from __future__ import annotations

import datetime
import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import ParameterError, nearest
from converter.planning import input_shapes
from converter.planning.input_shapes import InputShape, parse_input_shape
from converter.planning.parameters import PARAMETERS, flags, normalize, normalize_all

ROOT = Path(__file__).resolve().parents[1]

# What YAML and JSON can give: also dates, keys of any type, and numbers that no float holds.
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.dates(),
    st.sampled_from([10**400, -1, 0, "", " ", "\0", "{x}", ":0", "nan", "inf", "[", "[" * 50_000, "True", "none"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.one_of(scalars), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.text(st.characters(exclude_characters=",\0", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda text: text.strip() and text.strip().removesuffix(":0").strip() == text.strip()
)

# Values as users may write them, by parameter, with their canonical form.
GOOD = {
    "convert_from": [("models/a b.h5", "models/a b.h5")],
    "convert_to": [("converted/x.onnx", "converted/x.onnx")],
    "skip": [(True, True), ("True", True), ("False", False), ("false", False), (False, False)],
    "input_nodes": [("a:0, b", ["a", "b"]), (["a:0"], ["a"]), ("top:1", ["top:1"]), (["a,b"], ["a", "b"])],
    "output_nodes": [("scope/out:0", ["scope/out"])],
    "input_shape": [
        ("1,224,224,3", "1,224,224,3"),
        (" 1 , -1 ; int64:1,16", "1,-1;int64:1,16"),
        ([1, 3, -1], "1,3,-1"),
        ("bool:", "bool:"),
        (" ids = int64:-1,-1 ; mask=bool:1,8", "ids=int64:-1,-1;mask=bool:1,8"),
        ("images.0=3,32,32;images.1=3,48,48", "images.0=3,32,32;images.1=3,48,48"),
    ],
    "device": [(" coral ", "coral"), ("onnxruntime-1.8", "onnxruntime-1.8")],
    "batch": [("Free", "free"), ("usual", "usual"), (4, "4"), (" 16 ", "16")],
    "length": [("Free", "free"), (" usual", "usual"), (256, "256"), ("16000", "16000")],
    "constants": [({"training:0": False, "a": 1.5}, {"a": 1.5, "training": False}), ('{"x": 1}', {"x": 1})],
    "network_script": [("nets/n.py", "nets/n.py")],
    "network_name": [(" Net ", "Net")],
    "network_args": [('{"a": 1}', {"a": 1}), ([1, "b"], [1, "b"]), ({}, {}), (" args.yaml", "args.yaml")],
    "state_dict_key": [("model", "model")],
    "strict": [("False", False), (True, True)],
    "savedmodel_tag": [("serve, gpu", ["gpu", "serve"]), (["serve"], ["serve"])],
    "savedmodel_signature": [("serving_default", "serving_default")],
    "toolchain": [("TF2.3", "tf2.3"), ("default", "default")],
    "trusted": [("true", True)],
    "onnx_opset": [("13", 13), (10, 10)],
    "frozen": [("False", False)],
    "quantization": [
        ({"type": "float", "optimization": "Default"}, {"optimization": "default", "type": "float32"}),
        ('{"type": "int8", "load": "data/rep.py"}', {"load": "data/rep.py", "type": "int8"}),
        ({"keep_float": "a, b", "opsset": None}, {"keep_float": ["a", "b"]}),
    ],
    "input_layout": [("NCHW", "nchw")],
    "backend": [("keras2onnx", "keras2onnx")],
    "verify": [
        ({"rtol": "1e-3", "samples": 8, "on_failure": "warn"}, {"on_failure": "warn", "rtol": 1e-3, "samples": 8})
    ],
}
BAD = {
    "convert_from": ["", 1, "a{b}", "a\nb", "a\0b", ["a"]],
    "convert_to": ["", {"a": 1}],
    "skip": ["yes", 1, "", [True]],
    "input_nodes": ["", "a,,b", [], ["a", "a:0"], [1], ":0", {"a": 1}],
    "output_nodes": [" ", 3, ["a", ""]],
    "input_shape": ["", "1,,2", "1,0", "1,-2", "1.5", "a,b", "flot32:1", "1,2;", ":1", [], [1, True], [[1]], 3, "1" * 30,
                    "65536,65536", "x=1,2;3", "x=1;x=2", "=1,2", "a b=1", "x=", "x=y:1"],
    "device": ["", 5, ["coral"], True],
    "batch": ["", 0, -1, "many", True, 1.5, [1], "1e3", 10**7],
    "length": ["", 0, -1, "long", True, 1.5, [1], 10**9],
    "constants": ["x", [1], {"a": "b"}, {"a": 1, "a:0": 2}, {":0": 1}, {1: 2}, "[" * 50_000],
    "network_script": ["", False],
    "network_name": ["", " ", 3],
    "network_args": ["x", 3, {"when": datetime.date(2020, 1, 1)}, {datetime.date(2020, 1, 1): 1}],
    "state_dict_key": [""],
    "strict": ["no", 0],
    "savedmodel_tag": ["", ",", [""], 3],
    "savedmodel_signature": ["", []],
    "toolchain": ["tf2.4", "", 1],
    "trusted": ["y", 0],
    "onnx_opset": [6, 31, "x", "13.0", 10.0, True, 10**400, []],
    "frozen": ["no", 0],
    "quantization": ["int8", [], {"typ": "int8"}, {"type": "int3"}, {"load": ""}, {"keep_float": [1]},
                     {"thresholds": {"cosine": -1}}, {"opsset": "flex"}, {"optimization": True}],
    "input_layout": ["nhcw"],
    "backend": ["onnx2keras"],
    "verify": [{"rtol": -1}, {"rtol": "x"}, {"atol": float("nan")}, {"rtol": 10**400}, {"samples": 0}, {"inputs": 1},
               {"on_failure": "stop"}, {"tolerance": 1}, True],
}  # fmt: skip


def test_every_parameter_has_examples():
    assert set(GOOD) == set(BAD) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_values_have_one_canonical_form(name):
    for written, canonical in GOOD[name]:
        assert normalize(name, written) == canonical
        assert normalize(name, canonical) == canonical


@pytest.mark.parametrize("name", PARAMETERS)
def test_wrong_values_are_refused_by_name(name):
    for value in BAD[name]:
        with pytest.raises(ParameterError) as caught:
            normalize(name, value, "job 2")
        text = str(caught.value)
        assert text.startswith("job 2: ") and name in text, text
        assert "\n" not in text or isinstance(value, str), text


@given(value=values, name=st.sampled_from(sorted(PARAMETERS)))
def test_no_value_raises_anything_else(name, value):
    """Accepted values are canonical, JSON-able and survive the command line; all others are a ParameterError."""
    try:
        canonical = normalize(name, value)
    except ParameterError as error:
        assert name in str(error)
        return
    assert json.loads(json.dumps(canonical)) == canonical or "nan" in json.dumps(canonical).lower()
    assert normalize(name, canonical) == canonical or canonical != canonical or "NaN" in json.dumps(canonical)


@given(st.data())
def test_the_command_line_carries_canonical_values(data):
    """rule_inputs writes flags for the shell, running/step_runner.py reads them: quotes, commas and leading dashes survive."""
    names = data.draw(st.lists(NAMES, min_size=1, max_size=3, unique_by=lambda x: x.strip().removesuffix(":0")))
    text = data.draw(NAMES)
    written = normalize_all(
        {
            "input_nodes": names,
            "savedmodel_tag": names,
            "network_name": text,
            "network_args": data.draw(st.sampled_from([[text], {"a": [1, text]}, [], {}])),
            "constants": {text: data.draw(st.sampled_from([True, 1, 0.5]))},
            "quantization": {"keep_float": names, "type": "int8"},
            "trusted": True,
            "onnx_opset": 13,
        }
    )
    words = shlex.split(flags(written))
    read = {word[2:].partition("=")[0]: word.partition("=")[2] for word in words}
    assert all(word.startswith("--") for word in words)
    assert normalize_all(read) == written


DIMS = st.lists(st.none() | st.integers(1, 50), max_size=5).map(tuple)


INPUTS = st.none() | st.permutations(["input_ids", "images.0", "scope/x:1", "größe"])


@given(st.lists(st.tuples(DIMS, st.sampled_from(input_shapes._DTYPES)), min_size=1, max_size=4), st.booleans(), INPUTS)
def test_input_shape_round_trip(entries, typed, names):
    shapes = [
        InputShape(dims, dtype if typed or not dims else None, names and names[position])
        for position, (dims, dtype) in enumerate(entries)
    ]
    text = input_shapes.format_input_shape(shapes)
    assert parse_input_shape(text) == shapes
    assert parse_input_shape(text.replace(",", " , ").replace(";", " ; ")) == shapes
    assert normalize("input_shape", text) == text


def test_the_nearest_name_is_suggested():
    with pytest.raises(ParameterError, match="'input_shap': did you mean input_shape"):
        normalize("input_shap", "1")
    with pytest.raises(
        ParameterError, match="quantization has an unknown key 'optimisation': did you mean optimization"
    ):
        normalize("quantization", {"optimisation": "default"})
    with pytest.raises(ParameterError, match="'flaot32' is not a dtype; write 'float32'"):
        parse_input_shape("flaot32:1")
    assert nearest("vgg16", ["VGG19", "VGG16", "other"]) == ["VGG16", "VGG19"]


def test_not_given_is_not_a_value():
    assert normalize_all({"onnx_opset": None, "frozen": "true"}) == {"frozen": True}
    with pytest.raises(ParameterError, match="models: x: expected a mapping"):
        normalize_all([], "models: x")


def test_the_schema_and_the_page_know_every_parameter():
    schema = json.loads((ROOT / "configs" / "config.schema.json").read_text())
    assert set(schema["$defs"]["parameters"]["properties"]) == set(PARAMETERS)
    for block in ("quantization", "verify"):
        fields = set(schema["$defs"][block]["properties"])
        assert set(PARAMETERS[block].normalize.fields) == fields
    page = (ROOT / "docs" / "parameters.md").read_text()
    assert {name for name in PARAMETERS if f"`{name}`" not in page} == set()
