"""What of a directory of Hugging Face or timm is its model: configurations, and one form of its weights."""

from __future__ import annotations

import json
import os
from pathlib import Path

from converter.planning.value_types import is_mapping

__all__ = ["WEIGHTS", "files_of_directory", "shards", "takes_lengths"]

CONFIG = "config.json"
# In the order in which transformers and timm themselves look for them.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# How keys end that only configurations of models for texts or recordings have, at the top or one part below.
_OF_LENGTHS = ("vocab_size", "max_position_embeddings", "num_mel_bins", "feat_extract_norm", "sampling_rate")
_MAX_CONFIG = 16 * 1024 * 1024
# An index names each tensor of a model once.
_MAX_INDEX = 64 * 1024 * 1024


def files_of_directory(folder: Path) -> list[Path] | None:
    """The files that are read, sorted; None for a directory of another kind. A shard that is missing is left out."""
    # os.path says no where a folder may not be read; what reads it then says so.
    if not os.path.isfile(folder / CONFIG) or any(os.path.exists(folder / f"saved_model.{k}") for k in ("pb", "pbtxt")):
        return None
    found = [path for name in (CONFIG, "preprocessor_config.json") if (path := folder / name).is_file()]
    found += sorted(folder.glob("*.py"))  # what auto_map may name
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is not None:
        found.append(weights)
        if weights.suffix == ".json":
            found += [path for name in shards(weights) or [] if (path := folder / name).is_file()]
    return sorted(found)


def takes_lengths(folder: Path) -> bool:
    """Whether the model takes texts or recordings, of any length, as its configuration tells: timm's and images' do not."""
    try:
        if (folder / CONFIG).stat().st_size > _MAX_CONFIG:
            return False
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # the import says what is wrong with it
        return False
    if not is_mapping(values) or "architecture" in values:
        return False
    parts = [values, *filter(is_mapping, values.values())]
    return any(str(key).endswith(_OF_LENGTHS) for part in parts for key in part)


def shards(index: Path) -> list[str] | None:
    """Names of the files beside it that an index distributes the weights over, sorted; None where it is no such index."""
    try:
        if index.stat().st_size > _MAX_INDEX:
            return None
        mapping = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(mapping.values()))
        fit = all(Path(name).name == name and name.endswith((".safetensors", ".bin")) for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return names if fit and names else None
