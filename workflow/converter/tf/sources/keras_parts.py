"""What the names in a Keras configuration may lead to: parts of Keras that models are made of, and functions of tensors.

Keras imports modules that a configuration names and takes anything from them: tf_keras (2.21) also what they have imported
themselves ("os.system" of one of its own), and calls it on constants of the configuration while it opens the file; Keras
(3.15) any function of its interface, and any class in place of a function, without the conditions that it has for classes.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

from converter.errors import UntrustedError
from converter.library_patches.keras import find_class, importlib_of
from converter.library_patches.replacing import replaced
from converter.tf.sources.keras_trust import refuse_entry
from converter.wording import TRUST

__all__ = ["parts_only"]

# By the modules that define them. Not in these: what runs other files (export, jax_layer, torch_utils), callbacks, datasets.
_CLASSES = re.compile(
    r"keras\.src\.(activations|constraints|dtype_policies|initializers|layers|legacy\.(layers|losses)|losses|metrics|models|ops|optimizers|"
    r"quantizers|random|regularizers)(\.\w+)*|"
    r"tf_keras\.src\.(activations|constraints|engine|feature_column|initializers|layers|losses|metrics|mixed_precision|"
    r"models|optimizers|premade_models|regularizers)(\.\w+)*"
)
_FUNCTIONS = re.compile(
    r"keras\.src\.(activations|legacy\.backend|losses|metrics|ops|random|utils\.numerical_utils)(\.\w+)*|"
    r"tf_keras\.src\.(activations|backend|losses|metrics|utils\.np_utils)(\.\w+)*|"
    r"tensorflow\.python\.ops\.((gen_)?(array|bitwise|clip|image|linalg|math|nn|signal|sparse|special_math|string)_ops|"
    r"image_ops_impl|nn_impl|special_math_ops)"
)
_NO_FUNCTIONS = re.compile(
    r"(de)?serialize|get(_\w+)?|(batch_)?set_\w+|eval|function|print_tensor|clear_session|from_config"
)
_PREPROCESSING = re.compile(r"(tf_)?keras\.src\.applications\.\w+")


@contextmanager
def parts_only(path: Path, keras: ModuleType) -> Iterator[None]:
    """Inside, Keras finds nothing but parts of models by the names that the file `path` gives, and the user's own objects.

    Raises UntrustedError for anything else, UnsupportedError where Keras is not as it is known here. tf_keras imports no
    modules but its own, and those of TensorFlow's operators.
    """
    finder = find_class(keras.__name__)
    _, find = finder.find()

    def find_part(
        name: str,
        registered_name: str,
        module: str,
        obj_type: str,
        full_config: dict,
        custom_objects: Mapping | None = None,
    ) -> object:
        part = find(name, registered_name, module, obj_type, full_config, custom_objects)
        if not any(part is own for own in (custom_objects or {}).values()):
            _refuse(path, part, f"{module}.{name}", full_config)
        return part

    modules = SimpleNamespace(import_module=_import)
    with replaced((finder, find_part), (importlib_of(keras.__name__), modules)):
        yield


def _import(name: str) -> ModuleType:
    if name.split(".")[0] not in ("keras", "tf_keras") and not name.startswith("tensorflow.python.ops."):
        raise ModuleNotFoundError(name)
    return importlib.import_module(name)


def _refuse(path: Path, part: object, name: str, entry: dict) -> None:
    as_function = entry.get("class_name") == "function"
    if isinstance(part, type):
        allowed = not as_function and (_is_of(_CLASSES, part) or _is_type_spec(part))
        refuse_entry(path, part.__name__, entry)
    else:
        known = getattr(part, "__name__", "")
        allowed = (_is_of(_FUNCTIONS, part) and _NO_FUNCTIONS.fullmatch(known) is None) or (
            known == "preprocess_input" and _is_of(_PREPROCESSING, part)
        )
    if not allowed:
        raise UntrustedError(f"{path} names {name}, which is no part that models are made of: {TRUST}")


def _is_of(modules: re.Pattern, part: object) -> bool:
    return modules.fullmatch(getattr(part, "__module__", None) or "") is not None


def _is_type_spec(part: type) -> bool:
    import tensorflow as tf

    return issubclass(part, tf.TypeSpec)
