"""Open a Keras model with the Keras that understands its file, without compiling it."""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any

from converter.contracts import ImportSpec
from converter.errors import ConverterError, ParameterError, SourceError
from converter.importing.network_script import build, load_script
from converter.planning.toolchains import toolchain_for_keras
from converter.tf.graph.errors import reason
from converter.tf.sources.keras_file import KerasFile
from converter.tf.sources.keras_filled import Filled, watched
from converter.tf.sources.keras_parts import parts_only
from converter.tf.sources.keras_repairs import no_initial_weights, repaired, uncopied_weights
from converter.tf.sources.keras_trust import has_bytecode, refuse_untrusted
from converter.tf.sources.network_script import custom_objects, keras_names

__all__ = ["open_keras"]

_APPLICATIONS = (
    ("convnext", "LayerScale"),
    ("convnext", "StochasticDepth"),
    ("inception_resnet_v2", "CustomScaleLayer"),
)
_UNKNOWN_CLASS = re.compile(r"(?:Unknown [\w ]+: |Could not locate (?:class|function) )['\"]?([\w>.]+)")


@contextmanager
def open_keras(spec: ImportSpec, file: KerasFile) -> Iterator[tuple[object, ModuleType, Filled]]:
    """(model, the Keras it belongs to, what the file gave values), usable inside the context.

    Raises UntrustedError for bytecode, ParameterError for what a script must provide, SourceError for a damaged file.
    """
    if file.config is None and not (spec.network_script and spec.network_name):
        raise ParameterError(
            f"{file.path} holds weights without a model: give network_script and network_name, "
            "a Python file and the class or function in it that builds the model"
        )
    if not spec.trusted:
        refuse_untrusted(file)
    keras = _keras_for(file)
    own_modules = nullcontext() if spec.trusted else parts_only(file.path, keras)
    with keras_names(keras), repaired(keras), _quiet(), own_modules, watched(keras) as filled:
        script = load_script(spec.network_script) if spec.network_script else None
        if file.config is None or (script is not None and spec.network_name):
            model = _build_and_fill(spec, file, build(script, spec.network_name, spec.network_args))
        else:
            model = _load(file, keras, custom_objects(script.module, keras) if script else {}, spec)
        filled.loaded = True
        yield model, _keras_of(model, keras), filled


def _keras_for(file: KerasFile) -> ModuleType:
    if file.is_legacy:
        import tf_keras

        return tf_keras
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ConverterError(
            f"{file.path}: Keras runs on {keras.backend.backend()} here; set KERAS_BACKEND=tensorflow, or unset it"
        )
    return keras


def _keras_of(model: object, default: ModuleType) -> ModuleType:
    """A script may build its model with the other Keras."""
    packages = {base.__module__.split(".")[0] for base in type(model).__mro__}
    if "tf_keras" in packages:
        import tf_keras

        return tf_keras
    return default


def _load(file: KerasFile, keras: ModuleType, objects: dict[str, object], spec: ImportSpec) -> object:
    try:
        # compile=False: optimizers and losses of old files often exist no more, and none is needed.
        foreign = spec.network_script is not None or spec.trusted
        with no_initial_weights(keras), nullcontext() if foreign else uncopied_weights():
            return keras.models.load_model(
                str(file.path),
                custom_objects={**_applications(keras), **objects},
                compile=False,
                safe_mode=not spec.trusted,
            )
    except ConverterError:
        raise
    except Exception as error:  # anything at all, from layers' constructors
        raise _explain(file, keras, spec, error) from error


def _applications(keras: ModuleType) -> dict[str, object]:
    """Layers of Keras's own applications. Their .h5 files name the class alone, and Keras (3.15) does not open them again."""
    parts = [(f"{keras.__name__}.src.applications.{module}", name) for module, name in _APPLICATIONS]
    modules = {module: importlib.import_module(module) for module, _ in parts}
    return {name: getattr(modules[module], name) for module, name in parts if hasattr(modules[module], name)}


def _explain(file: KerasFile, keras: ModuleType, spec: ImportSpec, error: Exception) -> ConverterError:
    text = str(error)
    if "marshal" in text or "bad marshal" in text or "unknown opcode" in text or "code() argument" in text:
        return SourceError(
            f"{file.path}: its Lambda layers hold bytecode of another Python version: "
            f"set toolchain: {toolchain_for_keras(file.version)}, or rebuild the model with a named function in network_script"
        )
    unknown = _UNKNOWN_CLASS.search(text)
    if unknown:
        # tf_keras names the type of a plain function only ("Unknown activation function: 'function'").
        function = re.search(r"'class_name': 'function', 'config': '(\w+)'", text)
        name = function.group(1) if unknown.group(1) == "function" and function else unknown.group(1)
        if spec.network_script:
            return ParameterError(
                f"{file.path} uses {name}, which {spec.network_script} does not provide: define it there, "
                "or list it in a mapping named custom_objects"
            )
        return ParameterError(
            f"{file.path} uses the custom class or function {name}: give network_script, the Python file that defines it"
        )
    damaged = isinstance(error, OSError | EOFError | KeyError) and "truncated" in text.lower()
    if damaged or "Unable to" in text and "read" in text:
        return SourceError(f"{file.path} is damaged or truncated: copy it again ({reason(error)})")
    older = toolchain_for_keras(file.version)
    hint = f", its Lambda layers may need toolchain: {older}" if has_bytecode(file) else ""
    if file.path.suffix != ".keras" and (file.version or "").startswith("3."):
        hint += ", which does not open every .h5 that it writes: save the model as .keras"
    return SourceError(
        f"{file.path} (Keras {file.version}) cannot be opened by {keras.__name__} {keras.__version__}{hint}: {reason(error)}"
    )


def _build_and_fill(spec: ImportSpec, file: KerasFile, model: Any) -> object:
    """The script's model with the file's weights, or with those of a whole-model file."""
    if not hasattr(model, "load_weights"):
        raise ParameterError(
            f"network_name: {spec.network_name} of {spec.network_script} returns a {type(model).__name__}, no Keras model"
        )
    if not getattr(model, "built", True) and spec.input_shape:
        shapes = [tuple(shape.dims) for shape in spec.input_shape]
        model.build(shapes[0] if len(shapes) == 1 else shapes)
    try:
        model.load_weights(str(file.path))
    except Exception as error:
        raise ParameterError(
            f"network_name: the weights in {file.path} do not fit {spec.network_name} of {spec.network_script}: {reason(error)}"
        ) from error
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keras warns about the compilation that is not wanted here."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
