"""What goes into a Keras model and what comes out, by the names its author gave: layers' and inputs' names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import tensorflow as tf

from converter.contracts import ImportSpec
from converter.errors import ParameterError, nearest
from converter.hub.hub import TensorSpec
from converter.importing.batch import with_batch
from converter.planning.given_shapes import override_shapes
from converter.tf.graph.graph import unique_name
from converter.tf.sources.freeze import dtype_name

__all__ = ["KerasCall", "keras_call"]

# Ops inside a layer that come before its activation.
_BEFORE_ACTIVATION = (
    "BiasAdd",
    "MatMul",
    "Conv2D",
    "Conv1D",
    "Conv3D",
    "depthwise",
    "convolution",
    "add",
    "Add",
    "AddV2",
)


@dataclass
class KerasCall:
    """How to call a model in inference mode: `call(tensors)` takes and returns flat lists, in the order of `inputs`.

    output_names(results) names them; `output_candidates` are the layers whose output could be asked for.
    """

    inputs: list[TensorSpec]
    call: Callable[[Sequence[tf.Tensor]], object]
    output_names: Callable[[object], list[str]]
    flatten: Callable[[object], list]
    output_candidates: list[TensorSpec] = field(default_factory=list)


def keras_call(spec: ImportSpec, model: object, keras: ModuleType) -> KerasCall:
    """Raises ParameterError for names and shapes that do not fit the model, and where its shapes have to be given."""
    tree = tf.nest if keras.__name__ == "tf_keras" else keras.tree
    if _symbolic_inputs(model):
        return _functional(spec, model, keras, tree)
    return _subclassed(spec, model, tree)


def _symbolic_inputs(model: Any) -> list:
    try:
        return list(model.inputs or [])
    except (AttributeError, ValueError):  # Keras 3 raises for a Sequential that is not built
        return []


def _functional(spec: ImportSpec, model: Any, keras: ModuleType, tree: Any) -> KerasCall:
    tensors = _symbolic_inputs(model)
    names = _unique(getattr(model, "input_names", None) or [tensor.name for tensor in tensors])
    layers = _layer_outputs(model)
    is_cut = not set(spec.input_nodes) <= set(names)
    if is_cut:
        names = list(spec.input_nodes)
        tensors = [_find_input(model, layers, name) for name in names]
    every_input = [
        TensorSpec(name, _shape(tensor.shape), dtype_name(tf.as_dtype(tensor.dtype)))
        for name, tensor in zip(names, tensors, strict=True)
    ]
    inputs = override_shapes(spec, _ordered(every_input, spec.input_nodes))
    positions = [next(place for place, entry in enumerate(inputs) if entry.name == name) for name in names]
    chosen = [_find_output(model, layers, name) for name in spec.output_nodes]
    network = _part(keras, tensors, chosen or list(model.outputs), names) if chosen or is_cut else model
    structure = tensors if chosen or is_cut else _input_structure(model, tensors)

    def call(arrays: Sequence[tf.Tensor]) -> object:
        return network(tree.pack_sequence_as(structure, [arrays[place] for place in positions]), training=False)

    def output_names(results: object) -> list[str]:
        if chosen:
            return list(spec.output_nodes)
        if isinstance(results, dict):
            return sorted(results)
        return _unique(_output_names(model))

    candidates = [TensorSpec(name, _shape(t.shape), dtype_name(tf.as_dtype(t.dtype))) for name, t in layers.items()]
    return KerasCall(inputs, call, output_names, tree.flatten, candidates)


def _graph(model: object) -> object:
    """The functional model inside; a Sequential of Keras 3 wraps one."""
    return getattr(model, "_functional", None) or model


def _input_structure(model: object, tensors: list) -> object:
    """What the model's call expects: one tensor, a list, or a dictionary."""
    inner = _graph(model)
    structure = getattr(inner, "_inputs_struct", None)  # Keras 3
    if structure is None:
        structure = getattr(inner, "_nested_inputs", None)  # tf_keras
    if structure is None:
        structure = tensors[0] if len(tensors) == 1 else tensors
    return structure


def _output_names(model: object) -> list[str]:
    """Of a Sequential of Keras 3.15, which has no names of its own, those of the functional model it wraps."""
    return (getattr(model, "_functional", None) or model).output_names


def _shape(shape: Any) -> tuple[int | None, ...]:
    return tuple(None if dim is None else int(dim) for dim in shape)


def _unique(names: Sequence[str]) -> list[str]:
    """A layer with two outputs gives two outputs of one name: the second gets "_1"."""
    result: list[str] = []
    for name in names:
        result.append(unique_name(name, result))
    return result


def _ordered(inputs: list[TensorSpec], names: Sequence[str]) -> list[TensorSpec]:
    """All inputs, in the user's order where there is one."""
    if not names:
        return inputs
    by_name = {entry.name: entry for entry in inputs}
    if set(names) != set(by_name):
        raise ParameterError(
            f"input_nodes: the model's inputs are {', '.join(by_name)}, not {', '.join(names)}; leave input_nodes out"
        )
    return [by_name[name] for name in names]


def _layer_outputs(model: Any) -> dict[str, object]:
    """The symbolic output of every layer that has one, by layer name, the model's own outputs by theirs."""
    found = {}
    for layer in model.layers:
        try:
            output = layer.output
        except (AttributeError, RuntimeError, ValueError):  # a layer used twice, or never
            continue
        if hasattr(output, "shape") and hasattr(output, "dtype"):
            found[layer.name] = output
    return found | dict(zip(_unique(_output_names(model)), model.outputs, strict=True))


def _find_input(model: object, layers: dict[str, object], name: str) -> object:
    """The tensor that `input_nodes` names: an input, or the output of a layer, behind which the model is cut."""
    tensors = _symbolic_inputs(model)
    known = layers | dict(
        zip(_unique(getattr(model, "input_names", None) or [t.name for t in tensors]), tensors, strict=True)
    )
    if name in known:
        return known[name]
    close = nearest(name, known) or list(known)[:8]
    raise ParameterError(
        f"input_nodes: the model has no input or layer {name}; it has {', '.join(close)} (a layer stands for its output)"
    )


def _part(keras: ModuleType, inputs: list, outputs: list, names: Sequence[str]) -> object:
    """The model from `inputs` to `outputs`."""
    try:
        return keras.Model(inputs, outputs)
    except ValueError as error:
        raise ParameterError(
            f"input_nodes: the model cannot be cut to {', '.join(names)}: name in input_nodes all that the outputs need, and "
            "nothing that they do not need, or other output_nodes"
        ) from error


def _find_output(model: Any, layers: dict[str, object], name: str) -> object:
    """The tensor that `output_nodes` names: an output, a layer, or a layer and the op that ends it ("predictions/Softmax")."""
    layer, _, operation = name.rpartition("/")
    if name in layers:
        return layers[name]
    if layer in layers:
        activation = getattr(getattr(model.get_layer(layer), "activation", None), "__name__", "linear")
        if operation in _BEFORE_ACTIVATION and activation != "linear":
            raise ParameterError(
                f"output_nodes: {name} lies before the {activation} of layer {layer}; "
                f"write {layer} for its output, or change the model to get the other"
            )
        return layers[layer]
    close = nearest(name, layers) or list(layers)[-5:]
    raise ParameterError(f"output_nodes: the model has no output or layer {name}; it has {', '.join(close)}")


def _subclassed(spec: ImportSpec, model: Any, tree: Any) -> KerasCall:
    """A model without symbolic inputs: its shapes come from the user, or from what it was built with."""
    arguments = [
        name
        for name, parameter in inspect.signature(model.call).parameters.items()
        if name not in ("training", "mask", "self")
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if spec.output_nodes or spec.input_nodes:
        raise ParameterError(
            "input_nodes and output_nodes need a functional Keras model; this one is a subclass: leave them out"
        )
    if spec.input_shape:
        shapes = [(tuple(shape.dims), shape.dtype or "float32") for shape in spec.input_shape]
    else:
        shapes = [(shape, "float32") for shape in _built_shapes(model, spec)]
    if spec.input_shape and spec.input_shape[0].name is not None:
        raise ParameterError(
            f"input_shape: {spec.source} is a subclass of Model, whose inputs have no names of their own: "
            "write the shapes in their order, without names"
        )
    by_argument = len(shapes) > 1 and len([name for name in arguments if _required(model, name)]) == len(shapes)
    first = arguments[0] if arguments else "inputs"
    names = arguments[: len(shapes)] if by_argument else [f"{first}_{i}" if i else first for i in range(len(shapes))]
    inputs = [TensorSpec(name, shape, dtype) for name, (shape, dtype) in zip(names, shapes, strict=True)]
    inputs = with_batch(inputs, spec.batch)

    def call(arrays: Sequence[tf.Tensor]) -> object:
        if by_argument:
            return model(*arrays, training=False) if _takes_training(model) else model(*arrays)
        value = list(arrays) if len(arrays) > 1 else arrays[0]
        return model(value, training=False) if _takes_training(model) else model(value)

    def output_names(results: object) -> list[str]:
        if isinstance(results, dict):
            return sorted(results)
        count = len(tree.flatten(results))
        return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]

    return KerasCall(inputs, call, output_names, tree.flatten)


def _required(model: Any, name: str) -> bool:
    parameter = inspect.signature(model.call).parameters[name]
    return parameter.default is parameter.empty


def _takes_training(model: Any) -> bool:
    parameters = inspect.signature(model.call).parameters.values()
    return any(parameter.name == "training" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _built_shapes(model: Any, spec: ImportSpec) -> list[tuple[int | None, ...]]:
    """Shapes that the file records: of the arguments of build() in Keras 3, of the first call in Keras 2."""
    recorded = getattr(model, "_build_shapes_dict", None) or {}
    shapes = [value for value in recorded.values() if value is not None]
    if (
        len(shapes) == 1
        and shapes[0]
        and isinstance(shapes[0], list | tuple)
        and isinstance(shapes[0][0], list | tuple)
    ):
        shapes = list(shapes[0])
    if not shapes and getattr(model, "_build_input_shape", None) is not None:
        shapes = [model._build_input_shape]
    if not shapes or not all(isinstance(shape, list | tuple | tf.TensorShape) for shape in shapes):
        raise ParameterError(
            f'{spec.source}: the model does not say the shape of its inputs: give input_shape, such as "-1,224,224,3"'
        )
    return [_shape(shape) for shape in shapes]
