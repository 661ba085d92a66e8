"""Directories of Hugging Face and timm: config.json with model.safetensors, its shards, or pytorch_model.bin."""

from converter.formats.declarations import SourceFormat
from converter.planning.model_directories import takes_lengths

__all__ = ["HUGGINGFACE"]

HUGGINGFACE = SourceFormat(
    name="huggingface",
    title="Hugging Face",
    framework="pytorch",
    contains=("config.json",),
    parameters=frozenset({"network_name", "constants", "length"}),
    takes_lengths=takes_lengths,
    packages=("torch", "transformers", "timm", "safetensors", "numpy"),
)
