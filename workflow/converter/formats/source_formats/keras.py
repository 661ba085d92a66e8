"""Keras files of Keras 2 and 3."""

from converter.formats.declarations import SourceFormat

__all__ = ["KERAS"]

KERAS = SourceFormat(
    name="keras",
    title="Keras",
    framework="tensorflow",
    extensions=(".h5", ".hdf5", ".keras"),
    parameters=frozenset({"input_nodes", "output_nodes", "network_script", "network_name", "network_args"}),
    packages=("tensorflow", "keras", "numpy", "tf_keras", "h5py"),
)
