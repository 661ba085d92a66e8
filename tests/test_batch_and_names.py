"""Of TensorFlow sources: a batch that the user fixes or frees, and shapes of inputs by name."""

import keras
import pytest
from imports import imported, refused

SCRIPT = "import_keras"


def saved(tmp_path):
    """Two inputs of different ranks and two outputs."""
    keras.utils.set_random_seed(3)
    words, image = keras.Input((6,), dtype="int32", name="words"), keras.Input((8, 8, 3), name="image")
    left = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(40, 4)(words))
    right = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    joined = keras.layers.Concatenate()([left, right])
    outputs = [keras.layers.Dense(3, name="zeta")(joined), keras.layers.Dense(2, name="alpha")(joined)]
    keras.Model([words, image], outputs).save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.mark.parametrize(("batch", "size"), [("4", 4), ("free", None)])
def test_the_batch_that_the_user_fixes(tmp_path, batch, size):
    """All inputs share it, whatever the file says; the reference has that many rows."""
    path = saved(tmp_path)
    hub = imported(SCRIPT, path, tmp_path / "hub", batch=batch)
    assert [spec.shape for spec in hub.inputs] == [(size, 6), (size, 8, 8, 3)]
    assert {spec.shape[0] for spec in hub.outputs} == {size}
    assert {len(run.inputs[0]) for run in hub.reference()} == {4} if size else len(hub.reference()) > 1


def test_shapes_by_name_leave_other_inputs_as_they_are(tmp_path):
    path = saved(tmp_path)
    hub = imported(SCRIPT, path, tmp_path / "hub", input_shape="image=2,8,8,3;words=2,6")
    assert [(spec.name, spec.shape) for spec in hub.inputs] == [("words", (2, 6)), ("image", (2, 8, 8, 3))]
    sentence = refused(SCRIPT, path, tmp_path / "hub2", input_shape="picture=2,8,8,3")
    assert "no input 'picture'" in sentence and "image" in sentence
