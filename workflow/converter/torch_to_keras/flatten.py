"""Flattening channels-last features in front of a Linear without a permutation: its Dense kernel is permuted instead."""

from __future__ import annotations

import numpy as np
import torch
from keras import layers

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.values import Constant, Value, same, static

__all__ = ["flatten_for_linear"]

aten = torch.ops.aten
# What may lie between: functions of each element by itself.
_ELEMENTWISE = {
    aten.clone.default, aten.dropout.default, aten.relu.default, aten.sigmoid.default, aten.tanh.default, aten.gelu.default,
    aten.silu.default, aten.hardswish.default, aten.hardtanh.default, aten.leaky_relu.default, aten.elu.default,
}  # fmt: skip


def flatten_for_linear(call: Call, value: Value) -> Value | None:
    """(N, C, H, W) stored as (N, H, W, C) to (N, features) in stored sequence, if only Linear layers will see it."""
    if len(call.shape) != 2 or len(value.shape) < 3 or value.order[0] != 0 or not same(call.shape[0], value.shape[0]):
        return None
    sizes = [static(dim) for dim in value.shape[1:]]
    moving = [axis for axis in value.order if static(value.shape[axis]) != 1]
    if None in sizes or moving == sorted(moving) or not _only_linear(call, call.node):
        return None
    positions = np.arange(np.prod(sizes)).reshape(sizes).transpose([axis - 1 for axis in value.order[1:]])
    tensor = call.layer(layers.Flatten, value.tensor)
    return Value(tensor, call.shape, (0, 1), value.nonnegative, features=positions.reshape(-1))


def _only_linear(call: Call, node: torch.fx.Node) -> bool:
    for user in node.users:
        if user.target is aten.linear.default:
            weight = call.conversion.values.get(user.args[1])
            if user.args[0] is not node or not isinstance(weight, Constant):
                return False
        elif user.target not in _ELEMENTWISE or not _only_linear(call, user):
            return False
    return bool(node.users)
