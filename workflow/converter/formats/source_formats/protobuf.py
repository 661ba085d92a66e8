"""Frozen TensorFlow graphs, binary or as text."""

from converter.formats.declarations import SourceFormat

__all__ = ["PROTOBUF"]

PROTOBUF = SourceFormat(
    name="protobuf",
    title="Protobuf",
    framework="tensorflow",
    extensions=(".pb", ".pbtxt"),
    parameters=frozenset({"input_nodes", "output_nodes", "constants"}),
    packages=("tensorflow", "keras", "numpy"),
)
