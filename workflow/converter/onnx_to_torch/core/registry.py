"""Which function computes an operator, and what it is given: one file of operators/ for each family registers its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnx
import torch

from converter.errors import UnsupportedError
from converter.onnx_to_torch.core.values import Known, Value, to_torch

if TYPE_CHECKING:
    from converter.onnx_to_torch.module import Frame

__all__ = ["Call", "Handler", "find", "find_on_sizes", "on_sizes", "operator", "supported"]

Handler = Callable[["Call"], "Value | tuple[Value, ...]"]
SizesHandler = Callable[["Call", list[np.ndarray]], "np.ndarray | Known | tuple[np.ndarray | Known, ...] | None"]
_AnyHandler = TypeVar("_AnyHandler", bound=Handler)

_HANDLERS: dict[tuple[str, str], Handler] = {}
_ON_SIZES: dict[tuple[str, str], SizesHandler] = {}


def operator(*names: str, domain: str = "") -> Callable[[_AnyHandler], _AnyHandler]:
    """Registers the function that computes operators of these names; of all opsets from 7 on (`call.opset`)."""

    def register(handler: _AnyHandler) -> _AnyHandler:
        for name in names:
            assert (domain, name) not in _HANDLERS, name
            _HANDLERS[domain, name] = handler
        return handler

    return register


def on_sizes(*names: str) -> Callable[[SizesHandler], SizesHandler]:
    """Registers what computes such an operator where all its inputs are known: of numpy arrays, some of torch.SymInt.

    Its None stands for what only the ordinary function computes; a tuple for several outputs.
    """

    def register(handler: SizesHandler) -> SizesHandler:
        _ON_SIZES.update({("", name): handler for name in names})
        return handler

    return register


def find(domain: str, name: str) -> Handler | None:
    """What computes it; None where nothing does."""
    return _HANDLERS.get((domain, name))


def find_on_sizes(domain: str, name: str) -> SizesHandler | None:
    """What computes it of known values; None where nothing does."""
    return _ON_SIZES.get((domain, name))


def supported() -> set[tuple[str, str]]:
    """Domains and names of all operators that have a function of their own."""
    return set(_HANDLERS)


class Call:
    """One node that is about to be computed. inputs: None for those left out. opset: the version of the node's domain."""

    def __init__(self, frame: Frame, node: onnx.NodeProto, inputs: Sequence[Value], opset: int) -> None:
        self.frame, self.node, self.inputs, self.opset = frame, node, list(inputs), opset
        self._attributes = {entry.name: entry for entry in node.attribute}

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def outputs_asked(self) -> int:
        """How many outputs the node names; those with an empty name count up to the last that has one."""
        return len(self.node.output)

    def wants(self, position: int) -> bool:
        """Whether something may read that output."""
        return position < len(self.node.output) and bool(self.node.output[position])

    def has(self, position: int) -> bool:
        """Whether that input is given."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def attribute(self, name: str, default: Any = None) -> Any:
        """A number, text, list, numpy array (tensors) or GraphProto; the default where the node does not say."""
        entry = self._attributes.get(name)
        if entry is None:
            return default
        value = onnx.helper.get_attribute_value(entry)
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, onnx.TensorProto):
            return onnx.numpy_helper.to_array(value)
        if isinstance(value, list) and value and isinstance(value[0], bytes):
            return [text.decode() for text in value]
        return list(value) if entry.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value

    def tensor(self, position: int) -> torch.Tensor:
        """That input as a tensor."""
        value = self.inputs[position] if position < len(self.inputs) else None
        if value is None:
            raise self.refusal(f"has no input {position}")
        return self.frame.module.tensor(value)

    def tensors(self) -> list[torch.Tensor]:
        """All inputs that are given."""
        return [self.tensor(position) for position in range(len(self)) if self.has(position)]

    def optional(self, position: int) -> torch.Tensor | None:
        """That input as a tensor; None where it is left out."""
        return self.tensor(position) if self.has(position) else None

    def known(self, position: int) -> np.ndarray | None:
        """The values of that input, where they are known before the model runs and are no sizes that may vary; else None."""
        value = self.inputs[position] if self.has(position) else None
        return value.array if isinstance(value, Known) and not value.symbolic else None

    def ints(self, position: int) -> list[Any] | None:
        """That input as whole numbers, some of them torch.SymInt; None where it is left out.

        Numbers that only the data tell become sizes that nobody knows before, as in torch.
        """
        if not self.has(position):
            return None
        value = self.inputs[position]
        if isinstance(value, Known):
            return [_plain(number) for number in value.array.reshape(-1)]
        assert isinstance(value, torch.Tensor)
        return [number.item() for number in value.reshape(-1).unbind()]

    def int(self, position: int) -> Any:
        """That input as one whole number; None where it is left out."""
        found = self.ints(position)
        return found[0] if found else None

    def graph(self, name: str, inputs: Sequence[Value], instead: Mapping[str, Value] | None = None) -> list[Value]:
        """Run the graph in that attribute, within this one. instead: of values of the graphs around it, by name."""
        return self.frame.run_inner(self.attribute(name), inputs, (*self.node.output, name), instead)

    def constant(self, array: np.ndarray) -> Known:
        """A value that is the same for all inputs."""
        return Known(array, array.dtype, True, self.node.output[0])

    def derived(self, name: str, make: Callable[[], np.ndarray]) -> torch.Tensor:
        """A parameter that is made of constant inputs, once for the module; it is called so within the node's own name."""
        given: list[Value] = [value for value in self.inputs if isinstance(value, Known) and value.constant]
        place = (*self.frame.place, *self.node.output, name, *map(id, given))
        folded = self.frame.module._folded
        if place not in folded:
            array = make()
            prefix = (self.node.name or self.node.op_type).strip("/.")
            known = Known(array, array.dtype, True, f"{prefix}.{name}")
            folded[place] = (given, (known,))
        return self.frame.module.tensor(folded[place][1][0])

    def sizes(self, array: object) -> Known:
        """Whole numbers (int64), some of them torch.SymInt."""
        return known_sizes(np.array(array, object))

    def refusal(self, why: str) -> UnsupportedError:
        """What to raise. why: "has ...", "needs ...": what follows the operator's name."""
        name = f" {self.node.name}" if self.node.name else ""
        domain = f" of domain {self.node.domain}" if self.node.domain else ""
        return UnsupportedError(f"the ONNX operator {self.node.op_type}{domain}{name} {why}")


def known_sizes(array: np.ndarray, dtype: np.dtype | None = None, *, constant: bool = False) -> Known:
    """Of an array of objects: as plain numbers where none of them is symbolic."""
    if not isinstance(array, np.ndarray):  # what numpy makes of objects without axes
        array = np.array(array, object)
    dtype = np.dtype(np.int64) if dtype is None else dtype
    if array.dtype == object and not any(
        isinstance(x, torch.SymInt | torch.SymFloat | torch.SymBool) for x in array.flat
    ):
        array = array.astype(dtype)
    return Known(array, dtype, constant)


def _plain(number: Any) -> Any:
    return number.item() if isinstance(number, np.generic) else number


def as_tensor(value: Known) -> torch.Tensor:
    """Its values as a tensor; those that may vary are read where the tensor is made."""
    if not value.symbolic:
        return to_torch(value.array)
    dtype = to_torch(np.zeros(0, value.dtype)).dtype
    parts = [torch.scalar_tensor(_plain(x), dtype=dtype) for x in value.array.reshape(-1)]
    if not parts:
        return torch.zeros(value.array.shape, dtype=dtype)
    return (torch.stack(parts) if value.array.ndim else parts[0]).reshape(value.array.shape)
