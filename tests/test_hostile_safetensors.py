"""Headers of .safetensors files that lie about their values, each refused in one sentence; and what safetensors itself writes."""

import json
import struct

import pytest
import pytorch_networks
import torch
from pytorch_hub import import_file, network
from safetensors.torch import save_file

from converter.errors import ConverterError, SourceError, UntrustedError
from converter.torch.sources.archives import checked_kind
from converter.torch.trust.safetensors import is_safetensors, load_safetensors

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path, header, values=b"\0" * 8, length=None):
    """header: a mapping, or the bytes of one. length: what the file says of it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + values)
    return path


def changed(**entries):
    return {"w": {**F32, **entries}}


HOSTILE = {
    "length beyond the file": ({"w": F32}, {"length": 1 << 40}, "truncated, or no .safetensors file"),
    "length of all bits": ({"w": F32}, {"length": (1 << 64) - 1}, "truncated, or no .safetensors file"),
    "header breaks off": ({"w": F32}, {"length": 20}, "cannot be read"),
    "no object": (b"[1, 2, 3]", {}, "not that of a .safetensors file"),
    "no UTF-8": (b'{"\xff": 1}', {}, "cannot be read"),
    "nested without end": (b'{"a":' * 200_000, {}, "cannot be read"),
    "number of many digits": (b'{"w": ' + b"9" * 6000 + b"}", {}, "cannot be read"),
    "not a number": (b'{"w": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}', {}, "NaN is no number"),
    "name twice": (
        b'{"w": %b, "w": %b}' % ((json.dumps(F32).encode(),) * 2),
        {},
        "the name 'w' is there twice",
    ),
    "offsets beyond the end": (changed(shape=[4], data_offsets=[0, 16]), {}, "does not lie in the file's 8 bytes"),
    "offsets backwards": (changed(data_offsets=[8, 0]), {}, "does not lie in"),
    "negative offset": (changed(data_offsets=[-8, 0]), {}, "does not lie in"),
    "offset that is true": (changed(shape=[0], data_offsets=[False, True]), {}, "does not lie in"),
    "three offsets": (changed(data_offsets=[0, 4, 8]), {}, "does not lie in"),
    "overlap": ({"a": F32, "b": {**F32, "shape": [1], "data_offsets": [4, 8]}}, {}, "b overlaps another tensor"),
    "same bytes": ({"a": F32, "b": F32}, {}, "b overlaps another tensor"),
    "gap": (changed(shape=[1], data_offsets=[4, 8]), {}, "follows a gap"),
    "rest": (changed(shape=[1], data_offsets=[0, 4]), {}, "4 bytes at its end belong to no tensor"),
    "size too small": (changed(shape=[3]), {}, r"of shape \[3\] needs 12 bytes, and 8 are given"),
    "size overflows": (changed(shape=[1 << 33, 1 << 33]), {}, "needs .* bytes, and 8 are given"),
    "shape of no tensor": (changed(shape=[-1, -2]), {}, "no shape that a tensor can have"),
    "shape hides its size": (changed(shape=[1 << 63, 0], data_offsets=[0, 0]), {}, "no shape that a tensor can have"),
    "shape of a text": (changed(shape="2"), {}, "no shape that a tensor can have"),
    "many dimensions": (changed(shape=[1] * 5000 + [2]), {}, "no shape that a tensor can have"),
    "unknown dtype": (changed(dtype="F4"), {}, "type 'F4', which torch does not have"),
    "dtype of another kind": (changed(dtype=["F32"]), {}, "which torch does not have"),
    "entry of another kind": ({"w": [1]}, {}, "does not give dtype, shape and data_offsets of w"),
    "more keys": (changed(code="import os"), {}, "does not give dtype"),
    "no name": ({"": F32}, {}, "name has 0 characters"),
    "long name": ({"w" * 100_000: F32}, {}, "name has 100,000 characters"),
    "metadata": ({"w": F32, "__metadata__": {"a": 1}}, {}, "no mapping of texts"),
    "no tensors": ({}, {"values": b""}, "holds no tensors"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_header_is_one_sentence(tmp_path, case):
    header, options, words = HOSTILE[case]
    path = write(tmp_path / "net.safetensors", header, **options)
    with pytest.raises(SourceError, match=words) as caught:
        load_safetensors(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ['a"]; import os', "a\nb", "a\\", "a'"])
def test_names_that_could_be_code_are_refused(tmp_path, name):
    with pytest.raises(UntrustedError, match="could take for code"):
        load_safetensors(write(tmp_path / "net.safetensors", {name: F32}))


def test_header_longer_than_the_format_allows_is_not_read(tmp_path):
    path = tmp_path / "net.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 1 << 30) + b"{")
        file.truncate(1 << 31)  # holes
    with pytest.raises(SourceError, match="longer than the format allows"):
        load_safetensors(path)


def test_every_cut_and_every_changed_byte_of_the_header_is_whole_or_refused(tmp_path):
    save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64)}, tmp_path / "good")
    data = (tmp_path / "good").read_bytes()
    path = tmp_path / "net.safetensors"
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with pytest.raises(ConverterError):
            checked_kind(path, False) and load_safetensors(path)
    for place in range(8 + int.from_bytes(data[:8], "little")):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            state = load_safetensors(path)
        except ConverterError:
            continue
        assert sum(value.nbytes for value in state.values()) == 40


@pytest.mark.parametrize("columns", [1, 3])  # with one, what follows does not lie at a multiple of its size
def test_values_are_those_that_the_library_wrote(tmp_path, columns):
    state = {
        "half": torch.randn(2, columns).half(),
        "brain": torch.randn(3).bfloat16(),
        "flags": torch.tensor([True, False, True]),
        "byte": torch.arange(5, dtype=torch.uint8),
        "double": torch.randn(2, 2).double(),
        "long": torch.arange(4),
        "complex": torch.randn(2, dtype=torch.complex64),
        "small": torch.ones(3).to(torch.float8_e4m3fn),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
    }
    save_file(state, tmp_path / "net.safetensors", metadata={"format": "pt"})
    loaded = load_safetensors(tmp_path / "net.safetensors")
    assert loaded.keys() == state.keys()
    for name, value in state.items():
        assert loaded[name].dtype == value.dtype and loaded[name].shape == value.shape
        assert value.is_complex() or torch.equal(loaded[name].float(), value.float())
    assert torch.equal(loaded["complex"], state["complex"])
    before = (tmp_path / "net.safetensors").read_bytes()
    loaded["double"].zero_()
    assert (tmp_path / "net.safetensors").read_bytes() == before


def test_values_that_do_not_lie_at_multiples_of_their_size(tmp_path):
    header = {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F64", "shape": [1], "data_offsets": [1, 9]},
    }
    path = write(tmp_path / "net.safetensors", header, b"\7" + struct.pack("<d", 2.5))
    assert load_safetensors(path)["b"].item() == 2.5


def test_no_length_makes_a_pickle_of_it(tmp_path):
    """A header of 128 bytes begins with a pickle's first byte, 0x80; and a pickle is no safetensors file."""
    text = json.dumps({"w": F32}).encode()
    path = write(tmp_path / "net.bin", text + b" " * (128 - len(text)))
    assert path.read_bytes()[:1] == b"\x80"
    assert checked_kind(path, False) == "safetensors"
    for name, options in (("zip", {}), ("old", {"_use_new_zipfile_serialization": False})):
        torch.save({"w": torch.ones(2)}, tmp_path / f"{name}.bin", **options)
        assert not is_safetensors(tmp_path / f"{name}.bin")
        assert checked_kind(tmp_path / f"{name}.bin", False) == "pickle"


@pytest.mark.parametrize("form", ["safetensors", "zip", "old"])
def test_state_dict_in_any_form_is_the_model(tmp_path, form):
    module = network("Net")
    if form == "safetensors":
        save_file(module.state_dict(), tmp_path / "net.safetensors")
    else:
        torch.save(module.state_dict(), tmp_path / "net.bin", _use_new_zipfile_serialization=form == "zip")
    path = tmp_path / ("net.safetensors" if form == "safetensors" else "net.bin")
    hub = import_file(path, tmp_path / "hub", "1,3,16,16", network_name="Net")
    run = hub.reference()[0]
    with torch.no_grad():
        expected = module(torch.from_numpy(run.inputs[0]))
    torch.testing.assert_close(torch.from_numpy(run.outputs[0]), expected)


def test_pickle_that_runs_code_is_refused_under_any_name(tmp_path):
    class Attack:
        def __reduce__(self):
            return print, ("code ran",)

    torch.save({"w": Attack()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UntrustedError, match="would run code"):
        import_file(
            tmp_path / "pytorch_model.bin", tmp_path / "hub", "1,3,16,16", network_script=pytorch_networks.__file__
        )
