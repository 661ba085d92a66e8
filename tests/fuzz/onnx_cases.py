"""ONNX models that are protobuf and still no models: types, shapes, names, circles, weights in other places."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from fuzz.bytes_cases import Case
from fuzz.drawing import drawn

__all__ = ["onnx_cases"]

_NUMBERS = (0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, -(2**31), 2**62, -(2**63))
_NAMES = ("", "x", "a" * 5000, "__import__('os').system('touch pwned')", "\"'];\n", "\u202e", "../x", "y/../../z", "\0")
_LOCATIONS = ("../x.bin", "/etc/passwd", "", ".", "missing.bin", "x\0y", "a/../../b", "/proc/self/mem", "link.bin")
_OPERATORS = (
    "Loop",
    "If",
    "Scan",
    "Reshape",
    "Conv",
    "STFT",
    "Mod",
    "Resize",
    "TopK",
    "Einsum",
    "NoSuch",
    "",
    "Unique",
)


def onnx_cases(seed: Path, random_: random.Random) -> Iterator[Case]:
    """Without end."""
    return drawn(seed, random_, _CHANGES, _build)


def _build(seed: Path, change: Callable, state: int) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        random_, path = random.Random(state), folder / seed.name
        for file in seed.parent.glob(f"{seed.stem}.*"):
            shutil.copy(file, folder / file.name)
        (folder / "link.bin").symlink_to("/etc/passwd")
        model = onnx.ModelProto.FromString(seed.read_bytes())
        for _ in range(random_.choice((1, 1, 1, 2, 3))):
            change(model, random_)
        path.write_bytes(model.SerializeToString())
        return path

    return build


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for entry in node.attribute:
            if entry.HasField("g"):
                yield from _graphs(entry.g)


def _graph(model: onnx.ModelProto, random_: random.Random) -> onnx.GraphProto:
    return random_.choice(list(_graphs(model.graph)))


def _node(model: onnx.ModelProto, random_: random.Random) -> onnx.NodeProto:
    return random_.choice([node for graph in _graphs(model.graph) for node in graph.node])


def _tensor(model: onnx.ModelProto, random_: random.Random) -> onnx.TensorProto:
    tensors = [tensor for graph in _graphs(model.graph) for tensor in graph.initializer]
    tensors += [e.t for g in _graphs(model.graph) for n in g.node for e in n.attribute if e.HasField("t")]
    return random_.choice(tensors)


def _operator(model: onnx.ModelProto, random_: random.Random) -> None:
    others = [node.op_type for graph in _graphs(model.graph) for node in graph.node]
    _node(model, random_).op_type = random_.choice((*_OPERATORS, *others))


def _domain(model: onnx.ModelProto, random_: random.Random) -> None:
    _node(model, random_).domain = random_.choice(("com.microsoft", "ai.onnx.ml", "x", *_NAMES))


def _edge(model: onnx.ModelProto, random_: random.Random) -> None:
    """An input becomes any value of the graph, also one that is made later, or of the node itself."""
    graph = _graph(model, random_)
    names = [name for node in graph.node for name in (*node.input, *node.output)] + list(_NAMES)
    node = random_.choice(graph.node)
    if node.input:
        node.input[random_.randrange(len(node.input))] = random_.choice(names)


def _circle(model: onnx.ModelProto, random_: random.Random) -> None:
    """The first node that has an input reads what the last one makes."""
    graph = _graph(model, random_)
    first = next((node for node in graph.node if node.input), None)
    if first is not None:
        first.input[0] = graph.node[-1].output[0]


def _order(model: onnx.ModelProto, random_: random.Random) -> None:
    graph = _graph(model, random_)
    nodes = list(graph.node)
    random_.shuffle(nodes)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _output_twice(model: onnx.ModelProto, random_: random.Random) -> None:
    node = _node(model, random_)
    if node.output:
        node.output[random_.randrange(len(node.output))] = random_.choice(
            (_node(model, random_).output[0], "x", *_NAMES)
        )


def _inputs(model: onnx.ModelProto, random_: random.Random) -> None:
    node = _node(model, random_)
    if random_.random() < 0.5 and node.input:
        del node.input[random_.randrange(len(node.input)) :]
    else:
        node.input.extend([random_.choice(["", *node.input])] * random_.choice((1, 2, 50)))


def _attribute(model: onnx.ModelProto, random_: random.Random) -> None:
    nodes = [node for graph in _graphs(model.graph) for node in graph.node if node.attribute]
    entry = random_.choice(random_.choice(nodes).attribute)
    kind = random_.randrange(6)
    if kind == 0:
        entry.type = random_.choice(onnx.AttributeProto.AttributeType.values())
    elif kind == 1:
        entry.name = random_.choice(("axis", "to", "perm", "body", *_NAMES))
    elif kind == 2:
        entry.i = random_.choice(_NUMBERS)
    elif kind == 3 and entry.ints:
        entry.ints[random_.randrange(len(entry.ints))] = random_.choice(_NUMBERS)
    elif kind == 4:
        del entry.ints[random_.randrange(len(entry.ints) + 1) :]
    else:
        entry.ints.extend([random_.choice(_NUMBERS)] * random_.choice((1, 5)))


def _attribute_anew(model: onnx.ModelProto, random_: random.Random) -> None:
    name = random_.choice(("axis", "axes", "pads", "strides", "group", "to", "alpha", "body", "equation", "mode"))
    value = random_.choice((random_.choice(_NUMBERS), [1, 2], 0.5, "x", [0.5], ["a", "b"]))
    _node(model, random_).attribute.append(helper.make_attribute(name, value))


def _weight_type(model: onnx.ModelProto, random_: random.Random) -> None:
    _tensor(model, random_).data_type = random_.choice((*TensorProto.DataType.values(), 99, -1))


def _weight_shape(model: onnx.ModelProto, random_: random.Random) -> None:
    tensor = _tensor(model, random_)
    if tensor.dims and random_.random() < 0.7:
        tensor.dims[random_.randrange(len(tensor.dims))] = random_.choice(_NUMBERS)
    else:
        tensor.dims.extend([random_.choice(_NUMBERS)] * random_.choice((1, 40)))


def _weight_bytes(model: onnx.ModelProto, random_: random.Random) -> None:
    tensor = _tensor(model, random_)
    data = bytearray(tensor.raw_data)
    kind = random_.randrange(3)
    if kind == 0:
        data = data[: random_.randrange(len(data) + 1)]
    elif kind == 1:
        data += b"\xff" * random_.choice((1, 4, 4096))
    else:
        data = bytearray(b"\xff" * len(data))
    tensor.raw_data = bytes(data)


def _weight_values(model: onnx.ModelProto, random_: random.Random) -> None:
    """In a field for another type, beside the bytes, or cut into segments."""
    tensor = _tensor(model, random_)
    if random_.random() < 0.3:
        tensor.segment.begin, tensor.segment.end = random_.choice(_NUMBERS), random_.choice(_NUMBERS)
        return
    field = random_.choice((tensor.float_data, tensor.int64_data, tensor.string_data))
    field.extend([b"x"] * 3 if field is tensor.string_data else [1] * random_.choice((1, 100)))


def _weight_elsewhere(model: onnx.ModelProto, random_: random.Random) -> None:
    tensor = _tensor(model, random_)
    known = {entry.key: entry.value for entry in tensor.external_data}
    known["location"] = random_.choice((*_LOCATIONS, known.get("location", "x")))
    for key in ("offset", "length"):
        if random_.random() < 0.6:
            known[key] = str(random_.choice((*_NUMBERS, "x", "1e9", "", "0x10", 2**70)))
    del tensor.external_data[:]
    for key, value in known.items():
        tensor.external_data.add(key=key, value=value)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL


def _weight_gone(model: onnx.ModelProto, random_: random.Random) -> None:
    graph = _graph(model, random_)
    if graph.initializer:
        del graph.initializer[random_.randrange(len(graph.initializer))]


def _sparse(model: onnx.ModelProto, random_: random.Random) -> None:
    graph = _graph(model, random_)
    tensor = _tensor(model, random_)
    sparse = graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor)
    sparse.indices.CopyFrom(
        helper.make_tensor("i", TensorProto.INT64, [2], [random_.choice(_NUMBERS[:-3]), random_.choice(_NUMBERS[:-3])])
    )
    sparse.dims.extend([random_.choice(_NUMBERS)])


def _interface(model: onnx.ModelProto, random_: random.Random) -> None:
    graph = _graph(model, random_)
    entries = [*graph.input, *graph.output]
    if not entries:
        return
    entry = random_.choice(entries)
    kind = random_.randrange(5)
    if kind == 0:
        entry.type.tensor_type.elem_type = random_.choice((*TensorProto.DataType.values(), 99))
    elif kind == 1:
        dims = entry.type.tensor_type.shape.dim
        if dims:
            random_.choice(dims).dim_value = random_.choice(_NUMBERS)
    elif kind == 2:
        entry.type.tensor_type.shape.dim.add().dim_param = random_.choice(_NAMES)
    elif kind == 3:
        entry.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    else:
        entry.ClearField("type")


def _name(model: onnx.ModelProto, random_: random.Random) -> None:
    """Everywhere."""
    old = random_.choice([name for node in model.graph.node for name in (*node.input, *node.output) if name])
    new = random_.choice(_NAMES)
    for graph in _graphs(model.graph):
        for node in graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        for entry in (*graph.input, *graph.output, *graph.initializer):
            entry.name = new if entry.name == old else entry.name


def _node_name(model: onnx.ModelProto, random_: random.Random) -> None:
    _node(model, random_).name = random_.choice(_NAMES)


def _opset(model: onnx.ModelProto, random_: random.Random) -> None:
    if random_.random() < 0.3:
        del model.opset_import[:]
    elif random_.random() < 0.5:
        model.opset_import.add(domain=random_.choice(("", "x", "com.microsoft")), version=random_.choice(_NUMBERS))
    else:
        model.opset_import[0].version = random_.choice((*_NUMBERS, 6, 8, 27))


def _version(model: onnx.ModelProto, random_: random.Random) -> None:
    model.ir_version = random_.choice(_NUMBERS)


def _function(model: onnx.ModelProto, random_: random.Random) -> None:
    """One that calls itself, or takes the place of an operator."""
    node = _node(model, random_)
    function = model.functions.add(name=node.op_type, domain=random_.choice(("", "x")))
    function.input.extend([f"i{index}" for index in range(len(node.input))])
    function.output.extend([f"o{index}" for index in range(len(node.output))])
    inner = function.node.add(op_type=node.op_type, domain=function.domain)
    inner.input.extend(function.input)
    inner.output.extend(function.output)
    node.domain = function.domain
    function.opset_import.add(domain="", version=17)
    model.opset_import.add(domain="x", version=1)


def _nested(model: onnx.ModelProto, random_: random.Random) -> None:
    """Branches in branches."""
    graph = onnx.GraphProto(name="deep")
    graph.node.add(op_type="Identity", input=["x"], output=["deep_y"])
    graph.output.add(name="deep_y")
    for depth in range(random_.choice((3, 60, 95))):
        outer = onnx.GraphProto(name=f"deep{depth}")
        node = outer.node.add(op_type="If", input=["x"], output=["deep_y"])
        for name in ("then_branch", "else_branch")[: random_.choice((1, 1, 2)) if depth < 6 else 1]:
            node.attribute.add(name=name, type=onnx.AttributeProto.GRAPH).g.CopyFrom(graph)
        outer.output.add(name="deep_y")
        graph = outer
    model.graph.node.add(op_type="If", input=["x"], output=["deep"]).attribute.add(
        name="then_branch", type=onnx.AttributeProto.GRAPH
    ).g.CopyFrom(graph)


_CHANGES = (
    *(_operator, _domain, _edge, _circle, _order, _output_twice, _inputs, _attribute, _attribute, _attribute_anew),
    *(_weight_type, _weight_shape, _weight_bytes, _weight_values, _weight_elsewhere, _weight_gone, _sparse),
    *(_interface, _interface, _name, _node_name, _opset, _version, _function, _nested),
)
