"""The ranking of layers: a layer that int8 cannot hold comes first, is proposed, and keeping it in float helps."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, Project, last_line
from export_tflite import export_model
from quantized_models import blocks, images
from tf_hub import dense, make_hub

from converter.contracts import ExportJob
from converter.errors import ParameterError
from converter.hub.hub import Hub
from converter.quantization.layer_ranking import _proposal, rank_layers
from converter.quantization.layers import Layer
from converter.quantization.tflite.layer_errors import _layers_of
from converter.tf.tflite.export import export

SCHEMA = json.loads((ROOT / "configs" / "layers.schema.json").read_text())


@pytest.fixture(scope="module")
def load(tmp_path_factory) -> Path:
    return images(tmp_path_factory.mktemp("data") / "images.npz")


def job(load: Path | None, dtype: str = "int8", **block) -> ExportJob:
    block = {"optimization": "default", "opsset": "tflite", "type": dtype, **block}
    return ExportJob("converted/x.tflite", quantization=block | ({"load": str(load)} if load else {}))


def rank(hub: Hub, asked: ExportJob, folder: Path) -> dict:
    ranking = rank_layers(hub, asked, export, folder)
    # As the script writes it: JSON has no NaN and no infinity.
    complete = json.loads(json.dumps(ranking | {"steps": [], "versions": {}}, allow_nan=False))
    jsonschema.Draft202012Validator(SCHEMA).validate(complete)
    return ranking


@pytest.mark.parametrize("spoilt", ["second", "third"])
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_the_layer_with_a_huge_weight_range_comes_first_and_keeping_it_in_float_helps(load, tmp_path, spoilt, dtype):
    hub = blocks(tmp_path / "hub", spoilt)
    ranking = rank(hub, job(load, dtype), tmp_path)
    first, second, *_ = ranking["layers"]  # those behind a layer of zeros have no noise to be ranked by
    assert spoilt in first["name"] and first["type"] == "CONV_2D"
    assert first["sqnr_db"] < 15 and second["sqnr_db"] > first["sqnr_db"] + 15
    assert first["rmse_over_scale"] > 1 and second["rmse_over_scale"] < 0.5
    proposal = ranking["proposal"]
    # The layer before the second one goes with it: its small channel 0 is lost wherever it is stored as int8.
    assert len(proposal["keep_float"]) == {"second": 2, "third": 1}[spoilt]
    assert proposal["keep_float"][0] == first["name"] and proposal["gain_db"] > 20
    assert ranking["trials"][1]["sqnr_db"] > ranking["trials"][0]["sqnr_db"] + 20
    assert [len(trial["keep_float"]) for trial in ranking["trials"]] == [*range(len(ranking["trials"]))]
    # What it proposes does what it promises.
    before = export_model(hub, job(load, dtype, thresholds={"sqnr": 0.0}), tmp_path / "before.tflite")
    after = export_model(hub, job(load, dtype, keep_float=proposal["keep_float"]), tmp_path / "after.tflite")
    ratios = [result.verification.outputs[0]["sqnr_db"] for result in (before, after)]
    assert ratios[1] - ratios[0] == pytest.approx(proposal["gain_db"], abs=1.0)
    assert set(after.metadata["quantization"]["kept_float"]) == set(proposal["keep_float"])


def test_where_no_layer_stands_out_none_is_proposed(load, tmp_path):
    ranking = rank(blocks(tmp_path / "hub"), job(load), tmp_path)
    assert ranking["proposal"]["keep_float"] == [] and "no layer stands out" in ranking["proposal"]["reason"]
    assert all(layer["rmse_over_scale"] < 1 for layer in ranking["layers"])
    assert {layer["type"] for layer in ranking["layers"]} == {"CONV_2D", "MEAN", "FULLY_CONNECTED"}


def test_a_layer_that_is_kept_already_is_not_ranked(load, tmp_path):
    ranking = rank(blocks(tmp_path / "hub", "second"), job(load, keep_float=["second"]), tmp_path)
    (kept,) = ranking["kept_float"]
    assert "second" in kept and all(layer["name"] != kept for layer in ranking["layers"])
    assert all(kept in trial["keep_float"] for trial in ranking["trials"])


def test_two_inputs_and_an_operator_without_integer_kernel(tmp_path):
    rng = np.random.default_rng(0)
    a, b = dense(rng, 6, 20), dense(rng, 20, 5)
    specs = [tf.TensorSpec([None, 6], tf.float32, "x"), tf.TensorSpec([None, 20], tf.float32, "z")]
    hub = make_hub(tmp_path / "hub", lambda x, z: tf.math.floormod(x @ a + z, 0.7) @ b, specs, ["y"])
    np.savez(
        tmp_path / "data.npz",
        z=rng.standard_normal((40, 20)).astype(np.float32),
        x=rng.standard_normal((40, 6)).astype(np.float32),
    )
    ranking = rank(hub, job(tmp_path / "data.npz"), tmp_path)
    assert [layer["type"] for layer in ranking["layers"]].count("FULLY_CONNECTED") == 2
    assert "FLOOR_MOD" not in {layer["type"] for layer in ranking["layers"]}


@pytest.mark.parametrize(("dtype", "with_load"), [("float16", True), ("float32", False)])
def test_files_without_integers_have_no_such_layers(load, tmp_path, dtype, with_load):
    with pytest.raises(ParameterError, match="not computed in integers.*ask for the layers of an .int8"):
        rank_layers(Hub(tmp_path), job(load if with_load else None, dtype), export, tmp_path)


def test_numbered_names_are_told_apart_by_order():
    available = [Layer("a", "MUL"), Layer("a1", "MUL"), Layer("b", "ADD")]
    assert _layers_of(["a1", "a11", "b2"], ["MUL", "MUL", "ADD"], available) == available


def trial(count: int, sqnr: float | None) -> dict:
    return {"keep_float": [f"layer{i}" for i in range(count)], "sqnr_db": sqnr, "bytes": 100 + 10 * count}


def test_each_layer_of_a_proposal_gains_three_decibels():
    chosen = _proposal([trial(0, 10.0), trial(1, 11.5), trial(2, 30.0), trial(3, 32.9)])
    assert chosen["keep_float"] == ["layer0", "layer1"] and chosen["gain_db"] == 20.0
    assert "2 layers in float" in chosen["reason"] and "20%" in chosen["reason"]
    assert _proposal([trial(0, 10.0), trial(1, 12.5), trial(2, 15.5)])["keep_float"] == []
    assert _proposal([trial(0, None), trial(1, None)])["keep_float"] == []


def test_from_the_command_line(project: Project):
    import shutil

    shutil.copyfile(ROOT / "models" / "digits.h5", project.folder / "models" / "digits.h5")
    np.savez(project.folder / "digits.npz", image=np.random.default_rng(0).random((20, 8, 8, 1), np.float32))
    config = {"models": {"digits": {"quantization": {"load": "digits.npz"}}}}
    run = project.snakemake("reports/digits.int8.layers.json", config=config)
    assert run.returncode == 0, run.stderr
    ranking = project.report("digits.int8.layers")
    jsonschema.Draft202012Validator(SCHEMA).validate(ranking)
    assert len(ranking["layers"]) >= 5 and ranking["steps"][0]["name"] == "quantization_layers"
    assert any("20 samples" in note for note in ranking["notes"])
    run = project.snakemake("reports/digits.int8.layers.json", config=config)
    assert "Nothing to be done" in run.stdout + run.stderr
    run = project.snakemake("reports/digits.float16.layers.json", config=config)
    assert run.returncode == 1 and "not computed in integers" in last_line(run)
    assert not (project.folder / "reports" / "digits.float16.layers.json").exists()
