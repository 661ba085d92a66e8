"""What a model is called with: names from the forward signature, shapes and dtypes from input_shape or example inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from torch.utils import _pytree as pytree

from converter.errors import ParameterError, nearest
from converter.hub.hub import TensorSpec
from converter.importing.batch import USUAL_BATCH, with_batch
from converter.planning.input_shapes import shapes_by_name
from converter.torch.program.flat import Call, Slot, key_text, numpy_name
from converter.torch.sources.dtypes import with_dtypes
from converter.torch.sources.loading import Source

if TYPE_CHECKING:
    from converter.contracts import ImportSpec
    from converter.planning.input_shapes import InputShape

__all__ = ["Inputs", "asked_batch", "check_constants", "find_inputs"]


@dataclass
class Inputs:
    """specs: one per tensor, None for dimensions that may vary. `batch_asked`: the user asked for an unknown batch.

    left_out: kinds of special values that the reference has no run of, with the reason (reference.make_reference).
    bounds: what integer inputs stay below, by name, where more is known than a call shows (dtypes.vocabulary).
    """

    call: Call
    specs: list[TensorSpec]
    batch_asked: bool = False
    example: list[torch.Tensor] | None = None
    bounds: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def find_inputs(source: Source, spec: ImportSpec) -> Inputs:
    """The model's inputs. Raises ParameterError when input_shape is missing or does not fit the forward signature.

    A leading 1 that all shapes share counts as a batch that may vary, and so does -1; whether the model
    allows it is found out later.
    """
    found = _program_inputs(source, spec) if source.kind == "program" else _module_inputs(source, spec)
    return asked_batch(source, found, spec)


def asked_batch(source: Source, inputs: Inputs, spec: ImportSpec) -> Inputs:
    """The inputs with parameter `batch`. Raises ParameterError where there is no batch to fix or to free."""
    if spec.batch is None:
        return inputs
    if spec.batch == USUAL_BATCH:
        is_free = inputs.example is None or all(x.shape[:1] == (1,) for x in inputs.example)
        return replace(inputs, specs=with_batch(inputs.specs, spec.batch)) if is_free else inputs
    own = inputs.specs[0].shape[0] if inputs.specs and inputs.specs[0].shape else None
    if source.kind == "program" and own is not None and own != spec.batch:
        raise ParameterError(
            f"batch is {spec.batch or 'free'}, but {source.path} was exported for a batch of {own}: leave batch out, or "
            "export the program again with dynamic_shapes"
        )
    if spec.batch and inputs.example is not None and any(x.shape[:1] != (spec.batch,) for x in inputs.example):
        raise ParameterError(
            f"batch is {spec.batch}, but example_inputs of network_script has {inputs.example[0].shape[0]} samples: "
            "give an example of that size, or input_shape"
        )
    return replace(inputs, specs=with_batch(inputs.specs, spec.batch), batch_asked=spec.batch == 0)


def check_constants(module: torch.nn.Module, constants: Mapping[str, object]) -> None:
    """Raise ParameterError for one that is no argument of forward."""
    _check_constants(type(module).__name__, list(inspect.signature(module.forward).parameters.values()), constants)


def _check_constants(called: str, parameters: Sequence[inspect.Parameter], constants: Mapping[str, object]) -> None:
    known = [parameter.name for parameter in parameters if parameter.kind not in _VARIADIC]
    for parameter in parameters:
        if parameter.kind == inspect.Parameter.VAR_KEYWORD:
            listed = get_args(parameter.annotation)  # Unpack[...] lists what **kwargs may be
            if not listed or not hasattr(listed[0], "__annotations__"):
                return
            known += listed[0].__annotations__
    unknown = [name for name in constants if name not in known]
    if unknown:
        raise ParameterError(
            f"constants: forward of {called} has no argument {unknown[0]!r}; it has {', '.join(known)}"
        )


def _module_inputs(source: Source, spec: ImportSpec) -> Inputs:
    constants = dict(spec.constants)
    parameters = _parameters(source)
    _check_constants(source.name, parameters, constants)
    if spec.input_shape is not None and spec.input_shape[0].name is not None:
        return _named_inputs(source, parameters, spec.input_shape, constants)
    if spec.input_shape is not None:
        return _inputs_of_shapes(source, parameters, spec.input_shape, constants)
    example = source.script.module.__dict__.get("example_inputs") if source.script is not None else None
    if example is None:
        names = ", ".join(parameter.name for parameter in parameters if parameter.name not in constants)
        raise ParameterError(
            f"input_shape is needed: {source.path} does not say how large the inputs of forward({names}) are; write "
            'sizes such as "1,3,224,224", ";" between inputs, or define example_inputs() in network_script'
        )
    return _inputs_of_example(source, parameters, example() if callable(example) else example, constants)


def _parameters(source: Source) -> list[inspect.Parameter]:
    """Of forward, without self; a TorchScript module's come from its schema."""
    if source.kind != "torchscript":
        return list(inspect.signature(source.module.forward).parameters.values())
    found = []
    for argument in source.module.forward.schema.arguments[1:]:
        default = argument.default_value if argument.has_default_value() else inspect.Parameter.empty
        found.append(
            inspect.Parameter(
                argument.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=str(argument.type)
            )
        )
    return found


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
# Annotations of arguments that are no tensors, as written in Python and in TorchScript's schemas.
_NOT_TENSORS = ("int", "float", "bool", "str", int, float, bool, str)


def _inputs_of_shapes(
    source: Source, parameters: list[inspect.Parameter], shapes: Sequence[InputShape], constants: dict
) -> Inputs:
    variadic = next((p for p in parameters if p.kind == inspect.Parameter.VAR_POSITIONAL), None)
    named = [p for p in parameters if p.kind not in _VARIADIC]
    tensors = [p for p in named if p.name not in constants]
    scalars = [p for p in tensors if p.annotation in _NOT_TENSORS and p.default is inspect.Parameter.empty]
    if scalars:
        kind = scalars[0].annotation if isinstance(scalars[0].annotation, str) else scalars[0].annotation.__name__
        raise ParameterError(
            f"argument {scalars[0].name!r} of forward of {source.name} is of type {kind}, not a tensor: "
            f'write its value as constants: {{"{scalars[0].name}": ...}}'
        )
    required = [p.name for p in tensors if p.default is inspect.Parameter.empty]
    if len(shapes) < len(required) or (len(shapes) > len(tensors) and variadic is None):
        takes = ", ".join(p.name if p.default is inspect.Parameter.empty else f"{p.name}={p.default}" for p in tensors)
        raise ParameterError(
            f"input_shape gives {len(shapes)} input{'s' * (len(shapes) != 1)}, but forward of {source.name} takes ({takes}): "
            'write one entry per input, ";" between them'
        )
    chosen = [p.name for p in tensors[: len(shapes)]]
    chosen += [f"{variadic.name}_{index}" for index in range(len(shapes) - len(chosen))] if variadic else []
    call = _bind(named, chosen, constants)
    specs = [
        TensorSpec(name, _unknown_batch(shape.dims, shapes), shape.dtype or "")
        for name, shape in zip(chosen, shapes, strict=True)
    ]
    asked = all(shape.dims and shape.dims[0] is None for shape in shapes)
    return Inputs(call, with_dtypes(source, call, specs, shapes), asked)


def _named_inputs(
    source: Source, parameters: list[inspect.Parameter], shapes: Sequence[InputShape], constants: dict
) -> Inputs:
    """Inputs that the user names: arguments of forward, or with a dot items of lists and entries of mappings among them."""
    named = [p for p in parameters if p.kind not in _VARIADIC]
    known = {p.name: p for p in named}
    takes_any = any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters)
    nested: dict = {}
    for position, shape in enumerate(shapes):
        root, *keys = (shape.name or "").split(".")
        if root not in known and not takes_any:
            close = nearest(root, known) or list(known)
            raise ParameterError(
                f"input_shape: forward of {source.name} has no argument {root!r}; it has {', '.join(close)}"
            )
        branch = nested
        for key, following in zip([root, *keys], [*keys, None], strict=True):
            if not isinstance(branch, dict) or (following is None and key in branch):
                raise ParameterError(f"input_shape: {shape.name} is both a tensor and a container; name its items only")
            branch = branch.setdefault(key, Slot(position) if following is None else {})
    missing = [
        p.name
        for p in named
        if p.default is inspect.Parameter.empty and p.name not in nested and p.name not in constants
    ]
    if missing:
        raise ParameterError(
            f"input_shape: forward of {source.name} needs {', '.join(missing)} too: give the shape of each, such as "
            f'"{missing[0]}=1,3,224,224", or a value in constants'
        )
    trees = {name: _containers(tree, name, known.get(name)) for name, tree in nested.items()}
    call = _bind(named, [], {**{k: v for k, v in trees.items() if k in known}, **constants})
    call.kwargs.update({name: tree for name, tree in trees.items() if name not in known})
    specs = [
        TensorSpec((shape.name or "").replace(".", "_"), _unknown_batch(shape.dims, shapes), shape.dtype or "")
        for shape in shapes
    ]
    asked = all(shape.dims and shape.dims[0] is None for shape in shapes)
    return Inputs(call, with_dtypes(source, call, specs, shapes), asked)


def _containers(tree: object, name: str, parameter: inspect.Parameter | None) -> object:
    """Lists in the place of mappings whose keys are 0, 1, ...; a tuple where forward's annotation says so."""
    if not isinstance(tree, dict):
        return tree
    items = {key: _containers(value, f"{name}.{key}", None) for key, value in tree.items()}
    if not all(key.isdigit() for key in items):
        return items
    if sorted(items, key=int) != [str(index) for index in range(len(items))]:
        raise ParameterError(f"input_shape: the items of {name} are {', '.join(sorted(items))}; number them from 0 on")
    values = [items[str(index)] for index in range(len(items))]
    annotation = "" if parameter is None else str(parameter.annotation).lower()
    return tuple(values) if "tuple[" in annotation else values


def _unknown_batch(dims: tuple[int | None, ...], shapes: Sequence[InputShape]) -> tuple[int | None, ...]:
    """Leading ones become unknown when every input has one."""
    shared = all(shape.dims and shape.dims[0] in (1, None) for shape in shapes)
    return (None, *dims[1:]) if shared else dims


def _bind(named: list[inspect.Parameter], chosen: list[str], constants: Mapping) -> Call:
    """Positional up to the first argument that is left at its default; by name behind it."""
    args: list = []
    kwargs: dict = {}
    index = 0
    gap = False
    for parameter in named:
        if parameter.name in constants:
            value: object = constants[parameter.name]
        elif parameter.name in chosen:
            value, index = Slot(index), index + 1
        else:
            gap = True
            continue
        if gap or parameter.kind == inspect.Parameter.KEYWORD_ONLY:
            kwargs[parameter.name] = value
        else:
            args.append(value)
    args += [Slot(position) for position in range(index, len(chosen))]
    own = {parameter.name for parameter in named}
    kwargs |= {name: value for name, value in constants.items() if name not in own}  # for **kwargs
    return Call(tuple(args), kwargs)


def _inputs_of_example(source: Source, parameters: list[inspect.Parameter], example: object, constants: dict) -> Inputs:
    where = source.script.path if source.script else source.path
    if isinstance(example, Mapping):
        known = [p.name for p in parameters if p.kind not in _VARIADIC]
        takes_any = any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters)
        wrong = [key for key in example if key not in known]
        if wrong and not takes_any:
            close = nearest(wrong[0], known) or known
            raise ParameterError(
                f"example_inputs in {where}: forward has no argument {wrong[0]!r}; it has {', '.join(close)}"
            )
        values: dict = dict(example)
    else:
        items = [example] if isinstance(example, torch.Tensor) else list(example)
        positional = [p.name for p in parameters if p.kind not in _VARIADIC and p.name not in constants]
        if any(p.kind == inspect.Parameter.VAR_POSITIONAL for p in parameters):
            positional += [f"args_{index}" for index in range(len(positional), len(items))]
        if len(items) > len(positional):
            raise ParameterError(f"example_inputs in {where}: {len(items)} inputs, but forward takes {len(positional)}")
        values = dict(zip(positional, items, strict=False))
    tensors: list[torch.Tensor] = []
    names: list[str] = []
    trees = {}
    for name, value in values.items():
        leaves, tree = pytree.tree_flatten_with_path(value)
        slots = []
        for path, leaf in leaves:
            if isinstance(leaf, np.ndarray):
                leaf = torch.from_numpy(leaf)
            if isinstance(leaf, torch.Tensor):
                slots.append(Slot(len(tensors)))
                tensors.append(leaf)
                names.append("_".join([name, *map(key_text, path)]))
            else:
                slots.append(leaf)
        trees[name] = pytree.tree_unflatten(slots, tree)
    if not tensors:
        raise ParameterError(f"example_inputs in {where} gives no tensors")
    named = [p for p in parameters if p.kind not in _VARIADIC]
    call = _bind(named, [], {**{k: v for k, v in trees.items() if k in {p.name for p in named}}, **constants})
    extra = [tree for name, tree in trees.items() if name not in {p.name for p in named}]
    call = Call((*call.args, *extra), call.kwargs) if not isinstance(example, Mapping) else call
    if isinstance(example, Mapping):
        call.kwargs.update({k: v for k, v in trees.items() if k not in {p.name for p in named}})
    leading = {tensor.shape[0] if tensor.dim() else None for tensor in tensors}
    shared = len(leading) == 1 and None not in leading
    specs = [
        TensorSpec(name, (None, *tensor.shape[1:]) if shared else tuple(tensor.shape), numpy_name(tensor.dtype))
        for name, tensor in zip(names, tensors, strict=True)
    ]
    return Inputs(call, specs, False, tensors)


def _program_inputs(source: Source, spec: ImportSpec) -> Inputs:
    """Shapes, dtypes and structure as the program was exported; input_shape may only agree with them."""
    program = source.program
    names = list(program.graph_signature.user_inputs)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    tensors = [name for name in names if isinstance(values.get(name), torch.Tensor)]
    leaves: list[object] = [Slot(tensors.index(name)) if name in tensors else values.get(name, name) for name in names]
    args, kwargs = pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    specs = [
        TensorSpec(
            name,
            tuple(int(size) if isinstance(size, int) else None for size in values[name].shape),
            numpy_name(values[name].dtype),
        )
        for name in tensors
    ]
    given: Sequence[InputShape | None] = spec.input_shape or [None] * len(specs)
    if spec.input_shape and spec.input_shape[0].name is not None:
        given = shapes_by_name(spec.input_shape, [own.name for own in specs])
    for shape, own in zip(given, specs, strict=False):
        dims = own.shape if shape is None else shape.dims
        fits = len(dims) == len(own.shape) and all(o is None or d == o for d, o in zip(dims, own.shape, strict=False))
        if not fits or len(given) != len(specs):
            shapes = "; ".join(f"{s.name} {['?' if d is None else d for d in s.shape]}" for s in specs)
            raise ParameterError(
                f"input_shape: {source.path} was exported for {shapes}; leave input_shape out, or export it anew"
            )
    return Inputs(Call(tuple(args), dict(kwargs)), specs)
