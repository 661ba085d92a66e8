"""A library that no longer has what is replaced in it is refused before anything is replaced."""

from __future__ import annotations

import importlib
from contextlib import nullcontext

import keras
import pytest
import tf2onnx.tfonnx  # noqa: F401  (its modules take names from each other as they are imported)
import tf_keras
from conftest import ROOT

from converter.errors import UnsupportedError
from converter.library_patches import keras as of_keras
from converter.library_patches import snakemake as of_snakemake
from converter.library_patches import tf2onnx as of_tf2onnx
from converter.library_patches import torch as of_torch
from converter.library_patches.replacing import Patched, check, replaced, replaced_for_good
from converter.planning.storage_limits import with_limits
from converter.tf.onnx.deferred import DeferredTensors, deterministic_tf2onnx
from converter.tf.onnx.optimizer import optimize
from converter.tf.onnx.subgraph import sharing_walks
from converter.tf.sources.keras_filled import watched
from converter.tf.sources.keras_parts import parts_only
from converter.tf.sources.keras_repairs import no_initial_weights, repaired, uncopied_weights
from converter.torch.onnx.export import _one_version_of_own_functions
from converter.torch.sources.precision import no_autocast
from converter.torch.sources.tracing import _unnoticed
from converter.torch.trust.program_trust import inert_loading

PLACES = {
    "numpy_helper": (of_tf2onnx.NUMPY_HELPER, lambda: deterministic_tf2onnx(DeferredTensors())),
    "INTERNAL_NAME": (of_tf2onnx.COUNTER, lambda: deterministic_tf2onnx(DeferredTensors())),
    "extract_sub_graph_nodes": (of_tf2onnx.EXTRACT, sharing_walks),
    "activations": (of_keras.ACTIVATION, lambda: repaired(tf_keras)),
    "resize": (of_keras.RESIZE, lambda: repaired(keras)),
    "backend resize": (of_keras.RESIZE_BACKEND, lambda: repaired(keras)),
    "assign": (of_keras.ASSIGN, lambda: watched(keras)),
    "add_weight": (of_keras.ADD_WEIGHT, lambda: watched(keras)),
    "variable": (of_keras.VARIABLE, lambda: no_initial_weights(keras)),
    "eager tensor": (of_keras.EAGER_TENSOR, uncopied_weights),
}
for library in (keras, tf_keras):
    name = library.__name__
    for call in of_keras.initializers(name):
        PLACES[f"{name} {call.owner}"] = (call, lambda library=library: no_initial_weights(library))
    for patched in (of_keras.find_class(name), of_keras.importlib_of(name)):
        PLACES[f"{name} {patched.name}"] = (patched, lambda library=library: parts_only("m.h5", library))
PLACES |= {
    f"torch {key}": (patched, lambda: inert_loading("m.pt2")) for key, patched in of_torch.PROGRAM_LOADER.items()
}
PLACES |= {f"torch {patched.name}": (patched, _unnoticed) for patched in of_torch.EXPORTING}
PLACES |= {f"torch {patched.name}": (patched, no_autocast) for patched in of_torch.AUTOCAST.values()}
PLACES["torch opsets"] = (of_torch.OPSET_IMPORT, _one_version_of_own_functions)
PLACES |= {
    f"optimizer {patched.name}": (patched, lambda: optimize(None, catch_errors=False))
    for patched in of_tf2onnx.OPTIMIZERS
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("change", ["renamed", "another signature"])
def test_another_release_is_refused_in_one_sentence(place: str, change: str, monkeypatch: pytest.MonkeyPatch):
    patched, enter = PLACES[place]
    owner, original = patched.find()
    if change == "renamed":
        monkeypatch.delattr(owner, patched.name)
        if hasattr(owner, patched.name):  # inherited
            pytest.skip("a base class has it too")
    elif patched.parameters is None and patched.kind is object:
        pytest.skip("it is of any kind, and has no signature")
    else:
        monkeypatch.setattr(owner, patched.name, lambda quite_another: None)
    with pytest.raises(
        UnsupportedError, match=f"{patched.name}.*install the version that constraints.txt names"
    ) as raised:
        with enter():
            pytest.fail("it went on")
    assert "\n" not in str(raised.value) and patched.library in str(raised.value)


def test_what_is_replaced_comes_back_as_it_was():
    for name, (patched, enter) in PLACES.items():
        if name.startswith(("optimizer", "backend resize")):  # relied on, not replaced
            continue
        owner, original = patched.find()
        own = vars(owner)[patched.name]
        with (
            enter(),
            nullcontext() if "numpy_helper" in name or "INTERNAL" in name else enter(),
        ):  # and one within another
            if patched.name != "INTERNAL_NAME":
                assert vars(owner)[patched.name] is not own
        assert vars(owner)[patched.name] is own and getattr(owner, patched.name) == original


def test_nothing_is_replaced_where_one_name_is_not_there():
    here = Patched("tf2onnx", "tf2onnx.graph", "Graph", kind=type)
    gone = Patched("tf2onnx", "tf2onnx.graph", "no_such_name")
    before = importlib.import_module("tf2onnx.graph").Graph
    for replace in (
        lambda: replaced((here, 1), (gone, 2)).__enter__(),
        lambda: replaced_for_good((here, 1), (gone, 2)),
    ):
        with pytest.raises(UnsupportedError, match="tf2onnx.graph.no_such_name is not there"):
            replace()
        assert importlib.import_module("tf2onnx.graph").Graph is before


def test_each_library_has_one_place():
    """No other module of this program sets what belongs to a library's module or class by its name."""
    text = "\n".join(path.read_text() for path in (ROOT / "workflow" / "converter").rglob("*.py"))
    for patched, _ in PLACES.values():
        if patched.name not in (
            "__call__",
            "__init__",
            "assign",
            "importlib",
            "load",
            "pickle",
            "resize",
            "deserialize",
        ):
            assert f".{patched.name} = " not in text, patched


class Fetched:
    """As a storage plugin's objects are."""

    def __init__(self) -> None:
        self.query = "s3://bucket/key"

    def retrieve_object(self) -> None: ...

    def get_subkeys(self) -> list[str]:
        return []


@pytest.mark.parametrize("name", ["retrieve_object", "get_subkeys"])
@pytest.mark.parametrize("change", ["renamed", "another signature"])
def test_storage_whose_plugin_is_another_is_refused(name: str, change: str):
    plugin = type("Fetched", (), dict(vars(Fetched)))
    delattr(plugin, name) if change == "renamed" else setattr(plugin, name, lambda self, more: None)
    before = dict(vars(plugin))
    with pytest.raises(UnsupportedError, match=f"{name}.*install the version that constraints.txt names"):
        with_limits(plugin, str)
    assert dict(vars(plugin)) == before


@pytest.mark.parametrize("name", ["apply", "from_other"])
def test_another_snakemake_is_refused_at_the_start_of_a_run(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr("snakemake.pathvars.Pathvars." + name)
    with pytest.raises(UnsupportedError, match=f"snakemake 9.*Pathvars.{name} is not there"):
        check(of_snakemake.PATHVARS)
