"""Complex numbers in a program as pairs of reals, along a last axis of 2: no target has them (rotary embeddings, spectra).

All operators that a complex tensor meets must be among those below, and the sizes of transforms known; else the program stays
as it is, and is refused by whoever writes a file of it. A product is written as (ac - bd, ad + bc), a transform as a product
with cosines and sines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.export.graph_signature import InputKind

from converter.torch.exact.fourier import TRANSFORMS, has_known_sizes
from converter.torch.exact.rewriting import Writer

__all__ = ["Pairs", "write_pairs"]

_aten = torch.ops.aten
Node = torch.fx.Node
_CHECK = _aten._assert_tensor_metadata.default  # of what held when the program was exported
_STATE = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


class Pairs:
    """Writes what takes the place of one node. A call gives the pair of a complex argument."""

    def __init__(self, node: Node, pairs: dict[Node, Node]) -> None:
        self.node, self.write, self._pairs = node, Writer(node), pairs
        self.target: Any = node.target
        self.args: tuple[Any, ...] = node.args
        self.kwargs: dict[str, Any] = node.kwargs
        self.value: Any = node.meta["val"]

    def __call__(self, argument: Node) -> Node:
        """The pair of a complex tensor, (..., 2)."""
        return self._pairs[argument]

    def parts(self, argument: Any) -> tuple[Any, Any]:
        """Real and imaginary part; those of a real tensor or number are it, and None."""
        if not isinstance(argument, Node) or argument not in self._pairs:
            return argument, None
        pair = self._pairs[argument]
        return self.write(_aten.select.int, pair, -1, 0), self.write(_aten.select.int, pair, -1, 1)

    def pair(self, real: Node, imaginary: Node) -> Node:
        """Of two real tensors of one shape."""
        return self.write(_aten.stack.default, [real, imaginary], -1)


def write_pairs(program: torch.export.ExportedProgram) -> None:
    """Edit the program in place."""
    module = program.graph_module
    graph = module.graph
    state = {spec.arg.name: spec for spec in program.graph_signature.input_specs if spec.kind in _STATE}
    involved = [node for node in graph.nodes if _is_complex(node) or any(map(_is_complex, node.all_input_nodes))]
    if not involved or not all(_is_known(node, state) for node in involved):
        return
    pairs: dict[Node, Node] = {}
    for node in involved:
        if node.op == "placeholder":
            _split_state(program, str(state[node.name].target), node)
            pairs[node] = node
            continue
        if node.target is _CHECK:
            continue
        result = _RULES[node.target](Pairs(node, pairs))
        if _is_complex(node):
            pairs[node] = result
        else:
            node.replace_all_uses_with(result)
            result.name, node.name = node.name, f"{node.name}_complex"
    for node in reversed(involved):
        if node.op != "placeholder":
            graph.erase_node(node)
    _rename_outputs(program)
    graph.lint()
    module.recompile()


def _is_complex(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_complex()


def _is_known(node: Node, state: dict[str, Any]) -> bool:
    if node.op == "placeholder":
        return node.name in state
    known = node.op == "call_function" and (node.target in _RULES or node.target is _CHECK)
    return known and (node.target not in TRANSFORMS or has_known_sizes(node))


def _split_state(program: torch.export.ExportedProgram, name: str, node: Node) -> None:
    """A parameter, buffer or constant of the program holds pairs from now on."""
    for values in (program.state_dict, program.constants):
        value = values.get(name)
        if isinstance(value, torch.Tensor) and value.is_complex():
            real = torch.view_as_real(value.detach().resolve_conj()).contiguous()
            values[name] = torch.nn.Parameter(real) if isinstance(value, torch.nn.Parameter) else real
    fake = node.meta["val"].fake_mode
    with fake:
        node.meta["val"] = torch.empty((*node.meta["val"].shape, 2), dtype=node.meta["val"].real.dtype)


def _rename_outputs(program: torch.export.ExportedProgram) -> None:
    """The signature names the nodes that the outputs are."""
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    for result, spec in zip(output.args[0], program.graph_signature.output_specs, strict=True):
        if isinstance(result, Node) and hasattr(spec.arg, "name"):
            spec.arg.name = result.name


def _rank(node: Any) -> int:
    return node.meta["val"].dim()


def _product(pairs: Pairs) -> Node:
    write, (a, b), (c, d) = pairs.write, pairs.parts(pairs.args[0]), pairs.parts(pairs.args[1])
    multiply = _aten.mul.Tensor
    if b is None or d is None:
        pair, factor = (pairs.args[0], c) if d is None else (pairs.args[1], a)
        factor = write(_aten.unsqueeze.default, factor, -1) if isinstance(factor, Node) else factor
        return write(multiply, pairs(pair), factor)
    real = write(_aten.sub.Tensor, write(multiply, a, c), write(multiply, b, d))
    return pairs.pair(real, write(_aten.add.Tensor, write(multiply, a, d), write(multiply, b, c)))


def _quotient(pairs: Pairs) -> Node:
    write, (a, b), (c, d) = pairs.write, pairs.parts(pairs.args[0]), pairs.parts(pairs.args[1])
    multiply = _aten.mul.Tensor
    if d is None:
        c = write(_aten.unsqueeze.default, c, -1) if isinstance(c, Node) else c
        return write(_aten.div.Tensor, pairs(pairs.args[0]), c)
    size = write(_aten.add.Tensor, write(multiply, c, c), write(multiply, d, d))
    if b is None:
        real, imaginary = write(multiply, a, c), write(_aten.neg.default, write(multiply, a, d))
    else:
        real = write(_aten.add.Tensor, write(multiply, a, c), write(multiply, b, d))
        imaginary = write(_aten.sub.Tensor, write(multiply, b, c), write(multiply, a, d))
    return pairs.pair(write(_aten.div.Tensor, real, size), write(_aten.div.Tensor, imaginary, size))


def _matrix_product(pairs: Pairs) -> Node:
    write, (a, b), (c, d) = pairs.write, pairs.parts(pairs.args[0]), pairs.parts(pairs.args[1])

    def product(left: Node | None, right: Node | None) -> Node | None:
        return None if left is None or right is None else write(_aten.matmul.default, left, right)

    return pairs.pair(
        _sum(write, product(a, c), product(b, d), _aten.sub.Tensor), _sum(write, product(a, d), product(b, c))
    )


def _sum(write: Writer, left: Node | None, right: Node | None, function: Any = _aten.add.Tensor) -> Node:
    """Of what is there; one of both always is."""
    if left is None:
        assert right is not None
        return right
    return left if right is None else write(function, left, right)


def _added(function: Any) -> Callable[[Pairs], Node]:
    def rule(pairs: Pairs) -> Node:
        write, (a, b), (c, d) = pairs.write, pairs.parts(pairs.args[0]), pairs.parts(pairs.args[1])
        alpha = pairs.kwargs.get("alpha", 1)
        c, d = (x if x is None or alpha == 1 else write(_aten.mul.Tensor, x, alpha) for x in (c, d))
        real = write(function, a, c)
        if b is not None and d is not None:
            imaginary = write(function, b, d)
        else:
            zeros = write(_aten.zeros_like.default, real)
            imaginary = write(function, b if b is not None else zeros, d if d is not None else zeros)
        return pairs.pair(real, imaginary)

    return rule


def _polar(pairs: Pairs) -> Node:
    size, angle = pairs.args
    cosine, sine = (pairs.write(function, angle) for function in (_aten.cos.default, _aten.sin.default))
    return pairs.pair(pairs.write(_aten.mul.Tensor, size, cosine), pairs.write(_aten.mul.Tensor, size, sine))


def _exponential(pairs: Pairs) -> Node:
    real, imaginary = pairs.parts(pairs.args[0])
    size = pairs.write(_aten.exp.default, real)
    cosine, sine = (pairs.write(function, imaginary) for function in (_aten.cos.default, _aten.sin.default))
    return pairs.pair(pairs.write(_aten.mul.Tensor, size, cosine), pairs.write(_aten.mul.Tensor, size, sine))


def _size(pairs: Pairs) -> Node:
    """Of both parts at once: each alone may be too small to be squared."""
    return pairs.write(_aten.linalg_vector_norm.default, pairs(pairs.args[0]), 2, [-1])


def _angle(pairs: Pairs) -> Node:
    real, imaginary = pairs.parts(pairs.args[0])
    return pairs.write(_aten.atan2.default, imaginary, real)


def _conjugate(pairs: Pairs) -> Node:
    real, imaginary = pairs.parts(pairs.args[0])
    return pairs.pair(real, pairs.write(_aten.neg.default, imaginary))


def _part(place: int) -> Callable[[Pairs], Node]:
    return lambda pairs: pairs.write(_aten.alias.default, pairs.parts(pairs.args[0])[place])


def _converted(pairs: Pairs) -> Node:
    """To another width; from and to real numbers."""
    real, imaginary = pairs.parts(pairs.args[0])
    dtype = pairs.value.dtype
    if not dtype.is_complex:
        return pairs.write(_aten._to_copy.default, real, dtype=dtype)
    if imaginary is None:
        real = pairs.write(_aten._to_copy.default, real, dtype=dtype.to_real())
        return pairs.pair(real, pairs.write(_aten.zeros_like.default, real))
    if dtype == pairs.args[0].meta["val"].dtype:
        return _same(pairs)
    return pairs.write(_aten._to_copy.default, pairs(pairs.args[0]), dtype=dtype.to_real())


def _same(pairs: Pairs) -> Node:
    return pairs.write(_aten.alias.default, pairs(pairs.args[0]))


def _each(pairs: Pairs) -> Node:
    """An operator that treats both parts alike."""
    first, *others = pairs.args
    return pairs.write(pairs.target, pairs(first), *others, **pairs.kwargs)


def _sized(target: Any) -> Callable[[Pairs], Node]:
    """One whose second argument is the shape of the result."""
    return lambda pairs: pairs.write(target, pairs(pairs.args[0]), [*pairs.args[1], 2])


def _axes(count: int, new: int = 0) -> Callable[[Pairs], Node]:
    """One whose next `count` arguments are axes or lists of them, counted from the front. new: axes that it adds."""

    def rule(pairs: Pairs) -> Node:
        first, *others = pairs.args
        listed = isinstance(first, list | tuple)
        tensors = [pairs(x) for x in first] if listed else pairs(first)
        rank = _rank(first[0] if listed else first) + new
        schema = pairs.target._schema.arguments[1 : 1 + count]
        places = [others[i] if i < len(others) else argument.default_value for i, argument in enumerate(schema)]
        moved = [
            [axis % rank for axis in place] if isinstance(place, list | tuple) else place % rank for place in places
        ]
        return pairs.write(pairs.target, tensors, *moved, *others[count:], **pairs.kwargs)

    return rule


def _permuted(pairs: Pairs) -> Node:
    x, dims = pairs.args
    rank = _rank(x)
    return pairs.write(_aten.permute.default, pairs(x), [*(dim % rank for dim in dims), rank])


def _turned(pairs: Pairs) -> Node:
    rank = _rank(pairs.args[0])
    return pairs.write(_aten.transpose.int, pairs(pairs.args[0]), rank - 2, rank - 1)


def _flattened(pairs: Pairs) -> Node:
    start, end = (*pairs.args[1:], *(0, -1)[len(pairs.args) - 1 :])
    rank = _rank(pairs.args[0])
    return pairs.write(_aten.flatten.using_ints, pairs(pairs.args[0]), start % rank, end % rank)


_RULES: dict[Any, Callable[[Pairs], Node]] = {
    _aten.view_as_complex.default: lambda pairs: pairs.write(_aten.alias.default, pairs.args[0]),
    _aten.view_as_real.default: _same,
    _aten.complex.default: lambda pairs: pairs.pair(*pairs.args),
    _aten.polar.default: _polar,
    _aten.real.default: _part(0),
    _aten.imag.default: _part(1),
    _aten.abs.default: _size,
    _aten.angle.default: _angle,
    _aten.conj.default: _conjugate,
    _aten._conj.default: _conjugate,
    _aten.conj_physical.default: _conjugate,
    _aten.exp.default: _exponential,
    _aten.mul.Tensor: _product,
    _aten.div.Tensor: _quotient,
    _aten.add.Tensor: _added(_aten.add.Tensor),
    _aten.sub.Tensor: _added(_aten.sub.Tensor),
    **dict.fromkeys((_aten.matmul.default, _aten.mm.default, _aten.bmm.default), _matrix_product),
    **dict.fromkeys((_aten.resolve_conj.default, _aten.alias.default, _aten.detach.default, _aten.detach_.default,
                     _aten.clone.default, _aten.contiguous.default, _aten.lift_fresh_copy.default), _same),
    **dict.fromkeys((_aten.to.dtype_layout, _aten.to.dtype, _aten.to.device, _aten._to_copy.default), _converted),
    **dict.fromkeys((_aten.neg.default, _aten.index.Tensor), _each),
    **dict.fromkeys((_aten.view.default, _aten.reshape.default), _sized(_aten.reshape.default)),
    _aten.expand.default: _sized(_aten.expand.default),
    _aten.permute.default: _permuted,
    _aten.transpose.int: _axes(2),
    **dict.fromkeys((_aten.mT.default, _aten.t.default), _turned),
    **dict.fromkeys((_aten.slice.Tensor, _aten.select.int, _aten.index_select.default, _aten.squeeze.dim,
                     _aten.squeeze.dims, _aten.cat.default, _aten.sum.dim_IntList, _aten.mean.dim), _axes(1)),
    **dict.fromkeys((_aten.unsqueeze.default, _aten.stack.default), _axes(1, new=1)),
    _aten.flatten.using_ints: _flattened,
    **TRANSFORMS,
}  # fmt: skip
