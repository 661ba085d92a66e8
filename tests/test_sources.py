"""Finding sources: formats by name, the models/ folder, and sentences with near names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter import formats
from converter.errors import SourceError
from converter.planning.sources import ModelFolder, model_name, source_format


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with an empty models/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def saved_model(path, name="saved_model.pb"):
    path.mkdir()
    (path / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("models/a.h5", "a"),
        ("x/model.ckpt-100.meta", "model.ckpt-100"),
        ("models/saved/", "saved"),
        ("models/v1.5", "v1.5"),
        ("a.b.tflite", "a.b"),
        ("a.b.tfl", "a.b.tfl"),
        ("a b/../c d.pt2", "c d"),
    ],
)
def test_names(source, name):
    assert model_name(source) == name


@given(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
        lambda x: x.strip(".")
    )
)
def test_every_stem_is_a_models_name(stem):
    for suffix in formats.extensions_of_sources():
        assert model_name(f"models/{stem}{suffix}") == stem


@pytest.mark.parametrize(("suffix", "name"), formats.extensions_of_sources().items())
def test_formats(folder, suffix, name):
    (folder / f"a{suffix}").write_bytes(b"")
    assert source_format(f"models/a{suffix}") == name
    assert ModelFolder().find("a") == f"models/a{suffix}"


@pytest.mark.parametrize("file", ["saved_model.pb", "saved_model.pbtxt"])
def test_a_saved_model_is_a_directory(folder, file):
    saved_model(folder / "net.v2", file)
    assert source_format("models/net.v2") == "savedmodel"
    assert ModelFolder().find("net.v2") == "models/net.v2"


def test_other_files_and_folders_are_no_sources(folder):
    (folder / "notes.txt").write_text("")
    (folder / "checkpoint").write_text("")
    (folder / "data").mkdir()
    (folder / "odd.h5").mkdir()  # a directory of that name is no file of that format
    assert ModelFolder().sources == {}


def test_two_candidates_are_named(folder):
    for name in ("a.h5", "a.pb"):
        (folder / name).write_bytes(b"")
    saved_model(folder / "a")
    with pytest.raises(
        SourceError, match=r"a is ambiguous, models/a and models/a\.h5 and models/a\.pb both fit.*under models: a:"
    ):
        ModelFolder().find("a")


def test_no_candidate_lists_places_and_near_names(folder):
    (folder / "VGG16.h5").write_bytes(b"")
    error = ModelFolder().missing("vgg61", ["VGG6", "lstm"])
    assert "looked in models/" in str(error) and "did you mean VGG6 or VGG16?" in str(error)
    assert "put the model into models/" in str(ModelFolder().missing("zzz", []))


def test_no_models_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ModelFolder().find("a") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("models/digist.h5", r"models/digist.h5 does not exist: did you mean models/digits.h5\?"),
        ("nowhere/a.h5", "nowhere/a.h5 does not exist: write the path of an existing file"),
        (
            "models/notes.txt",
            "models/notes.txt is of no known format: convert_from takes a SavedModel or Hugging Face directory or",
        ),
        ("models/tf2.index", "a checkpoint without a graph .*tf.saved_model.save"),
        ("models/tf1.index", "one of several files of a checkpoint: write convert_from models/tf1.meta"),
        ("models/checkpoint", "a checkpoint without a graph"),
        (".", r"^\. is the folder that this run works in, or one around it"),
        ("models/..", "is the folder that this run works in"),
        ("/", "is the folder that this run works in, or one around it: run beside the SavedModel"),
    ],
)
def test_sentences(folder, name, message):
    for file in ("digits.h5", "notes.txt", "tf2.index", "tf1.index", "tf1.meta", "checkpoint"):
        (folder / file).write_bytes(b"")
    with pytest.raises(SourceError, match=message):
        source_format(name)


def test_a_checkpoint_without_its_graph_is_explained_by_name(folder):
    (folder / "net.index").write_bytes(b"")
    assert "no models/net.meta" in str(ModelFolder().missing("net", []))


def test_a_source_that_a_recipe_makes_need_not_exist(folder):
    assert source_format("zoo/VGG16.h5", made=True) == "keras"
    assert source_format("zoo/saved", made=True) == "savedmodel"


def test_a_source_in_another_folder_is_named_with_the_way_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "deep" / "er" / "saved").mkdir(parents=True)
    (tmp_path / "models" / "deep" / "net.h5").touch()
    (tmp_path / "models" / "deep" / "er" / "saved" / "saved_model.pb").touch()
    (tmp_path / "beside.pt").touch()
    places = {"net": "models/deep/net.h5", "saved": "models/deep/er/saved", "beside": "beside.pt"}
    for model, place in places.items():
        sentence = str(ModelFolder().missing(model, []))
        assert f"put {place} there, or name it with convert_from under models: {model}:" in sentence
    assert "convert_from" not in str(ModelFolder().missing("none", []))
