"""torchaudio beside a torch build that its compiled extension was not made for."""

from __future__ import annotations

import importlib
import sys

import pytest

from converter.torch.extensions.audio import prepare_torchaudio

EXTENSION = """
import torch
from pathlib import Path

for path in Path(__file__).parent.glob("lib/_torchaudio*.so"):
    torch.ops.load_library(path)
_IS_TORCHAUDIO_EXT_AVAILABLE = False
fail_if_no_align = lambda function: function
"""
PACKAGE = """
from . import _extension

@_extension.fail_if_no_align
def forced_align(a):
    return a
"""


@pytest.fixture
def torchaudio(tmp_path, monkeypatch):
    """The folder of a package that imports as torchaudio does."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    folder = tmp_path / "torchaudio"
    (folder / "lib").mkdir(parents=True)
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "_extension.py").write_text(EXTENSION)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]


def test_an_extension_of_another_build_is_left_out(torchaudio):
    (torchaudio / "lib" / "_torchaudio.so").write_bytes(b"of a CUDA build")
    with pytest.raises(OSError, match="_torchaudio"):
        importlib.import_module("torchaudio")
    prepare_torchaudio()
    package = importlib.import_module("torchaudio")
    assert package._extension._IS_TORCHAUDIO_EXT_AVAILABLE is False
    with pytest.raises(RuntimeError, match="forced_align needs torchaudio's compiled extension"):
        package.forced_align(1)


def test_one_that_loads_is_left_alone(torchaudio):
    prepare_torchaudio()
    package = importlib.import_module("torchaudio")
    assert package._extension.__file__ == str(torchaudio / "_extension.py") and package.forced_align(1) == 1


def test_twice_is_as_once(torchaudio):
    (torchaudio / "lib" / "_torchaudio.so").write_bytes(b"of a CUDA build")
    prepare_torchaudio()
    first = sys.modules["torchaudio._extension"]
    prepare_torchaudio()
    assert importlib.import_module("torchaudio")._extension is first
