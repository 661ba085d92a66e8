"""The probe of a traced PyTorch model: autograd by its parameters and buffers, and its operators watched as they run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from converter.evidence.probe import NoEvidence, Observation, projection, sample
from converter.hub.hub import Run
from converter.torch.extensions.exported_norms import scale_and_shift
from converter.torch.program.flat import flat_outputs, to_arrays, to_tensors

__all__ = ["TorchProbe"]

_aten = torch.ops.aten
_LOOKUPS = {_aten.embedding.default: 1, _aten.index_select.default: 2, _aten.index.Tensor: 1}
_ACTIVATIONS = {
    **dict.fromkeys((_aten.relu.default, _aten.relu_.default), "relu"),
    **dict.fromkeys((_aten.sigmoid.default, _aten.sigmoid_.default), "sigmoid"),
    **dict.fromkeys((_aten.tanh.default, _aten.tanh_.default), "tanh"),
}
_HARDTANH = (_aten.hardtanh.default, _aten.hardtanh_.default)
_CONVOLUTIONS = (_aten.convolution.default, _aten.mkldnn_convolution.default)
_PRODUCTS = {_aten.mm.default: 0, _aten.bmm.default: 0, _aten.addmm.default: 1, _aten.baddbmm.default: 1}
_NORMALIZATIONS = (_aten.batch_norm.default, torch.batch_norm, torch.nn.functional.batch_norm)
# Looking at the whole of a weight in another form is no use of it by itself.
_VIEWS = (_aten.detach.default, _aten.alias.default)
# What an operator costs beside its multiplications, in multiplications: its start, and each value it writes.
_START, _VALUE = 5e5, 8.0


class TorchProbe:
    """See `probe.Probe`. `module`: takes the hub's inputs by position; its weights are restored after each change.

    prefix: of the weights' names, which a wrapper adds. Raises NoEvidence where there is nothing to differentiate.
    """

    def __init__(self, module: torch.nn.Module, prefix: str = "", mutated: Sequence[str] = ()) -> None:
        self._module = module
        self.limits: list[str] = []
        self.tables: dict[str, int] = {}
        self._otherwise: set[str] = set()
        named = [*module.named_parameters(), *module.named_buffers()]
        self._tensors = {
            name.removeprefix(prefix): tensor.detach() if not tensor.is_leaf else tensor
            for name, tensor in named
            if tensor.is_floating_point() and tensor.numel() and name not in mutated and tensor.is_leaf
        }
        if not self._tensors:
            raise NoEvidence("the model has no floating weights")
        self.weights: Mapping[str, np.ndarray] = {name: _as_array(tensor) for name, tensor in self._tensors.items()}
        self._inner = _before_whole_numbers(module) if isinstance(module, torch.fx.GraphModule) else set()
        if self._inner:
            self.limits.append("outputs of whole numbers count by the last floating tensors before them")
        if isinstance(module, torch.jit.ScriptModule) and _has_branches(module.inlined_graph.nodes()):
            self.limits.append("the sides of TorchScript's branches are not seen")

    def observe(self, run: Run, scales: Sequence[float], seed: int) -> Observation:
        """See `Probe.observe`."""
        watch = _Watch({tensor.data_ptr(): name for name, tensor in self._tensors.items()}, self._inner)
        gradients: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        with self._differentiable(gradients):
            with torch.enable_grad(), _DifferentiableNormalization(), watch:
                outputs = _run(self._module, to_tensors(run.inputs), watch)
            starts, signs = self._starts(outputs, watch, scales, seed)
            if starts:
                torch.autograd.backward(starts, signs)
        self._otherwise |= watch.otherwise
        for name in watch.rows:
            self.tables[name] = len(self.weights[name])
        for name in self._otherwise:
            self.tables.pop(name, None)
        rows = {name: np.concatenate(found) for name, found in watch.rows.items() if name in self.tables}
        return Observation(gradients, rows, watch.sides, watch.ranges, watch.work, watch.start)

    def _starts(
        self, outputs: Sequence[torch.Tensor], watch: _Watch, scales: Sequence[float], seed: int
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The tensors from which gradients start, and what they are projected by: outputs, and what others are made of."""
        pairs = [
            (output, scale)
            for output, scale in zip(outputs, scales, strict=True)
            if output.requires_grad and output.is_floating_point()
        ]
        for tensor in watch.inner:
            largest = float(tensor.detach().abs().max()) if tensor.numel() else 0.0
            pairs.append((tensor, 1e4 / largest if 0 < largest < math.inf else 0.0))
        signs = [
            torch.from_numpy(projection(tensor.detach().float().numpy(), scale, seed)).to(tensor.dtype)
            for tensor, scale in pairs
        ]
        return [tensor for tensor, _ in pairs], signs

    @contextlib.contextmanager
    def _differentiable(self, gradients: dict[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[None]:
        """Gradients go into `gradients` as they come, sampled, so that those of all weights are never held at once."""

        def keep(name: str) -> Callable[[torch.Tensor], None]:
            def hook(tensor: torch.Tensor) -> None:
                if tensor.grad is None:  # behind an operator without a derivative, such as a pooling of regions
                    return
                index = sample(tensor.shape)
                gradient = tensor.grad.to_dense() if tensor.grad.is_sparse else tensor.grad
                gradients[name] = (gradient[index].float().numpy().copy(), self.weights[name][index])
                tensor.grad = None

            return hook

        before = {name: tensor.requires_grad for name, tensor in self._tensors.items()}
        handles = []
        try:
            for name, tensor in self._tensors.items():
                tensor.requires_grad_(True)
                handles.append(tensor.register_post_accumulate_grad_hook(keep(name)))
            yield
        finally:
            for handle in handles:
                handle.remove()
            for name, tensor in self._tensors.items():
                tensor.requires_grad_(before[name])

    def outputs(self, inputs: Sequence[np.ndarray], changed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """See `Probe.outputs`; weights are changed in place and put back."""
        kept = {name: self._tensors[name].detach().clone() for name in changed}
        with torch.no_grad():
            try:
                for name, array in changed.items():
                    self._tensors[name].copy_(torch.from_numpy(array))
                return to_arrays(_run(self._module, to_tensors(inputs), None))
            finally:
                for name, tensor in kept.items():
                    self._tensors[name].copy_(tensor)


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    """A view, or a copy where numpy has no such dtype."""
    plain = tensor.detach()
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()


def _run(module: torch.nn.Module, tensors: Sequence[torch.Tensor], watch: _Watch | None) -> list[torch.Tensor]:
    if isinstance(module, torch.fx.GraphModule):
        return flat_outputs(_Interpreter(module, watch).run(*tensors))[1]
    return flat_outputs(module(*tensors))[1]


class _Interpreter(torch.fx.Interpreter):
    """Runs a program's branches and loops as Python would: their own operators would trace them anew to differentiate."""

    def __init__(self, module: torch.fx.GraphModule, watch: _Watch | None, path: str = "") -> None:
        super().__init__(module)
        self._watch, self._path = watch, path

    def run_node(self, node: torch.fx.Node) -> object:
        self._node = node
        result = super().run_node(node)
        if self._watch is not None and not self._path and node.name in self._watch.wanted and result.requires_grad:
            self._watch.inner.append(result)
        return result

    def call_function(self, target: Callable, args: tuple, kwargs: dict) -> object:
        if target is torch.ops.higher_order.cond:
            predicate, true, false, operands = args
            taken = bool(predicate)
            name = f"{self._path}{self._node.name}"
            if self._watch is not None:
                self._watch.sides.setdefault(name, []).append((int(taken), 2))
            return _Interpreter(true if taken else false, self._watch, f"{name}.{taken}.").run(*operands)
        if target is torch.ops.higher_order.while_loop:
            condition, body, state, extra = args
            name = f"{self._path}{self._node.name}."
            state = tuple(state)
            while bool(_first(_Interpreter(condition, self._watch, name).run(*state, *extra))):
                state = tuple(_Interpreter(body, self._watch, name).run(*state, *extra))
            return state
        return super().call_function(target, args, kwargs)


def _first(result: object) -> object:
    return result[0] if isinstance(result, tuple | list) else result


class _DifferentiableNormalization(TorchFunctionMode):
    """Lets an inference normalization take its scale and shift from all four of its weights by arithmetic.

    Autograd has no derivative of the operator by the mean and the variance (torch 2.13).
    """

    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if function is torch.nn.functional.batch_norm:
            return self._functional(*args, **(kwargs or {}))
        if function in _NORMALIZATIONS and not kwargs and len(args) == 9 and not args[5] and args[3] is not None:
            x, weight, bias, mean, variance, _, momentum, epsilon, cudnn = args
            return _scaled(x, mean, variance, weight, bias, epsilon)
        return function(*args, **(kwargs or {}))

    def _functional(
        self,
        input: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        if training or running_mean is None or running_var is None:
            with torch._C.DisableTorchFunction():
                return torch.nn.functional.batch_norm(
                    input, running_mean, running_var, weight, bias, training, momentum, eps
                )
        return _scaled(input, running_mean, running_var, weight, bias, eps)


def _scaled(
    x: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    epsilon: float,
) -> torch.Tensor:
    scale, shift = scale_and_shift(mean, variance, weight, bias, epsilon)
    zeros, ones = torch.zeros_like(mean, requires_grad=False), torch.ones_like(mean, requires_grad=False)
    return torch.batch_norm(x, scale, shift, zeros.detach(), ones.detach(), False, 0.0, 0.0, False)


class _Watch(TorchDispatchMode):
    """Rows of tables, ranges of activations and the work of a run, by the operators that it comes to."""

    def __init__(self, weights: Mapping[int, str], wanted: set[str]) -> None:
        super().__init__()
        self._weights = weights
        self.wanted = wanted
        self.inner: list[torch.Tensor] = []
        self._count = 0
        self._channels_last = True
        self.rows: dict[str, list[np.ndarray]] = {}
        self.otherwise: set[str] = set()
        self.sides: dict[str, list[tuple[int, int]]] = {}
        self.ranges: dict[str, tuple[str, np.ndarray, np.ndarray]] = {}
        self.work = self.start = 0.0

    def __torch_dispatch__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = function(*args, **(kwargs or {}))
        table = self._table(function, args)
        for argument in args:
            for tensor in argument if isinstance(argument, list | tuple) else [argument]:
                if isinstance(tensor, torch.Tensor) and tensor is not table and function not in _VIEWS:
                    name = self._weights.get(tensor.data_ptr())
                    if name is not None:
                        self.otherwise.add(name)
        self.start += _START
        first = _first(result)
        if isinstance(first, torch.Tensor) and first.is_floating_point():
            self._measure(function, args, first)
            self._look(function, args, first)
        return result

    def _table(self, function: Callable, args: tuple) -> torch.Tensor | None:
        """The tensor whose rows are looked up, noted with the rows."""
        position = _LOOKUPS.get(function)
        if position is None or not isinstance(args[0], torch.Tensor) or args[0].dim() < 2:
            return None
        name = self._weights.get(args[0].data_ptr())
        rows = args[position]
        if function is _aten.index.Tensor:
            rows = rows[0] if len(rows) and rows[0] is not None and all(i is None for i in rows[1:]) else None
        elif function is _aten.index_select.default and args[1] != 0:
            rows = None
        if name is None or rows is None or rows.dtype in (torch.bool, torch.uint8):
            return None
        found = rows.detach().reshape(-1).to(torch.int64).numpy()
        self.rows.setdefault(name, []).append(np.where(found < 0, found + args[0].shape[0], found))
        return args[0]

    def _measure(self, function: Callable, args: tuple, result: torch.Tensor) -> None:
        each = _VALUE
        if function in _CONVOLUTIONS:
            each += args[1].numel() / max(1, args[1].shape[0])
            self._channels_last = False
        elif function in _PRODUCTS:
            each += args[_PRODUCTS[function]].shape[-1]
            self._channels_last = True
        elif function is _aten.mkldnn_rnn_layer.default:
            each += 4 * (args[0].shape[-1] + result.shape[-1])
        self.work += each * result.numel()

    def _look(self, function: Callable, args: tuple, result: torch.Tensor) -> None:
        kind = _ACTIVATIONS.get(function)
        if function in _HARDTANH and args[1:3] == (0, 6):
            kind = "relu6"
        if kind is None or result.dim() < 2 or not result.numel():
            return
        channel = result.dim() - 1 if self._channels_last or result.dim() == 2 else 1
        axes = [axis for axis in range(result.dim()) if axis != channel]
        low, high = result.detach().amin(axes).float().numpy(), result.detach().amax(axes).float().numpy()
        self.ranges[f"{self._count} {function} {len(low)}"] = (kind, low, high)
        self._count += 1


def _before_whole_numbers(module: torch.fx.GraphModule) -> set[str]:
    """Names of the last floating tensors before outputs that are no floating ones, such as an argmax."""
    found: set[str] = set()
    seen: set[torch.fx.Node] = set()
    output = next(node for node in module.graph.nodes if node.op == "output")
    pending = [node for node in output.all_input_nodes if not _is_floating(node)]
    while pending:
        for source in pending.pop().all_input_nodes:
            if source in seen:
                continue
            seen.add(source)
            if _is_floating(source):
                found.add(source.name)
            else:
                pending.append(source)
    return found


def _is_floating(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _has_branches(nodes: Any) -> bool:
    return any(
        (node.kind() == "prim::If" and node.inputsAt(0).node().kind() == "aten::Bool")
        or any(_has_branches(block.nodes()) for block in node.blocks())
        for node in nodes
    )
