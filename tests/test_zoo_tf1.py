"""Recipes of TensorFlow 1 files: their names and operators, and outputs that vary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
import zoo_tf1
from conftest import ROOT

from converter.zoo.ssd import anchors

tf1 = tf.compat.v1
RECIPES = yaml.safe_load((ROOT / "configs" / "zoo.yaml").read_text())


def test_every_recipe_has_a_network_and_a_rule():
    """Each file's name is one that a rule of rules/zoo.smk makes; TensorFlow 1 recipes name a network."""
    endings = {
        "application": {".h5", ".keras"},  # .keras where Keras does not open its own .h5 again
        "recurrent": {".h5"},
        "torchvision": {".pt"},
        "recurrent_torch": {".pt2"},
    }
    for name, recipe in RECIPES.items():
        if recipe["recipe"] == "tf1":
            assert recipe["network"] in zoo_tf1.RECIPES
            assert recipe["file"] in {f"zoo/{name}{ending}" for ending in ("", ".pb", ".meta")}
        else:
            assert recipe["file"] in {f"zoo/{name}{ending}" for ending in endings[recipe["recipe"]]}
    stands = [recipe["stands_for"] for recipe in RECIPES.values() if "stands_for" in recipe]
    assert len(stands) == len(set(stands)) == 14


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_recurrent_graph_loops_as_in_tensorflow_1(tmp_path: Path, kind: str):
    for ending in (".pb", ".meta", ""):
        zoo_tf1.write(zoo_tf1.RECIPES[kind], tmp_path / f"net{ending}")
    graph = tf1.GraphDef.FromString((tmp_path / "net.pb").read_bytes())
    operators = {node.op for node in graph.node}
    assert {"Enter", "Exit", "TensorArrayV3", "Placeholder"} <= operators and "While" not in operators
    assert sorted(path.suffix for path in tmp_path.glob("net.*")) == [".data-00000-of-00001", ".index", ".meta", ".pb"]
    assert (tmp_path / "net" / "saved_model.pb").is_file()
    with tf.Graph().as_default(), tf1.Session() as session:
        tf.import_graph_def(graph, name="")
        tokens = np.random.default_rng(0).integers(0, 1000, (64, 53)).astype(np.float32)
        logits = session.run("dense/BiasAdd:0", {"embedding_input:0": tokens})
    assert logits.shape == (64, 2) and 0.4 < logits.std(0).mean() < 2.5


@pytest.mark.slow
def test_a_detector_takes_images_of_any_size(tmp_path: Path):
    zoo_tf1.write(zoo_tf1.RECIPES["ssd_mobilenet_v1"], tmp_path / "ssd.pb")
    graph = tf1.GraphDef.FromString((tmp_path / "ssd.pb").read_bytes())
    assert sum(node.op.startswith("NonMaxSuppression") for node in graph.node) == 90
    with tf.Graph().as_default(), tf1.Session() as session:
        tf.import_graph_def(graph, name="")
        images = np.random.default_rng(0).integers(0, 256, (2, 200, 240, 3)).astype(np.uint8)
        names = ["detection_boxes:0", "detection_scores:0", "detection_classes:0", "num_detections:0"]
        boxes, scores, classes, count = session.run(names, {"image_tensor:0": images})
    assert boxes.shape == (2, 100, 4) and boxes.min() >= 0 and boxes.max() <= 1 and boxes.std() > 0.05
    found = scores > 0
    assert ((count > 5) & (count < 50)).all() and (found.sum(1) == count).all() and (np.diff(scores) <= 0).all()
    assert set(classes[found]) <= set(range(1, 91)) and len(set(classes[found])) > 5 and not classes[~found].any()


@pytest.mark.parametrize("count", [2664, 3000])
def test_anchors_cover_the_image(count: int):
    found = anchors(count)
    assert found.shape == (count, 4) and found.min() > 0
    assert 0.4 < found[:, 0].mean() < 0.6 and found[:, 2].max() < 1.8
