"""Import torchvision beside a CPU build of torch."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import torch

__all__ = ["import_torchvision"]


def import_torchvision() -> ModuleType | None:
    """The torchvision package, None where it is not installed.

    torchvision 0.28.0 is built for CUDA builds of torch: beside a CPU build its C++ extension does not load, and the
    import fails at the registration of operators which that extension should have defined. Its models need none of them.
    """
    if importlib.util.find_spec("torchvision") is None:
        return None
    for name in ("nms", "qnms"):
        signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        if not hasattr(torch.ops.torchvision, name):
            try:
                torch.library.define(f"torchvision::{name}", signature)
            except RuntimeError:
                break  # defined already: the extension works here, or this ran before in a forked parent
    import torchvision

    return torchvision
