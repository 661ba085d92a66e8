"""Operators that reach beyond a model: they read or write files, open connections, or run Python. Without trust none runs.

A graph of a stranger may hold them in parts that nobody runs (savers, summaries, an input pipeline): only what the outputs
need counts. But TensorFlow (2.21) evaluates constant parts while it merely imports a graph, to infer shapes, and reads
files then; so operators without state are made harmless before the import (`disarm`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tensorflow.python.framework import op_def_registry

from converter.errors import UntrustedError
from converter.tf.graph.graph import GraphDef, NodeDef, canonical, function_names, node_name, prune, unique_name
from converter.wording import TRUST

__all__ = [
    *("disarm", "function_calls", "passed_on", "reaches_out", "refuse", "refuse_needed", "refuse_restores"),
    *("refuse_trace", "refuse_unread"),
]

# By what they do. Names of operators that TensorFlow no longer has are refused as unknown anyway.
_KINDS: dict[str, re.Pattern] = {
    "reads files": re.compile(
        r"ReadFile|MatchingFiles|ImmutableConst|RecordInput|Skipgram|FixedUnigramCandidateSampler|"
        r"GenerateVocabRemapping|LoadAndRemapMatrix|InitializeTableFromTextFile(V2)?|Restore(V2|Slice)?|DTensorRestoreV2|"
        r"(TextLine|TFRecord|FixedLengthRecord|LMDB|WholeFile|Identity)Reader(V2)?|Reader(Read|Restore)\w*|"
        r"(Experimental)?(TextLine|TFRecord|FixedLengthRecord|LMDB|Sql|CSV|MatchingFiles|Load)Dataset(V2)?|"
        r"ListSnapshotChunksDataset|Snapshot(Chunk|Nested)?Dataset(Reader|V2)?|SnapshotNestedDatasetReader|ImportEvent"
    ),
    "writes files": re.compile(
        r"WriteFile|Save(V2|Slices)?|MergeV2Checkpoints|DistributedSave|(Experimental)?DatasetToTFRecord|"
        r"SaveDataset(V2)?|CacheDataset(V2)?|DumpTensor|CalibrationStatisticsSaver|Create\w*SummaryFileWriter|"
        r"CreateSummary(File|Db)Writer|SummaryWriter|Write(\w*Summary)|WriteRawProtoSummary"
    ),
    "ends the program": re.compile(r"Abort"),
    "runs Python": re.compile(r"(Eager)?PyFunc(Stateless)?"),
    "runs code that TensorFlow cannot check": re.compile(r"MlirPassthroughOp|XlaCustomCall(V2)?|RemoteCall"),
    "runs a graph that is hidden in a text": re.compile(r"DatasetFromGraph"),
    "uses the network": re.compile(
        r"Rpc\w+|DataServiceDataset(V\d)?|RegisterDataset(V\d)?|FileSystemSetConfiguration|_?(Host)?(Send|Recv)|Collective\w+"
    ),
}
# Operators that do so only with a certain attribute.
_ATTRIBUTES: dict[str, tuple[str, Callable[[bytes], bool]]] = {
    "PrintV2": ("output_stream", lambda value: value.startswith(b"file:")),
    "DecodeProtoV2": (
        "descriptor_source",
        lambda value: bool(value) and not value.startswith((b"local://", b"bytes://")),
    ),
    "EncodeProto": (
        "descriptor_source",
        lambda value: bool(value) and not value.startswith((b"local://", b"bytes://")),
    ),
}
_DEBUG = re.compile(r"Debug(Identity|NanCount|NumericSummary)(V\d)?")

# What stands in for a disarmed operator: it has state, so nothing evaluates it, and needs no inputs.
DISARMED = "Unstage"
ORIGINAL = "_converter_disarmed"


def reaches_out(node: NodeDef) -> str | None:
    """What the node does that a model has no need of ("reads files"); None for ordinary operators."""
    op = node.attr[ORIGINAL].s.decode() if node.op == DISARMED and ORIGINAL in node.attr else node.op
    if op in _ATTRIBUTES:
        attribute, is_outside = _ATTRIBUTES[op]
        value = node.attr[attribute]
        return (
            "uses files" if value.placeholder or is_outside(value.s) else None
        )  # in a function: whoever calls it says
    if op == "XlaCallModule":  # its code may call functions of the process by name, with any addresses
        value = node.attr["module"]
        unknown = value.placeholder or b"custom_call" in value.s
        return "runs code that TensorFlow cannot check" if unknown else None
    if _DEBUG.fullmatch(op):
        value = node.attr["debug_urls"]
        return "writes files" if value.placeholder or value.list.s else None
    return next((what for what, pattern in _KINDS.items() if pattern.fullmatch(op)), None)


def disarm(graph_def: GraphDef) -> None:
    """Replace, in place, each node that TensorFlow might evaluate during import and that reaches out. Refused if needed."""
    for node in graph_def.node:
        _disarm(node)
    for function in graph_def.library.function:
        renamed = {}
        for node in function.node_def:
            renamed |= _disarm(node)
        for node in function.node_def if renamed else ():
            for position, source in enumerate(node.input):
                node.input[position] = renamed.get(source, source)
        for name, source in function.ret.items() if renamed else ():
            function.ret[name] = renamed.get(source, source)


def _disarm(node: NodeDef) -> dict[str, str]:
    """The new names of its outputs, as function bodies write them ("node:contents:0")."""
    definition = op_def_registry.get(node.op)
    if definition is None or definition.is_stateful or reaches_out(node) is None:
        return {}
    name, op, dtypes, renamed = node.name, node.op, [], {}
    for output in definition.output_arg:
        if output.type_list_attr:
            types = list(node.attr[output.type_list_attr].list.type)
        else:
            count = node.attr[output.number_attr].i if output.number_attr else 1
            types = [output.type or node.attr[output.type_attr].type] * count
        for index, dtype in enumerate(types):
            renamed[f"{name}:{output.name}:{index}"] = f"{name}:values:{len(dtypes)}"
            dtypes.append(dtype)
    node.Clear()
    node.name, node.op = name, DISARMED
    node.attr["dtypes"].list.type.extend(dtypes or [_STRING])
    node.attr[ORIGINAL].s = op.encode()
    return renamed


_STRING = 7  # DT_STRING; Unstage has at least one output


def refuse(
    source: Path,
    nodes: Iterable[NodeDef],
    allowed: Callable[[NodeDef], bool] = lambda node: False,
    remedy: str = "name output_nodes that do not need it",
) -> None:
    """Raise UntrustedError for the first of the nodes that reaches out, unless it is `allowed`."""
    for node in nodes:
        what = reaches_out(node)
        if what is not None and not allowed(node):
            op = node.attr[ORIGINAL].s.decode() if ORIGINAL in node.attr else node.op
            raise UntrustedError(f"{source} contains an operator that {what}: {node.name} ({op}); {remedy}, or {TRUST}")


def refuse_trace(source: Path, graph_def: GraphDef) -> None:
    """The same for all of a traced graph and the functions that it calls."""
    _refuse_run(source, graph_def, graph_def.node)


def _refuse_run(
    source: Path, graph_def: GraphDef, nodes: Iterable[NodeDef], allowed: Callable[[NodeDef], bool] = lambda node: False
) -> None:
    """For the nodes of a graph that are run, of which some are `allowed`, and the functions that they call."""
    refuse(source, nodes, allowed)
    called = function_calls(graph_def, nodes)
    refuse(source, (node for function in called for node in function.node_def))


def refuse_needed(source: Path, graph_def: GraphDef, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """The same for what a session runs to get the tensors `outputs` when it is fed the tensors `inputs`.

    A node that is fed runs all the same for its other outputs, and for those that only wait for it (TensorFlow 2.21).
    """
    cut = GraphDef()
    cut.CopyFrom(graph_def)
    fed = {canonical(name) for name in inputs}
    stand_in = unique_name("fed", {node.name for node in cut.node})
    for node in cut.node:
        for position, tensor in enumerate(node.input):
            if canonical(tensor) in fed:
                node.input[position] = stand_in
    cut.node.add(name=stand_in, op="Placeholder")
    # The functions of the whole graph: pruning drops their gradients, which may be called too.
    _refuse_run(source, graph_def, prune(cut, outputs).node)


def refuse_unread(source: Path, graph_def: GraphDef, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Before an old TensorFlow reads the graph, which evaluates constants as it likes: what the outputs need, and those.

    Where the outputs are not known, all operators but those that savers and summaries consist of.
    """
    plain = GraphDef()
    plain.CopyFrom(graph_def)
    disarm(plain)
    names = {node.name for node in plain.node}
    if outputs and all(node_name(name) in names for name in outputs):
        refuse_needed(source, plain, inputs, outputs)
    else:
        aside = re.compile(r"(Save|Restore|Merge)\w*|\w*Summary\w*")
        refuse(source, (node for node in plain.node if not aside.fullmatch(node.op)))
    refuse(source, (node for node in plain.node if node.op == DISARMED and ORIGINAL in node.attr))


def function_calls(graph_def: GraphDef, nodes: Iterable[NodeDef], names: Sequence[str] = ()) -> list:
    """The library's functions that `nodes` and the functions `names` call, directly or not: any attribute may name one."""
    library = {function.signature.name: function for function in graph_def.library.function}
    gradients = {entry.function_name: entry.gradient_func for entry in graph_def.library.gradient}
    found: dict[str, object] = {}
    pending = [*names, *_named_functions(nodes)]
    while pending:
        name = pending.pop()
        if name in library and name not in found:
            found[name] = library[name]
            pending += [*_named_functions(library[name].node_def), *filter(None, [gradients.get(name)])]
    return list(found.values())


def _named_functions(nodes: Iterable[NodeDef]) -> list[str]:
    return [name for node in nodes for name in (node.op, *function_names(node))]


def refuse_restores(source: Path, graph_def: GraphDef, runs: Sequence[str], filename: str) -> None:
    """Raise UntrustedError for operators in what a restore runs to get to the nodes `runs`.

    Restores from `filename`, the saver's tensor, are its own.
    """
    nodes = {node.name: node for node in graph_def.node}

    def is_own(node: NodeDef) -> bool:
        return node.op.startswith("Restore") and bool({canonical(filename)} & passed_on(nodes, node.input[0]))

    _refuse_run(source, graph_def, prune(graph_def, runs).node, is_own)


def passed_on(nodes: dict[str, NodeDef], tensor: str) -> set[str]:
    """The tensor and those that it is the identity of, each in its canonical form; also where they run in circles."""
    passed: set[str] = set()
    while canonical(tensor) not in passed:
        passed.add(canonical(tensor))
        node = nodes.get(node_name(tensor))
        if node is not None and node.op == "Identity" and node.input:
            tensor = node.input[0]
    return passed
