"""The weights of a model's directory, as one state dictionary: safetensors or PyTorch files, whole or in shards."""

from __future__ import annotations

from pathlib import Path

import torch

from converter.errors import SourceError
from converter.planning.model_directories import WEIGHTS, shards
from converter.torch.sources.archives import checked_kind
from converter.torch.trust.pickles import load_pickled
from converter.torch.trust.safetensors import load_safetensors

__all__ = ["read_state"]

_OTHERS = {"tf_model.h5": "TensorFlow", "flax_model.msgpack": "Flax", "model.ckpt.index": "TensorFlow"}


def read_state(folder: Path, trusted: bool) -> dict[str, torch.Tensor]:
    """Tensors by name. Raises SourceError where there are none, or a file is missing or damaged."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        other = next((kind for name, kind in _OTHERS.items() if (folder / name).exists()), None)
        has = f"has weights of {other} only" if other else "has no weights"
        raise SourceError(f"{folder} {has}: it needs {WEIGHTS[0]} or {WEIGHTS[2]}, or the index of its shards")
    if found.suffix != ".json":
        return _read(found, trusted)
    state: dict[str, torch.Tensor] = {}
    for name in _shards(found):
        state |= _read(found.parent / name, trusted)
    return state


def _shards(index: Path) -> list[str]:
    """Names of the files that an index distributes the weights over, which lie beside it."""
    names = shards(index)
    if names is None:
        raise SourceError(f"{index} has no weight_map that says which file beside it holds which tensor")
    for name in names:
        if not (index.parent / name).is_file():
            raise SourceError(f"{index.parent} lacks {name}, which {index.name} names")
    return names


def _read(path: Path, trusted: bool) -> dict[str, torch.Tensor]:
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise SourceError(f"{path} is a pointer of Git LFS, not the weights themselves: run git lfs pull in its folder")
    if path.suffix == ".safetensors":
        return load_safetensors(path)
    checked_kind(path, trusted)
    state = load_pickled(path, None, trusted)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise SourceError(f"{path} holds no dictionary of tensors")
    return {str(name): value for name, value in state.items()}
