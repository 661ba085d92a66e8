"""Calling a model while each operator that it calls is looked at."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["OperatorWatch", "watching"]


class OperatorWatch(TorchDispatchMode):
    """The base of what looks at operators. Those with graphs of their own, as torch.cond, are seen as one."""

    supports_higher_order_operators = True


@contextlib.contextmanager
def watching(watch: OperatorWatch) -> Iterator[None]:
    """Inside, without gradients, operators pass through `watch`.

    torch.cond compiles its branches as it is called, with the mode of that call, and keeps what came of it (torch 2.13): the
    next ordinary call would fail.
    """
    try:
        with torch.no_grad(), watch:
            yield
    finally:
        if "torch._dynamo" in sys.modules:
            torch._dynamo.reset()
