"""SavedModel directories, of TensorFlow 1.15 to today."""

from converter.formats.declarations import SourceFormat

__all__ = ["SAVEDMODEL"]

SAVEDMODEL = SourceFormat(
    name="savedmodel",
    title="SavedModel",
    framework="tensorflow",
    contains=("saved_model.pb", "saved_model.pbtxt"),
    parameters=frozenset({"savedmodel_tag", "savedmodel_signature", "constants"}),
    packages=("tensorflow", "keras", "numpy"),
)
