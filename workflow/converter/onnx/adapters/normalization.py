"""Normalizations and matrix products."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from converter.onnx.core.registry import down, up
from converter.onnx.core.site import Site

_FLOAT = TensorProto.FLOAT


@up(9, "BatchNormalization")
def _per_channel(site: Site) -> None:
    if not site.pop("spatial", 1):
        raise site.obstacle("normalizes each element by statistics of its own")


@up(14, "BatchNormalization")
def _not_training(site: Site) -> None:
    if sum(bool(name) for name in site.node.output) > 1:
        raise site.obstacle("gives statistics of a training")


@down(15, "BatchNormalization")
def _statistics_of_one_type(site: Site) -> None:
    dtype = site.known_dtype(0)
    for position in range(1, 5):
        site.set_input(position, site.cast(site.input(position), dtype))
    if site.nodes:
        site.stay()


@down(14, "BatchNormalization")
def _no_training(site: Site) -> None:
    if site.attribute("training_mode", 0):
        raise site.refusal("with the attribute training_mode")
    del site.node.output[1:]


@down(11, "Gemm")
def _with_bias(site: Site) -> None:
    if not site.has(2):
        site.set_input(2, site.value(0, site.known_dtype(0), stem="zero"))


@down(17, "LayerNormalization")
def _normalized(site: Site) -> None:
    """By the variance around the mean: the operator's definition takes a difference of squares, which loses digits."""
    x, dtype = site.input(0), site.known_dtype(0)
    rank = site.known_rank(0)
    axes = list(range(site.attribute("axis", -1) % rank, rank))
    stash = site.attribute("stash_type", _FLOAT)
    stash = dtype if dtype == TensorProto.DOUBLE else stash
    mean_name, deviation_name = [*site.node.output, "", ""][1:3]
    x = site.cast(x, stash)
    mean = site.add("ReduceMean", [x], mean_name or None, axes=axes, keepdims=1, dtype=stash)
    centered = site.add("Sub", [x, mean], like=x)
    square = site.add("Mul", [centered, centered], like=x)
    variance = site.add("ReduceMean", [square], axes=axes, keepdims=1, dtype=stash)
    epsilon = site.value(site.attribute("epsilon", 1e-5), stash, stem="epsilon")
    deviation = site.add("Sqrt", [site.add("Add", [variance, epsilon], dtype=stash)], dtype=stash)
    if deviation_name:
        site.add("Reciprocal", [deviation], deviation_name)
    _scaled(site, site.add("Div", [centered, deviation], like=x), dtype)


@down(23, "RMSNormalization")
def _by_root_mean_square(site: Site) -> None:
    dtype, rank = site.known_dtype(0), site.known_rank(0)
    axes = site.value(list(range(site.attribute("axis", -1) % rank, rank)), stem="axes")
    stash = dtype if dtype == TensorProto.DOUBLE else site.attribute("stash_type", _FLOAT)
    x = site.cast(site.input(0), stash)
    mean = site.add("ReduceMean", [site.add("Mul", [x, x], like=x), axes], keepdims=1, dtype=stash)
    epsilon = site.value(site.attribute("epsilon", 1e-5), stash, stem="epsilon")
    root = site.add("Sqrt", [site.add("Add", [mean, epsilon], dtype=stash)], dtype=stash)
    _scaled(site, site.add("Div", [x, root], like=x), dtype)


def _scaled(site: Site, normalized: str, dtype: int) -> None:
    """By the scale, and with the bias where there is one, in the type of the scale."""
    kind = site.dtype(1) or dtype
    current, steps = site.cast(normalized, kind), [("Mul", site.input(1))]
    if site.has(2):
        steps.append(("Add", site.input(2)))
    output = site.node.output[0]
    if not output:
        return
    for position, (operator, other) in enumerate(steps):
        current = site.add(operator, [current, other], output if position == len(steps) - 1 else None, dtype=kind)


@up(21, "GroupNormalization")
def _scale_per_channel(site: Site) -> None:
    """Scale and bias were per group."""
    shape, groups = site.shape(0), site.attribute("num_groups")
    if shape is None or shape[1] is None:
        raise site.obstacle("of whose input the number of channels is not known")
    dtype = site.known_dtype(0)
    for position in (1, 2):
        column = site.add("Reshape", [site.input(position), site.value([groups, 1])], dtype=dtype)
        rows = site.add("Expand", [column, site.value([groups, shape[1] // groups])], dtype=dtype)
        site.set_input(position, site.add("Reshape", [rows, site.value([-1])], dtype=dtype))
    site.stay()


@down(21, "GroupNormalization")
def _group_by_group(site: Site) -> None:
    """By the normalization of instances, whose channels are groups here; scale and bias are per channel."""
    x, dtype, rank, groups = site.input(0), site.known_dtype(0), site.known_rank(0), site.attribute("num_groups")
    sizes = site.add("Shape", [x], dtype=TensorProto.INT64)
    grouped = site.add("Reshape", [site.cast(x, _FLOAT), site.value([0, groups, -1])], dtype=_FLOAT)
    plain = [site.value(np.full(groups, value), _FLOAT, stem="plain") for value in (1, 0)]
    epsilon = site.attribute("epsilon", 1e-5)
    normal = site.add("InstanceNormalization", [grouped, *plain], dtype=_FLOAT, epsilon=epsilon)
    current = site.cast(site.add("Reshape", [normal, sizes], dtype=_FLOAT), dtype)
    along = site.value([-1, *[1] * (rank - 2)], stem="shape")
    scale, bias = (site.add("Reshape", [site.input(position), along], dtype=dtype) for position in (1, 2))
    site.add("Add", [site.add("Mul", [current, scale], dtype=dtype), bias], site.node.output[0])


@down(20, "Gelu")
def _gelu(site: Site) -> None:
    """Of x * (1 + erf(x / sqrt(2))) / 2, which runtimes know, and of its approximation by tanh."""
    if site.boundary <= 9:
        raise site.refusal()
    x, dtype = site.input(0), site.known_dtype(0)

    def number(value: float) -> str:
        return site.value(value, dtype)

    if site.attribute("approximate", "none") == "none":
        inner = site.add("Erf", [site.add("Div", [x, number(math.sqrt(2))], like=x)], like=x)
    else:
        cube = site.add("Mul", [site.add("Mul", [x, x], like=x), x], like=x)
        sum_ = site.add("Add", [x, site.add("Mul", [cube, number(0.044715)], like=x)], like=x)
        inner = site.add("Tanh", [site.add("Mul", [sum_, number(math.sqrt(2 / math.pi))], like=x)], like=x)
    product = site.add("Mul", [x, site.add("Add", [inner, number(1)], like=x)], like=x)
    site.add("Mul", [product, number(0.5)], site.node.output[0])


@down(14, "HardSwish")
def _hard_swish(site: Site) -> None:
    x = site.input(0)
    gate = site.add("HardSigmoid", [x], like=x, alpha=float(np.float32(1 / 6)), beta=0.5)
    site.add("Mul", [x, gate], site.node.output[0])


@down(18, "Mish")
def _mish(site: Site) -> None:
    x = site.input(0)
    site.add("Mul", [x, site.add("Tanh", [site.add("Softplus", [x], like=x)], like=x)], site.node.output[0])
