"""Every value of every parameter, of wrong types and at the edges: taken in a form that all steps take, or one sentence that
names the job, the parameter and what is allowed."""

from __future__ import annotations

import argparse
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_parameters import values

from converter.contracts import export_job, import_spec
from converter.errors import ConverterError, ParameterError
from converter.planning.config import read_config
from converter.planning.parameters import EXPORT_PARAMETERS, IMPORT_PARAMETERS, PARAMETERS, normalize
from converter.planning.planner import Planner
from converter.planning.rules.rule_inputs import RuleInputs
from converter.planning.sources import ModelFolder

# Values that come near to right ones, besides the altogether random.
near = st.one_of(
    values,
    st.sampled_from(
        ["true", "1,2,3", "-1", "int64:", "a:0,b", "default", "nhwc", "tf2.3", "none", 10, 7, 31, 0.0, 1e308]
    ),
    st.fixed_dictionaries({}, optional={"optimization": values, "type": values, "opsset": values, "load": values}),
    st.fixed_dictionaries({}, optional={"rtol": values, "samples": values, "inputs": values, "on_failure": values}),
)
names = st.sampled_from([name for name in PARAMETERS if name not in ("convert_from", "convert_to")])
targets = st.sampled_from(
    ["converted/x.onnx", "converted/x.tflite", "converted/x.pb", "out/x.h5", "converted/x.int8.tflite"]
)
LONG = "[" * 50_000
PHRASES = ("write ", "known are ", "did you mean ", "expected ")


def one_sentence(error: ConverterError) -> str:
    text = str(error)
    assert text and "\n" not in text and len(text) < 1000, text
    return text


@settings(max_examples=150, deadline=None)
@given(names, near, targets)
def test_a_parameter_of_a_job(name: str, value: object, target: str):
    job = {"convert_from": "models/x.h5", "convert_to": target, name: value}
    try:
        config = read_config({"jobs": [{"convert_from": "a.h5", "convert_to": "b.onnx"}, job]})
    except ParameterError as error:
        text = one_sentence(error)
        assert text.startswith(f"job 2 ({target}): ") and name in text, text
        assert any(phrase in text for phrase in PHRASES), text
        return
    _steps_take(config.jobs[target])


@settings(max_examples=150, deadline=None)
@given(names, near, st.sampled_from(["defaults", "models"]))
def test_a_parameter_of_all_jobs(name: str, value: object, where: str):
    block = {name: value} if where == "defaults" else {"scorer": {name: value}}
    try:
        config = read_config({where: block})
    except ParameterError as error:
        text = one_sentence(error)
        assert text.startswith(where) and name in text
        return
    _steps_take(config.defaults if where == "defaults" else config.models["scorer"])


@pytest.mark.parametrize(
    "config",
    [
        {LONG: 1},
        {"defaults": {LONG: 1}},
        {"defaults": {"quantization": {LONG: 1}}},
        {"defaults": {"input_shape": LONG}},
        {"defaults": {"input_shape": f"{LONG}:1,2"}},
        {"zoo": {LONG: 1}},
        {"zoo": {"weights": LONG}},
        {"zoo": {"only": [LONG]}},
        {"benchmark": {LONG: 1}},
        {"benchmark": {"device": LONG}},
    ],
)
def test_what_is_very_long_is_not_repeated_whole(config: dict):
    with pytest.raises(ParameterError) as refused:
        read_config(config)
    text = one_sentence(refused.value)
    assert LONG[:20] in text


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["defaults", "models", "jobs", "zoo", "verify", "modles", "onnx_opset"]), values)
)
def test_whole_configurations(config: dict):
    try:
        read_config(config)
    except ParameterError as error:
        one_sentence(error)


@settings(max_examples=150, deadline=None)
@given(names, near, targets, st.sampled_from(["h5", "pb", "pt", "meta"]))
def test_plans(tmp_path_factory, name: str, value: object, target: str, suffix: str):
    """What the configuration accepts, planning either takes or refuses in one sentence, and the rules can use."""
    folder = tmp_path_factory.getbasetemp()
    source = folder / f"x.{suffix}"
    source.touch()
    job = {"convert_from": str(source), "convert_to": target, name: value}
    try:
        planner = Planner(read_config({"jobs": [job]}), ModelFolder(str(folder)))
    except ParameterError:
        return
    plan = planner.plan(planner.report_name(target))
    if plan.error is not None:
        assert "\n" not in plan.error
        return
    rules = RuleInputs(planner)
    wildcards = argparse.Namespace(name=plan.name.rpartition(".")[0], extension=plan.extension, key=plan.source.key)
    for text in (rules.export_options(wildcards), rules.import_options(wildcards)):
        assert all(word.startswith("--") for word in shlex.split(text))


def _steps_take(parameters: dict) -> None:
    """Canonical once and for all, and of a form that the steps' own reading accepts."""
    for name, value in parameters.items():
        if name in PARAMETERS:
            assert normalize(name, value) == value
    imported = {name: parameters[name] for name in IMPORT_PARAMETERS if name in parameters}
    import_spec("x", "keras", imported)
    export_job("x", {name: parameters[name] for name in EXPORT_PARAMETERS if name in parameters})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deep.json", "[" * 100_000),
        ("deep.yaml", "[" * 5_000),
        ("digits.json", '{"onnx_opset": ' + "9" * 5_000 + "}"),
        ("date.yaml", "convert_from: 2001-99-99"),
        (
            "aliases.yaml",
            "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)),
        ),
        ("circle.yaml", "convert_from: &a [*a]"),
        ("half.json", '{"convert_from": "\\ud800.h5", "convert_to": "x.onnx"}'),
    ],
)
def test_job_lists_that_no_parser_takes(name: str, text: str, tmp_path) -> None:
    from aup.dlconvert.job_list import read_jobs

    (tmp_path / name).write_text(text)
    with pytest.raises(ParameterError, match=name) as refused:
        read_jobs(tmp_path / name)
    one_sentence(refused.value)


def test_text_that_no_file_can_hold():
    with pytest.raises(ParameterError, match="half of a character"):
        read_config({"models": {"x": {"network_args": {"names": ["\ud800"]}}}})
