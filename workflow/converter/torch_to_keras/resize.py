"""Resizing, and the shuffles between channels and pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from keras import layers

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import channels_last_tensor, permuted, view
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import KerasTensor, Value, channels_last, keras_shape, magnitude, same, static

_UPSAMPLING = {1: layers.UpSampling1D, 2: layers.UpSampling2D, 3: layers.UpSampling3D}
_NAMES = (
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d",
    "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
)  # fmt: skip


@converts(*(f"{name}.{overload}" for name in _NAMES for overload in ("vec", "default")))
def resize(call: Call, value: Value, *_: object) -> Value:
    """UpSampling for whole factors where Keras computes the same; else a fixed linear map along each axis."""
    rank = len(value.shape) - 2
    name = call.operator.split(".")[1]
    arguments = _arguments(call)
    factors = [_whole_factor(a, b) for a, b in zip(value.shape[2:], call.shape[2:], strict=True)]
    tensor = channels_last_tensor(call, value)
    scales = _scales(arguments, rank)
    exact = all(s is None or (f is not None and s == f) for s, f in zip(scales, factors, strict=True))
    if None not in factors and exact and max(factors) == 1 and "cubic" not in name:
        return value
    if None not in factors and exact and name.startswith(("upsample_nearest", "_upsample_nearest_exact")):
        size = factors[0] if rank == 1 else tuple(factors)
        tensor = call.layer(_UPSAMPLING[rank], tensor, size=size)
    elif None not in factors and exact and name == "upsample_bilinear2d" and not arguments["align_corners"]:
        tensor = call.layer(layers.UpSampling2D, tensor, size=tuple(factors), interpolation="bilinear")
    else:
        tensor = _by_matrices(call, value, tensor, arguments)
    return call.value(tensor, channels_last(rank + 2), nonnegative=value.nonnegative and "cubic" not in name)


def _arguments(call: Call) -> dict[str, Any]:
    schema = call.node.target._schema.arguments
    given = dict(zip((argument.name for argument in schema), call.node.args, strict=False)) | dict(call.node.kwargs)
    return {
        argument.name: call.conversion.resolve(given.get(argument.name, argument.default_value)) for argument in schema
    }


def _scales(arguments: dict[str, Any], rank: int) -> list[float | None]:
    """The factors as the program gives them: PyTorch computes positions by them, not by the sizes."""
    if "scale_factors" in arguments:
        return list(arguments["scale_factors"] or [None] * rank)
    return [scale for name, scale in arguments.items() if name.startswith("scales")]


def _whole_factor(old: Any, new: Any) -> int | None:
    factor = magnitude(new) // magnitude(old)
    return factor if factor >= 1 and same(old * factor, new) else None


def _by_matrices(call: Call, value: Value, tensor: KerasTensor, arguments: dict[str, Any]) -> KerasTensor:
    """EinsumDense layers with fixed kernels, one per axis: every kind of resizing is linear and separable."""
    rank = len(value.shape) - 2
    shape = [static(dim) for dim in value.shape[2:]]
    if None in shape or None in [static(dim) for dim in call.shape[2:]]:
        raise call.unsupported("resizing by a factor that is not whole needs an input of known size")
    letters = "nhwdc"[: rank + 1] + "c"
    for axis in range(rank):
        new = static(call.shape[axis + 2])
        matrix = _matrix(call, arguments, axis, rank, shape[axis], new)
        if np.array_equal(matrix, np.eye(shape[axis])):
            continue
        letter = letters[axis + 1]
        shape[axis] = new
        tensor = call.layer(
            layers.EinsumDense,
            tensor,
            equation=f"{letters},{letter}p->{letters.replace(letter, 'p')}",
            output_shape=keras_shape((*shape, value.shape[1])),
            weights=[matrix.astype(call.dtype)],
            trainable=False,
            name=call.name("resize"),
        )
    return tensor


def _matrix(call: Call, arguments: dict[str, Any], axis: int, rank: int, old: int, new: int) -> np.ndarray:
    """(old, new): what PyTorch's own operator makes, along `axis`, of each of the `old` unit vectors."""
    # Other axes of size 1 would look channels-last: torch 2.13's antialiased kernels then answer wrongly.
    shape, size = [2] * rank, [2] * rank
    shape[axis], size[axis] = old, new
    unit = torch.eye(old).reshape(1, old, *(old if i == axis else 1 for i in range(rank)))
    own = dict(arguments) | {"input": unit.expand(1, old, *shape).contiguous(), "output_size": size}
    own.pop("self", None)
    scales = [s if i == axis else None for i, s in enumerate(_scales(arguments, rank))]
    target = call.node.target
    if "scale_factors" in own:
        # With both PyTorch refuses; the overload with explicit sizes takes the factors beside them.
        target = getattr(torch.ops.aten, call.operator.split(".")[1]).default
        del own["scale_factors"]
    names = [argument.name for argument in target._schema.arguments]
    own |= dict(zip([name for name in names if name.startswith("scales")], scales, strict=True))
    result = target(*[own["input"] if name == "self" else own[name] for name in names])
    return result[(0, slice(None), *(slice(None) if i == axis else 0 for i in range(rank)))].numpy()


@converts("pixel_shuffle.default")
def pixel_shuffle(call: Call, value: Value, factor: int) -> Value:
    """(N, C * r * r, H, W) to (N, C, H * r, W * r)."""
    n, channels, height, width = value.shape
    split = view(call, value, (n, static(channels) // factor**2, factor, factor, height, width))
    return view(call, permuted(split, (0, 1, 4, 2, 5, 3)), call.shape)


@converts("pixel_unshuffle.default")
def pixel_unshuffle(call: Call, value: Value, factor: int) -> Value:
    """(N, C, H * f, W * f) to (N, C * f * f, H, W)."""
    n, channels, height, width = value.shape
    split = view(call, value, (n, channels, height // factor, factor, width // factor, factor))
    return view(call, permuted(split, (0, 1, 3, 5, 2, 4)), call.shape)


@converts("channel_shuffle.default")
def channel_shuffle(call: Call, value: Value, groups: int) -> Value:
    """Channels of `groups` groups, taken from each group in turn."""
    n, channels, *rest = value.shape
    split = view(call, value, (n, groups, static(channels) // groups, *rest))
    return view(call, permuted(split, (0, 2, 1, *range(3, len(split.shape)))), call.shape)
