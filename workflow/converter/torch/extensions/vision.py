"""Import torchvision beside a CPU build of torch."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch

from converter.errors import UnsupportedError

__all__ = ["MissingOperator", "import_torchvision", "importable_torchvision", "missing_operators"]


class MissingOperator(RuntimeError):
    """The model calls this function of torchvision, whose compiled operator is not there."""


def import_torchvision() -> ModuleType | None:
    """The torchvision package, None where it is not installed.

    torchvision 0.28.0 is built for CUDA builds of torch: beside a CPU build its C++ extension does not load, and the
    import fails at the registration of operators which that extension should have defined. Its classifiers need none of
    them; what does raises MissingOperator as it is called.
    """
    if importlib.util.find_spec("torchvision") is None:
        return None
    with importable_torchvision():
        import torchvision
    return torchvision


@contextlib.contextmanager
def importable_torchvision() -> Iterator[None]:
    """Inside, the user's code too can import torchvision as import_torchvision does."""
    if importlib.util.find_spec("torchvision") is not None:
        for name in ("nms", "qnms"):
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            if not hasattr(torch.ops.torchvision, name):
                try:
                    torch.library.define(f"torchvision::{name}", signature)
                except RuntimeError:
                    break  # defined already: the extension works here, or this ran before in a forked parent
    yield
    extension = sys.modules.get("torchvision.extension")
    if extension is not None and not extension._has_ops():
        # What it raises itself is a page on versions, and may come back as one on the shapes of inputs.
        extension._has_ops = _refuse


def _refuse() -> bool:
    """In the place of the question that each function with a compiled operator asks first (torchvision.extension)."""
    caller = sys._getframe(1)
    if caller.f_code.co_name == "_assert_has_ops":
        raise MissingOperator(caller.f_back.f_code.co_name if caller.f_back is not None else "an operator")
    return False


@contextlib.contextmanager
def missing_operators(path: Path) -> Iterator[None]:
    """Raises UnsupportedError in the place of whatever came of a MissingOperator in the model of this file."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, MissingOperator):
            cause = cause.__cause__
        if cause is None:
            raise
        raise UnsupportedError(
            f"forward of the model in {path} calls {cause} of torchvision, whose compiled operators are not made for this "
            "build of torch: take that call out of forward, and return what it is given"
        ) from error
