"""Keras files whose values are of types that h5py reads as Python's objects: the bytes of the file would be their addresses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from imports import run_step

from converter.errors import UntrustedError
from converter.safety.containers import refuse_hdf5


def _objects() -> h5py.h5t.TypeID:
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 8)
    kind.set_tag(b"NUMPY:|O")
    return kind


def _within_compound() -> h5py.h5t.TypeID:
    kind = h5py.h5t.create(h5py.h5t.COMPOUND, 16)
    kind.insert(b"plain", 0, h5py.h5t.NATIVE_DOUBLE)
    kind.insert(b"hidden", 8, _objects())
    return kind


_KINDS: dict[str, Callable[[], h5py.h5t.TypeID]] = {
    "objects": _objects,
    "objects in a structure": _within_compound,
    "rows of objects": lambda: h5py.h5t.array_create(_objects(), (2,)),
    "lists of objects": lambda: h5py.h5t.vlen_create(_objects()),
    "references": lambda: h5py.h5t.STD_REF_OBJ.copy(),
}
_TWO = (2,)


def _dataset(place: h5py.Group, kind: h5py.h5t.TypeID) -> None:
    h5py.h5d.create(place.id, b"kernel", kind, h5py.h5s.create_simple(_TWO))


def _attribute(place: h5py.HLObject, kind: h5py.h5t.TypeID) -> None:
    h5py.h5a.create(place.id, b"weight_names", kind, h5py.h5s.create_simple(_TWO))


_PLACES: dict[str, Callable[[h5py.File, h5py.h5t.TypeID], None]] = {
    "values": _dataset,
    "values in a group": lambda file, kind: _dataset(file.create_group("dense"), kind),
    "attribute of the file": _attribute,
    "attribute of a group": lambda file, kind: _attribute(file.create_group("dense"), kind),
    "attribute of values": lambda file, kind: _attribute(file.create_dataset("kernel", data=[1.0]), kind),
    "named type": lambda file, kind: kind.commit(file.id, b"type"),
}


@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize("kind", _KINDS)
def test_neither_numbers_nor_text(kind: str, place: str, tmp_path: Path) -> None:
    source = tmp_path / "model.h5"
    with h5py.File(source, "w") as file:
        _PLACES[place](file, _KINDS[kind]())
    with pytest.raises(UntrustedError, match="neither numbers nor text") as caught:
        refuse_hdf5(source)
    assert str(source) in str(caught.value)


def test_numbers_and_text_of_every_kind(tmp_path: Path) -> None:
    source = tmp_path / "model.h5"
    with h5py.File(source, "w") as file:
        for dtype in ("f2", "f4", "f8", "i1", "u8", "c8", "c16", "?", "S5"):
            file[dtype] = np.zeros(3, dtype)
        file["text"] = np.array(["a", "bc"], dtype=h5py.string_dtype())
        file["type"] = np.dtype("f4")
        file.attrs["keras_version"], file.attrs["layer_names"] = "2.15.0", [b"dense", b"relu"]
        file.attrs["nothing"] = h5py.Empty("f")
    refuse_hdf5(source)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_addresses_in_place_of_weights(suffix: str, tmp_path: Path) -> None:
    """Read as objects, they end the process, or give it objects that the file has made up."""
    import shutil
    import zipfile

    import keras

    source, inner = tmp_path / f"model{suffix}", tmp_path / "inner.h5"
    keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, use_bias=False, name="dense")]).save(source)
    if suffix == ".keras":
        with zipfile.ZipFile(source) as archive:
            inner.write_bytes(archive.read("model.weights.h5"))
    else:
        shutil.copy(source, inner)
    with h5py.File(inner, "a") as file:
        names: list[str] = []
        file.visititems(lambda name, entry: names.append(name) if isinstance(entry, h5py.Dataset) else None)
        del file[names[0]]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 2))
        values = h5py.h5d.create(file.id, names[0].encode(), _objects(), h5py.h5s.create_simple((1, 2)), plist)
        values.write_direct_chunk((0, 0), np.array([0x4142434445464748, 8], "u8").tobytes())
    if suffix == ".keras":
        with zipfile.ZipFile(source) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(source, "w") as archive:
            for name, content in (entries | {"model.weights.h5": inner.read_bytes()}).items():
                archive.writestr(name, content)
    else:
        shutil.copy(inner, source)
    error = run_step("import_keras", source, tmp_path / "hub").error
    assert error is not None and error["kind"] == "UntrustedError", error
    assert "neither numbers nor text" in error["message"]
