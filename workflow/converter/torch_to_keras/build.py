"""Build the Keras model: walk the decomposed program, hand each operator to its converter, connect the outputs."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import keras
import torch
from torch.export.graph_signature import InputKind, OutputKind

from converter.errors import UnsupportedError
from converter.torch_to_keras import families  # noqa: F401  (each registers its operators)
from converter.torch_to_keras.call import Call, ConstantsOnly
from converter.torch_to_keras.folding import fold
from converter.torch_to_keras.functional import functional_program
from converter.torch_to_keras.layout import ordered, torch_tensor
from converter.torch_to_keras.lengths import number
from converter.torch_to_keras.materialize import materialize
from converter.torch_to_keras.naming import Names, innermost_module, source_line
from converter.torch_to_keras.pending import Pending, carried_out
from converter.torch_to_keras.refusals import REFUSALS
from converter.torch_to_keras.registry import converter_of, takes_pending
from converter.torch_to_keras.values import Constant, Value, channels_last, keras_shape

__all__ = ["Conversion", "KerasConversion", "build_keras_model"]

_READS = (torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default)
_IGNORED = (
    "_assert",
    "_linalg_check_errors",
    "sym_",
    "assert_",
)  # checks of sizes and types, which held when the program was exported


@dataclass(frozen=True)
class KerasConversion:
    """A Keras model and how its tensors' axes relate to the program's.

    The model's inputs and outputs are lists in the program's order, a single one is itself. The layers that make them bear
    their names: `model.inputs[i].name` and `model.output_names[i]`, also in the reopened file.
    input_permutations, output_permutations: by name, axis i of the Keras tensor is axis p[i] of PyTorch's; only where
    they differ. notes: sentences for the report.
    """

    model: keras.Model
    input_permutations: dict[str, tuple[int, ...]]
    output_permutations: dict[str, tuple[int, ...]]
    notes: list[str]


@dataclass
class Conversion:
    """What the converters of one model share."""

    program: torch.export.ExportedProgram
    graph: torch.fx.Graph
    owner: torch.nn.Module  # of the graphs within the graph
    layers_only: bool
    for_tensorflow: bool
    names: Names
    dropouts: dict[str, float]
    values: dict[torch.fx.Node, Any] = field(default_factory=dict)  # by node
    known: set = field(default_factory=set)  # layers and operations that have their names
    shared_layers: dict[tuple, Any] = field(default_factory=dict)
    permutations: dict[tuple, tuple] = field(default_factory=dict)
    reshaped: dict[int, tuple] = field(default_factory=dict)  # by id of the tensor: (it, what it is made of, its shape)
    carried_out: dict[Pending, Value] = field(default_factory=dict)
    batch_zeros: dict[str, Any] = field(default_factory=dict)  # by batch size
    ones: dict[Any, Any] = field(default_factory=dict)  # vectors of ones by their length, a sympy expression
    inputs: list[Value] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def resolve(self, argument: Any) -> Any:
        """An argument of a node with nodes replaced by what they stand for."""
        if isinstance(argument, torch.fx.Node):
            return self.values[argument]
        if isinstance(argument, list | tuple):
            return [self.resolve(item) for item in argument]
        return argument

    def part(
        self,
        call: Call,
        module: torch.fx.GraphModule,
        arguments: Sequence[Any],
        *,
        inputs: int,
        leading: int = 0,
    ) -> keras.Model:
        """A graph within the graph as a model of lists: its inputs are those of `arguments` that depend on this graph's.

        inputs: so many of the first are inputs though they be constants: they are others when the graph runs again.
        leading: so many of them the graph itself does not take.
        """
        inner = Conversion(
            self.program, module.graph, module, self.layers_only, self.for_tensorflow, self.names, self.dropouts
        )
        inner.known = self.known
        nodes = [node for node in module.graph.nodes if node.op == "placeholder"]
        places: list[torch.fx.Node | None] = [*[None] * leading, *nodes]
        for place, (node, argument) in enumerate(zip(places, arguments, strict=True)):
            given = argument
            if isinstance(argument, Value) or place < inputs:
                dtype = argument.tensor.dtype if isinstance(argument, Value) else str(argument.array.dtype)[6:]
                tensor = keras.Input(batch_shape=keras_shape(argument.shape), dtype=dtype, name=call.name("given"))
                self.known.add(tensor._keras_history.operation)
                given = Value(tensor, tuple(argument.shape), tuple(range(len(argument.shape))))
                inner.inputs.append(given)
            if node is not None:
                inner.values[node] = given
        _convert_nodes(inner)
        (output,) = (node for node in module.graph.nodes if node.op == "output")
        results = output.args[0] if isinstance(output.args[0], list | tuple) else [output.args[0]]
        return keras.Model([value.tensor for value in inner.inputs], [_result(inner, node) for node in results])


def build_keras_model(
    program: torch.export.ExportedProgram,
    input_names: Sequence[str],
    output_names: Sequence[str],
    *,
    channels_last: bool = True,
    layers_only: bool = False,
    for_tensorflow: bool = False,
) -> KerasConversion:
    """The program as a functional Keras model with its weights.

    channels_last: inputs and outputs of rank 4 and 5 become (N, ..., C). layers_only: use Layer classes only, as HDF5
    files need. for_tensorflow: it is traced by TensorFlow and not written to a file, so that it may hold operations of ours.
    Raises UnsupportedError that names the operator and where the source calls it.
    """
    dropouts = _dropouts(program)
    program, graph = functional_program(program)
    names = Names([*input_names, *output_names])
    conversion = Conversion(program, graph, program.graph_module, layers_only, for_tensorflow, names, dropouts)
    permutations = _make_inputs(conversion, input_names, channels_last)
    _convert_nodes(conversion)
    outputs, output_permutations = _make_outputs(conversion, output_names, channels_last)
    inputs = [value.tensor for value in conversion.inputs]
    model = keras.Model(_single(inputs), _single(outputs), name="model")
    return KerasConversion(model, permutations, output_permutations, conversion.notes)


def _single(tensors: list[Any]) -> Any:
    """One tensor by itself: `model.predict(x)` then takes and returns an array and not a list."""
    return tensors[0] if len(tensors) == 1 else tensors


def _dropouts(program: torch.export.ExportedProgram) -> dict[str, float]:
    """Rates by path of the Dropout module: decomposing an evaluated program forgets them, training needs them."""
    dropouts = {}
    for node in program.graph.nodes:
        if "dropout" in str(node.target) and len(node.args) > 1:
            path, kind = innermost_module(node)
            if kind.startswith("torch.nn.modules.dropout."):
                dropouts[path] = float(node.args[1])
    return dropouts


def _storage_order(rank: int, last: bool) -> tuple[int, ...]:
    return channels_last(rank) if last and rank in (4, 5) else tuple(range(rank))


def _make_inputs(conversion: Conversion, names: Sequence[str], last: bool) -> dict[str, tuple[int, ...]]:
    program = conversion.program
    nodes = [node for node in conversion.graph.nodes if node.op == "placeholder"]
    permutations = {}
    remaining = list(names)
    for spec, node in zip(program.graph_signature.input_specs, nodes, strict=True):
        if spec.kind == InputKind.TOKEN:
            conversion.values[node] = None
        elif spec.kind != InputKind.USER_INPUT:
            tensor = program.state_dict.get(spec.target, program.constants.get(spec.target))
            conversion.values[node] = Constant(
                tensor, tuple(tensor.shape), spec.target, spec.kind == InputKind.PARAMETER
            )
        elif isinstance(node.meta.get("val"), torch.Tensor):
            name, shape = remaining.pop(0), tuple(node.meta["val"].shape)
            order = _storage_order(len(shape), last)
            if order != tuple(range(len(shape))):
                permutations[name] = order
            dtype = str(node.meta["val"].dtype).removeprefix("torch.")
            tensor = keras.Input(batch_shape=keras_shape([shape[a] for a in order]), dtype=dtype, name=name)
            conversion.known.add(tensor._keras_history.operation)
            conversion.values[node] = Value(tensor, shape, order)
            conversion.inputs.append(conversion.values[node])
        else:
            conversion.values[node] = node.meta.get("val")
    return permutations


def _convert_nodes(conversion: Conversion) -> None:
    for node in conversion.graph.nodes:
        if node.op == "call_function":
            conversion.values[node] = _convert(conversion, node)
        elif node.op == "get_attr":
            conversion.values[node] = conversion.owner.get_submodule(node.target)


def _result(conversion: Conversion, node: torch.fx.Node) -> Any:
    """The tensor of a result in PyTorch's order of axes, of the dtype that the program says."""
    call = Call(conversion, node)
    tensor = torch_tensor(call, materialize(call, carried_out(call, conversion.values[node])))
    return tensor if tensor.dtype == call.dtype else call.op(keras.ops.cast, tensor, call.dtype)


def _convert(conversion: Conversion, node: torch.fx.Node) -> Any:
    if node.target is operator.getitem:
        results = conversion.resolve(node.args[0])
        return results if results is None else results[node.args[1]]
    if node.target in _READS and isinstance(read := conversion.values[node.all_input_nodes[0]], Constant):
        return read.array.item()  # of weights alone
    if isinstance(node.meta.get("val"), int | float | bool | torch.SymInt | torch.SymFloat | torch.SymBool):
        return node.meta["val"]
    effect = node.target is torch.ops.higher_order.with_effects  # of a check, in an order that a token keeps
    target = node.args[1] if effect else node.target
    name = getattr(target, "__name__", str(target))
    if name.startswith(_IGNORED):
        return None
    folded = fold(conversion, node)
    if folded is not None:
        return folded
    convert = converter_of(node.target)
    if convert is None:
        reason = REFUSALS.get(node.target, "")
        raise UnsupportedError(
            f"{node.target} {source_line(node)} has no Keras counterpart{f': {reason}' if reason else ' here'}"
        )
    call = Call(conversion, node)
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return convert(call, *(_without_pending(call, conversion.resolve(argument)) for argument in node.args))
    arguments = _arguments(call)
    if not takes_pending(node.target):
        arguments = [_without_pending(call, argument) for argument in arguments]
    arguments = _as_taken(call, convert, arguments)
    try:
        return convert(call, *arguments)
    except ConstantsOnly:  # of free sizes
        return convert(call, *(_materialized(call, argument) for argument in arguments))


def _as_taken(call: Call, convert: Callable, arguments: list[Any]) -> list[Any]:
    """A constant of a free size (folding.py keeps all others) becomes a tensor where the converter takes tensors only."""
    takes = [str(parameter.annotation) for parameter in inspect.signature(convert).parameters.values()][1:]
    only = [annotation.startswith("Value") and "Constant" not in annotation for annotation in takes]
    return [
        materialize(call, argument) if is_only and isinstance(argument, Constant) else argument
        for argument, is_only in zip_longest(arguments, only[: len(arguments)], fillvalue=False)
    ]


def _materialized(call: Call, argument: Any) -> Any:
    if isinstance(argument, list):
        return [_materialized(call, item) for item in argument]
    return materialize(call, argument) if isinstance(argument, Constant) and not argument.is_whole else argument


def _without_pending(call: Call, argument: Any) -> Any:
    if isinstance(argument, list):
        return [_without_pending(call, item) for item in argument]
    return carried_out(call, argument)


def _arguments(call: Call) -> list[Any]:
    """The positional arguments in the order of the operator's schema, defaults filled in.

    A size that is not known yet is a tensor without axes where the operator takes a tensor.
    """
    conversion, node = call.conversion, call.node
    arguments = []
    for position, argument in enumerate(node.target._schema.arguments):
        if argument.kwarg_only:
            break
        if position < len(node.args):
            value = node.args[position]
        else:
            value = node.kwargs.get(argument.name, argument.default_value)
        value = conversion.resolve(value)
        if isinstance(value, torch.SymInt | torch.SymFloat) and isinstance(argument.type, torch.TensorType):
            result = number(call, value)
            value = result if isinstance(result, int | float) else Value(result, (), ())
        arguments.append(value)
    return arguments


def _make_outputs(
    conversion: Conversion, names: Sequence[str], last: bool
) -> tuple[list[Any], dict[str, tuple[int, ...]]]:
    """One Identity layer per output that bears its name: `model.output_names` are names of layers."""
    program = conversion.program
    node = next(node for node in conversion.graph.nodes if node.op == "output")
    tensors, permutations = [], {}
    remaining = list(names)
    for spec, result in zip(program.graph_signature.output_specs, node.args[0], strict=True):
        if spec.kind == OutputKind.TOKEN:
            continue
        if spec.kind != OutputKind.USER_OUTPUT:
            conversion.notes.append(f"the model's update of its buffer {spec.target} is left out")
            continue
        if not isinstance(result, torch.fx.Node) or not isinstance(result.meta.get("val"), torch.Tensor):
            continue
        call, name = Call(conversion, result), remaining.pop(0)
        value = materialize(call, carried_out(call, conversion.values[result]))
        order = _storage_order(len(value.shape), last)
        if order != tuple(range(len(order))):
            permutations[name] = order
        tensor = ordered(call, value, order)
        if tensor.dtype != call.dtype:
            tensor = call.op(keras.ops.cast, tensor, call.dtype)
        tensors.append(call.layer(keras.layers.Identity, tensor, name=name))
    return tensors, permutations
