"""SavedModel directories, of TensorFlow 1.15 to today."""

from converter.formats.declarations import SourceFormat

__all__ = ["SAVEDMODEL"]

SAVEDMODEL = SourceFormat(
    name="savedmodel",
    title="SavedModel",
    framework="tensorflow",
    contains=("saved_model.pb", "saved_model.pbtxt"),
    parameters=frozenset({"input_nodes", "output_nodes", "constants", "savedmodel_tag", "savedmodel_signature"}),
    packages=("tensorflow", "keras", "numpy"),
)
