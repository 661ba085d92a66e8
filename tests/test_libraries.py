"""Libraries that only some conversions need: installed once, and again where they went away or another version is pinned."""

from __future__ import annotations

import pytest
from conftest import ROOT

from converter import formats
from converter.planning import libraries


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """A clone in which openvino's list pins what pytest's version is."""
    monkeypatch.setattr(libraries, "ROOT", tmp_path)
    (tmp_path / "requirements-openvino.txt").write_text(f"# why\npytest=={pytest.__version__}\n")
    return tmp_path / "requirements-openvino.txt"


def test_every_name_in_a_declaration_has_a_list():
    named = {entry.requirements for entry in (*formats.frameworks().values(), *formats.targets().values())} - {None}
    assert named == set(libraries.LISTS)
    assert all((ROOT / path).is_file() for lists in libraries.LISTS.values() for path, _ in lists)


def test_the_state_is_the_same_before_and_after_an_installation(pinned, tmp_path):
    marker = tmp_path / "marker"
    before = libraries.state("openvino", marker)
    marker.touch()
    assert libraries.state("openvino", marker) == before == f"pytest=={pytest.__version__}"
    assert libraries.missing(pinned) == []


@pytest.mark.parametrize("line", ["pytest==0.1", "no-such-library==1"])
def test_what_is_not_there_is_installed_again(pinned, tmp_path, line):
    marker = tmp_path / "marker"
    marker.touch()
    pinned.write_text(line)
    assert libraries.missing(pinned) == [line]
    assert libraries.state("openvino", marker) == f"{line} (gone)"


def test_a_wheel_has_no_lists(tmp_path, monkeypatch):
    monkeypatch.setattr(libraries, "ROOT", tmp_path)
    assert libraries.state("torch", tmp_path) == ""
