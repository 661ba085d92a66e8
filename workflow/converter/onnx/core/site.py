"""One node on its way over the boundary between two opsets: what is known of it, and what takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper

from converter.errors import UnsupportedError
from converter.onnx.core.graphs import FreshNames, Scope

__all__ = ["FLOATS", "Site"]

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}


class Site:
    """The node, which an adapter changes in place or replaces by the nodes that it adds.

    boundary: the opset above the boundary. nodes: what takes the place of `node`; empty: the node itself stays.
    """

    def __init__(self, node: NodeProto, scope: Scope, names: FreshNames, boundary: int, asked: int) -> None:
        self.node, self.scope, self.boundary = node, scope, boundary
        self.nodes: list[NodeProto] = []
        self._names, self._asked = names, asked

    # What the node is given.

    def has(self, position: int) -> bool:
        """Whether that input is given."""
        return position < len(self.node.input) and bool(self.node.input[position])

    def input(self, position: int) -> str:
        """The name of that input, empty where it is left out."""
        return self.node.input[position] if position < len(self.node.input) else ""

    def wants(self, position: int) -> bool:
        """Whether something may read that output."""
        return position < len(self.node.output) and bool(self.node.output[position])

    def attribute(self, name: str, default: Any = None) -> Any:
        """A number, text or list; the default where the node does not say."""
        for entry in self.node.attribute:
            if entry.name == name:
                value = helper.get_attribute_value(entry)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def constant(self, position: int) -> np.ndarray | None:
        """That input where it is a constant."""
        return self.scope.constant(self.input(position)) if self.has(position) else None

    def known(self, position: int, what: str) -> np.ndarray:
        """That input, which must be a constant: in the opset below it is an attribute, or decides on other nodes."""
        array = self.constant(position)
        if array is None:
            raise self.refusal(f"with {what} that are computed")
        return array

    def ints(self, position: int, what: str) -> list[int]:
        """That input as numbers, which must be constants."""
        return [int(value) for value in self.known(position, what).reshape(-1)]

    def dtype(self, position: int) -> int:
        """The element type of that input (TensorProto.DataType), 0 where it is not known."""
        return self.dtype_of(self.input(position))

    def dtype_of(self, name: str) -> int:
        """The element type of a value, 0 where it is not known."""
        kind = self.scope.type(name)
        return kind.tensor_type.elem_type if kind and kind.HasField("tensor_type") else 0

    def known_dtype(self, position: int) -> int:
        """The element type of that input. Raises UnsupportedError where it is not known."""
        return self.dtype(position) or self._fail(f"of whose input {self.input(position)} the type is not known")

    def shape(self, position: int) -> tuple[int | None, ...] | None:
        """The shape of that input, None for an unknown rank, None entries for unknown sizes."""
        return self.shape_of(self.input(position))

    def shape_of(self, name: str) -> tuple[int | None, ...] | None:
        """The shape of a value, None for an unknown rank, None entries for unknown sizes."""
        kind = self.scope.type(name)
        if not kind or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            return None
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.tensor_type.shape.dim)

    def rank(self, position: int) -> int | None:
        """How many dimensions that input has, None where it is not known."""
        shape = self.shape(position)
        return None if shape is None else len(shape)

    def known_rank(self, position: int) -> int:
        """How many dimensions that input has. Raises UnsupportedError where it is not known."""
        rank = self.rank(position)
        return rank if rank is not None else self._fail(f"of whose input {self.input(position)} the rank is not known")

    # What becomes of it.

    def set(self, **attributes: Any) -> None:
        """Set attributes of the node; None takes one away."""
        for name, value in attributes.items():
            kept = [entry for entry in self.node.attribute if entry.name != name]
            if value is not None:
                kept.append(helper.make_attribute(name, value))
            kept = [AttributeProto.FromString(entry.SerializeToString()) for entry in kept]
            del self.node.attribute[:]
            self.node.attribute.extend(kept)

    def pop(self, name: str, default: Any = None) -> Any:
        """Take an attribute away and say what it was."""
        value = self.attribute(name, default)
        value = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        self.set(**{name: None})
        return value

    def set_input(self, position: int, name: str) -> None:
        """Give the node this input; those left out before it become empty."""
        while len(self.node.input) <= position:
            self.node.input.append("")
        self.node.input[position] = name

    def drop_inputs(self, count: int) -> None:
        """Leave it its first `count` inputs."""
        del self.node.input[count:]

    def value(self, data: Any, dtype: Any = np.int64, stem: str = "constant") -> str:
        """The name of a constant. dtype: numpy's, or a TensorProto.DataType."""
        kind = helper.tensor_dtype_to_np_dtype(dtype) if isinstance(dtype, int) else dtype
        return self.scope.add_constant(np.asarray(data).astype(kind), self._names, stem)

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str | Sequence[str] | None = None,
        *,
        like: str | None = None,
        dtype: int | None = None,
        **attributes: Any,
    ) -> str:
        """A node that takes part in the place of `node`; the name of its (first) output, a new one unless given.

        like: the value whose type it has, dtype: its element type, where its shape is not known or needed.
        """
        outputs = [output] if isinstance(output, str) else list(output or [])
        if not outputs:
            outputs = [self._names(f"{self._stem()}_{operator}")]
            self._note_type(outputs[0], like, dtype)
        name = self._names(f"{self._stem()}_{operator}") if self.node.name else ""
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, name, **attributes))
        return outputs[0]

    def _note_type(self, name: str, like: str | None, dtype: int | None) -> None:
        kind = onnx.TypeProto()
        if like is not None and (known := self.scope.type(like)) is not None:
            kind.CopyFrom(known)
        if dtype:
            kind.tensor_type.elem_type = dtype
        if kind.WhichOneof("value"):
            self.scope.add_type(name, kind)

    def stay(self, *, before: bool = False) -> None:
        """Put the node itself among those that take its place."""
        copy = NodeProto()
        copy.CopyFrom(self.node)
        self.nodes.insert(0, copy) if before else self.nodes.append(copy)

    def rename(self, operator: str) -> None:
        """Make the node one of another operator."""
        self.node.op_type = operator

    def fresh(self, name: str, dtype: int) -> str:
        """The name of a new value like another one, with this element type."""
        made = self._names(f"{name}_{TensorProto.DataType.Name(dtype).lower()}")
        self._note_type(made, name, dtype)
        return made

    def cast(self, name: str, dtype: int, output: str | None = None) -> str:
        """The value with another element type; itself where it has that already and needs no new name."""
        if output is None and self.dtype_of(name) == dtype:
            return name
        return self.add("Cast", [name], output, like=name, dtype=dtype, to=dtype)

    def refusal(self, reason: str = "") -> UnsupportedError:
        """What the opset below the boundary does not have. `reason`: a clause that follows the operator's name."""
        return UnsupportedError(
            f"ONNX opset {self._asked} cannot express the operator {self.node.op_type}{self._place()}"
            f"{' ' if reason else ''}{reason}, which needs opset {self.boundary}: "
            f"set onnx_opset to {self.boundary} or higher, or leave it out"
        )

    def obstacle(self, reason: str) -> UnsupportedError:
        """What the opset above the boundary does not have any more, or has in a form that needs what is not known."""
        return UnsupportedError(
            f"the operator {self.node.op_type}{self._place()} {reason}, so that opset {self._asked} cannot express it: "
            f"set onnx_opset to {self.boundary - 1} or lower, or leave it out"
        )

    def _fail(self, reason: str) -> Any:
        raise (self.refusal if self._asked < self.boundary else self.obstacle)(reason)

    def _place(self) -> str:
        return f" ({self._stem()})"

    def _stem(self) -> str:
        return self.node.name or next((name for name in self.node.output if name), self.node.op_type)
