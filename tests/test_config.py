"""The configuration: checked as a whole, in canonical form, with one sentence per mistake."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import ParameterError
from converter.planning.config import normal_path, read_config, report_name

SCHEMA = json.loads((ROOT / "configs" / "config.schema.json").read_text())
SHIPPED = yaml.safe_load((ROOT / "configs" / "config.yaml").read_text())
RECIPES = ROOT / "configs" / "zoo.yaml"


def job(source: str = "models/a.h5", target: str = "converted/a.onnx", **more) -> dict:
    return {"convert_from": source, "convert_to": target, **more}


GOOD = [
    SHIPPED,
    {},
    {"defaults": None, "models": None, "jobs": None, "zoo": None},
    {"models": {"a": None, "b": {"input_shape": "1,3,32,32", "convert_from": "x/b.pt"}}},
    {
        "defaults": {"onnx_opset": "13", "verify": {"rtol": "1e-3"}},
        "jobs": [job(skip="True", quantization={"type": "int8"})],
    },
    {"jobs": [job(), job(target="out/b.onnx", network_args={"a": [1]}, input_nodes=["x:0"])]},
    {"zoo": {"weights": "pretrained", "only": ["VGG16"]}},
]
BAD = [
    ({"job": []}, "configuration: unknown key 'job': did you mean jobs?"),
    ({"onnx_opset": 13}, "configuration: unknown key 'onnx_opset': onnx_opset belongs below defaults:"),
    ({"defaults": {"frozn": True}}, "defaults: unknown parameter 'frozn': did you mean frozen?"),
    ({"defaults": {"skip": True}}, "defaults: skip cannot be a default"),
    ({"defaults": []}, None),
    ({"defaults": "x"}, "defaults: expected a mapping"),
    ({"models": ["a"]}, "models: expected a mapping"),
    ({"models": {"a": {"convert_to": "x"}}}, "models: a: convert_to belongs in a job"),
    ({"models": {"a": {"frozen": "no"}}}, "models: a: frozen is 'no'; write true or false"),
    ({"models": {"a": 3}}, "models: a: expected a mapping"),
    ({"jobs": {"a": 1}}, "jobs: expected a list"),
    ({"jobs": ["a"]}, "job 1: expected a mapping of parameters, found str"),
    ({"jobs": [{"convert_to": "converted/a.onnx"}]}, "job 1 (converted/a.onnx): convert_from is missing"),
    ({"jobs": [{"convert_from": "models/a.h5"}]}, "job 1: convert_to is missing"),
    ({"jobs": [job(), job(onnx_opste=1)]}, "job 2 (converted/a.onnx): unknown parameter 'onnx_opste'"),
    ({"jobs": [job(target="./")]}, "convert_to names a folder"),
    ({"jobs": [job(target="converted/")]}, None),
    ({"jobs": [job(target="/")]}, "convert_to names a folder"),
    ({"zoo": {"weight": "random"}}, "zoo: unknown key 'weight': known are weights and only (weights?)"),
    ({"zoo": {"weights": "imagenet"}}, "zoo: weights is 'imagenet'; write random or pretrained"),
    ({"zoo": {"only": "VGG16"}}, "zoo: only takes a list of model names"),
    ({"zoo": {"only": ["MobilNet"]}}, "zoo: no recipe named 'MobilNet': did you mean MobileNet?"),
]


@pytest.mark.parametrize("values", GOOD)
def test_what_the_program_takes_the_schema_takes(values):
    read_config(values, RECIPES)
    jsonschema.validate({key: value for key, value in values.items() if value is not None}, SCHEMA)


@pytest.mark.parametrize(("values", "message"), [entry for entry in BAD if entry[1]])
def test_mistakes_are_one_sentence(values, message):
    with pytest.raises(ParameterError) as caught:
        read_config(values, RECIPES)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values", [values for values, message in BAD if message and "folder" not in message and "MobilNet" not in message]
)
def test_the_schema_finds_the_same_mistakes(values):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMA)


def test_jobs_are_found_by_target_in_canonical_form():
    config = read_config({"jobs": [job("./models//a.h5", "./converted/b.onnx/", onnx_opset="13", skip="False")]})
    assert config.jobs == {
        "converted/b.onnx": {
            "convert_from": "models/a.h5",
            "convert_to": "converted/b.onnx",
            "onnx_opset": 13,
            "skip": False,
            "position": 1,
        }
    }
    assert config.jobs_by_stem == {"a": ["converted/b.onnx"]}


def test_the_shipped_opset_counts_as_not_set_and_others_as_set():
    assert "onnx_opset" not in read_config(SHIPPED).defaults
    assert read_config({"defaults": {"onnx_opset": 11}}).defaults == {"onnx_opset": 11}
    assert read_config({"models": {"a": {"onnx_opset": 10}}}).models["a"] == {"onnx_opset": 10}


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("converted/x.onnx", "./converted/a/..//x.onnx", "jobs 1 and 2 both write converted/x.onnx: give one"),
        ("out/x.onnx", "converted/out/x.onnx", "reports/out/x.onnx.json"),
        ("../x.onnx", "__/x.onnx", "reports/__/x.onnx.json"),
        ("/a/x.onnx", "a/x.onnx", "reports/a/x.onnx.json"),
    ],
)
def test_two_jobs_never_share_a_file_or_a_report(first, second, message):
    with pytest.raises(ParameterError) as caught:
        read_config({"jobs": [job(target=first), job(target=second)]})
    assert message in str(caught.value)
    assert len(read_config({"jobs": [job(target=first), job(target=second, skip=True)]}).jobs) >= 1


def test_a_skipped_job_is_no_duplicate_in_either_order():
    for skips in ((True, False), (False, True)):
        jobs = [job(source, skip=skip) for source, skip in zip(("models/a.h5", "models/b.h5"), skips, strict=True)]
        config = read_config({"jobs": jobs})
        assert config.jobs["converted/a.onnx"]["convert_from"] == jobs[skips.index(False)]["convert_from"]
    both = read_config({"jobs": [job("models/a.h5", skip=True), job("models/b.h5", skip=True)]})
    assert both.jobs["converted/a.onnx"]["skip"] is True


PARTS = st.lists(st.sampled_from(["..", ".", "", "a", "b c", "x.onnx", "__", "..."]), min_size=1, max_size=6)


@given(PARTS)
def test_paths_have_one_form_and_reports_stay_in_their_folder(parts):
    path = "/".join(parts)
    normal = normal_path(path)
    assert normal_path(normal) == normal
    assert normal.startswith("/") == path.startswith("/")
    name = report_name(normal)
    assert ".." not in name.split("/") and not name.startswith("/") and ("." not in name.split("/"))
