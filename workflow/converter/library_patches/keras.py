"""What is replaced in Keras (3.15), tf_keras and TensorFlow (2.21)."""

from __future__ import annotations

from types import ModuleType

from converter.library_patches.replacing import Patched

__all__ = [
    "ACTIVATION",
    "ADD_WEIGHT",
    "ASSIGN",
    "EAGER_TENSOR",
    "RESIZE",
    "RESIZE_BACKEND",
    "VARIABLE",
    "find_class",
    "importlib_of",
    "initializers",
]

_PACKAGES = {"keras": "keras", "tf_keras": "tf-keras"}  # the packages' names for pip
_RANDOM = ("RandomNormal", "TruncatedNormal", "RandomUniform", "VarianceScaling", "Orthogonal")
_CALLS = {"keras": ("self", "shape", "dtype"), "tf_keras": ("self", "shape", "dtype", "kwargs")}

ACTIVATION = Patched(
    "tf-keras", "tf_keras.src.activations", "deserialize", ("name", "custom_objects", "use_legacy_format")
)
_SIZES = ("images", "size", "interpolation", "antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio")
_FILLS = ("fill_mode", "fill_value", "data_format")
RESIZE = Patched("keras", "keras.src.ops.image", "resize", (*_SIZES, *_FILLS))
RESIZE_BACKEND = Patched("keras", "keras.src.backend.tensorflow.image", "resize", (*_SIZES, *_FILLS))
EAGER_TENSOR = Patched(
    "tensorflow", "tensorflow.python.framework.constant_op", "convert_to_eager_tensor", ("value", "ctx", "dtype")
)
_VARIABLE = ("self", "initial_value", "trainable", "collections", "validate_shape", "caching_device", "name", "dtype")
_VARIABLE += (
    "variable_def",
    "import_scope",
    "constraint",
    "distribute_strategy",
    "synchronization",
    "aggregation",
    "shape",
)
_RESOURCE = "tensorflow.python.ops.resource_variable_ops:ResourceVariable"
_LIFTING = ("handle", "experimental_enable_variable_lifting")
VARIABLE = Patched("tensorflow", _RESOURCE, "__init__", (*_VARIABLE, *_LIFTING))
ASSIGN = Patched("tensorflow", _RESOURCE, "assign", ("self", "value", "use_locking", "name", "read_value"))
_WEIGHT = ("self", "args", "shape", "initializer", "dtype", "trainable", "autocast", "regularizer", "constraint")
ADD_WEIGHT = Patched(
    "keras", "keras.layers:Layer", "add_weight", (*_WEIGHT, "aggregation", "overwrite_with_gradient", "name")
)


def initializers(keras: str) -> list[Patched]:
    """The calls of the initializers that draw random numbers; `keras`: the package, keras or tf_keras."""
    owner = f"{keras}.initializers"
    return [Patched(_PACKAGES[keras], f"{owner}:{name}", "__call__", _CALLS[keras]) for name in _RANDOM]


def find_class(keras: str) -> Patched:
    """The function by which a configuration's names become classes and functions."""
    parameters = ("name", "registered_name", "module", "obj_type", "full_config", "custom_objects")
    return Patched(_PACKAGES[keras], f"{keras}.src.saving.serialization_lib", "_retrieve_class_or_fn", parameters)


def importlib_of(keras: str) -> Patched:
    """The module by which it imports what a configuration names."""
    return Patched(_PACKAGES[keras], f"{keras}.src.saving.serialization_lib", "importlib", kind=ModuleType)
