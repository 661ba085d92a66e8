"""A float ONNX model computed in float16, with its inputs and outputs in float32.

An operator stays in float32 where ONNX defines none of float16 for it, where rounding to 11 bits or a range of 65504 spoils
what it computes (_WIDE), where a constant that it reads or a value that it takes or gives on the samples is beyond that range,
and where the user keeps it. Casts stand between the two kinds; constants that operators of float16 alone read are stored so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, defs, helper, numpy_helper

from converter.onnx.core.graphs import STANDARD, FreshNames, Scope, inner_graphs, model_opset, replace_fields, type_text
from converter.quantization.onnx.graph import is_float

__all__ = ["to_float16"]

_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).tiny)
_MARGIN = 0.5  # of the range: other inputs than the samples give larger values
# Sums over many values, powers and logarithms, which leave the range or lose what they are for; positions, indices and
# choices, which 11 bits do not tell apart; and what makes values of a type that an attribute names.
_WIDE = {
    *(
        "CumSum",
        "Exp",
        "Log",
        "Pow",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceProd",
        "ReduceSum",
    ),
    *("ReduceSumSquare", "LogSoftmax", "LpNormalization", "LRN", "MeanVarianceNormalization", "InstanceNormalization"),
    *(
        "GroupNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "Cos",
        "Sin",
        "Tan",
        "Mod",
        "Range",
        "TopK",
        "ArgMax",
    ),
    *("ArgMin", "NonMaxSuppression", "RoiAlign", "MaxRoiPool", "GridSample", "Resize", "Upsample", "AffineGrid", "Det"),
    *(
        "Inverse",
        "DFT",
        "STFT",
        "MelWeightMatrix",
        "Bernoulli",
        "EyeLike",
        "Multinomial",
        "RandomNormal",
        "RandomUniform",
    ),
    *("RandomNormalLike", "RandomUniformLike", "ConstantOfShape", "QuantizeLinear", "DequantizeLinear"),
    *(
        "DynamicQuantizeLinear",
        "CastLike",
        "Unique",
        "Hardmax",
        "Sqrt",
        "Reciprocal",
        "Scatter",
        "ScatterElements",
        "ScatterND",
    ),
}
# They move or choose values: in the type that these have.
_MOVING = {
    *(
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Slice",
        "Gather",
        "GatherND",
        "GatherElements",
        "Identity",
    ),
    *("Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "Concat", "Compress", "ReverseSequence"),
}


def to_float16(
    model: ModelProto, keep_float: Collection[str] = (), ranges: Mapping[str, tuple[float, float]] | None = None
) -> list[str]:
    """Do so in place to a typed model; the names of nodes that stay in float32 for their values' ranges.

    keep_float: names of nodes. ranges: of values of the main graph, on samples.
    """
    return _Halving(model, set(keep_float), ranges or {}).run()


@dataclass
class _Graph:
    """A graph with what its nodes see. halves, floats: names of values in either type, as far as there are any."""

    graph: GraphProto
    scope: Scope
    parent: _Graph | None
    nodes: list[NodeProto]
    constants: set[str]
    made: set[str]
    inner: dict[int, list[_Graph]] = field(default_factory=dict)
    is_half: list[bool] = field(default_factory=list)
    halves: dict[str, str] = field(default_factory=dict)
    floats: dict[str, str] = field(default_factory=dict)

    def around(self) -> Iterator[_Graph]:
        """This graph and those around it, inside first."""
        graph: _Graph | None = self
        while graph:
            yield graph
            graph = graph.parent


class _Halving:
    def __init__(self, model: ModelProto, keep: set[str], ranges: Mapping[str, tuple[float, float]]) -> None:
        self._model, self._keep = model, keep
        self._opset, self._names = model_opset(model), FreshNames(model)
        largest = {name: max(map(abs, pair)) for name, pair in ranges.items()}
        self._beyond = {name for name, size in largest.items() if size > _MARGIN * _LARGEST or 0 < size < _SMALLEST}
        self._for_range: list[str] = []

    def run(self) -> list[str]:
        main = self._read(self._model.graph, None)
        self._decide(main)
        self._convert_constants(main)
        self._write(main)
        return self._for_range

    def _read(self, graph: GraphProto, parent: _Graph | None) -> _Graph:
        scope = Scope(graph, parent.scope if parent else None)
        made = {value.name for value in graph.input} | {name for node in graph.node for name in node.output}
        constants = {tensor.name for tensor in graph.initializer}
        found = _Graph(graph, scope, parent, list(graph.node), constants, made)
        for place, node in enumerate(found.nodes):
            found.inner[place] = [self._read(inner, found) for inner in inner_graphs(node)]
        return found

    # Which nodes

    def _decide(self, graph: _Graph) -> None:
        for place, node in enumerate(graph.nodes):
            for inner in graph.inner[place]:
                self._decide(inner)
            half = self._can_be_half(graph, node)
            graph.is_half.append(half)
            for name in node.output if half else ():
                if is_float(graph.scope, name):
                    graph.halves[name] = name

    def _can_be_half(self, graph: _Graph, node: NodeProto) -> bool:
        if node.domain not in STANDARD or inner_graphs(node) or node.op_type in _WIDE or node.op_type == "Cast":
            return False
        places = self._places(graph, node)
        if places is None or node.name in self._keep:
            return False
        read, made = places
        if node.op_type in _MOVING and not any(self._is_half_there(graph, node.input[place]) for place in read):
            return False
        names = [*(node.input[place] for place in read), *(node.output[place] for place in made)]
        if any(self._is_beyond(graph, name) for name in names):
            self._for_range.append(node.name)
            return False
        return True

    def _is_half_there(self, graph: _Graph, name: str) -> bool:
        """Whether the value will be there in float16: a half node makes it, or it is a constant."""
        return any(name in around.halves for around in graph.around()) or graph.scope.constant(name) is not None

    def _is_beyond(self, graph: _Graph, name: str) -> bool:
        """Whether float16 cannot hold the value: too large, or so small throughout that little or nothing is left of it."""
        array = graph.scope.constant(name)
        if array is None:
            return graph.parent is None and name in self._beyond
        sizes = np.abs(array[np.isfinite(array)])
        largest = sizes.max(initial=0.0)
        return bool(largest > _LARGEST or 0 < largest < _SMALLEST)

    def _places(self, graph: _Graph, node: NodeProto) -> tuple[list[int], list[int]] | None:
        """The inputs and outputs that are float32 and may be float16; None where ONNX has no such operator, or none is."""
        try:
            schema = defs.get_schema(node.op_type, self._opset, "")
        except defs.SchemaError:
            return None
        allowed = {entry.type_param_str: entry.allowed_type_strs for entry in schema.type_constraints}
        found: list[list[int]] = []
        for names, formals in ((node.input, schema.inputs), (node.output, schema.outputs)):
            places = []
            for place, name in enumerate(names):
                kind = graph.scope.type(name) if name else None
                if name and kind is None:
                    return None
                if kind is None:
                    continue
                if not kind.HasField("tensor_type"):
                    return None
                formal = formals[min(place, len(formals) - 1)]
                if type_text(kind) == "tensor(float)" and formal.type_str in allowed:
                    if "tensor(float16)" not in allowed[formal.type_str]:
                        return None
                    places.append(place)
            found.append(places)
        return (found[0], found[1]) if found[0] or found[1] else None

    # Constants

    def _convert_constants(self, main: _Graph) -> None:
        """Store those so that half nodes alone read."""
        wide: set[tuple[int, str]] = set()
        half: set[tuple[int, str]] = set()
        self._readers(main, wide, half)
        pending = [main]
        while pending:
            graph = pending.pop()
            pending += [inner for graphs in graph.inner.values() for inner in graphs]
            for tensor in graph.graph.initializer:
                key = id(graph), tensor.name
                if tensor.data_type != TensorProto.FLOAT:
                    continue
                if key in half and key not in wide:
                    name = tensor.name
                    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name))
                    graph.halves[name] = name
                else:
                    graph.floats[tensor.name] = tensor.name

    def _readers(self, graph: _Graph, wide: set[tuple[int, str]], half: set[tuple[int, str]]) -> None:
        for place, node in enumerate(graph.nodes):
            taken = self._places(graph, node) if graph.is_half[place] else None
            for position, name in enumerate(node.input):
                owner = _owner(graph, name)
                if owner is not None:
                    (half if taken and position in taken[0] else wide).add((id(owner), name))
            for inner in graph.inner[place]:
                self._readers(inner, wide, half)
        for value in graph.graph.output:
            owner = _owner(graph, value.name)
            if owner is not None:
                wide.add((id(owner), value.name))

    # Writing

    def _write(self, graph: _Graph) -> None:
        # Decisions noted which values come in float16; from here on, which names they have where.
        graph.halves = {name: name for name in graph.halves if name in graph.constants}
        outputs = {value.name for value in graph.graph.output}
        for value in graph.graph.input:
            graph.floats[value.name] = value.name
        nodes: list[NodeProto] = []
        for place, node in enumerate(graph.nodes):
            for inner in graph.inner[place]:
                self._write(inner)
            places = self._places(graph, node) if graph.is_half[place] else None
            for position, name in enumerate(node.input):
                if not name or not is_float(graph.scope, name) or node.op_type == "Cast":
                    continue
                as_half = places is not None and position in places[0]
                node.input[position] = self._named(graph, name, as_half, nodes)
            if node.op_type == "Cast":
                node.input[0] = self._as_it_is(graph, node.input[0])
            nodes.append(node)
            for position, name in enumerate(node.output):
                if not name or not is_float(graph.scope, name):
                    continue
                if places is None or position not in places[1]:
                    graph.floats[name] = name
                elif name in outputs:
                    node.output[position] = graph.halves[name] = self._names(f"{name}_float16")
                    graph.floats[name] = name
                    nodes.append(self._cast(node.output[position], name, TensorProto.FLOAT))
                else:
                    graph.halves[name] = name
        for value in graph.graph.output:
            if is_float(graph.scope, value.name) and self._find(graph, value.name, half=False) is None:
                around = self._as_it_is(graph, value.name)  # a branch that gives a value from outside of it
                value.name = self._names(f"{value.name}_float32")
                nodes.append(self._cast(around, value.name, TensorProto.FLOAT))
        replace_fields(graph.graph.node, nodes)

    def _named(self, graph: _Graph, name: str, half: bool, nodes: list[NodeProto]) -> str:
        """The value's name in that type; a cast makes it where it is there in the other one only."""
        found = self._find(graph, name, half)
        if found is not None:
            return found
        other = self._find(graph, name, not half)
        if other is None:
            raise ValueError(f"value {name} is used before it is made")
        made = self._names(f"{name}_{'float16' if half else 'float32'}")
        nodes.append(self._cast(other, made, TensorProto.FLOAT16 if half else TensorProto.FLOAT))
        (graph.halves if half else graph.floats)[name] = made
        return made

    def _as_it_is(self, graph: _Graph, name: str) -> str:
        return self._find(graph, name, half=False) or self._find(graph, name, half=True) or name

    @staticmethod
    def _find(graph: _Graph, name: str, half: bool) -> str | None:
        for around in graph.around():
            found = (around.halves if half else around.floats).get(name)
            if found is not None:
                return found
            if name in around.halves or name in around.floats:
                return None
        return None

    def _cast(self, name: str, result: str, to: int) -> NodeProto:
        return helper.make_node("Cast", [name], [result], name=self._names(f"{result}_Cast"), to=to)


def _owner(graph: _Graph, name: str) -> _Graph | None:
    """The graph whose initializer the name means; None for all else."""
    for around in graph.around():
        if name in around.constants:
            return around
        if name in around.made:
            return None
    return None
