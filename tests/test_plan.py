"""Planning: which source, which parameters, which key; a mistake is its own target's."""

from __future__ import annotations

import re
import time

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import ParameterError, SourceError
from converter.planning.config import read_config
from converter.planning.planner import ImportPlan, Planner
from converter.planning.rules.rule_inputs import RuleInputs


@pytest.fixture
def models(tmp_path, monkeypatch):
    """The working directory's models/ with one source of each format."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models"
    (folder / "saved").mkdir(parents=True)
    (folder / "saved" / "saved_model.pb").write_bytes(b"")
    for name in ("keras.h5", "ckpt.meta", "frozen.pb", "torch.pt", "net.int8.h5", "scorer.h5"):
        (folder / name).write_bytes(b"")
    return folder


def planner(**config) -> Planner:
    return Planner(read_config(config, ROOT / "configs" / "zoo.yaml"))


def job(source="models/keras.h5", target="converted/x.onnx", **more) -> dict:
    return {"convert_from": source, "convert_to": target, **more}


MADE = {
    "keras": {"onnx", "tflite", "pb"},
    "saved": {"onnx", "tflite", "pb"},
    "ckpt": {"onnx", "tflite", "pb"},
    "frozen": {"onnx", "tflite"},
    "torch": {"onnx", "tflite", "h5", "hdf5", "keras"},
}


@pytest.mark.parametrize("model", MADE)
def test_which_format_becomes_which(models, model):
    for extension in ("onnx", "tflite", "pb", "h5", "hdf5", "keras"):
        plan = planner().plan(f"{model}.{extension}")
        assert (plan.error is None) is (extension in MADE[model]), plan.error
        if plan.error:
            assert f"does not become .{extension}; write one of .onnx, .tflite" in plan.error


def test_the_order_of_sources(models):
    """A job's own, the model's entry, the folder, the zoo."""
    (models / "VGG16.h5").write_bytes(b"")
    (models / "other.h5").write_bytes(b"")
    entry = {"VGG16": {"convert_from": "models/other.h5"}}
    jobs = [job("models/keras.h5", "converted/VGG16.onnx")]
    assert planner(jobs=jobs, models=entry).plan("VGG16.onnx").source.source == "models/keras.h5"
    assert planner(jobs=jobs, models=entry).plan("VGG16.tflite").source.source == "models/other.h5"
    assert planner().plan("VGG16.onnx").source.source == "models/VGG16.h5"
    (models / "VGG16.h5").unlink()
    recipe = planner().plan("VGG16.onnx").source
    assert (recipe.source, recipe.made, recipe.format) == ("zoo/VGG16.h5", True, "keras")


def test_parameters_of_job_over_model_over_defaults(models):
    planned = planner(
        defaults={"onnx_opset": 11, "verify": {"rtol": 0.1, "atol": 1}},
        models={"keras": {"onnx_opset": 12, "verify": {"rtol": 0.2}}},
        jobs=[job(onnx_opset=13, verify={"samples": 8}), job(target="converted/y.onnx")],
    )
    assert planned.plan("x.onnx").parameters == {"onnx_opset": 13, "verify": {"rtol": 0.2, "atol": 1.0, "samples": 8}}
    assert planned.plan("y.onnx").parameters["onnx_opset"] == 12  # the model is the source's stem
    assert planned.plan("scorer.onnx").parameters["onnx_opset"] == 11
    assert "onnx_opset" not in planned.plan("scorer.tflite").parameters


def test_only_what_an_import_uses_belongs_to_its_key(models):
    """One import for all targets: export parameters, tolerances and parameters of other formats leave the key alone."""
    plain = planner().plan("keras.onnx").source.key
    assert plain == planner().plan("keras.tflite").source.key == planner().plan("keras.float16.tflite").source.key
    for same in ({"onnx_opset": 13}, {"verify": {"rtol": 0.1, "on_failure": "warn"}}, {"state_dict_key": "m"}):
        assert planner(models={"keras": same}).plan("keras.onnx").source.key == plain
    different = [{"input_shape": "1,2"}, {"verify": {"samples": 5}}, {"trusted": True}, {"network_name": "N"}]
    keys = {planner(models={"keras": entry}).plan("keras.onnx").source.key for entry in different}
    assert len(keys) == len(different) and plain not in keys


PLANS = st.tuples(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=80),
    st.sampled_from(["keras", "pytorch", "savedmodel"]),
    st.dictionaries(st.sampled_from(["input_shape", "network_name"]), st.text(max_size=5)),
)


@given(PLANS, PLANS)
def test_keys_are_unique_stable_and_plain_names(one, two):
    first, second = (ImportPlan(f"models/{source}.h5", kind, parameters) for source, kind, parameters in (one, two))
    assert (first.key == second.key) is (one == two)
    assert first.key == ImportPlan(first.source, first.format, dict(reversed(first.parameters.items()))).key
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", first.key) and len(first.key) < 120
    for kind in ("keras", "pytorch", "savedmodel"):
        assert bool(re.fullmatch(RuleInputs.keys_of(kind), first.key)) is (kind == first.format)


def test_suffixes_are_variants_unless_they_belong_to_a_models_name(models):
    assert planner().plan("keras.float16.tflite").parameters["quantization"]["type"] == "float16"
    assert planner().plan("net.int8.tflite").source.source == "models/net.int8.h5"
    assert planner().plan("net.int8.tflite").parameters["quantization"]["type"] == "float32"
    assert planner().plan("net.int8.float16.tflite").parameters["quantization"]["type"] == "float16"
    (models / "net.h5").write_bytes(b"")
    assert "representative data" in planner().plan("net.int8.tflite").error
    named = planner(models={"m.dynamic": {"convert_from": "models/keras.h5"}})
    assert named.plan("m.dynamic.tflite").parameters["quantization"]["optimization"] == "none"


def test_a_name_that_goes_on_otherwise_has_no_source(models):
    with pytest.raises(SourceError, match=r"no source for keras\.v2: "):
        planner().require("keras.v2.tflite")


def test_a_jobs_suffix_must_agree_with_its_type(models):
    quantization = {"type": "uint8", "load": "d.npz"}
    plan = planner(jobs=[job(target="out/x.int8.tflite", quantization=quantization)]).plan("out/x.int8.tflite")
    assert plan.target == "out/x.int8.tflite" and "contradicts the name's suffix .int8" in plan.error
    model = planner(models={"keras": {"quantization": quantization}})
    assert model.plan("keras.int8.tflite").parameters["quantization"]["type"] == "int8"
    assert model.plan("keras.tflite").parameters["quantization"]["type"] == "uint8"


def test_a_mistake_is_the_targets_own_and_require_raises_it(models):
    planned = planner(jobs=[job("models/kreas.h5")])
    assert planned.plan("x.onnx").error.startswith("models/kreas.h5 does not exist: did you mean models/keras.h5")
    assert planned.plan("keras.onnx").error is None
    with pytest.raises(SourceError):
        planned.require("x.onnx")


def test_targets_elsewhere_have_reports_inside(models, tmp_path):
    targets = ["out/x.onnx", "../x.onnx", f"{tmp_path}/y.onnx"]
    planned = planner(jobs=[job(target=target) for target in targets])
    for target in targets:
        name = planned.report_name(target)
        assert planned.target(name) == planned.plan(name).target == target
        assert planned.plan(name).error is None
    assert planned.default_targets() == targets
    pattern = re.compile(RuleInputs(planned).elsewhere_pattern())
    assert all(pattern.fullmatch(target) for target in targets) and not pattern.fullmatch("out/xxonnx")


def test_default_targets_leave_out_what_is_skipped(models):
    assert planner(jobs=[job(skip=True), job(target="converted/y.onnx")]).default_targets() == ["converted/y.onnx"]


def test_a_process_for_one_step_finds_the_plan_behind_a_key(models):
    """Executors start a Snakemake for each job, which knows the key alone."""
    config = {
        "models": {"alias": {"convert_from": "models/scorer.h5", "input_shape": "1,2"}},
        "jobs": [job("models/keras.h5", "out/y.tflite", input_shape="3,4")],
    }
    names = ["alias.onnx", "out/y.tflite", "frozen.onnx", "VGG16.tflite", "keras.onnx"]
    for name in names:
        expected = planner(**config).plan(name).source
        assert planner(**config).import_plan(expected.key) == expected
    with pytest.raises(SourceError, match="belongs to no model"):
        planner().import_plan("nothing-keras-0123456789ab")


def test_unknown_values_are_refused_before_planning(models):
    with pytest.raises(ParameterError):
        planner(jobs=[job(onnx_opset=99)])


def test_one_target_among_thousands_of_models_is_cheap(tmp_path, monkeypatch):
    """Planning reads names only: one target of 5,000 models, then all of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for number in range(5000):
        (tmp_path / "models" / f"model{number}.h5").touch()
    started = time.process_time()
    assert planner().plan("model4321.onnx").error is None
    assert time.process_time() - started < 0.5
    planned = planner()
    for number in range(1000):
        assert planned.plan(f"model{number}.tflite").error is None
    assert time.process_time() - started < 1.5
