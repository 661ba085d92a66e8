"""Cases that are well-formed protos and still no models: absurd shapes, cycles, missing ends, endless recursion, NaN."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from fuzz.bytes_cases import Case

__all__ = ["graph_cases"]

Change = Callable[[object, random.Random], str]
_SIZES = (2**40, 2**62, -1, -5, 0, 2**31)


def graph_cases(seed: Path, random_: random.Random) -> Iterator[Case]:
    """Without end; two changes in one graph from time to time."""
    while True:
        changes = random_.sample(_CHANGES, 1 if random_.random() < 0.8 else 2)
        state = random_.getrandbits(32)
        yield (
            " and ".join(change.__name__.strip("_").replace("_", " ") for change in changes),
            _build(seed, changes, state),
        )


def _build(seed: Path, changes: list[Change], state: int) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        random_ = random.Random(state)
        if seed.is_dir():
            target = folder / seed.name
            shutil.copytree(seed, target)
            proto, path = saved_model_pb2.SavedModel(), target / "saved_model.pb"
            proto.ParseFromString(path.read_bytes())
            graph_def = proto.meta_graphs[0].graph_def
        else:
            siblings = seed.parent.glob("model.*") if seed.suffix == ".meta" else [seed]
            for sibling in siblings:
                shutil.copy(sibling, folder / sibling.name)
            target = path = folder / seed.name
            proto = meta_graph_pb2.MetaGraphDef() if seed.suffix == ".meta" else tf.compat.v1.GraphDef()
            if seed.suffix == ".pbtxt":
                text_format.Parse(path.read_text(), proto)
            else:
                proto.ParseFromString(path.read_bytes())
            graph_def = proto.graph_def if seed.suffix == ".meta" else proto
        for change in changes:
            change(graph_def, random_)
        if seed.suffix == ".pbtxt":
            path.write_text(text_format.MessageToString(proto))
        else:
            path.write_bytes(proto.SerializeToString())
        return target

    return build


def _nodes(graph_def, random_):
    """The nodes of the graph, or of one of its functions."""
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    return random_.choice([body for body in bodies if len(body)])


def _absurd_shape(graph_def, random_):
    nodes = [node for node in _nodes(graph_def, random_) if "shape" in node.attr]
    for node in nodes or [random_.choice(graph_def.node)]:
        shape = node.attr["shape"].shape
        shape.ClearField("dim")
        for _ in range(random_.choice([1, 2, 300])):
            shape.dim.add(size=random_.choice(_SIZES))


def _absurd_constant(graph_def, random_):
    constants = [node for node in _nodes(graph_def, random_) if node.op == "Const"]
    for node in constants[:1]:
        shape = node.attr["value"].tensor.tensor_shape
        shape.ClearField("dim")
        for _ in range(random_.choice([1, 2, 9])):
            shape.dim.add(size=random_.choice(_SIZES))


def _short_constant(graph_def, random_):
    for node in [node for node in _nodes(graph_def, random_) if node.op == "Const"]:
        content = node.attr["value"].tensor.tensor_content
        node.attr["value"].tensor.tensor_content = content[: random_.randrange(len(content) + 1)]


def _no_numbers(graph_def, random_):
    value = random_.choice([np.nan, np.inf, -np.inf, 3e38, 1e-45])
    for node in [node for node in _nodes(graph_def, random_) if node.op == "Const"]:
        tensor = node.attr["value"].tensor
        if tensor.dtype == tf.float32.as_datatype_enum:
            shape = [dim.size for dim in tensor.tensor_shape.dim]
            tensor.CopyFrom(tf.make_tensor_proto(np.full(shape, value, np.float32)))


def _cycle(graph_def, random_):
    nodes = _nodes(graph_def, random_)
    with_inputs = [node for node in nodes if node.input]
    if with_inputs:
        node = random_.choice(with_inputs)
        node.input[random_.randrange(len(node.input))] = random_.choice(nodes).name


def _control_cycle(graph_def, random_):
    nodes = _nodes(graph_def, random_)
    random_.choice(nodes).input.append("^" + nodes[-1].name)


def _missing_input(graph_def, random_):
    node = random_.choice(_nodes(graph_def, random_))
    if node.input and random_.random() < 0.5:
        del node.input[-1]
    else:
        node.input.append(random_.choice(["nowhere", "nowhere:7", "", ":", "^", "x:99", "y:-1"]))


def _same_name(graph_def, random_):
    nodes = _nodes(graph_def, random_)
    random_.choice(nodes).name = random_.choice(nodes).name


def _strange_name(graph_def, random_):
    node = random_.choice(_nodes(graph_def, random_))
    node.name = random_.choice(["", "a b", "../../x", "$(touch pwned)", "x" * 100_000, "é", "^x", "x:0", "/", "-"])


def _other_operator(graph_def, random_):
    node = random_.choice(_nodes(graph_def, random_))
    node.op = random_.choice(
        ["", "NoSuchOperator", "Placeholder", "MatMul", "While", "PartitionedCall", "NoOp", "IteratorGetNext"]
    )


def _other_type(graph_def, random_):
    node = random_.choice(_nodes(graph_def, random_))
    for key in list(node.attr):
        if node.attr[key].type:
            node.attr[key].type = random_.choice([0, 3, 7, 20, 21, 99, 119])


def _no_attributes(graph_def, random_):
    node = random_.choice(_nodes(graph_def, random_))
    if node.attr and random_.random() < 0.5:
        del node.attr[random_.choice(sorted(node.attr))]
    else:
        node.attr.clear()


def _deep_chain(graph_def, random_):
    """A thousand identities before an output."""
    nodes = _nodes(graph_def, random_)
    source = next((node.name for node in nodes if node.op in ("Relu", "Softmax")), nodes[-1].name)
    for index in range(random_.choice([200, 3000])):
        node = nodes.add(name=f"deep{index}", op="Identity")
        node.input.append(source)
        node.attr["T"].type = tf.float32.as_datatype_enum
        source = node.name


def _recursive_function(graph_def, random_):
    """A function that calls itself."""
    function = graph_def.library.function.add()
    function.signature.name = "forever"
    function.signature.input_arg.add(name="a", type=1)
    function.signature.output_arg.add(name="b", type=1)
    inner = function.node_def.add(name="again", op="PartitionedCall", input=["a"])
    outer = graph_def.node.add(name="call", op="PartitionedCall", input=[random_.choice(graph_def.node).name])
    for node in (inner, outer):
        node.attr["f"].func.name = "forever"
        node.attr["Tin"].list.type.append(1)
        node.attr["Tout"].list.type.append(1)
    function.ret["b"] = "again:output:0"


def _no_nodes(graph_def, random_):
    nodes = _nodes(graph_def, random_)
    keep = random_.randrange(len(nodes))
    del nodes[keep:]


def _other_versions(graph_def, random_):
    graph_def.versions.producer = random_.choice([0, 1, 2**31 - 1])
    graph_def.versions.min_consumer = random_.choice([0, 2**31 - 1])


_CHANGES: list[Change] = [
    _absurd_shape, _absurd_constant, _short_constant, _no_numbers, _cycle, _control_cycle, _missing_input, _same_name,
    _strange_name, _other_operator, _other_type, _no_attributes, _deep_chain, _recursive_function, _no_nodes, _other_versions,
]  # fmt: skip
