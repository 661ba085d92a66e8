"""Import torchaudio beside a CPU build of torch."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

__all__ = ["prepare_torchaudio"]

_EXTENSION = "torchaudio._extension"


def prepare_torchaudio() -> None:
    """From here on torchaudio can be imported where its C++ extension does not load: by scripts, and by transformers.

    torchaudio 2.11.1 is built for CUDA builds of torch, and raises OSError beside a CPU build. Without the extension's file
    it would import, and tell its modules so; so that is what they are told. Of its models none needs the extension.
    """
    if "torchaudio" in sys.modules or _EXTENSION in sys.modules or _extension_loads():
        return
    extension: Any = ModuleType(_EXTENSION)
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = extension._IS_ALIGN_AVAILABLE = False
    extension.fail_if_no_align = _refused
    sys.modules[_EXTENSION] = extension


def _extension_loads() -> bool:
    """Whether it can be loaded, as torchaudio's import does later; True where there is none to load."""
    package = importlib.util.find_spec("torchaudio")
    for folder in (package and package.submodule_search_locations) or ():
        for path in Path(folder).glob("lib/_torchaudio*.so"):
            try:
                torch.ops.load_library(str(path))
            except OSError:
                return False
    return True


def _refused(function: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{function.__name__} needs torchaudio's compiled extension, which does not load here")

    return refuse
