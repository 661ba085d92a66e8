"""Directories of Hugging Face and timm: config.json with model.safetensors, its shards, or pytorch_model.bin."""

from converter.formats.declarations import SourceFormat

__all__ = ["HUGGINGFACE"]

HUGGINGFACE = SourceFormat(
    name="huggingface",
    title="Hugging Face",
    framework="pytorch",
    contains=("config.json",),
    parameters=frozenset({"network_name", "constants"}),
    packages=("torch", "transformers", "timm", "safetensors", "numpy"),
)
