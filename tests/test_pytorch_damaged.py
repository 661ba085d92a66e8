"""PyTorch archives whose records are not what their index says: torch itself loads them, and computes with what it finds."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
from imports import run_step

from converter.errors import SourceError, UnsupportedError

torch = pytest.importorskip("torch")
from converter.torch.trust.records import check_tensors  # noqa: E402 - only where torch is installed

SHAPE = "1,40"


def shortened(source: Path, target: Path, length: int) -> None:
    """The archive with only so many bytes in its first tensor's record, and a right checksum over them."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, content[:length] if entry.filename.endswith("/data/0") else content)


def write(form: str, path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.Tanh()).eval()
    if form == "module":
        torch.save(module, path)
    elif form == "script":
        torch.jit.trace(module, torch.zeros(1, 40)).save(str(path))
    else:
        torch.export.save(torch.export.export(module, (torch.zeros(1, 40),)), path)


@pytest.mark.parametrize("form", ["module", "script", "program"])
def test_a_flipped_weight(form: str, tmp_path: Path):
    source = tmp_path / ("model.pt2" if form == "program" else "model.pt")
    write(form, source)
    data = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        weights = next(entry for entry in archive.infolist() if entry.file_size == 4 * 40 * 30)
    data[weights.header_offset + 1000] ^= 0x40
    source.write_bytes(data)
    error = run_step("import_pytorch", source, tmp_path / "hub", input_shape=SHAPE).error
    assert error["kind"] == "SourceError"
    assert error["message"] == f"{source} is damaged (Bad CRC-32 for file {weights.filename!r}): copy it again"


def test_a_file_written_without_checksums(tmp_path: Path):
    source = tmp_path / "model.pt"
    torch.serialization.set_crc32_options(False)
    try:
        write("module", source)
    finally:
        torch.serialization.set_crc32_options(True)
    assert run_step("import_pytorch", source, tmp_path / "hub", input_shape=SHAPE).error is None


def test_a_script_whose_weights_are_shorter_than_its_tensor(tmp_path: Path):
    """torch would fill the rest with what lies behind them in memory, and every later step would agree on that."""
    whole, source = tmp_path / "whole.pt", tmp_path / "model.pt"
    write("script", whole)
    shortened(whole, source, 64)
    torch.jit.load(str(source))
    error = run_step("import_pytorch", source, tmp_path / "hub", input_shape=SHAPE).error
    assert error["kind"] == "SourceError"
    assert "record 0 holds 64 bytes, and its tensor needs 4800" in error["message"]


class Tensor:
    """Pickled as a tensor of any size over the storage of another."""

    def __init__(self, storage: object, offset: int, size: tuple, stride: tuple) -> None:
        whole = torch.storage.TypedStorage(wrap_storage=storage.untyped_storage(), dtype=storage.dtype, _internal=True)
        self.arguments = (whole, offset, size, stride, False, OrderedDict())

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


@pytest.mark.parametrize(
    ("offset", "size", "stride", "sound"),
    [
        (0, (3, 4), (4, 1), True),
        (0, (4, 3), (1, 4), True),
        (11, (), (), True),
        (11, (1000,), (0,), True),
        (12, (0,), (1,), True),
        (0, (13,), (1,), False),
        (1, (3, 4), (4, 1), False),
        (12, (), (), False),
        (0, (2,), (12,), False),
        (0, (2, 1 << 40), (1 << 40, 1), False),
        (-1, (1,), (1,), False),
        (4, (2,), (-1,), False),
        (0, (-1,), (1,), False),
        (0, (2, 2), (1,), False),
    ],
)
def test_tensors_within_and_beyond_their_storage(offset, size, stride, sound: bool, tmp_path: Path):
    path = tmp_path / "model.pt"
    torch.save({"weight": Tensor(torch.arange(12.0), offset, size, stride)}, path)
    if sound:
        check_tensors(path)
    else:
        with pytest.raises(SourceError, match=r"model/data\.pkl in it: (a|no) tensor"):
            check_tensors(path)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bfloat16, torch.complex64, torch.float64])
def test_the_size_of_an_element(dtype, tmp_path: Path):
    path, short = tmp_path / "model.pt", tmp_path / "short.pt"
    torch.save({"weight": torch.zeros(12, dtype=dtype)}, path)
    check_tensors(path)
    shortened(path, short, -1)
    with pytest.raises(SourceError, match="and its tensor needs"):
        check_tensors(short)


def test_a_sparse_tensor_with_an_index_outside(tmp_path: Path):
    source = tmp_path / "model.pt"
    module = torch.nn.Linear(4, 3)
    indices = torch.tensor([[0, 2], [0, 5_000_000]])
    sparse = torch.sparse_coo_tensor(indices, torch.ones(2), (3, 4), check_invariants=False)
    module.weight = torch.nn.Parameter(sparse)
    torch.save(module, source)
    error = run_step("import_pytorch", source, tmp_path / "hub", input_shape="1,4").error
    assert error["kind"] == "SourceError" and "found index 5000000" in error["message"], error


def test_a_script_with_a_sparse_tensor_is_not_said_to_be_damaged(tmp_path: Path):
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.eye(3).to_sparse()}, path)
    with pytest.raises(UnsupportedError, match="holds a sparse tensor: convert it with to_dense"):
        check_tensors(path)
