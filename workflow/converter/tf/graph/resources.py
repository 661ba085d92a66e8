"""Variables become values: every read of a variable turns into a plain tensor, also inside While, If and calls.

`tf.python.framework.convert_to_constants` does the same with Const nodes, which puts every weight through protobuf
several times, leaves gathers inside functions alone (TensorFlow 2.21), and does not notice a graph that reads what it
has just assigned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import tensorflow as tf
from tensorflow.core.framework import function_pb2, types_pb2
from tensorflow.python.framework import op_def_registry

from converter.errors import UnsupportedError
from converter.tf.graph.graph import (
    GraphDef,
    NodeDef,
    canonical,
    function_names,
    make_placeholder,
    node_name,
    prune,
    topological,
    unique_name,
)

__all__ = ["TABLE", "VARIABLE_OPS", "Bound", "variables_to_placeholders"]

TABLE = "_converter_table"
"""Attribute of operators that read a lookup table: the name of its node or placeholder, which they then do not lead to."""

VARIABLE_OPS = frozenset({"VarHandleOp", "VariableV2", "Variable", "TemporaryVariable"})

# For each op that hands a variable on: the ports of its outputs, as function bodies name them.
_PASS_THROUGH = {
    **dict.fromkeys(("Identity", "Enter", "Exit", "NextIteration", "RefIdentity", "RefEnter"), ("output:0",)),
    **dict.fromkeys(("Switch", "RefSwitch"), ("output_false:0", "output_true:0")),
    **dict.fromkeys(("Merge", "RefMerge", "RefExit", "RefNextIteration"), ("output:0",)),
}
_CALLS = {  # op: (first input that goes to the functions, its attribute with input types, the one with output types)
    "PartitionedCall": (0, "Tin", "Tout"),
    "StatefulPartitionedCall": (0, "Tin", "Tout"),
    "If": (1, "Tin", "Tout"),
    "StatelessIf": (1, "Tin", "Tout"),
    "Case": (1, "Tin", "Tout"),
    "StatelessCase": (1, "Tin", "Tout"),
    "While": (0, "T", "T"),
    "StatelessWhile": (0, "T", "T"),
}
# Ops whose only effect is outside the graph: nothing that an inference graph computes needs to wait for them.
_SIDE_EFFECTS = frozenset({"Assert", "NoOp", "PrintV2", "IsVariableInitialized"})


@dataclass(frozen=True)
class Bound:
    """What is known of the value behind a tensor: TensorFlow's number of its dtype, its shape, the variable it comes from."""

    dtype: int
    shape: tuple[int | None, ...] | None
    variable: str
    reference: bool = False  # a TF1 reference variable: consumers see a tensor, not a resource


@dataclass
class _Converted:
    """A function that takes values in place of resources: the outputs that are values now, the variables it touches."""

    name: str
    outputs: dict[int, Bound]
    assigned: frozenset[str]
    read: frozenset[str]


@dataclass
class _Context:
    graph: GraphDef
    functions: dict[str, function_pb2.FunctionDef]
    converted: dict[tuple, _Converted] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)


@dataclass
class _Body:
    """The nodes of the graph or of one function, while their variables are replaced."""

    nodes: list[NodeDef]
    known: dict[str, Bound]
    in_function: bool
    renamed: dict[str, str] = field(default_factory=dict)
    added: list[NodeDef] = field(default_factory=list)
    assigns: list[tuple[NodeDef, frozenset[str]]] = field(default_factory=list)
    reads: list[tuple[NodeDef, frozenset[str]]] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)

    def output(self, node: NodeDef, port: str, index: int) -> str:
        """How other nodes of this body refer to an output of `node`."""
        if self.in_function:
            return f"{node.name}:{port}"
        return node.name if index == 0 else f"{node.name}:{index}"


def variables_to_placeholders(
    graph_def: GraphDef, bound: Mapping[str, Bound], outputs: Sequence[str], keep: Sequence[str] = ()
) -> tuple[GraphDef, frozenset[str]]:
    """The graph that `outputs` need, each node of `bound` (a variable, or the placeholder of a captured one) a Placeholder.

    Lookup tables may be among them; what reads one says so in its attribute TABLE. Assignments and assertions are dropped.
    Returns the graph, and the variables that it assigned.
    Raises UnsupportedError where an output depends on a value that the graph itself assigns.
    """
    result = prune(graph_def, outputs, keep)
    context = _Context(result, {function.signature.name: function for function in result.library.function})
    context.taken.update(context.functions)
    known = {}
    for node in result.node:
        if node.name in bound:
            known[node.name] = bound[node.name]
            make_placeholder(node, bound[node.name].dtype, bound[node.name].shape)
    body = _Body(list(result.node), known, in_function=False)
    assigned, _ = _convert_body(context, body)
    kept = [_copy(node) for node in [*body.nodes, *body.added] if node.name not in body.dropped]
    del result.node[:]
    result.node.extend(kept)
    return prune(result, outputs, keep), assigned


def _copy(node: NodeDef) -> NodeDef:
    copied = NodeDef()
    copied.CopyFrom(node)
    return copied


def _convert_body(context: _Context, body: _Body) -> tuple[frozenset[str], frozenset[str]]:
    """Replace the variables of one body in place; `body.nodes` come producers first. Returns variables assigned and read."""
    for node in body.nodes:
        inputs = {
            position: body.known[canonical(source)]
            for position, source in enumerate(node.input)
            if not source.startswith("^") and canonical(source) in body.known
        }
        if node.op in _CALLS and function_names(node):
            _convert_call(context, body, node, inputs)
        elif inputs:
            _convert_node(body, node, inputs)
    _check_order(body)
    _drop_side_effects(body)
    for node in body.nodes:
        for position, source in enumerate(node.input):
            node.input[position] = body.renamed.get(source, source)
    return _union(body.assigns), _union(body.reads)


def _union(entries: Sequence[tuple[NodeDef, frozenset[str]]]) -> frozenset[str]:
    return frozenset().union(*(variables for _, variables in entries))


def _convert_node(body: _Body, node: NodeDef, inputs: dict[int, Bound]) -> None:
    """One node that consumes a variable: a read becomes a plain op, whatever changes the variable is dropped."""
    position, value = next(iter(inputs.items()))
    variables = frozenset(bound.variable for bound in inputs.values())
    if node.op.startswith("LookupTable"):
        node.attr[TABLE].s = value.variable.encode()
        body.reads.append((node, variables))
    elif node.op in _PASS_THROUGH:
        node.op = node.op.removeprefix("Ref")
        node.attr["T"].type = value.dtype
        for index, port in enumerate(_PASS_THROUGH[node.op]):
            body.known[body.output(node, port, index)] = value
        if value.reference:  # an Identity of a resource reads nothing yet
            body.reads.append((node, variables))
    elif node.op == "IdentityN":
        for index, bound in inputs.items():
            node.attr["T"].list.type[index] = bound.dtype
            body.known[body.output(node, f"output:{index}", index)] = bound
    elif node.op == "ReadVariableOp":
        _rewrite(node, "Identity", {"T": value.dtype}, list(node.input))
        _rename(body, node, "value:0", "output:0")
        body.reads.append((node, variables))
    elif node.op == "ResourceGather":
        _gather(body, node, value)
        body.reads.append((node, variables))
    elif node.op == "ResourceGatherNd":
        types = {"Tparams": value.dtype, "Tindices": node.attr["Tindices"].type}
        _rewrite(node, "GatherNd", types, list(node.input))
        body.reads.append((node, variables))
    elif node.op == "VariableShape":
        _rewrite(node, "Shape", {"T": value.dtype, "out_type": node.attr["out_type"].type}, list(node.input))
        body.reads.append((node, variables))
    elif node.op in ("VarIsInitializedOp", "IsVariableInitialized"):
        _rewrite(node, "Const", {"dtype": types_pb2.DT_BOOL}, [])
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(True))
        _rename(body, node, "is_initialized:0", "output:0")
    elif value.reference and not _takes_reference(node, position):
        body.reads.append((node, variables))
    else:
        body.assigns.append((node, variables))


def _takes_reference(node: NodeDef, position: int) -> bool:
    """Whether a TF1 op changes the variable it is given (its first input is a reference)."""
    definition = op_def_registry.get(node.op)
    return definition is not None and position == 0 and bool(definition.input_arg) and definition.input_arg[0].is_ref


def _rewrite(node: NodeDef, op: str, types: dict[str, int], inputs: list[str]) -> None:
    name = node.name
    node.Clear()
    node.name, node.op = name, op
    node.input.extend(inputs)
    for attribute, number in types.items():
        node.attr[attribute].type = number


def _rename(body: _Body, node: NodeDef, old: str, new: str) -> None:
    """In a function body the output's name changes with the op; in a graph it has none."""
    if body.in_function:
        body.renamed[f"{node.name}:{old}"] = f"{node.name}:{new}"


def _gather(body: _Body, node: NodeDef, value: Bound) -> None:
    indices, batch_dims = node.attr["Tindices"].type, node.attr["batch_dims"].i
    taken = {other.name for other in [*body.nodes, *body.added]}
    axis = NodeDef(name=unique_name(node.name + "/axis", taken), op="Const")
    axis.attr["dtype"].type = types_pb2.DT_INT32
    axis.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(batch_dims, tf.int32))
    # In a TF1 loop a constant belongs to the loop's frame only through a control input.
    data = list(node.input[:2])
    axis.input.append("^" + node_name(data[1]))
    if body.in_function and ":" not in data[1]:
        del axis.input[:]  # an argument cannot be a control input, and functions have no frames
    body.added.append(axis)
    sources = [*data, f"{axis.name}:output:0" if body.in_function else axis.name, *node.input[2:]]
    _rewrite(node, "GatherV2", {"Tparams": value.dtype, "Tindices": indices, "Taxis": types_pb2.DT_INT32}, sources)
    node.attr["batch_dims"].i = batch_dims


def _convert_call(context: _Context, body: _Body, node: NodeDef, inputs: dict[int, Bound]) -> None:
    first, input_types, output_types = _CALLS[node.op]
    arguments = {position - first: value for position, value in inputs.items() if position >= first}
    converted = []
    for attribute in node.attr.values():
        called = [attribute.func] if attribute.HasField("func") else list(attribute.list.func)
        for function in called:
            done = _convert_function(context, function.name, arguments)
            function.name = done.name
            converted.append(done)
    for position, value in arguments.items():
        node.attr[input_types].list.type[position] = value.dtype
    is_loop = node.op in ("While", "StatelessWhile")
    if is_loop:
        shapes = node.attr["output_shapes"].list.shape
        for position, value in arguments.items():
            if len(shapes) > position:
                shapes[position].CopyFrom(tf.TensorShape(value.shape).as_proto())
    for done in converted:
        for index, value in done.outputs.items():
            node.attr[output_types].list.type[index] = value.dtype
            body.known[body.output(node, f"output:{index}", index)] = value
    assigned = frozenset().union(*(done.assigned for done in converted))
    read = frozenset().union(*(done.read for done in converted))
    if is_loop and (kept := assigned & read):
        _keeps_state(node, kept)
    if assigned:
        # The call stays, only its assignments are gone; whatever reads these variables behind it would see a difference.
        body.assigns.append((node, assigned))
    if read:
        body.reads.append((node, read))


def _convert_function(context: _Context, name: str, arguments: dict[int, Bound]) -> _Converted:
    """A copy of a library function whose `arguments` are values; made once for each combination."""
    key = (name, tuple(sorted(arguments.items())))
    if key in context.converted:
        return context.converted[key]
    function = context.graph.library.function.add()
    function.CopyFrom(context.functions[name])
    new_name = unique_name(name, context.taken)
    context.taken.add(new_name)
    function.signature.name = new_name
    known = {}
    for position, value in arguments.items():
        argument = function.signature.input_arg[position]
        argument.type, argument.is_ref = value.dtype, False
        argument.ClearField("handle_data")
        known[argument.name] = value
        if position in function.resource_arg_unique_id:
            del function.resource_arg_unique_id[position]
    function.control_ret.clear()
    del function.signature.control_output[:]

    by_name = {node.name: node for node in function.node_def}
    # A proto's map has no order; the signature has.
    results = [argument.name for argument in function.signature.output_arg]
    order = topological(by_name, [node_name(function.ret[result]) for result in results])
    body = _Body([by_name[node] for node in order], known, in_function=True)
    assigned, read = _convert_body(context, body)
    for result in results:
        function.ret[result] = body.renamed.get(function.ret[result], function.ret[result])
    order = [_copy(node) for node in [*body.nodes, *body.added] if node.name not in body.dropped]
    by_name = {node.name: node for node in order}
    needed = topological(by_name, [node_name(function.ret[result]) for result in results])
    del function.node_def[:]
    function.node_def.extend(by_name[node] for node in needed)

    outputs = {}
    for index, result in enumerate(function.signature.output_arg):
        value = body.known.get(function.ret[result.name])
        if value is not None:
            result.type = value.dtype
            result.ClearField("handle_data")
            outputs[index] = value
    done = _Converted(new_name, outputs, assigned, read)
    context.converted[key] = done
    return done


def _check_order(body: _Body) -> None:
    """Refuse a body in which something reads a variable after it was assigned."""
    if not body.assigns:
        return
    users: dict[str, list[NodeDef]] = {}
    for node in body.nodes:
        for source in node.input:
            users.setdefault(node_name(source), []).append(node)
    reads: dict[str, frozenset[str]] = {}
    for node, variables in body.reads:
        reads[node.name] = reads.get(node.name, frozenset()) | variables
    for assign, variables in body.assigns:
        seen, pending = {assign.name}, [assign]
        while pending:
            for user in users.get(pending.pop().name, []):
                if user.name not in seen:
                    seen.add(user.name)
                    pending.append(user)
                    if kept := variables & reads.get(user.name, frozenset()):
                        _keeps_state(user, kept)


def _keeps_state(node: NodeDef, variables: frozenset[str]) -> None:
    raise UnsupportedError(
        f"the model's outputs depend on the value that it assigns to its own variable {sorted(variables)[0]} "
        f"(node {node.name}): a converted model keeps no state, so export a version that takes the state as an input"
    )


def _drop_side_effects(body: _Body) -> None:
    """Mark assignments and side effects for removal, and free what waits for them."""
    calls = {node.name for node in body.nodes if node.op in _CALLS}
    assigns = {node.name for node, _ in body.assigns} - calls
    body.dropped |= assigns | {node.name for node in body.nodes if node.op in _SIDE_EFFECTS}
    awaited = body.dropped | calls
    for node in [*body.nodes, *body.added]:
        kept = [source for source in node.input if not (source.startswith("^") and node_name(source) in awaited)]
        for source in kept:
            if node_name(source) in assigns and node.name not in body.dropped and not source.startswith("^"):
                operation = next(other.op for other in body.nodes if other.name == node_name(source))
                raise UnsupportedError(
                    f"the output of {node_name(source)} ({operation}), which changes a variable, is used by {node.name}: "
                    "a converted model keeps no state, so export an inference version of the model"
                )
        del node.input[:]
        node.input.extend(kept)
