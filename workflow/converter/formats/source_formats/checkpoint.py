"""TensorFlow 1 checkpoints: a .meta with its .index and .data files."""

from converter.formats.declarations import SourceFormat

__all__ = ["CHECKPOINT"]

CHECKPOINT = SourceFormat(
    name="checkpoint",
    title="TensorFlow Checkpoint",
    framework="tensorflow",
    extensions=(".meta",),
    parameters=frozenset({"input_nodes", "output_nodes", "constants"}),
    packages=("tensorflow", "keras", "numpy"),
)
