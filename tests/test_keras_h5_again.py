"""Files .h5 of Keras 3 that plain Keras 3 does not open again."""

import keras
import pytest
from imports import imported, refused

SCRIPT = "import_keras"


def test_layers_of_keras_own_applications_need_no_script(tmp_path):
    """Their .h5 names the class alone: plain Keras (3.15) does not open it."""
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    x = keras.Input((4,))
    y = keras.layers.Dense(4)(x)
    keras.Model(x, CustomScaleLayer(0.25)([y, x])).save(tmp_path / "m.h5")
    with pytest.raises(ValueError, match="CustomScaleLayer"):
        keras.models.load_model(tmp_path / "m.h5")
    hub = imported(SCRIPT, tmp_path / "m.h5", tmp_path / "hub")
    assert hub.inputs[0].shape == (None, 4)


def test_an_h5_that_keras_does_not_open_again_says_what_to_save(tmp_path):
    x = keras.Input((4,))
    keras.Model(x, (x + 3.0) * 2.0).save(tmp_path / "m.h5")
    assert "does not open every .h5 that it writes: save the model as .keras" in refused(
        SCRIPT, tmp_path / "m.h5", tmp_path / "hub"
    )
