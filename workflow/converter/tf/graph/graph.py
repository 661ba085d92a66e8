"""Small operations on GraphDef protos: names, pruning, inlining, clean-up. None of them touches weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import tensorflow as tf
from google.protobuf.message import Message
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2
from tensorflow.python.framework import op_def_registry

__all__ = [
    "canonical",
    "canonical_functions",
    "clean",
    "function_names",
    "inline_functions",
    "make_placeholder",
    "node_name",
    "prune",
    "redirect",
    "split_tensor",
    "tensor_name",
    "topological",
    "unique_name",
    "valid_node_name",
]

GraphDef = tf.compat.v1.GraphDef
NodeDef = node_def_pb2.NodeDef

# Written by other machines and versions. `_output_shapes` is often stale and makes imports fail; `_class` colocates
# with nodes that pruning has removed; api_implements stops grappler from inlining.
_PLACEMENT_ATTRIBUTES = ("_output_shapes", "_class", "_xla_inferred_shapes")


def split_tensor(name: str) -> tuple[str, int]:
    """("x", 1) for "x:1", ("x", 0) for "x"; of a control input "^x" too."""
    node, _, index = name.lstrip("^").partition(":")
    return node, int(index) if index.isdigit() else 0


def node_name(tensor: str) -> str:
    """The node of a tensor's name: "x" for "x:1" and for "^x"."""
    return split_tensor(tensor)[0]


def canonical(source: str) -> str:
    """An input as it is written in one form only: "x:0" becomes "x", all else ("x:1", "f:output:0") stays."""
    node, _, rest = source.partition(":")
    return node if rest == "0" else source


def tensor_name(node: str, index: int = 0) -> str:
    """How a GraphDef writes it as an input: "x", "x:1"."""
    return node if index == 0 else f"{node}:{index}"


def make_placeholder(node: NodeDef, dtype: int, shape: Sequence[int | None] | None) -> None:
    """Make `node` a Placeholder, in place and under its own name; `dtype`: TensorFlow's number of it."""
    name = node.name
    node.Clear()
    node.name, node.op = name, "Placeholder"
    node.attr["dtype"].type = dtype
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())


def redirect(graph_def: GraphDef, old: str, new: str) -> None:
    """Let what reads the tensor `old` ("x", "x:1") read `new` instead, in place."""
    for node in graph_def.node:
        for position, source in enumerate(node.input):
            if canonical(source) == canonical(old):
                node.input[position] = new


def valid_node_name(name: str) -> str:
    """`name` with the characters that TensorFlow refuses in a node's name replaced by "_".

    Its graphs refuse more (2.21) than its Python: a backslash, and ">" before anything but a letter, a digit or a dot.
    """
    name = re.sub(r"[^A-Za-z0-9_./>-]|>(?![A-Za-z0-9.])", "_", name)
    return name if re.match(r"[A-Za-z0-9.]", name) else "n" + name


def unique_name(wanted: str, taken: Iterable[str]) -> str:
    """`wanted`, or with the first number behind it that makes it none of `taken`."""
    taken = taken if isinstance(taken, set | frozenset | dict) else set(taken)
    name, count = wanted, 0
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name


def function_names(node: NodeDef) -> list[str]:
    """The library functions that a node calls; always in the same order, which a proto's map does not have."""
    local = [node.op] if op_def_registry.get(node.op) is None else []
    return local + [function.name for function in _named_functions(node.attr)]


def _named_functions(attributes: Mapping[str, Message]) -> Iterator[Message]:
    """The NameAttrList of each function that attributes name, and of those that its own attributes name in turn."""
    for _, value in sorted(attributes.items()):
        for function in [value.func] if value.HasField("func") else value.list.func:
            yield function
            yield from _named_functions(function.attr)


def clean(graph_def: GraphDef) -> None:
    """Remove, in place, what ties a graph to the machine and version that wrote it: devices, colocation, stale shapes.

    Memory that nothing was written to is zero: a constant part of the graph would be stored with what is found there.
    """
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    for body in bodies:
        for node in body:
            node.device = ""
            if node.op == "Empty":
                node.attr["init"].b = True
            node.ClearField("experimental_debug_info")
            for attribute in _PLACEMENT_ATTRIBUTES:
                if attribute in node.attr:
                    del node.attr[attribute]
    for function in graph_def.library.function:
        for attribute in (*_PLACEMENT_ATTRIBUTES, "_input_shapes"):
            if attribute in function.attr:
                del function.attr[attribute]
        for argument in function.arg_attr.values():
            for attribute in _PLACEMENT_ATTRIBUTES:
                if attribute in argument.attr:
                    del argument.attr[attribute]


def prune(graph_def: GraphDef, outputs: Sequence[str], keep: Sequence[str] = ()) -> GraphDef:
    """A copy with only the nodes that `outputs` (tensor or node names) need, in topological order, and the functions they call.

    `keep` names nodes that stay although nothing uses them (an input that the outputs ignore is still an input).
    Control inputs are followed: they may hold a table's initialization or an assertion.
    """
    nodes = {node.name: node for node in graph_def.node}
    for name in (*outputs, *keep):
        if node_name(name) not in nodes:
            raise KeyError(name)
    order = topological(nodes, [node_name(name) for name in (*keep, *outputs)])
    pruned = GraphDef()
    pruned.versions.CopyFrom(graph_def.versions)
    pruned.node.extend(nodes[name] for name in order)
    _copy_used_functions(graph_def, pruned)
    return pruned


def topological(nodes: dict[str, NodeDef], roots: Sequence[str]) -> list[str]:
    """Names of all nodes that `roots` need, producers first; the back edges of TF1 loops (NextIteration) are cut.

    Names that are no nodes are passed over: in a function body they are its arguments.
    """
    order: list[str] = []
    state: dict[str, bool] = {}  # False: being visited, True: done
    for root in roots:
        stack = [(root, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                if not state[name]:
                    state[name] = True
                    order.append(name)
                continue
            if name in state or name not in nodes:
                continue
            state[name] = False
            stack.append((name, True))
            stack += [(node_name(source), False) for source in reversed(nodes[name].input)]
    return order


def _copy_used_functions(source: GraphDef, target: GraphDef) -> None:
    library = {function.signature.name: function for function in source.library.function}
    wanted = [name for node in target.node for name in function_names(node)]
    used: dict[str, None] = {}
    while wanted:
        name = wanted.pop(0)
        if name in used or name not in library:
            continue
        used[name] = None
        wanted += [called for node in library[name].node_def for called in function_names(node)]
    del target.library.function[:]
    target.library.function.extend(library[name] for name in used)
    del target.library.gradient[:]  # an inference graph has no use for them


def inline_functions(graph_def: GraphDef, outputs: Sequence[str], keep: Sequence[str] = ()) -> GraphDef:
    """The graph with every function call inlined except those of While, If and Case, which stay functional.

    Grappler's function optimizer alone, as `tf.python.framework.convert_to_constants` runs it (TensorFlow 2.21);
    the graph must hold its variables as resources or placeholders, so that no weight is serialized.
    """
    from tensorflow.python.grappler import tf_optimizer

    meta = meta_graph_pb2.MetaGraphDef()
    meta.graph_def.CopyFrom(graph_def)
    _separate_calls(meta.graph_def, {node_name(name) for name in (*outputs, *keep)})
    for function in meta.graph_def.library.function:
        # tf_keras marks its LSTM and GRU bodies for a kernel swap; grappler does not inline such functions.
        if "api_implements" in function.attr:
            del function.attr["api_implements"]
    for body in [meta.graph_def.node, *(function.node_def for function in meta.graph_def.library.function)]:
        for node in body:
            if "_lower_using_switch_merge" in node.attr:
                node.attr["_lower_using_switch_merge"].b = False
            for attribute in _NOT_INLINED:
                if attribute in node.attr:
                    del node.attr[attribute]
    for function in meta.graph_def.library.function:
        for attribute in _NOT_INLINED:
            if attribute in function.attr:
                del function.attr[attribute]
    # Grappler learns from the collection "train_op" what must survive.
    meta.collection_def["train_op"].node_list.value.extend([*outputs, *keep])
    config = config_pb2.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1  # small graphs too
    rewrite.optimizers.append("function")
    rewrite.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    return tf_optimizer.OptimizeGraph(config, meta)


_CALLS = ("PartitionedCall", "StatefulPartitionedCall")

# Keras 3 compiles grouped and depthwise convolutions on CPU with XLA (ConvNeXt), which keeps grappler from inlining them.
_NOT_INLINED = ("_noinline", "_XlaMustCompile")


def _separate_calls(graph_def: GraphDef, fetched: set[str]) -> None:
    """Rename, in place, calls whose inlined nodes ("{call}/{node}") could meet a node of that name, or that are fetched.

    Grappler (TensorFlow 2.21) aborts the process on two nodes of a name, and does not inline a node it must preserve.
    A fetched call leaves an IdentityN under its old name.
    """
    for function in graph_def.library.function:
        _rename_calls(function.node_def, set(), function.ret)
    _rename_calls(graph_def.node, fetched, {})


def _rename_calls(nodes: Sequence[NodeDef], fetched: set[str], results: dict[str, str]) -> None:
    prefixes = {name[:end] for name in (node.name for node in nodes) for end in _slashes(name)}
    taken = {node.name for node in nodes} | prefixes
    renamed: dict[str, str] = {}
    kept: list[NodeDef] = []
    for node in nodes:
        if node.op in _CALLS and (node.name in prefixes or node.name in fetched):
            name = unique_name(f"{node.name}_call", taken)
            taken.add(name)
            if node.name in fetched:
                identity = NodeDef(name=node.name, op="IdentityN")
                types = node.attr["Tout"].list.type
                identity.attr["T"].list.type.extend(types)
                identity.input.extend(tensor_name(name, index) for index in range(len(types)))
                kept.append(identity)
            else:
                renamed[node.name] = name
            node.name = name
    for node in nodes:
        for position, source in enumerate(node.input):
            node.input[position] = _renamed(source, renamed)
    for result, source in list(results.items()):
        results[result] = _renamed(source, renamed)
    nodes.extend(kept)


def _slashes(name: str) -> list[int]:
    return [position for position, character in enumerate(name) if character == "/"]


def _renamed(source: str, renamed: dict[str, str]) -> str:
    """An input under its node's new name: "f", "f:1", "f:output:0", "^f"."""
    control = "^" if source.startswith("^") else ""
    node, colon, rest = source.lstrip("^").partition(":")
    return f"{control}{renamed.get(node, node)}{colon}{rest}"


def canonical_functions(graph_def: GraphDef) -> None:
    """Rename library functions in place by the order of their use, so that the same model gives the same bytes.

    TensorFlow numbers them by a counter of the process ("while_body_123"), which also ends up in attributes.
    """
    library = {function.signature.name: function for function in graph_def.library.function}
    renamed: dict[str, str] = {}
    pending = list(graph_def.node)
    while pending:
        node = pending.pop(0)
        for name in function_names(node):
            if name in library and name not in renamed:
                base = re.sub(r"(_\d+)+$", "", name.removeprefix("__inference_"))
                renamed[name] = f"{base}_{len(renamed)}"
                pending += library[name].node_def
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    for body in bodies:
        for node in body:
            node.op = renamed.get(node.op, node.op)
            for function in _named_functions(node.attr):
                function.name = renamed.get(function.name, function.name)
    for function in graph_def.library.function:
        # Arguments that a loop's body or condition ignores carry the counter too. Ignored, they have no readers.
        for argument in function.signature.input_arg:
            argument.name = re.sub(r"_\d+(?=___redundant_placeholder)", "", argument.name)
    ordered = [library[name] for name in renamed]
    for name, new_name in renamed.items():
        library[name].signature.name = new_name
    copies = tf.compat.v1.GraphDef()
    copies.library.function.extend(ordered)
    del graph_def.library.function[:]
    graph_def.library.function.extend(copies.library.function)
