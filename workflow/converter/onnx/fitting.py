"""Attributes and types that an operator has at one opset and not at the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnx import AttributeProto, TensorProto, defs

from converter.onnx.core.graphs import type_text
from converter.onnx.core.site import Site

__all__ = ["check_attributes", "fit_types"]

_T = TensorProto
# What holds every value of a type, nearest first: results in it, cast back, are those of the type itself.
_WIDER: dict[int, tuple[int, ...]] = {
    _T.BOOL: (_T.UINT8, _T.INT32, _T.FLOAT),
    _T.INT8: (_T.INT32, _T.INT64, _T.FLOAT, _T.DOUBLE),
    _T.UINT8: (_T.INT32, _T.INT64, _T.FLOAT, _T.DOUBLE),
    _T.INT16: (_T.INT32, _T.INT64, _T.FLOAT, _T.DOUBLE),
    _T.UINT16: (_T.INT32, _T.INT64, _T.FLOAT, _T.DOUBLE),
    _T.INT32: (_T.INT64, _T.DOUBLE),
    _T.UINT32: (_T.INT64, _T.DOUBLE),
    _T.FLOAT16: (_T.FLOAT,),
    _T.BFLOAT16: (_T.FLOAT,),
}
# These make another type's bits, or numbers that depend on it: a wider type is another operation.
_BOUND_TO_TYPE = {"Cast", "CastLike", "BitCast", "QuantizeLinear", "DequantizeLinear", "BitShift", "BitwiseNot"}


def check_attributes(site: Site, other: defs.OpSchema, upwards: bool) -> None:
    """Take away what the operator does not have at the other opset where it changes nothing there.

    Raises UnsupportedError for attributes with other values than their defaults, and for more inputs or outputs.
    """
    own = defs.get_schema(site.node.op_type, site.boundary - 1 if upwards else site.boundary, "")
    refuse = site.obstacle if upwards else site.refusal
    for entry in list(site.node.attribute):
        if entry.name in other.attributes:
            continue
        said = own.attributes.get(entry.name)
        if said is None or not _is_default(entry, said.default_value):
            raise refuse(f"with the attribute {entry.name}")
        site.set(**{entry.name: None})
    while site.node.input and not site.node.input[-1]:
        del site.node.input[-1]
    while site.node.output and not site.node.output[-1]:
        del site.node.output[-1]
    if len(site.node.input) > other.max_input:
        raise refuse(f"with an input {own.inputs[min(other.max_input, len(own.inputs) - 1)].name}")
    if len(site.node.output) > other.max_output:
        raise refuse(f"with an output {own.outputs[min(other.max_output, len(own.outputs) - 1)].name}")
    for position, formal in enumerate(other.inputs[: other.min_input]):
        if not site.has(position) and formal.option == defs.OpSchema.FormalParameterOption.Single:
            raise refuse(f"without an input {formal.name}")


def _is_default(entry: AttributeProto, default: AttributeProto) -> bool:
    return default.type == entry.type and all(
        getattr(default, field) == getattr(entry, field) for field in ("i", "f", "s", "ints", "floats", "strings")
    )


def fit_types(site: Site, older: defs.OpSchema) -> None:
    """Cast to a wider type and back where the operator at the older opset does not take the type that it is given."""
    inputs = _by_constraint(site.node.input, older.inputs)
    outputs = _by_constraint(site.node.output, older.outputs)
    allowed = {entry.type_param_str: set(entry.allowed_type_strs) for entry in older.type_constraints}
    casts: dict[str, int] = {}
    for constraint, names in [*inputs.items(), *outputs.items()]:
        for name in names:
            kind = site.scope.type(name)
            text = type_text(kind) if kind else ""
            types = allowed.get(constraint, {constraint})
            if kind is None or not text or "undefined" in text or text in types or constraint in casts:
                continue
            own = kind.tensor_type.elem_type if kind.HasField("tensor_type") else 0
            wider = next((dtype for dtype in _WIDER.get(own, ()) if _text(dtype) in types), None)
            if (
                wider is None
                or constraint not in inputs
                or site.node.op_type in _BOUND_TO_TYPE
                or not _castable(own, site.boundary - 1)
            ):
                raise site.refusal(f"of type {text}")
            casts[constraint] = wider
    if casts:
        _cast(site, older, casts)


def _cast(site: Site, older: defs.OpSchema, casts: dict[str, int]) -> None:
    node = type(site.node)()
    node.CopyFrom(site.node)
    for position, name in enumerate(node.input):
        constraint = _formal(older.inputs, position).type_str
        if name and constraint in casts:
            node.input[position] = site.cast(name, casts[constraint])
    back = []
    for position, name in enumerate(node.output):
        constraint = _formal(older.outputs, position).type_str
        if name and constraint in casts:
            dtype = site.dtype_of(name) or site.dtype_of(_first(site, older, constraint))
            node.output[position] = site.fresh(name, casts[constraint])
            back.append((node.output[position], dtype, name))
    site.nodes.append(node)
    for wide, dtype, name in back:
        site.cast(wide, dtype, name)


def _first(site: Site, schema: defs.OpSchema, constraint: str) -> str:
    return next(n for i, n in enumerate(site.node.input) if _formal(schema.inputs, i).type_str == constraint)


def _by_constraint(names: Iterable[str], formals: Sequence[defs.OpSchema.FormalParameter]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for position, name in enumerate(names):
        if name:
            found.setdefault(_formal(formals, position).type_str, []).append(name)
    return found


def _formal(formals: Sequence[defs.OpSchema.FormalParameter], position: int) -> defs.OpSchema.FormalParameter:
    return formals[min(position, len(formals) - 1)]


def _text(dtype: int) -> str:
    return f"tensor({TensorProto.DataType.Name(dtype).lower()})"


def _castable(dtype: int, opset: int) -> bool:
    """Whether there is a Cast from the type and to it at this opset."""
    constraints = defs.get_schema("Cast", opset, "").type_constraints
    return all(_text(dtype) in entry.allowed_type_strs for entry in constraints)
