"""Which tensors of a graph are its inputs and outputs: those the user names, or those that the graph leaves no doubt about."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import tensorflow as tf

from converter.errors import ParameterError, nearest
from converter.hub.hub import TensorSpec
from converter.tf.graph.graph import GraphDef, NodeDef, node_name, split_tensor, tensor_name, topological
from converter.tf.graph.resources import VARIABLE_OPS
from converter.tf.sources.freeze import dtype_name, shape_tuple
from converter.tf.sources.training_flags import PLACEHOLDERS
from converter.wording import shape_text

__all__ = [
    *(
        "check_inputs",
        "check_types",
        "find_inputs",
        "find_outputs",
        "input_candidates",
        "named_tensors",
        "needed_placeholders",
    ),
    "output_candidates",
]

# Scopes and ops of a training graph that no inference output lies behind.
_TRAINING_SCOPES = re.compile(
    r"(^|/)(gradients(_\d+)?|save(_\d+)?|Adam\w*|GradientDescent|Momentum|RMSProp\w*|Adagrad\w*|Adadelta|Ftrl|"
    r"report_uninitialized_variables\w*|ExponentialMovingAverage|init(_\d+)?|global_step|IsVariableInitialized\w*|"
    r"group_deps\w*|train_op|Initializer)(/|$)"
)
_TRAINING_OPS = re.compile(
    r"^((Resource)?(Sparse)?Apply\w+|Assign\w*|Save\w*|Restore\w*|\w*Summary\w*|MergeV2Checkpoints|ShardedFilename|NoOp|"
    r"Assert|Print\w*|VarIsInitializedOp|IsVariableInitialized|Queue(Enqueue|Close|Size)\w*|\w*Dataset\w*|MakeIterator|"
    r"InitializeTable\w*|LookupTableImport\w*|Const|Scatter(Add|Sub|Update)|ResourceScatter\w+)$"
)
# Where an input pipeline hands over to the network.
_PIPELINE_ENDS = re.compile(r"^(Queue(Dequeue)\w*|(OneShot|)IteratorGetNext\w*|ParseExample\w*|BatchV?\d*|DecodeRaw)$")
_ASSIGNS = re.compile(r"^(Assign\w*|(Resource)?Scatter\w+)$")
_SWITCHES = re.compile(r"^((Ref)?(Switch|Merge|Enter|Exit|NextIteration)|ReadVariableOp|Shape)$")
_LISTED = 12


def named_tensors(
    graph: tf.Graph, names: Sequence[str], parameter: str, candidates: Sequence[TensorSpec]
) -> list[TensorSpec]:
    """The tensors that a user names ("x", "x:0", "top:1"). Raises ParameterError with candidates for one that is not there."""
    operations = {operation.name: operation for operation in graph.get_operations()}
    specs = []
    for name in names:
        node, index = split_tensor(name)
        operation = operations.get(node)
        if operation is None:
            close = nearest(node, operations)
            hint = f"did you mean {' or '.join(close)}; " if close else ""
            raise ParameterError(f"{parameter}: the graph has no node {name}; {hint}{candidates_text(candidates)}")
        if index >= len(operation.outputs):
            raise ParameterError(
                f"{parameter}: {name} asks for output {index} of {node}, which has {len(operation.outputs)} outputs"
                f"{' (it is an operation without a result)' if not operation.outputs else ', counted from 0'}"
            )
        specs.append(spec_of(operation.outputs[index]))
    return specs


def spec_of(tensor: tf.Tensor) -> TensorSpec:
    """A tensor as users see it: "x" for its node's first output, "top:1" for the second."""
    return TensorSpec(
        tensor_name(*split_tensor(tensor.name)), shape_tuple(tensor.shape), dtype_name(tensor.dtype), tensor.name
    )


def candidates_text(candidates: Sequence[TensorSpec]) -> str:
    if not candidates:
        return "there are no likely candidates"
    shown = ", ".join(f"{spec.name} {shape_text(spec.shape)}" for spec in candidates[:_LISTED])
    return f"candidates are {shown}" + (f" and {len(candidates) - _LISTED} more" if len(candidates) > _LISTED else "")


def check_types(specs: Sequence[TensorSpec], graph: tf.Graph) -> None:
    """Raise ParameterError for an input or output that holds no values, such as a variable's handle."""
    for spec in specs:
        dtype = graph.get_tensor_by_name(spec.tensor).dtype.base_dtype
        if dtype in (tf.resource, tf.variant):
            raise ParameterError(f"{spec.name} is a {dtype.name}, not a tensor of values: name another node")


def input_candidates(graph_def: GraphDef, graph: tf.Graph, constants: Mapping[str, object]) -> list[TensorSpec]:
    """Placeholders that are not constants; where there are none, the ends of the input pipeline."""
    nodes = [node for node in graph_def.node if node.op in PLACEHOLDERS and node.name not in constants]
    nodes = [node for node in nodes if not _is_saver(node) and _is_data(graph, node.name)]
    if not nodes:
        nodes = [node for node in graph_def.node if _PIPELINE_ENDS.match(node.op)]
    return [spec_of(tensor) for node in nodes for tensor in graph.get_operation_by_name(node.name).outputs]


def _is_saver(node: NodeDef) -> bool:
    """A saver's file name is a placeholder with a default ("save/filename", before it is passed on as "save/Const")."""
    return node.attr["dtype"].type == tf.string.as_datatype_enum and bool(_TRAINING_SCOPES.search(node.name))


def _is_data(graph: tf.Graph, node: str) -> bool:
    return graph.get_operation_by_name(node).outputs[0].dtype.base_dtype not in (tf.resource, tf.variant)


def output_candidates(graph_def: GraphDef, graph: tf.Graph) -> list[TensorSpec]:
    """Tensors at the end of the graph, once optimizer, gradients, saver and summaries are set aside, in the graph's order."""
    nodes = [node for node in graph_def.node if not _is_training(node)]
    used = {node_name(source) for node in nodes for source in node.input}
    # What is only assigned to a variable is an update, a moving average say.
    used |= {node_name(source) for node in graph_def.node if _ASSIGNS.match(node.op) for source in node.input}
    ends = [
        node
        for node in nodes
        if node.name not in used and not _is_switch(node) and _depends_on_data(graph_def, node.name)
    ]
    return [spec_of(tensor) for node in ends for tensor in graph.get_operation_by_name(node.name).outputs]


def _is_switch(node: NodeDef) -> bool:
    """Control flow, the pivots that tf.cond leaves, reads of a variable: loose ends of a conditional's other branch."""
    return bool(_SWITCHES.match(node.op)) or node.name.endswith(("/switch_t", "/switch_f"))


def _is_training(node: NodeDef) -> bool:
    return (
        bool(_TRAINING_SCOPES.search(node.name) or _TRAINING_OPS.match(node.op))
        or node.op in VARIABLE_OPS
        or node.op in PLACEHOLDERS
    )


def _depends_on_data(graph_def: GraphDef, name: str) -> bool:
    nodes = {node.name: node for node in graph_def.node}
    needed = topological(nodes, [name])
    return any(nodes[other].op in PLACEHOLDERS or _PIPELINE_ENDS.match(nodes[other].op) for other in needed)


def find_outputs(graph_def: GraphDef, graph: tf.Graph) -> tuple[list[TensorSpec], list[str]]:
    """The outputs where nobody named them, and a note. Raises ParameterError with the candidates where there is a choice.

    A graph made for inference ends in its outputs, however many; a training graph also ends in losses and metrics.
    """
    ends = output_candidates(graph_def, graph)
    trains = any(
        re.match(r"^(Resource)?(Sparse)?Apply", node.op) or node.name.startswith("gradients/")
        for node in graph_def.node
    )
    likely = [spec for spec in ends if spec.shape != ()] if trains or len(ends) > 1 else ends
    if not likely or (trains and len(likely) > 1):
        raise ParameterError(
            f"output_nodes: the graph leaves a choice, so name its outputs; {candidates_text(_near_ends(graph_def, graph, ends))}"
        )
    return likely, [f"outputs found in the graph: {', '.join(spec.name for spec in likely)}"]


def _near_ends(graph_def: GraphDef, graph: tf.Graph, ends: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The ends, and what usually is an output although a loss or a metric follows it."""
    last = re.compile(r"^(Softmax|Sigmoid|ArgMax|BiasAdd|Tanh|LogSoftmax)$")
    inner = [node.name for node in graph_def.node if last.match(node.op) and not _is_training(node)][-6:]
    names = {spec.name for spec in ends}
    return [*(spec_of(graph.get_operation_by_name(name).outputs[0]) for name in inner if name not in names), *ends]


def find_inputs(
    graph_def: GraphDef, graph: tf.Graph, outputs: Sequence[TensorSpec], constants: Mapping[str, object]
) -> tuple[list[TensorSpec], list[str]]:
    """The placeholders that the outputs need, in the graph's order, and a note. Raises ParameterError where there is none.

    A scalar float (a dropout rate, say) is no input of a network: it must be named as an input or as a constant.
    """
    needed = needed_placeholders(graph_def, outputs, constants)
    plain = [node for node in needed if node.op != "PlaceholderWithDefault"]
    notes = []
    if plain:
        notes = [f"{node.name} keeps its default value" for node in needed if node.op == "PlaceholderWithDefault"]
    chosen = plain or [node for node in needed if graph.get_operation_by_name(node.name).outputs[0].shape.rank != 0]
    if not chosen:
        raise ParameterError(
            "input_nodes: no placeholder leads to the outputs, so name the tensors to feed; "
            + candidates_text(input_candidates(graph_def, graph, constants))
        )
    specs = [spec_of(graph.get_operation_by_name(node.name).outputs[0]) for node in chosen]
    _refuse_unfed([spec for spec in specs if spec.shape == () and spec.dtype.startswith("float")])
    return specs, [f"inputs found in the graph: {', '.join(spec.name for spec in specs)}", *notes]


def check_inputs(
    graph_def: GraphDef,
    graph: tf.Graph,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    constants: Mapping[str, object],
) -> list[str]:
    """Notes on placeholders that keep their default. Raises ParameterError where the outputs need one that nothing feeds."""
    fed = {node_name(spec.tensor): spec for spec in inputs}
    needed = needed_placeholders(graph_def, outputs, constants, cut=[spec.tensor for spec in inputs])
    unfed = [node for node in needed if node.name not in fed]
    plain = [node for node in unfed if node.op != "PlaceholderWithDefault"]
    _refuse_unfed([spec_of(graph.get_operation_by_name(node.name).outputs[0]) for node in plain])
    return [f"{node.name} keeps its default value" for node in unfed]


def _refuse_unfed(specs: Sequence[TensorSpec]) -> None:
    if specs:
        names = ", ".join(f"{spec.name} ({spec.dtype} {shape_text(spec.shape)})" for spec in specs)
        example = f'constants: {{"{specs[0].name}:0": {"1.0" if specs[0].dtype.startswith("float") else "0"}}}'
        raise ParameterError(
            f"the outputs also depend on the placeholder {names}: name it in input_nodes, or give it a value, such as {example}"
        )


def needed_placeholders(
    graph_def: GraphDef,
    outputs: Sequence[TensorSpec],
    constants: Mapping[str, object],
    cut: Sequence[str] = (),
    *,
    order: bool = True,
) -> list[NodeDef]:
    """Placeholders that the outputs depend on, in the graph's order; the search stops at the tensors of `cut`.

    order: also those that something only waits for (control inputs).
    """
    stops = {(node_name(name), split_tensor(name)[1]) for name in cut}
    nodes = {node.name: node for node in graph_def.node}
    seen: set[str] = set()
    pending = [spec.tensor for spec in outputs]
    while pending:
        source = pending.pop()
        name, index = split_tensor(source)
        if name in seen or name not in nodes or ((name, index) in stops and not source.startswith("^")):
            continue
        seen.add(name)
        pending += [read for read in nodes[name].input if order or not read.startswith("^")]
    return [
        node for node in graph_def.node if node.name in seen and node.op in PLACEHOLDERS and node.name not in constants
    ]
