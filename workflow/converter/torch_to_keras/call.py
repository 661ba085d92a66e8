"""One operator of the program while it is converted: what its converter asks for, and what it adds to the Keras model."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from converter.errors import UnsupportedError
from converter.torch_to_keras.naming import innermost_module, module_path, source_line
from converter.torch_to_keras.values import Dim, KerasTensor, Value

if TYPE_CHECKING:
    import torch

    from converter.torch_to_keras.build import Conversion

__all__ = ["Call", "ConstantsOnly"]

_FLOATS = ("float16", "bfloat16", "float64")


class ConstantsOnly(Exception):
    """A function of keras.ops was given arrays alone, so that its result is no tensor of the model."""


class Call:
    """A node of the program. `shape` and `dtype` are those of its (first) result, in PyTorch's terms."""

    def __init__(self, conversion: Conversion, node: torch.fx.Node) -> None:
        self.conversion = conversion
        self.node = node
        self.result = node.meta.get("val")
        first = self.result[0] if isinstance(self.result, tuple | list) and len(self.result) else self.result
        self.shape: tuple[Dim, ...] = tuple(getattr(first, "shape", ()))
        self.dtype = str(getattr(first, "dtype", "")).removeprefix("torch.")
        self.layers_only = conversion.layers_only

    # -- what the program says --------------------------------------------------------------------------------------

    @property
    def operator(self) -> str:
        """The name of the operator, such as "aten.add.Tensor"."""
        return str(self.node.target)

    @property
    def is_float(self) -> bool:
        """Whether the result is of floating point."""
        return "float" in self.dtype

    def option(self, name: str, default: Any = None) -> Any:
        """A keyword-only argument."""
        return self.conversion.resolve(self.node.kwargs[name]) if name in self.node.kwargs else default

    def uses(self, index: int) -> bool:
        """Whether anything reads the index-th of several results."""
        return any(user.args[1] == index and user.users for user in self.node.users if user.target is operator.getitem)

    def unsupported(self, reason: str) -> UnsupportedError:
        """The error that names this operator, where the source calls it, and the reason."""
        return UnsupportedError(f"{self.operator} {source_line(self.node)} cannot become Keras layers: {reason}")

    # -- what it adds to the model ----------------------------------------------------------------------------------

    def name(self, kind: str, parameter: str | None = None) -> str:
        """A unique name after the module that owns `parameter`, else after the module that made the call and `kind`."""
        if parameter is not None and "." in parameter:
            return self.conversion.names.unique(parameter.rpartition(".")[0])
        path, module = innermost_module(self.node)
        of_module = module.startswith("torch.nn.modules.") and kind == module.rpartition(".")[2].lower()
        return self.conversion.names.unique(path if path and of_module else f"{path}_{kind}")

    def layer(
        self,
        cls: Any,
        *inputs: KerasTensor | list[KerasTensor],
        weights: Sequence[np.ndarray] = (),
        parameters: Sequence[str | None] = (),
        name: str | None = None,
        trainable: bool = True,
        call: dict | None = None,
        **config: Any,
    ) -> KerasTensor:
        """Add a layer, call it and return its output.

        inputs: Keras tensors, one list for a merging layer. weights: in the order of the layer's `weights`.
        parameters: their names in the program: the layer is named after them, and a module that the program calls twice
        becomes one layer that is called twice. call: keyword arguments of the layer's call.
        """
        first = inputs[0][0] if isinstance(inputs[0], list) else inputs[0]
        if "dtype" not in config and first.dtype in _FLOATS:
            config["dtype"] = first.dtype
        named = [parameter for parameter in parameters if parameter]
        key = (cls, tuple(named), repr(sorted(config.items()))) if named else None
        shared, same_weights = self.conversion.shared_layers.get(key, (None, ()))
        if shared is not None and all(map(np.array_equal, weights, same_weights)):
            return shared(*inputs, **(call or {}))
        name = name or self.name(cls.__name__.lower(), named[0] if named else None)
        layer = cls(name=name, **config)
        if not trainable:  # set here: not all constructors take it (SpatialDropout2D, Keras 3.15)
            layer.trainable = False
        self.conversion.known.add(layer)
        if key is not None:
            self.conversion.shared_layers[key] = (layer, weights)
        output = layer(*inputs, **(call or {}))
        if len(weights):
            self._set_weights(layer, weights)
        return output

    def _set_weights(self, layer: Any, weights: Sequence[np.ndarray]) -> None:
        if [tuple(v.shape) for v in layer.weights] != [tuple(w.shape) for w in weights]:
            raise RuntimeError(
                f"layer {layer.name} has weights {[tuple(v.shape) for v in layer.weights]}, "
                f"the program {[tuple(w.shape) for w in weights]}"
            )
        for variable, weight in zip(layer.weights, weights, strict=True):
            variable.assign(weight)

    def op(self, function: Callable, *args: Any, **kwargs: Any) -> KerasTensor:
        """Apply a function of keras.ops (or an indexing) to Keras tensors.

        Raises UnsupportedError where the file can hold layers only, ConstantsOnly where no argument is a tensor.
        """
        kind = function.__name__
        if self.layers_only:
            raise UnsupportedError(
                f"{self.operator} {source_line(self.node)} needs keras.ops.{kind}, which Keras cannot reopen from an "
                f"HDF5 file: convert to .keras instead"
            )
        if not any(isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten((args, kwargs))):
            raise ConstantsOnly
        outputs = function(*args, **kwargs)
        path = module_path(self.node)
        for output in keras.tree.flatten(outputs):
            self._rename(output, f"{path}_{kind}")
        return outputs

    def _rename(self, output: KerasTensor, name: str) -> None:
        """Give the operations behind `output` that Keras named by its process-wide counters names of this model."""
        pending = [output]
        while pending:
            operation = pending.pop()._keras_history.operation
            if operation in self.conversion.known:
                continue
            self.conversion.known.add(operation)
            operation.name = self.conversion.names.unique(name)
            pending += [tensor for node in operation._inbound_nodes for tensor in node.input_tensors]

    def value(self, tensor: KerasTensor, order: Sequence[int] | None = None, **properties: Any) -> Value:
        """A result of the call's shape; `order` defaults to PyTorch's."""
        rank = len(self.shape)
        return Value(tensor, self.shape, tuple(range(rank)) if order is None else tuple(order), **properties)
