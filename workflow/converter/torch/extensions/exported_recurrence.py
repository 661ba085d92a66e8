"""LSTM, GRU and RNN over sequences whose length may vary.

torch.export (2.13) finds the shape of their results by unrolling them over the example's length, which it fixes in the results
without a word, though the program's input still says that the length may vary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._C import DispatchKey
from torch._decomp import decomposition_table, meta_table

__all__ = ["followable_recurrence"]

_aten = torch.ops.aten
_OPERATORS = {
    _aten.lstm.input: True,
    _aten.gru.input: False,
    _aten.rnn_tanh.input: False,
    _aten.rnn_relu.input: False,
}
_KEYS = (DispatchKey.Autograd, DispatchKey.CompositeImplicitAutograd, DispatchKey.Meta)


@contextlib.contextmanager
def followable_recurrence() -> Iterator[None]:
    """Inside, results over a symbolic length have that length; of a known one all stays as it is."""
    before = {operator: dict(operator.py_kernels) for operator in _OPERATORS}
    tables = [
        (table, {op: table[op] for op in _OPERATORS if op in table}) for table in (decomposition_table, meta_table)
    ]
    for table, found in tables:
        table.update({operator: _shaped(found[operator], _OPERATORS[operator]) for operator in found})
    for operator, has_cell in _OPERATORS.items():
        for key in _KEYS:
            operator.py_kernels[key] = _shaped(before[operator][key], has_cell)
        operator._dispatch_cache.clear()
    try:
        yield
    finally:
        for table, found in tables:
            table.update(found)
        for operator, kernels in before.items():
            operator.py_kernels.update(kernels)
            operator._dispatch_cache.clear()


def _shaped(original: Callable[..., Any], has_cell: bool) -> Callable[..., Any]:
    def results(
        x: torch.Tensor,
        hx: Any,
        params: list[torch.Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        if isinstance(x.shape[1 if batch_first else 0], int):
            return original(x, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
        states = list(hx) if has_cell else [hx]
        outputs = x.new_empty([*x.shape[:2], states[0].shape[-1] * (2 if bidirectional else 1)])
        return (outputs, *(state.new_empty(state.shape) for state in states))

    return results
