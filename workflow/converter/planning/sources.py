"""Finding the source of a model: its format by name, the files in models/, and what to say when there is none or two."""

from __future__ import annotations

import itertools
import os
from functools import cached_property
from pathlib import Path

from converter import formats
from converter.errors import SourceError, nearest

__all__ = ["MODELS", "ModelFolder", "is_source_directory", "known_sources", "model_name", "source_format"]

# The user's own models; recipes write below zoo/ instead.
MODELS = "models"
# Below it, where a source is looked for that is not in it.
_MOST_FOLDERS = 1000


def known_sources() -> str:
    """What a source may be, for sentences."""
    folders = " or ".join(entry.title for entry in formats.sources().values() if entry.contains)
    return f"a {folders} directory or a file ending in " + ", ".join(formats.extensions_of_sources())


def is_source_directory(path: str) -> str | None:
    """The source format of a directory that holds what a format's directories hold; None for any other path."""
    for entry in formats.sources().values():
        if any(os.path.exists(os.path.join(path, name)) for name in entry.contains):
            return entry.name
    return None


def model_name(source: str) -> str:
    """The stem of a source file, or a SavedModel directory's name."""
    path = Path(os.path.normpath(source))
    return path.stem if path.suffix in formats.extensions_of_sources() else path.name


def source_format(source: str, made: bool = False) -> str:
    """The name of its format (formats/source_formats/), by the name of the source; `made`: a rule will write it.

    Raises SourceError when it does not exist, with the near names of its folder, or is of no known format.
    """
    path, known = Path(source), formats.extensions_of_sources()
    if made:
        return known.get(path.suffix, "savedmodel")
    if path.suffix == ".index" or path.name == "checkpoint":
        raise SourceError(_object_checkpoint(path))
    if os.path.isdir(path):
        name = is_source_directory(source) or "savedmodel"
        if name == "savedmodel" and Path.cwd().is_relative_to(path.resolve()):
            # Whatever a run writes would belong to its source.
            raise SourceError(
                f"{source} is the folder that this run works in, or one around it: run beside the SavedModel"
            )
        return name
    if not os.path.exists(path):
        if os.path.islink(path):
            raise SourceError(
                f"{source} is a link that leads to no file: mend it, or write another path in convert_from"
            )
        siblings = [entry.name for entry in path.parent.iterdir()] if os.path.isdir(path.parent) else []
        close = [str(path.parent / name) for name in nearest(path.name, siblings)]
        hint = f"did you mean {' or '.join(close)}?" if close else "write the path of an existing file in convert_from"
        raise SourceError(f"{source} does not exist: {hint}")
    if path.suffix not in known:
        raise SourceError(f"{source} is of no known format: convert_from takes {known_sources()}")
    return known[path.suffix]


def _object_checkpoint(path: Path) -> str:
    prefix = path.with_suffix("") if path.suffix == ".index" else path.parent / "<name>"
    meta = path.with_suffix(".meta")
    if path.suffix == ".index" and meta.exists():
        return f"{path} is one of several files of a checkpoint: write convert_from {meta}"
    return (
        f"{path} belongs to a checkpoint without a graph (no {prefix}.meta; TensorFlow 2 writes such): "
        "load it in the code that builds the model, save that with tf.saved_model.save, and convert the SavedModel"
    )


class ModelFolder:
    """What lies in models/ of the working directory, read once."""

    def __init__(self, folder: str = MODELS) -> None:
        self.folder = folder

    @cached_property
    def sources(self) -> dict[str, list[str]]:
        """Source paths by model name, sorted."""
        found: dict[str, list[str]] = {}
        if not os.path.isdir(self.folder):
            return found
        for entry in os.scandir(self.folder):
            suffix = os.path.splitext(entry.name)[1]
            is_folder = os.path.isdir(entry.path)  # entry.is_dir() raises for a link that leads to itself
            if suffix in formats.extensions_of_sources() and not is_folder:
                found.setdefault(entry.name[: -len(suffix)], []).append(f"{self.folder}/{entry.name}")
            elif is_folder and is_source_directory(entry.path):
                found.setdefault(entry.name, []).append(f"{self.folder}/{entry.name}")
        return {name: sorted(paths) for name, paths in found.items()}

    def _elsewhere(self, model: str) -> str | None:
        """A source of that name in a folder below this one, or beside it; nobody asks for those by name."""
        below = (folder for folder, _, _ in itertools.islice(os.walk(self.folder), _MOST_FOLDERS))
        for folder in (os.curdir, *below):
            for suffix in formats.extensions_of_sources():
                path = os.path.normpath(os.path.join(folder, f"{model}{suffix}"))
                if os.path.isfile(path):
                    return path
            path = os.path.normpath(os.path.join(folder, model))
            if os.path.isdir(path) and is_source_directory(path):
                return path
        return None

    def find(self, model: str) -> str | None:
        """The one source of that name, or None. Raises SourceError when there are several."""
        candidates = self.sources.get(model, [])
        if len(candidates) > 1:
            listed = " and ".join(candidates)
            raise SourceError(
                f"{model} is ambiguous, {listed} both fit: remove one, "
                f"or name the one you mean with convert_from under models: {model}:"
            )
        return candidates[0] if candidates else None

    def missing(self, model: str, others: list[str]) -> SourceError:
        """What to say when `model` has no source; `others` are names known from elsewhere (zoo, configuration)."""
        index = Path(self.folder, f"{model}.index")
        if index.exists():
            return SourceError(_object_checkpoint(index))
        if (elsewhere := self._elsewhere(model)) is not None:
            return SourceError(
                f"no source for {model} in {self.folder}/ itself: put {elsewhere} there, "
                f"or name it with convert_from under models: {model}:"
            )
        close = nearest(model, [*self.sources, *others])
        hint = (
            f"did you mean {' or '.join(close)}?" if close else f"put the model into {self.folder}/ ({known_sources()})"
        )
        return SourceError(
            f"no source for {model}: looked in {self.folder}/, in the jobs and models of the configuration, "
            f"and in the zoo; {hint}"
        )
