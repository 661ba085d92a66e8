"""Matrix products: Dense where one factor is a parameter, einsum in whatever order the axes are stored elsewhere."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from converter.torch_to_keras.arithmetic import total
from converter.torch_to_keras.call import Call
from converter.torch_to_keras.layout import axis_last, permuted, torch_tensor, view
from converter.torch_to_keras.materialize import materialize
from converter.torch_to_keras.pending import Pending, carried_out, lazily_viewed, on_last_axis
from converter.torch_to_keras.registry import converts
from converter.torch_to_keras.values import Constant, Value, same, same_shape

__all__ = ["dense", "product"]


def dense(call: Call, value: Value, kernel: np.ndarray, bias: Constant | None, name: str | None, axis: int) -> Value:
    """value's PyTorch `axis` times kernel (in, out), plus bias; the result has that axis last in storage."""
    if value.features is not None:
        kernel = kernel[value.features]
    value = axis_last(call, value, axis)
    tensor = call.layer(
        layers.Dense,
        value.tensor,
        units=kernel.shape[1],
        use_bias=bias is not None,
        weights=[kernel, *([] if bias is None else [bias.numpy])],
        parameters=[name, bias and bias.name],
    )
    axis %= len(value.shape)
    return Value(tensor, (*value.shape[:axis], kernel.shape[1], *value.shape[axis + 1 :]), value.order)


@converts("linear.default", lazy=True)
def linear(
    call: Call, value: Value | Pending, weight: Value | Constant, bias: Value | Constant | None
) -> Value | Pending:
    if isinstance(value, Constant):
        value = materialize(call, value)
    if not isinstance(weight, Constant) or not isinstance(bias, Constant | None):
        return _of_tensors(call, carried_out(call, value), weight, bias)

    def along_last_axis(tensor: Value) -> Value:
        return dense(call, tensor, weight.numpy.T, bias, weight.name, -1)

    if isinstance(value, Pending) and value.merges:
        result = on_last_axis(call, value, along_last_axis)
        if result is not None and _is_taken_apart(call, result):
            return result
    value = carried_out(call, value)
    if len(value.shape) == 1:
        return view(call, along_last_axis(view(call, value, (1, *value.shape))), call.shape)
    return along_last_axis(value)


def _is_taken_apart(call: Call, result: Pending) -> bool:
    """Whether the views that follow undo what was merged, so that it never need be carried out."""
    for user in call.node.users:
        shape = getattr(user.meta.get("val"), "shape", None)
        if not str(user.target).startswith(("aten.view.", "aten.reshape.", "aten.unflatten.", "aten._unsafe_view.")):
            return False
        viewed = lazily_viewed(call, result, shape)
        if isinstance(viewed, Pending) and viewed.merges:
            return False
    return True


@converts("addmm.default")
def addmm(call: Call, bias: Constant, value: Value, weight: Constant) -> Value:
    """What Linear is in a program that was decomposed before."""
    scales = {call.option("alpha", 1), call.option("beta", 1)}
    layer = isinstance(weight, Constant) and isinstance(bias, Constant) and isinstance(value, Value)
    if scales != {1} or not layer or bias.array.dim() != 1:
        return _weighted(call, bias, value, weight)
    return dense(call, value, weight.numpy, bias, bias.name, -1)


@converts("matmul.default", "mm.default", "bmm.default", "mv.default", "dot.default")
def matmul(call: Call, a: Value | Constant, b: Value | Constant) -> Value:
    if isinstance(b, Constant) and b.array.dim() == 2 and len(a.shape) > 1:
        return dense(call, a, b.numpy, None, b.name, -1)
    if isinstance(a, Constant) and a.array.dim() == 2 and len(b.shape) > 1:
        return dense(call, b, a.numpy.T, None, a.name, -2)
    if isinstance(a, Value) and isinstance(b, Value):
        return product(call, a, b)
    tensors = [torch_tensor(call, x) if isinstance(x, Value) else _matrices(x) for x in (a, b)]
    return call.value(call.op(keras.ops.matmul, *tensors))


def _matrices(constant: Constant) -> np.ndarray:
    """Its array with all axes: one number may stand for many equal ones, of a batch whose size varies."""
    if constant.array.dim() == len(constant.shape):
        return constant.numpy
    sizes = [size if isinstance(size, int) else 1 for size in constant.shape]
    return np.ascontiguousarray(np.broadcast_to(constant.numpy, sizes))


@converts("baddbmm.default")
def baddbmm(call: Call, bias: Value | Constant, a: Value, b: Value) -> Value:
    return _weighted(call, bias, a, b)


def _weighted(call: Call, bias: Value | Constant, a: Value | Constant, b: Value | Constant) -> Value:
    """beta * bias + alpha * (a @ b); where beta is 0, whatever bias holds."""
    alpha, beta = call.option("alpha", 1), call.option("beta", 1)
    result = product(call, materialize(call, a), materialize(call, b))
    if alpha != 1:
        result = result.like(call.op(keras.ops.multiply, result.tensor, alpha))
    if beta == 0:
        return result
    bias = materialize(call, bias)
    if beta != 1:
        bias = bias.like(call.op(keras.ops.multiply, bias.tensor, beta))
    return total(call, bias, result)


def _of_tensors(call: Call, value: Value, weight: Value | Constant, bias: Value | Constant | None) -> Value:
    """What Linear does with weights that depend on the inputs."""
    turned = permuted(materialize(call, weight), (1, 0))
    tensor = call.op(keras.ops.matmul, torch_tensor(call, value), torch_tensor(call, turned))
    result = call.value(tensor)
    return result if bias is None else total(call, result, materialize(call, bias))


def product(call: Call, a: Value, b: Value) -> Value:
    """Two tensors' matrix product: Dot for (N, i, k) and (N, k, j), else an einsum that permutes nothing beforehand."""
    rank = len(a.shape)
    if rank < 2 or len(b.shape) != rank or not same_shape(a.shape[:-2], b.shape[:-2]):
        return call.value(call.op(keras.ops.matmul, torch_tensor(call, a), torch_tensor(call, b)))
    if rank == 3 and a.order[0] == b.order[0] == 0 and same(a.shape[0], b.shape[0]):
        tensor = call.layer(layers.Dot, [a.tensor, b.tensor], axes=(a.axis(2), b.axis(1)))
        return call.value(tensor)
    letters = "abcdefgh"[: rank - 2]
    left = [*letters, "i", "k"]
    right = [*letters, "k", "j"]
    equation = "{},{}->{}".format(
        "".join(left[axis] for axis in a.order),
        "".join(right[axis] for axis in b.order),
        "".join([*letters, "i", "j"]),
    )
    return call.value(call.op(keras.ops.einsum, equation, a.tensor, b.tensor))


@converts("einsum.default")
def einsum(call: Call, equation: str, operands: list[Value | Constant], path: object = None) -> Value:
    inputs, _, output = equation.replace(" ", "").partition("->")
    terms, tensors = [], []
    for term, operand in zip(inputs.split(","), operands, strict=True):
        order = operand.order if isinstance(operand, Value) else range(operand.array.dim())
        terms.append("".join(term[axis] for axis in order))
        tensors.append(operand.tensor if isinstance(operand, Value) else operand.numpy)
    kernel = operands[-1]
    if len(operands) == 2 and isinstance(operands[0], Value) and isinstance(kernel, Constant) and output:
        stored = operands[0]
        batch = terms[0][0]
        if output[0] == batch and batch not in terms[1] and terms[0].count(batch) == 1:
            tensor = call.layer(
                layers.EinsumDense,
                stored.tensor,
                equation=f"{','.join(terms)}->{output}",
                output_shape=tuple(dim if isinstance(dim, int) else None for dim in call.shape[1:]),
                weights=[tensors[1]],
                parameters=[kernel.name],
                trainable=kernel.trainable,
            )
            return call.value(tensor)
    return call.value(call.op(keras.ops.einsum, f"{','.join(terms)}->{output}", *tensors))
