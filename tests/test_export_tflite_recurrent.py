"""Recurrent models in TensorFlow Lite: built-in operators, a free batch, fused LSTMs that neither clip nor hide their state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from export_tflite import export_model
from tf_hub import make_hub, perturb

from converter.contracts import ExportJob, ExportResult
from converter.hub.hub import Hub, Run
from converter.hub.informative import typical
from converter.tf.graph.graph_bytes import read_graph
from converter.tf.graph.tensor_lists import has_tensor_lists, without_tensor_lists
from converter.tf.tflite import export
from converter.tf.tflite.lstm import STATE_NOTE
from converter.tflite.flatbuffer import operators, read
from converter.verification.runtimes import TFLiteModel

LAYERS: dict[str, Callable] = {
    "lstm": lambda L: L.LSTM(6),
    "sequences": lambda L: L.LSTM(6, return_sequences=True),
    "gru": lambda L: L.GRU(6),
    "bidirectional": lambda L: L.Bidirectional(L.GRU(6, return_sequences=True)),
    "simple": lambda L: L.SimpleRNN(6),
}


def convert(hub: Hub, path: Path) -> ExportResult:
    return export_model(hub, ExportJob("converted/x.tflite"), path)


def operator_names(path: Path) -> set[str]:
    return {name for _, _, name in operators(read(path.read_bytes()))}


def recurrent_hub(
    path: Path, layer: Callable, steps: int | None = 7, batch: int | None = None, masked: bool = False
) -> Hub:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((steps, 5))
    hidden = keras.layers.Masking()(inputs) if masked else inputs
    model = keras.Model(inputs, keras.layers.Dense(3)(layer(keras.layers)(hidden)))
    spec = tf.TensorSpec([batch, steps, 5], tf.float32, "x")
    return make_hub(path, lambda x: model(x, training=False), [spec], ["y"], batch_dynamic=batch is None)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_recurrent_layer_keeps_its_free_batch_with_built_in_operators(tmp_path, kind):
    hub = recurrent_hub(tmp_path / "hub", LAYERS[kind])
    assert has_tensor_lists(read_graph(hub.graph_path))
    result = convert(hub, tmp_path / "x.tflite")
    assert result.verification.passed and not result.verification.weak_evidence
    assert result.inputs[0].shape == (None, 7, 5) and result.notes == []
    assert not any(name.startswith("Flex") for name in operator_names(tmp_path / "x.tflite"))
    model = TFLiteModel(tmp_path / "x.tflite")
    assert model.run([np.ones((5, 7, 5), np.float32)])[0].shape[0] == 5


def test_masked_steps_and_an_unknown_number_of_steps(tmp_path):
    for name, options in {"masked": {"masked": True}, "steps": {"steps": None}}.items():
        hub = recurrent_hub(tmp_path / name, LAYERS["lstm"], **options)
        result = convert(hub, tmp_path / "x.tflite")
        assert result.verification.passed and result.inputs[0].shape[0] is None


def test_a_fixed_batch_is_kept(tmp_path):
    hub = recurrent_hub(tmp_path / "hub", LAYERS["lstm"], batch=2)
    result = convert(hub, tmp_path / "x.tflite")
    assert result.verification.passed and result.inputs[0].shape == (2, 7, 5)


def test_a_loop_weight_off_by_one_percent_fails(tmp_path):
    hub = recurrent_hub(tmp_path / "hub", LAYERS["gru"])
    (name,) = [name for name in hub.extra["variables"] if name.endswith("recurrent_kernel")]
    perturb(hub, name)
    assert not convert(hub, tmp_path / "x.tflite").verification.passed


def test_where_lists_cannot_become_tensors_the_batch_is_one_and_the_report_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "without_tensor_lists", lambda *_: None)
    hub = recurrent_hub(tmp_path / "hub", LAYERS["sequences"])
    result = convert(hub, tmp_path / "x.tflite")
    assert result.verification.passed and result.verification.samples == 4
    assert result.inputs[0].shape == (1, 7, 5) and result.outputs[0].shape == (1, 7, 3)
    assert "takes a batch of 1" in result.notes[0]


def test_a_list_that_grows_is_left_alone(tmp_path):
    def function(x):
        def step(i, array):
            return i + 1, array.write(i, tf.reduce_sum(x, 1) * tf.cast(i, tf.float32))

        array = tf.TensorArray(tf.float32, size=0, dynamic_size=True)
        return tf.while_loop(lambda i, _: i < 3, step, [0, array])[1].stack()

    hub = make_hub(tmp_path / "hub", function, [tf.TensorSpec([None, 5], tf.float32, "x")], ["y"])
    assert without_tensor_lists(read_graph(hub.graph_path), "x") is None


STEPS = 12  # enough for a cell to pass 10, few enough for a state to be felt at the end


def fused_hub(path: Path, *, bias: float = 0.0, batch: int | None = None, output: str = "y") -> Hub:
    """A hub with the SavedModel of a tf_keras LSTM beside the graph; `bias` 5 drives cells beyond 10."""
    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input((STEPS, 5))
    initializer = tf_keras.initializers.Constant(bias)
    hidden = tf_keras.layers.LSTM(6, unit_forget_bias=False, bias_initializer=initializer)(inputs)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(3)(hidden))
    hub = make_hub(
        path,
        lambda x: model(x, training=False),
        [tf.TensorSpec([batch, STEPS, 5], tf.float32, "x")],
        ["y"],
        batch_dynamic=batch is None,
    )
    serve = tf.function(lambda x: {output: model(x, training=False)}, autograph=False)
    signature = serve.get_concrete_function(tf.TensorSpec([batch, STEPS, 5], tf.float32, name="x"))
    module = tf.Module()  # saving the Keras model itself would trace every layer: ten times as long
    module.held = model.variables
    tf.saved_model.save(module, str(path / "direct"), signatures={"serving_default": signature})
    hub.direct = "direct"
    hub.write()
    return Hub.read(path)


@pytest.mark.parametrize("batch", [None, 1])
def test_the_direct_route_fuses_the_lstm(tmp_path, batch):
    hub = fused_hub(tmp_path / "hub", batch=batch)
    result = convert(hub, tmp_path / "x.tflite")
    assert result.route == ["export_tflite_direct"]
    assert result.verification.passed and result.verification.samples == 4
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in operator_names(tmp_path / "x.tflite")
    assert result.inputs[0].shape == (1, STEPS, 5)
    assert (any("batch of 1" in note for note in result.notes)) is (batch is None)


def test_the_report_says_that_state_survives(tmp_path):
    result = convert(fused_hub(tmp_path / "hub"), tmp_path / "x.tflite")
    assert STATE_NOTE in result.notes
    x = np.random.default_rng(0).standard_normal((1, STEPS, 5)).astype(np.float32)
    model = TFLiteModel(tmp_path / "x.tflite", reset_state=False)
    assert not np.array_equal(model.run([x])[0].copy(), model.run([x])[0])
    model = TFLiteModel(tmp_path / "x.tflite")
    assert np.array_equal(model.run([x])[0].copy(), model.run([x])[0])


def test_cells_beyond_ten_are_not_clipped(tmp_path):
    result = convert(fused_hub(tmp_path / "hub", bias=5.0), tmp_path / "x.tflite")
    assert result.route == ["export_tflite_direct"] and result.verification.passed
    for _, operator, name in operators(read((tmp_path / "x.tflite").read_bytes())):
        if name == "UNIDIRECTIONAL_SEQUENCE_LSTM":
            assert operator.builtinOptions.cellClip == 0


def test_a_direct_file_that_does_not_verify_gives_way_to_the_graph(tmp_path):
    hub = fused_hub(tmp_path / "hub")
    other = fused_hub(tmp_path / "other", bias=1.0)
    (hub.path / "direct").rename(hub.path / "unused")
    (other.path / "direct").rename(hub.path / "direct")
    result = convert(hub, tmp_path / "x.tflite")
    assert result.route == ["export_tflite"] and result.verification.passed
    assert "WHILE" in operator_names(tmp_path / "x.tflite")


def test_a_savedmodel_with_other_names_gives_way_to_the_graph(tmp_path):
    hub = fused_hub(tmp_path / "hub", output="another")
    result = convert(hub, tmp_path / "x.tflite")
    assert result.route == ["export_tflite"] and result.verification.passed


def test_runs_of_several_rows_are_split_for_a_batch_of_one(tmp_path):
    hub = fused_hub(tmp_path / "hub")
    assert [run.inputs[0].shape[0] for run in typical(hub.reference())] == [1, 3]
    hub.write_reference([Run([r.inputs[0]], [r.outputs[0][::-1]]) for r in hub.reference()])  # rows in another order
    assert not convert(hub, tmp_path / "x.tflite").verification.passed
