"""Run a PyTorch hub's program on any inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from converter.hub import Hub
from converter.torch.flat import flat_outputs, to_arrays, to_tensors

__all__ = ["runner"]


def runner(hub: Hub) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """A function of arrays in the order of the hub's inputs."""
    if hub.extra["form"] == "exported":
        module = torch.export.load(hub.path / "program.pt2").module(check_guards=False)
    else:
        module = torch.jit.load(hub.path / "module.pt")

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return to_arrays(flat_outputs(module(*to_tensors(arrays)))[1])

    return run
