"""The operators and intermediate values of a PyTorch hub's TorchScript module."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from converter.divergence.computation import Computation, Operator
from converter.hub.hub import Hub
from converter.torch.program.flat import flat_outputs, to_arrays, to_tensors
from converter.torch.program.hub_program import read_script
from converter.torch.program.script_graph import ScriptGraphModule, location

__all__ = ["ScriptComputation"]

_AT_ONCE = 64  # tensors in memory together


class ScriptComputation(Computation):
    """Tensors are named as the graph's values, "x#3" in the third pass of a loop.

    Branches and loops are followed as the sample takes them.
    """

    def __init__(self, hub: Hub, arrays: Sequence[np.ndarray]) -> None:
        """Raises UnsupportedError where the graph cannot be followed operator by operator."""
        self._module = _Recorder(read_script(hub).eval())
        self.inputs = [spec.name for spec in hub.inputs]
        self._arrays = list(arrays)
        self.operators, self.outputs = self._module.record(self.inputs, to_tensors(arrays), lambda name, value: None)

    def values(self, arrays: Sequence[np.ndarray], names: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
        """See `Computation.values`; the script is run again for some tensors at a time."""
        yield from ((name, array) for name, array in zip(self.inputs, arrays, strict=True) if name in set(names))
        wanted = [name for name in names if name not in self.inputs]
        for start in range(0, len(wanted), _AT_ONCE):
            chunk = set(wanted[start : start + _AT_ONCE])
            found: dict[str, np.ndarray] = {}

            def keep(name: str, value: torch.Tensor, chunk: set = chunk, found: dict = found) -> None:
                if name in chunk and not value.is_quantized:
                    found[name] = np.array(to_arrays([value])[0])  # a copy: later operators may write into it

            self._module.record(self.inputs, to_tensors(arrays), keep)
            yield from found.items()


class _Recorder(ScriptGraphModule):
    """Notes what each operator read and made, by the identity of the tensors."""

    def record(
        self, inputs: Sequence[str], tensors: Sequence[torch.Tensor], keep: Callable[[str, torch.Tensor], None]
    ) -> tuple[list[Operator], list[str]]:
        """The operators in order of execution, and the names of the outputs; `keep` sees each tensor once it is made."""
        self._operators: list[Operator] = []
        self._made = {id(tensor): name for name, tensor in zip(inputs, tensors, strict=True)}
        self._weights = {id(value): name for name, value in [*self.named_parameters(), *self.named_buffers()]}
        self._counts: dict[str, int] = {}
        self._keep = keep
        with torch.no_grad():
            result = self(*tensors)
        outputs = [self._made.get(id(tensor), "") for tensor in flat_outputs(result)[1]]
        return self._operators, outputs

    def _node(self, node: Any, inputs: list, values: dict[str, object]) -> object:
        result = super()._node(node, inputs, values)
        kind = node.kind().replace("::", ".")
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        if not made or not kind.startswith("aten."):
            return result  # what only hands tensors on
        read = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
        sources = tuple(dict.fromkeys(self._made[id(leaf)] for leaf in read if id(leaf) in self._made))
        names = []
        for output in node.outputs():
            base = output.debugName()
            self._counts[base] = self._counts.get(base, 0) + 1
            names.append(base if self._counts[base] == 1 else f"{base}#{self._counts[base]}")
        names = names if len(names) == len(made) else [f"{names[0]}.{index}" for index in range(len(made))]
        for name, leaf in zip(names, made, strict=True):
            self._made[id(leaf)] = name
            self._weights.pop(id(leaf), None)
            self._keep(name, leaf)
        owners = [self._weights[id(leaf)].rpartition(".")[0] for leaf in read if id(leaf) in self._weights]
        scope = node.scopeName().rpartition("__module.")[2]
        layer = next(filter(None, [*owners, scope]), None)
        self._operators.append(Operator(kind, sources, tuple(names), layer, location(node)))
        return result
