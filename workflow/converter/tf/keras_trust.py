"""What a Keras configuration may name without trust: layers and operations, but no code, no files and no other modules.

Keras 3.15 refuses some of this itself (`safe_mode`), for .keras files; tf_keras 2.21 and .h5 files have no such mode.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

from converter.errors import UntrustedError
from converter.tf.keras_file import KerasFile

__all__ = ["has_bytecode", "keras_modules_only", "refuse_untrusted"]

_TRUST = "set trusted: true if you know where the file comes from"
# Layers that run another file's code, or unpickle.
_FOREIGN = {"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
_VOCABULARIES = {"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup"}
# What the layers of calls like tf.nn.relu(x) may call: functions of tensors. "io" for its decoders only.
_PACKAGES = {
    *("audio", "bitwise", "image", "linalg", "math", "nn", "quantization", "ragged", "random", "signal", "sparse"),
    *("strings", "keras", "__operators__", "raw_ops", "dtypes", "sets"),
}
_CALLS = re.compile(r"(io|debugging)\.(decode_|encode_|parse_|deserialize_|serialize_|assert_|check_numerics)\w+")
_NO_CALLS = re.compile(
    r"load_\w+|py_function|numpy_function|print|import_graph_def|function|custom_gradient|recompute_grad"
)
_CLASSES = {"RaggedTensor", "SparseTensor", "sparse.SparseTensor"}


def refuse_untrusted(file: KerasFile) -> None:
    """Raise UntrustedError where opening the model would run Python code that it carries, or reach beyond it."""
    names = _bytecode_layers(file.config)
    if names:
        raise UntrustedError(
            f"{file.path} carries Python code of its own in its Lambda layers ({', '.join(map(str, names[:5]))}), "
            f"and opening it would run that: {_TRUST}"
        )
    for entry in _mappings(file.config):
        config = entry.get("config")
        name, values = str(entry.get("class_name")), config if isinstance(config, dict) else {}
        if name in _FOREIGN:
            raise UntrustedError(f"{file.path} contains a {name}, which runs code from outside of Keras: {_TRUST}")
        if name in _VOCABULARIES and isinstance(values.get("vocabulary"), str):
            raise UntrustedError(f"{file.path}: its {name} layer reads the file {values['vocabulary']}: {_TRUST}")
        if name in ("TFOpLambda", "SlicingOpLambda") and not _may_call(values.get("function")):
            raise UntrustedError(f"{file.path} contains a layer that calls tf.{values.get('function')}: {_TRUST}")
        if name == "ClassMethod" and str(values.get("cls_symbol")) not in _CLASSES:
            raise UntrustedError(f"{file.path} contains a layer that calls tf.{values.get('cls_symbol')}: {_TRUST}")


def _may_call(function: object) -> bool:
    """Whether a name below tf. is that of a function of tensors."""
    if not isinstance(function, str):
        return False
    name = function.removeprefix("compat.v1.").removeprefix("compat.v2.")
    package, _, operator = name.rpartition(".")
    if package.split(".")[0] == "raw_ops":
        from tensorflow.core.framework import node_def_pb2

        from converter.tf.refused_operators import reaches_out

        return reaches_out(node_def_pb2.NodeDef(op=operator)) is None
    if not package:
        return _NO_CALLS.fullmatch(name) is None
    return package.split(".")[0] in _PACKAGES or _CALLS.fullmatch(name) is not None


def has_bytecode(file: KerasFile) -> bool:
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


@contextmanager
def keras_modules_only(keras: ModuleType) -> Iterator[None]:
    """Inside, tf_keras looks for a class in its own modules and in custom objects; it would import any module named (2.21)."""
    if keras.__name__ != "tf_keras":
        yield
        return
    from tf_keras.src.saving import serialization_lib

    def import_module(name: str) -> ModuleType:
        if name.split(".")[0] not in ("tf_keras", "tensorflow"):
            raise ModuleNotFoundError(name)
        return importlib.import_module(name)

    serialization_lib.importlib = SimpleNamespace(import_module=import_module)
    try:
        yield
    finally:
        serialization_lib.importlib = importlib
