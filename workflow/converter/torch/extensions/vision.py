"""Import torchvision beside a CPU build of torch."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import torch

from converter.torch.extensions.vision_operators import (
    are_defined,
    define_operators,
    describe_operators,
    describe_suppression,
)

__all__ = ["import_torchvision", "importable_torchvision", "vision_operators"]


def import_torchvision() -> ModuleType | None:
    """The torchvision package, None where it is not installed.

    torchvision 0.28.0 is built for CUDA builds of torch: beside a CPU build its C++ extension does not load, and the
    import fails at the registration of operators which that extension should have defined. They are defined here then.
    """
    if importlib.util.find_spec("torchvision") is None:
        return None
    with importable_torchvision():
        import torchvision
    return torchvision


@contextlib.contextmanager
def importable_torchvision() -> Iterator[None]:
    """Inside, the user's code too can import torchvision as import_torchvision does."""
    package = None if are_defined() else importlib.util.find_spec("torchvision")
    if package is not None and not _extension_loads(package):
        define_operators()
    yield
    extension = sys.modules.get("torchvision.extension")
    if extension is None:
        return
    describe_suppression()
    if not extension._has_ops():
        describe_operators()
        # Each function with a compiled operator asks first. roi_align asks by a name of its own, and would be compiled.
        for name in ("torchvision.extension", "torchvision.ops.roi_align"):
            vars(sys.modules[name])["_has_ops"] = _has_ops


def _extension_loads(package: ModuleSpec) -> bool:
    """Load torchvision's C++ extension, as its import does later. False where that cannot be."""
    for folder in package.submodule_search_locations or ():
        for path in Path(folder).glob("_C*.so"):
            try:
                torch.ops.load_library(str(path))
            except OSError:
                continue
            return True
    return False


def vision_operators() -> None:
    """Make sure that a program which calls the operators can be read and run, with torchvision or without."""
    if import_torchvision() is None and not are_defined():
        define_operators()
        describe_operators()
        describe_suppression()


def _has_ops() -> bool:
    """In the place of torchvision.extension's: TorchScript compiles it too."""
    return True
