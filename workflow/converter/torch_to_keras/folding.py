"""What does not depend on the model's inputs is computed once, by PyTorch itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from converter.torch_to_keras.pending import Pending
from converter.torch_to_keras.values import Constant, Value, static

if TYPE_CHECKING:
    from converter.torch_to_keras.build import Conversion

__all__ = ["CREATED", "fold"]

aten = torch.ops.aten
# Results that have one value everywhere if their tensor arguments do.
_KEEP_UNIFORM = {
    aten.view.default, aten.permute.default, aten.expand.default, aten.unsqueeze.default, aten.squeeze.dims,
    aten.squeeze.dim, aten.slice.Tensor, aten.select.int, aten.clone.default, aten.repeat.default, aten.alias.default,
    aten._to_copy.default, aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int,
}  # fmt: skip
_REDUCTIONS = {
    aten.any.dim, aten.any.dims, aten.all.dim, aten.all.dims, aten.amax.default, aten.amin.default, aten.sum.dim_IntList,
    aten.mean.dim, aten.prod.dim_int, aten.argmax.default, aten.argmin.default,
}  # fmt: skip
CREATED = {
    aten.full.default, aten.zeros.default, aten.ones.default, aten.full_like.default, aten.zeros_like.default,
    aten.ones_like.default, aten.new_zeros.default, aten.new_ones.default, aten.new_full.default,
    aten.empty.memory_format, aten.empty_permuted.default, aten.empty_strided.default,
}  # fmt: skip


def fold(conversion: Conversion, node: torch.fx.Node) -> Any | None:
    """The node's Constant (a tuple for several results), or None if it depends on the inputs.

    A constant with a symbolic size is kept with 1 in its place where one value fills it: initial states of zeros for a
    batch of any size, a class token expanded to it.
    """
    arguments = [conversion.values[argument] for argument in node.all_input_nodes]
    if node.target in CREATED:
        return _created(conversion, node)
    tensors = [argument for argument in arguments if isinstance(argument, Constant)]
    if not isinstance(node.target, torch._ops.OpOverload) or any(
        isinstance(a, Value | Pending | tuple) for a in arguments
    ):
        return None
    if torch.Tag.nondeterministic_seeded in node.target.tags:
        return None
    trainable = any(tensor.trainable for tensor in tensors)
    names = {tensor.name for tensor in tensors} - {None}
    name = names.pop() if len(names) == 1 else None  # a transposed or sliced parameter still bears its name
    symbolic = any(isinstance(argument, torch.SymInt | torch.SymFloat) for argument in arguments)
    if all(tensor.is_whole for tensor in tensors) and not symbolic:
        return _evaluated(conversion, node, name, trainable)
    if node.target in _KEEP_UNIFORM and tensors[0].uniform is not None:
        return _like_result(node, tensors[0].array.reshape(-1)[0], name, trainable)
    if torch.Tag.pointwise in node.target.tags and not symbolic:
        return _broadcast(node, _evaluated(conversion, node, name, trainable))
    if node.target in _REDUCTIONS and not symbolic and _is_along_known(node, tensors[0]):
        return _broadcast(node, _evaluated(conversion, node, name, trainable))
    if node.target is aten.expand.default:
        return _like_result(node, tensors[0].array, name, trainable)
    return None


def _created(conversion: Conversion, node: torch.fx.Node) -> Constant | None:
    name = node.target.__name__.split(".")[0]
    if "full" in name:
        value = conversion.resolve(node.args[-1])
        value = value.array.item() if isinstance(value, Constant) else value
        if not isinstance(value, int | float | bool):
            return None  # a number that is computed of sizes
    else:
        value = 1 if "ones" in name else 0
    return _like_result(node, torch.tensor(value).to(node.meta["val"].dtype), None, False)


def _like_result(
    node: torch.fx.Node, array: torch.Tensor, name: str | None, trainable: bool
) -> Constant | tuple[Constant, ...]:
    results = node.meta["val"]
    if isinstance(results, list | tuple):
        return tuple(Constant(array, tuple(result.shape), name, trainable) for result in results)
    shape = tuple(results.shape)
    if all(static(dim) is not None for dim in shape) and array.numel() == 1:
        array = array.reshape(()).expand([static(dim) for dim in shape])
    return Constant(array, shape, name, trainable)


def _is_along_known(node: torch.fx.Node, constant: Constant) -> bool:
    """Whether the reduced axes have known sizes, and the array all of their elements."""
    if len(node.args) < 2 or constant.array.dim() != len(constant.shape):
        return False
    dims = node.args[1] if isinstance(node.args[1], list | tuple) else [node.args[1]]
    return bool(dims) and all(
        isinstance(dim, int) and constant.array.shape[dim] == static(constant.shape[dim]) for dim in dims
    )


def _broadcast(node: torch.fx.Node, result: Constant) -> Constant:
    """With the shape that the program sees: the array has 1 where a size is not known."""
    return replace(result, shape=tuple(node.meta["val"].shape))


def _evaluated(conversion: Conversion, node: torch.fx.Node, name: str | None, trainable: bool) -> Any:
    def plain(argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            value = conversion.values[argument]
            return value.array if isinstance(value, Constant) else value
        return type(argument)(map(plain, argument)) if isinstance(argument, list | tuple) else argument

    with torch.no_grad():
        results = node.target(*map(plain, node.args), **{key: plain(value) for key, value in node.kwargs.items()})
    if isinstance(results, list | tuple):
        return tuple(_folded(result, name, trainable) for result in results)
    return _folded(results, name, trainable)


def _folded(array: torch.Tensor, name: str | None, trainable: bool) -> Constant:
    return Constant(array, tuple(array.shape), name, trainable)
