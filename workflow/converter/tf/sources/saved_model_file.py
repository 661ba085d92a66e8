"""What a SavedModel directory offers: graphs by their tags, signatures by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from converter.errors import ParameterError, SourceError, nearest

__all__ = ["choices", "choose_signature", "meta_graph_of", "read_saved_model"]

# Written for initialization and training by TensorFlow itself.
_INTERNAL = ("__saved_model_init_op", "__saved_model_train_op")


def read_saved_model(directory: Path) -> saved_model_pb2.SavedModel:
    """The SavedModel proto of a directory. Raises SourceError where it is missing, empty or damaged."""
    binary, text = directory / "saved_model.pb", directory / "saved_model.pbtxt"
    path = binary if binary.is_file() else text
    if not path.is_file():
        hint = (
            "it is a Keras 3 folder, so convert the .keras file"
            if (directory / "config.json").is_file()
            else "write the directory that tf.saved_model.save or model.export made"
        )
        raise SourceError(f"{directory} is no SavedModel, it has no saved_model.pb: {hint}")
    saved_model = saved_model_pb2.SavedModel()
    try:
        if path is binary:
            saved_model.ParseFromString(path.read_bytes())
        else:
            text_format.Parse(path.read_text(encoding="utf-8"), saved_model)
    except (DecodeError, text_format.ParseError, UnicodeDecodeError):
        raise SourceError(f"{path} is damaged ({path.stat().st_size} bytes): copy the directory again") from None
    if not saved_model.meta_graphs:
        raise SourceError(f"{path} holds no graph ({path.stat().st_size} bytes): copy the directory again")
    return saved_model


def meta_graph_of(
    directory: Path, saved_model: saved_model_pb2.SavedModel, tags: Sequence[str]
) -> meta_graph_pb2.MetaGraphDef:
    """The graph with exactly these tags. Raises ParameterError that lists the tag sets there are."""
    for meta in saved_model.meta_graphs:
        if set(meta.meta_info_def.tags) == set(tags):
            return meta
    available = " or ".join(",".join(sorted(meta.meta_info_def.tags)) for meta in saved_model.meta_graphs)
    raise ParameterError(f"{directory} has no graph with the tags {','.join(tags)}: write savedmodel_tag: {available}")


def choose_signature(directory: Path, meta: meta_graph_pb2.MetaGraphDef, name: str) -> meta_graph_pb2.SignatureDef:
    """The signature of that name. Raises ParameterError that lists those there are, SourceError where there is none."""
    available = _signatures(meta)
    if not available:
        raise SourceError(
            f"{directory} has no signature, which says what its inputs and outputs are: "
            "save it again with tf.saved_model.save(model, path, signatures=...)"
        )
    if name not in available:
        close = nearest(name, available, 1)
        others = [key for key in available if key not in close]
        listed = " or ".join([*close, *others])
        raise ParameterError(f"{directory} has no signature {name}: write savedmodel_signature: {listed}")
    return meta.signature_def[name]


def choices(
    saved_model: saved_model_pb2.SavedModel, meta: meta_graph_pb2.MetaGraphDef, signature: str
) -> tuple[list[str], list[str]]:
    """Notes and decisions: the graph and the signature that were taken, where the file has others too."""
    notes, decisions = [], []
    tags = [",".join(sorted(entry.meta_info_def.tags)) for entry in saved_model.meta_graphs]
    own = ",".join(sorted(meta.meta_info_def.tags))
    for what, parameter, taken, names in (
        ("graph with the tags", "savedmodel_tag", own, tags),
        ("signature", "savedmodel_signature", signature, _signatures(meta)),
    ):
        others = [name for name in names if name != taken]
        if others:
            notes.append(
                f"the {what} {taken} was converted; the file also has {' and '.join(others)} ({parameter} chooses)"
            )
            decisions.append(f"{'tags' if what != 'signature' else what}: {taken} of {', '.join([taken, *others])}")
    return notes, decisions


def _signatures(meta: meta_graph_pb2.MetaGraphDef) -> list[str]:
    return sorted(key for key, entry in meta.signature_def.items() if key not in _INTERNAL and entry.outputs)
