"""Run a PyTorch hub's program on any inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from converter.hub.hub import Hub
from converter.torch.program.flat import flat_outputs, to_arrays, to_tensors
from converter.torch.program.hub_program import read_program, read_script

__all__ = ["runner"]


def runner(hub: Hub) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """A function of arrays in the order of the hub's inputs."""
    if hub.extra.get("form") == "exported":
        module = read_program(hub).module(check_guards=False)
    else:
        module = read_script(hub)

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return to_arrays(flat_outputs(module(*to_tensors(arrays)))[1])

    return run
