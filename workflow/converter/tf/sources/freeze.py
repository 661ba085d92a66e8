"""The hub's two files, graph.pb and weights.safetensors, from a traced function or from a graph.

Every variable, and every constant above 64 KB, becomes a Placeholder node; its value goes to weights.safetensors under
the node's name and is never part of a proto. That keeps graph.pb at a few hundred kilobytes whatever the model's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from converter.errors import UnsupportedError
from converter.hub.hub import TensorSpec
from converter.hub.weights import write_weights
from converter.tf.graph.constants import extract_large_constants
from converter.tf.graph.graph import (
    GraphDef,
    canonical_functions,
    clean,
    inline_functions,
    make_placeholder,
    node_name,
    prune,
    redirect,
    split_tensor,
    tensor_name,
    unique_name,
    valid_node_name,
)
from converter.tf.graph.resources import VARIABLE_OPS, Bound, variables_to_placeholders
from converter.tf.graph.values import Value
from converter.tf.sources.lookup_tables import TableReader, captured_table, table_nodes, tables_to_constants

__all__ = ["Frozen", "dtype_name", "freeze_function", "freeze_graph", "shape_tuple"]

_LOOPS = ("While", "StatelessWhile")


@dataclass
class Frozen:
    """What freezing wrote: the graph, the signature as it stands in the graph, and what the source's report needs."""

    graph_def: GraphDef
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    values: dict[str, Value]
    variables: list[str]
    assigned: frozenset[str] = frozenset()
    resources: list[str] = field(
        default_factory=list
    )  # tables that could not become constants, which no file can carry
    keys: dict[str, list[np.ndarray]] = field(default_factory=dict)  # of tables, by the input that is looked up in them

    @property
    def parameters_count(self) -> int:
        """How many numbers the variables hold together."""
        return int(sum(np.prod(self.values[name].shape, dtype=np.int64) for name in self.variables))


def freeze_function(
    function: tf.types.experimental.ConcreteFunction,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    out: Path,
    graph_def: GraphDef | None = None,
) -> Frozen:
    """Write the hub's graph and weights of a traced function.

    `inputs` and `outputs` say by `tensor` which tensors of `function.graph` they are ("x:0"); they are what users see,
    in their order. The returned ones carry the tensors' names in the hub's graph, and their shapes and dtypes there.
    `graph_def`: the function's graph in another form, with the same placeholders for what it captures.
    """
    graph = function.graph
    if graph_def is None:
        graph_def = graph.as_graph_def()
    values: dict[str, Value] = {}
    constants: dict[str, Value] = {}
    tables: dict[str, TableReader] = {}
    handles = {id(variable.handle): variable for variable in graph.variables}
    for external, internal in graph.captures:
        name = node_name(internal.name)
        variable = handles.get(id(external))
        if variable is not None:
            values[name] = _value_of_variable(variable)
        elif external.dtype != tf.resource:
            constants[name] = Value(
                name, np.dtype(external.dtype.as_numpy_dtype), tuple(external.shape), external.numpy
            )
        else:
            tables[name] = captured_table(external)
    return _freeze(graph_def, values, constants, tables, inputs, outputs, out)


def _value_of_variable(variable: tf.Variable) -> Value:
    def read() -> np.ndarray:
        # np.asarray takes the tensor's buffer as it is, `.numpy()` would copy it.
        return np.asarray(variable.read_value())

    name = valid_node_name(variable.name.partition(":")[0])
    return Value(name, np.dtype(variable.dtype.as_numpy_dtype), tuple(variable.shape), read)


def freeze_graph(
    graph_def: GraphDef,
    variables: Mapping[str, Value],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    out: Path,
    constants: Mapping[str, Value] | None = None,
    tables: Mapping[str, TableReader] | None = None,
) -> Frozen:
    """Write the hub's graph and weights of a GraphDef; `variables` are the values of its variable nodes, by node name.

    `inputs` and `outputs` as for `freeze_function`; an input need not be a Placeholder: the graph is cut there.
    `constants` are values of Placeholders that are neither variables nor inputs (`extract_large_constants`). `tables`
    read the contents of its lookup tables, by node name.
    """
    return _freeze(graph_def, dict(variables), dict(constants or {}), tables or {}, inputs, outputs, out)


def _freeze(
    graph_def: GraphDef,
    variables: dict[str, Value],
    constants: dict[str, Value],
    tables: Mapping[str, TableReader],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    out: Path,
) -> Frozen:
    copied = GraphDef()
    copied.CopyFrom(graph_def)
    graph_def = copied
    clean(graph_def)
    references = {node.name for node in graph_def.node if node.op in ("VariableV2", "Variable")}
    for node in graph_def.node:
        if node.name in constants:
            node.attr["dtype"].type = constants[node.name].enum
    inputs = _cut_inputs(graph_def, inputs)
    output_tensors = [spec.tensor for spec in outputs]
    input_nodes = [node_name(spec.tensor) for spec in inputs]
    graph_def = prune(graph_def, output_tensors, input_nodes)
    if graph_def.library.function:
        graph_def = inline_functions(graph_def, output_tensors, input_nodes)
        clean(graph_def)
    bound = {name: Bound(value.enum, value.shape, value.name, name in references) for name, value in variables.items()}
    bound |= table_nodes(graph_def, tables)
    graph_def, assigned = variables_to_placeholders(graph_def, bound, output_tensors, input_nodes)
    values = {node.name: variables[node.name] for node in graph_def.node if node.name in variables}
    variable_nodes = list(values)
    _keep_small(graph_def, constants)
    keys = tables_to_constants(graph_def, tables, inputs)
    graph_def = prune(graph_def, output_tensors, input_nodes)
    values |= {node.name: constants[node.name] for node in graph_def.node if node.name in constants}
    values |= extract_large_constants(graph_def)
    resources = _unfrozen(graph_def)
    names = {name: values[name].name for name in variable_nodes}
    for name in resources:  # captured, they are all called "unknown"
        names[name] = unique_name("lookup_table", set(names.values()))
    inputs, outputs, renamed = _name_nodes(graph_def, inputs, outputs, names)
    resources = [renamed.get(name, name) for name in resources]
    values = {renamed.get(name, name): value for name, value in values.items()}
    variable_nodes = [renamed.get(name, name) for name in variable_nodes]
    canonical_functions(graph_def)
    inputs, outputs = signature_of(graph_def, inputs, outputs)
    out.mkdir(parents=True, exist_ok=True)
    (out / "graph.pb").write_bytes(graph_def.SerializeToString(deterministic=True))
    write_weights(out / "weights.safetensors", values)
    return Frozen(graph_def, inputs, outputs, values, variable_nodes, assigned, resources, keys)


def _keep_small(graph_def: GraphDef, constants: dict[str, Value]) -> None:
    """Constants that a function captured come as placeholders: make the small ones constants of the graph again."""
    from converter.tf.graph.constants import LARGE

    for node in graph_def.node:
        value = constants.get(node.name)
        if value is None or (value.dtype != object and value.nbytes > LARGE):
            continue
        name, array = node.name, value.read()
        node.Clear()
        node.name, node.op = name, "Const"
        proto = tf.make_tensor_proto(array)
        node.attr["dtype"].type = proto.dtype
        node.attr["value"].tensor.CopyFrom(proto)
        del constants[name]


def _cut_inputs(graph_def: GraphDef, inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Make every input a Placeholder of its shape, in place: shapes may be overridden, and an input may be an inner tensor."""
    nodes = {node.name: node for node in graph_def.node}
    cut = []
    for spec in inputs:
        name, index = split_tensor(spec.tensor)
        node = nodes[name]
        if node.op in ("Placeholder", "PlaceholderWithDefault") and index == 0:
            spec = replace(spec, tensor=f"{name}:0")
        else:
            wanted = valid_node_name(tensor_name(name, index))
            node = graph_def.node.add()
            node.name = unique_name(wanted + "_input" if index == 0 else wanted, nodes)
            redirect(graph_def, tensor_name(name, index), node.name)
            nodes[node.name] = node
            spec = replace(spec, tensor=f"{node.name}:0")
        make_placeholder(node, tf.as_dtype(spec.dtype).as_datatype_enum, spec.shape)
        cut.append(spec)
    return cut


def _unfrozen(graph_def: GraphDef) -> list[str]:
    """What still refers to state outside the graph: a table's name, or the name of a captured resource.

    Raises UnsupportedError for a variable without a value.
    """
    resources = []
    for node in graph_def.node:
        if node.op in VARIABLE_OPS:
            raise UnsupportedError(
                f"the graph's variable {node.name} has no value in the source: it was never initialized"
            )
        captured = node.op == "Placeholder" and node.attr["dtype"].type == tf.resource.as_datatype_enum
        if captured or node.op.startswith(("HashTable", "MutableHashTable", "MutableDenseHashTable")):
            resources.append(node.name)
    return resources


def _name_nodes(
    graph_def: GraphDef, inputs: list[TensorSpec], outputs: Sequence[TensorSpec], variable_names: dict[str, str]
) -> tuple[list[TensorSpec], list[TensorSpec], dict[str, str]]:
    """Name the nodes, in place, as users know them: inputs and outputs by their names, variables by the variables'.

    Names that are taken or that TensorFlow does not allow for nodes are left as they are.
    """
    nodes = {node.name: node for node in graph_def.node}
    renamed: dict[str, str] = {}

    def rename(node: str, wanted: str) -> None:
        # A prefix that is another node's name would do no harm to TensorFlow; an equal name would.
        if wanted != node and wanted not in nodes and valid_node_name(wanted) == wanted:
            renamed[node] = wanted
            nodes[wanted] = nodes.pop(node)

    inputs = list(inputs)
    for spec in inputs:
        rename(node_name(spec.tensor), spec.name)
    for node, wanted in variable_names.items():
        rename(node, wanted)
    for node in graph_def.node:
        node.name = renamed.get(node.name, node.name)
        for position, source in enumerate(node.input):
            name, index = split_tensor(source)
            if name in renamed:
                node.input[position] = (
                    "^" + renamed[name] if source.startswith("^") else tensor_name(renamed[name], index)
                )

    def current(tensor: str) -> str:
        name, index = split_tensor(tensor)
        return f"{renamed.get(name, name)}:{index}"

    inputs = [replace(spec, tensor=current(spec.tensor)) for spec in inputs]
    named = []
    for spec in outputs:
        tensor = current(spec.tensor)
        if spec.name not in nodes and valid_node_name(spec.name) == spec.name:
            source = nodes[node_name(tensor)]
            identity = graph_def.node.add()
            identity.name, identity.op = spec.name, "Identity"
            identity.input.append(tensor_name(*split_tensor(tensor)))
            identity.attr["T"].type = tf.as_dtype(spec.dtype).as_datatype_enum
            nodes[spec.name] = identity
            del source
            tensor = f"{spec.name}:0"
        named.append(replace(spec, tensor=tensor))
    return inputs, named, renamed


def signature_of(
    graph_def: GraphDef, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs with the shapes and dtypes that TensorFlow infers for the finished graph."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        return [describe(graph, spec) for spec in inputs], [describe(graph, spec) for spec in outputs]


def describe(graph: tf.Graph, spec: TensorSpec) -> TensorSpec:
    tensor = graph.get_tensor_by_name(spec.tensor)
    return replace(spec, shape=shape_tuple(tensor.shape), dtype=dtype_name(tensor.dtype))


def shape_tuple(shape: tf.TensorShape) -> tuple[int | None, ...] | None:
    """None for an unknown rank, None entries for unknown dimensions."""
    return None if shape.rank is None else tuple(shape.as_list())


def dtype_name(dtype: tf.DType) -> str:
    """numpy's name of a dtype, or "string"."""
    return "string" if dtype.base_dtype == tf.string else dtype.base_dtype.name
