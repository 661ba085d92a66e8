"""What a Keras configuration may name without trust: layers and operations, but no code, no files and no other modules.

Keras 3.15 refuses some of this itself (`safe_mode`), for .keras files; tf_keras 2.21 and .h5 files have no such mode.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from converter.errors import UntrustedError
from converter.tf.sources.keras_file import KerasFile
from converter.wording import TRUST

__all__ = ["has_bytecode", "refuse_entry", "refuse_untrusted"]

# Layers that run another file's code, or unpickle.
_FOREIGN = {"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
_VOCABULARIES = {"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup"}
# Of the feature columns that layers of Keras 2 may hold.
_FILES = ("vocabulary_file", "ckpt_to_load_from")
# What the layers of calls like tf.nn.relu(x) may call: functions of tensors. "io" for its decoders only.
_PACKAGES = {
    *("audio", "bitwise", "image", "linalg", "math", "nn", "quantization", "ragged", "random", "signal", "sparse"),
    *("strings", "__operators__", "raw_ops", "dtypes", "sets"),
}
# Of tf.keras only what computes: its other functions open files, download, and build models from text, with their bytecode.
_KERAS_PACKAGES = {"activations", "backend", "losses", "metrics"}
_NO_KERAS_CALLS = re.compile(r"(de)?serialize|get(_\w+)?|(batch_)?set_\w+|eval|function|print_tensor|clear_session")
# Names directly below tf. and tf.compat.v1. are of all kinds (read_file, py_func, rpc_server): by where they are defined.
_MODULES = re.compile(
    r"tensorflow\.python\.(ops\.(ragged\.\w+|"
    r"(gen_)?(array|linalg|math|nn|parsing|string|spectral|sparse|random|bitwise|set|ragged_array)_ops|"
    r"(bincount|check|clip|functional|histogram|manip|random_crop|sort|special_math|tensor_array)_ops|"
    r"array_ops_stack|cond|confusion_matrix|control_flow_(assert|case|ops|switch_case)|gen_control_flow_ops|"
    r"gen_data_flow_ops|map_fn|numerics|while_loop)|"
    r"framework\.(constant_op|dtypes|sparse_tensor|tensor_conversion|tensor_shape|indexed_slices))"
)
_CALLS = re.compile(r"(io|debugging)\.(decode_|encode_|parse_|deserialize_|serialize_|assert_|check_numerics)\w+")
# They take the name of a file, and are called at once where their arguments are constants.
_NO_CALLS = re.compile(r"(\w+\.)*(fixed_unigram_candidate_sampler|(de|en)code_proto)")
# What layers may take from a tensor that they are given, ragged and sparse ones. From a constant they would take anything.
_ATTRIBUTES = {
    *(
        "bounding_shape",
        "dense_shape",
        "dtype",
        "flat_values",
        "get_shape",
        "indices",
        "merge_dims",
        "nested_flat_values",
    ),
    *("nested_row_lengths", "nested_row_splits", "nested_value_rowids", "nrows", "rank", "ragged_rank", "row_lengths"),
    *(
        "row_limits",
        "row_splits",
        "row_starts",
        "shape",
        "to_sparse",
        "to_tensor",
        "uniform_row_length",
        "value_rowids",
    ),
    *("values", "with_flat_values", "with_values"),
}
_CLASSES = {"RaggedTensor", "SparseTensor", "sparse.SparseTensor"}


def refuse_untrusted(file: KerasFile) -> None:
    """Raise UntrustedError where opening the model would run Python code that it carries, or reach beyond it."""
    names = _bytecode_layers(file.config)
    if names:
        raise UntrustedError(
            f"{file.path} carries Python code of its own in its Lambda layers ({', '.join(map(str, names[:5]))}), "
            f"and opening it would run that: {TRUST}"
        )
    for entry in _mappings(file.config):
        refuse_entry(file.path, str(entry.get("class_name")), entry)


def refuse_entry(path: Path, name: str, entry: dict) -> None:
    """The same for one object of the configuration, of the class `name`; an entry may call that otherwise."""
    config = entry.get("config")
    values = config if isinstance(config, dict) else {}
    if name in _FOREIGN:
        raise UntrustedError(f"{path} contains a {name}, which runs code from outside of Keras: {TRUST}")
    if name in _VOCABULARIES and isinstance(values.get("vocabulary"), str):
        raise UntrustedError(f"{path}: its {name} layer reads the file {values['vocabulary']}: {TRUST}")
    named = next((entry[key] for key in _FILES if isinstance(entry.get(key), str)), None)
    if named is not None:
        raise UntrustedError(f"{path}: one of its feature columns reads the file {named}: {TRUST}")
    if name in ("TFOpLambda", "SlicingOpLambda") and not _may_call(values.get("function")):
        raise UntrustedError(f"{path} contains a layer that calls tf.{values.get('function')}: {TRUST}")
    if name == "TensorFlowOpLayer" and (what := _reaches_out(values.get("node_def"))):
        raise UntrustedError(f"{path} contains a layer whose operator {what}: {TRUST}")
    if name in ("InstanceMethod", "InstanceProperty") and str(values.get("attr_name")) not in _ATTRIBUTES:
        raise UntrustedError(
            f"{path} contains a layer that takes {values.get('attr_name')} from what it is given: {TRUST}"
        )
    if name == "ClassMethod" and str(values.get("cls_symbol")) not in _CLASSES:
        raise UntrustedError(f"{path} contains a layer that calls tf.{values.get('cls_symbol')}: {TRUST}")


def _may_call(function: object) -> bool:
    """Whether a name below tf. is that of a function of tensors."""
    if not isinstance(function, str):
        return False
    name = function.removeprefix("compat.v1.").removeprefix("compat.v2.")
    package, _, operator = name.rpartition(".")
    if package.split(".")[0] == "raw_ops":
        return _reaches_out({"op": operator}) is None
    if package.split(".")[0] == "keras":
        return package.split(".")[1:2] != [] and (
            package.split(".")[1] in _KERAS_PACKAGES and _NO_KERAS_CALLS.fullmatch(operator) is None
        )
    if not package:
        from tensorflow.python.util.tf_export import get_symbol_from_name

        symbol = get_symbol_from_name(function)  # None is an error of Keras's, which names it
        return symbol is None or _MODULES.fullmatch(getattr(symbol, "__module__", None) or "") is not None
    if _NO_CALLS.fullmatch(name):
        return False
    return package.split(".")[0] in _PACKAGES or _CALLS.fullmatch(name) is not None


def _reaches_out(node: object) -> str | None:
    """What the operator of a node does beyond the model; a NodeDef as the text of its bytes, or as a mapping of its fields."""
    from google.protobuf import json_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import node_def_pb2

    from converter.tf.trust.refused_operators import reaches_out

    try:
        if isinstance(node, str):
            return reaches_out(node_def_pb2.NodeDef.FromString(node.encode()))
        return reaches_out(json_format.ParseDict(node, node_def_pb2.NodeDef()))
    except (DecodeError, UnicodeEncodeError, TypeError, AttributeError, json_format.ParseError):
        return "cannot be read"


def has_bytecode(file: KerasFile) -> bool:
    """Whether the configuration carries Python bytecode (Lambda layers), which loading would run."""
    return bool(_bytecode_layers(file.config))


def _bytecode_layers(config: object) -> list[str]:
    """Names of layers whose function is stored as code, nested models and wrappers included."""
    names = []
    for entry in _mappings(config):
        inner = entry.get("config")
        of_layer = isinstance(inner, dict) and _is_bytecode(inner)
        if of_layer or entry.get("class_name") == "__lambda__" or ("class_name" not in entry and _is_bytecode(entry)):
            names.append(inner.get("name", "lambda") if isinstance(inner, dict) else entry.get("name", "lambda"))
    return names


def _is_bytecode(config: dict) -> bool:
    """Keras 1 and 2 write `function_type: lambda` beside the code (wrappers of cells likewise), Keras 3 a `__lambda__`."""
    return any(key.endswith("_type") and value == "lambda" for key, value in config.items()) or any(
        isinstance(value, dict) and value.get("class_name") == "__lambda__" for value in config.values()
    )


def _mappings(config: object) -> Iterator[dict]:
    """Every mapping in a configuration, however deep."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending += reversed(list(value.values()))
        elif isinstance(value, list):
            pending += reversed(value)
