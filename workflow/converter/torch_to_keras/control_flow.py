"""torch.cond and while_loop, for TensorFlow Lite alone: Keras files hold no graphs within their graph.

Each graph of the program becomes a Keras model of its own, whose inputs are the tensors that the operator hands to it; what
is known before the model runs, as weights are, stays within. TensorFlow makes If and While of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch

from converter.torch_to_keras.call import Call
from converter.torch_to_keras.positions import plain
from converter.torch_to_keras.registry import converts_operator
from converter.torch_to_keras.values import Constant, KerasTensor, Value, keras_shape

_Given = Value | Constant | int | float | bool


@converts_operator(torch.ops.higher_order.cond)
def cond(
    call: Call,
    predicate: _Given,
    true: torch.fx.GraphModule,
    false: torch.fx.GraphModule,
    operands: Sequence[_Given],
) -> tuple[Value, ...]:
    """The results of the side that a truth value chooses."""
    _check(call)
    if not isinstance(predicate, Value | Constant):
        raise call.unsupported("a size decides which side is taken: give its input a fixed size, or keep it a tensor")
    given = [plain(call, operand) for operand in operands if isinstance(operand, Value)]
    chosen = plain(call, predicate)
    # The truth value is an input of both, so that each has one.
    sides = [call.conversion.part(call, side, [predicate, *operands], inputs=1, leading=1) for side in (true, false)]
    return _results(call, call.op(choice, chosen, sides, _specs(call), given))


@converts_operator(torch.ops.higher_order.while_loop)
def while_loop(
    call: Call,
    condition: torch.fx.GraphModule,
    body: torch.fx.GraphModule,
    carried: Sequence[_Given],
    others: Sequence[_Given],
) -> tuple[Value, ...]:
    """What is carried from round to round, once the condition no longer holds."""
    _check(call)
    tensors = [value for value in carried if isinstance(value, Value | Constant)]
    if len(tensors) < len(carried):
        raise call.unsupported("it carries a plain number from round to round: make it a tensor")
    given = [plain(call, value) for value in others if isinstance(value, Value)]
    only = not given and not any(isinstance(value, Value) for value in carried)
    starts = [
        value.numpy if isinstance(value, Constant) and value.is_whole and not only else plain(call, value)
        for value in tensors
    ]
    graphs = [
        call.conversion.part(call, graph, [*carried, *others], inputs=len(carried)) for graph in (condition, body)
    ]
    return _results(call, call.op(loop, starts, graphs, _specs(call), given))


def _check(call: Call) -> None:
    if not call.conversion.for_tensorflow:
        raise call.unsupported("Keras files hold no graphs within their graph; ask for .tflite or .onnx")
    if not all(isinstance(result, torch.Tensor) for result in call.result or ()):
        raise call.unsupported("one of its results is a plain number: make it a tensor")


def _specs(call: Call) -> list[tuple[tuple[int | None, ...], str]]:
    results: Any = call.result
    return [(keras_shape(result.shape), str(result.dtype).removeprefix("torch.")) for result in results]


def _results(call: Call, tensors: Sequence[KerasTensor]) -> tuple[Value, ...]:
    results: Any = call.result
    return tuple(
        Value(tensor, tuple(result.shape), tuple(range(len(result.shape))))
        for tensor, result in zip(tensors, results, strict=True)
    )


def choice(
    predicate: KerasTensor, sides: Sequence[keras.Model], specs: Sequence[tuple], given: Sequence[KerasTensor]
) -> list[KerasTensor]:
    """Results of the first of two models where `predicate` is true, else of the second: of `predicate` and `given`."""
    return _Choice(sides, specs)(predicate, *given)


def loop(
    starts: Sequence[KerasTensor | np.ndarray],
    graphs: Sequence[keras.Model],
    specs: Sequence[tuple],
    given: Sequence[KerasTensor],
) -> list[KerasTensor]:
    """What is carried, through the second of two models as long as the first gives true: of `starts` and `given`."""
    constants = {place: start for place, start in enumerate(starts) if isinstance(start, np.ndarray)}
    tensors = [start for start in starts if not isinstance(start, np.ndarray)]
    return _Loop(graphs, specs, constants)(*tensors, *given)


class _Graphs(keras.Operation):
    """An operation that runs Keras models; `specs`: shape and dtype of each of its results."""

    def __init__(self, models: Sequence[keras.Model], specs: Sequence[tuple]) -> None:
        super().__init__()
        self._models, self._specs = list(models), list(specs)

    def compute_output_spec(self, *tensors: KerasTensor) -> list[KerasTensor]:
        return [keras.KerasTensor(shape, dtype) for shape, dtype in self._specs]

    def run(self, index: int, tensors: Sequence[Any]) -> list[Any]:
        return keras.tree.flatten(self._models[index](list(tensors), training=False))

    def shaped(self, results: Sequence[Any]) -> list[Any]:
        for tensor, (shape, _) in zip(results, self._specs, strict=True):
            tensor.set_shape(shape)
        return list(results)


class _Choice(_Graphs):
    def call(self, predicate: Any, *tensors: Any) -> list[Any]:
        given = [predicate, *tensors]
        chosen = tf.reshape(predicate, ())
        return self.shaped(tf.cond(chosen, lambda: self.run(0, given), lambda: self.run(1, given)))


class _Loop(_Graphs):
    def __init__(
        self, models: Sequence[keras.Model], specs: Sequence[tuple], constants: Mapping[int, np.ndarray]
    ) -> None:
        super().__init__(models, specs)
        self._constants = dict(constants)

    def call(self, *tensors: Any) -> list[Any]:
        rest = list(tensors)
        starts = [
            tf.constant(self._constants[place]) if place in self._constants else rest.pop(0)
            for place in range(len(self._specs))
        ]
        return tf.while_loop(
            lambda *carried: tf.reshape(self.run(0, [*carried, *rest])[0], ()),
            lambda *carried: self.shaped(self.run(1, [*carried, *rest])),
            starts,
            shape_invariants=[tf.TensorShape(shape) for shape, _ in self._specs],
        )
