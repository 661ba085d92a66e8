"""TF1 checkpoints, frozen graphs and SavedModels in the old TensorFlow, with the operators of tf.contrib where it has them."""

from __future__ import annotations

import re

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from legacy.errors import LegacyError

__all__ = ["SessionModel", "load_checkpoint", "load_protobuf", "load_savedmodel"]

v1 = tf.compat.v1

# Ends of a graph that are no outputs of the network.
_TRAINING = re.compile(
    r"(^|/)(gradients|save(_\d+)?|init|report_uninitialized\w*|\w*[Ii]nitializer|global_step|Adam|train_op)(/|$)"
)
# What usually is an output although a loss or a metric follows it.
_LAST = ("Softmax", "Sigmoid", "ArgMax", "BiasAdd", "Tanh", "LogSoftmax")
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")


def _contrib_operators():
    """Names of the operators that importing tf.contrib adds; importing it is what makes graphs that hold them load."""
    if not tf.__version__.startswith("1."):
        return set()
    before = set(op_def_registry.get_registered_ops())
    import tensorflow.contrib

    dir(tensorflow.contrib)  # it loads on first use
    return set(op_def_registry.get_registered_ops()) - before


class SessionModel:
    """A graph with its values in a session. `inputs`, `outputs`: (name, tensor) pairs, empty where the graph leaves that open.

    `reset` puts variables that a run assigns to back to their stored values.
    """

    def __init__(self, session, inputs, outputs, contrib=frozenset(), reset=None):
        self.inputs, self.outputs = list(inputs), list(outputs)
        self._session, self._contrib, self._reset = session, contrib, reset

    def run(self, feeds, fetches):
        if self._reset is not None:
            self._reset()
        present = {operation.name for operation in self._session.graph.get_operations()}
        feeds = {name: value for name, value in feeds.items() if name.split(":")[0] in present}
        return [np.asarray(array) for array in self._session.run(list(fetches), feeds)]

    def graph_def(self):
        """The part that the outputs need (all likely ends, where they are not known), with variables as constants."""
        graph_def = self._session.graph.as_graph_def()
        nodes = [tensor.split(":")[0] for _, tensor in self.outputs] or self._find_ends(graph_def)
        frozen = v1.graph_util.convert_variables_to_constants(self._session, graph_def, nodes)
        return v1.graph_util.extract_sub_graph(_fold(frozen, self._contrib), nodes)

    def _find_ends(self, graph_def):
        """Where nobody named the outputs: the ends of a graph for inference. A training graph ends in losses and metrics."""
        graph = self._session.graph
        ends = _ends(graph_def)
        likely = [name for name in ends if graph.get_operation_by_name(name).outputs[0].shape.rank != 0]
        trains = any("Apply" in node.op or node.name.startswith("gradients/") for node in graph_def.node)
        if not likely or (trains and len(likely) > 1):
            inner = [node.name for node in graph_def.node if node.op in _LAST and not _TRAINING.search(node.name)][-6:]
            names = ", ".join(dict.fromkeys(inner + ends)) or "none that depends on a placeholder"
            raise LegacyError(
                "ParameterError",
                f"output_nodes: the graph leaves a choice, so name its outputs; candidates are {names}",
            )
        return likely


def _ends(graph_def):
    """Nodes that nothing reads and that depend on a placeholder, training and saving set aside."""
    ops = {node.name: node for node in graph_def.node}
    read = {_node(source) for node in graph_def.node if not _TRAINING.search(node.name) for source in node.input}
    fed = _dependents(graph_def)
    ends = [name for name in ops if name in fed and name not in read and not _TRAINING.search(name)]
    return [
        name
        for name in ends
        if ops[name].op
        not in _PLACEHOLDERS + ("NoOp", "Assert", "SaveV2", "MergeSummary", "ScalarSummary", "HistogramSummary")
    ]


def _node(source):
    return source.lstrip("^").split(":")[0]


def _dependents(graph_def):
    """Names of the placeholders and of all nodes that depend on one."""
    readers = {}
    for node in graph_def.node:
        for source in node.input:
            readers.setdefault(_node(source), []).append(node.name)
    pending = [node.name for node in graph_def.node if node.op in _PLACEHOLDERS]
    found = set(pending)
    while pending:
        for name in readers.get(pending.pop(), ()):
            if name not in found:
                found.add(name)
                pending.append(name)
    return found


def _fold(graph_def, operators):
    """The graph with each node of these operators that depends on no input replaced by its value.

    Today's TensorFlow does not know contrib's operators; a table or a grid that one of them computes is a constant to it.
    """
    fed = _dependents(graph_def)
    folded = [node for node in graph_def.node if node.op in operators and node.name not in fed]
    if not folded:
        return graph_def
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        with v1.Session(graph=graph) as session:
            values = {node.name: session.run(list(graph.get_operation_by_name(node.name).outputs)) for node in folded}
    result = v1.GraphDef()
    result.CopyFrom(graph_def)
    del result.node[:]
    renamed = {}
    for node in graph_def.node:
        if node.name not in values:
            result.node.add().CopyFrom(node)
            continue
        for index, value in enumerate(values[node.name]):
            name = node.name if index == 0 else f"{node.name}_output{index}"
            renamed[f"{node.name}:{index}"] = name
            constant = result.node.add(name=name, op="Const")
            proto = tf.make_tensor_proto(value)
            constant.attr["dtype"].type = proto.dtype
            constant.attr["value"].tensor.CopyFrom(proto)
    for node in result.node:
        for position, source in enumerate(node.input):
            node.input[position] = renamed.get(source, source)
    return result


def load_checkpoint(request):
    """A .meta with the values of its own prefix, whatever a `checkpoint` file beside it says."""
    contrib = _contrib_operators()
    meta = v1.MetaGraphDef()
    with open(request["source"], "rb") as stored:
        meta.ParseFromString(stored.read())
    _drop_stale_shapes(meta.graph_def)
    graph = tf.Graph()
    with graph.as_default():
        saver = v1.train.import_meta_graph(meta, clear_devices=True)
    session = v1.Session(graph=graph)
    prefix = request["source"][: -len(".meta")]

    def restore():
        with graph.as_default():  # elsewhere TensorFlow 2 restores eagerly
            saver.restore(session, prefix)

    restore()
    return SessionModel(session, *_named(request), contrib=contrib, reset=restore)


def _drop_stale_shapes(graph_def):
    """Old files record output shapes that their own TensorFlow no longer agrees with, and refuses to import."""
    for node in graph_def.node:
        node.attr.pop("_output_shapes", None)


def load_protobuf(request):
    """A frozen graph, binary, or text where the file ends in .pbtxt."""
    from google.protobuf import text_format

    contrib = _contrib_operators()
    graph_def = v1.GraphDef()
    with open(request["source"], "rb") as stored:
        data = stored.read()
    if request["source"].endswith(".pbtxt"):
        text_format.Parse(data.decode("utf-8"), graph_def)
    else:
        graph_def.ParseFromString(data)
    _drop_stale_shapes(graph_def)
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    return SessionModel(v1.Session(graph=graph), *_named(request), contrib=contrib)


def _named(request):
    """input_nodes and output_nodes as (name, tensor) pairs."""
    return [
        [(name, name if ":" in name else name + ":0") for name in request.get(key) or []]
        for key in ("input_nodes", "output_nodes")
    ]


def load_savedmodel(request):
    """One signature of a SavedModel."""
    contrib = _contrib_operators()
    key, tags = request["savedmodel_signature"], request["savedmodel_tag"]
    if not tf.__version__.startswith("1."):
        return _Signature(request["source"], tags, key)
    session = v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        meta = v1.saved_model.load(session, tags, request["source"])
    if key not in meta.signature_def:
        _refuse_signature(request["source"], key, meta.signature_def)
    signature = meta.signature_def[key]
    inputs = [(name, signature.inputs[name].name) for name in sorted(signature.inputs)]
    outputs = [(name, signature.outputs[name].name) for name in sorted(signature.outputs)]
    return SessionModel(session, inputs, outputs, contrib=contrib)


def _refuse_signature(source, key, known):
    names = ", ".join(sorted(name for name in known if not name.startswith("__")))
    raise LegacyError("ParameterError", f"savedmodel_signature: {source} has no {key}; it has {names}")


class _Signature:
    """A signature's function in TensorFlow 2: its graph is inside functions, which a session's freezing does not enter."""

    def __init__(self, source, tags, key):
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        self._loaded = tf.saved_model.load(source, tags=tags)
        if key not in self._loaded.signatures:
            _refuse_signature(source, key, self._loaded.signatures)
        self._function = self._loaded.signatures[key]
        self._frozen = convert_variables_to_constants_v2(self._function, lower_control_flow=False)
        names = list(self._function._arg_keywords)
        self.inputs = [(names[index], tensor.name) for index, tensor in enumerate(self._frozen.inputs)]
        # structured_outputs is a mapping, flattened in the order of its keys.
        keys = sorted(self._function.structured_outputs)
        self.outputs = [(keys[index], tensor.name) for index, tensor in enumerate(self._frozen.outputs)]

    def graph_def(self):
        return self._frozen.graph.as_graph_def()

    def run(self, feeds, fetches):
        results = self._function(**{name: tf.constant(feeds[tensor]) for name, tensor in self.inputs})
        by_tensor = {tensor: results[name].numpy() for name, tensor in self.outputs}
        return [by_tensor[name] for name in fetches]
