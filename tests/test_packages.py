"""The packages import each other in one direction, and the picture in docs/design.md shows them as they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import ROOT

spec = importlib.util.spec_from_file_location("docs_packages", ROOT / "docs" / "packages.py")
packages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(packages)


def test_no_two_packages_import_each_other_in_a_circle():
    graph = packages.read_graph()
    circle = packages.find_circle(graph)
    steps = [
        f"{first} imports {second}: {', '.join(graph[first][second])}"
        for first, second in zip(circle, circle[1:], strict=False)
    ]
    assert not circle, "\n".join(steps)


def test_the_picture_is_up_to_date():
    picture = packages.draw(packages.read_graph())
    assert packages.PICTURE.read_text() == picture, "run python docs/packages.py"
    assert "(packages.svg)" in (ROOT / "docs" / "design.md").read_text()
    names = [node.text for node in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert {"errors", "hub", "planning.rules", "tf.graph", "verification"} <= set(names)


def write(folder: Path, **modules: str) -> Path:
    """A package of such modules; `__` in a name stands for a folder."""
    root = folder / "product"
    for name, code in modules.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return root


def test_imports_are_found_wherever_they_stand(tmp_path: Path):
    root = write(
        tmp_path,
        a__one="import product.b.two\nimport os\nfrom product.errors import Mistake",
        b__two="def run():\n    from product.b.c import three\n    from product.b.c.three import name",
        b__c__three="try:\n    from product import errors\nexcept ImportError:\n    pass",
        errors="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from product.a import one\nelse:\n    import sys",
    )
    graph = packages.read_graph(root)
    assert {name: sorted(found) for name, found in graph.items()} == {
        "a": ["b", "errors"],
        "b": ["b.c"],
        "b.c": ["errors"],
        "errors": [],
    }
    assert graph["b"]["b.c"] == ["b/two.py:2", "b/two.py:3"]
    assert packages.find_circle(graph) == []
    assert packages.layers(graph) == {"a": 3, "b": 2, "b.c": 1, "errors": 0}
    assert packages.direct_arrows(graph) == [("a", "b"), ("b", "b.c"), ("b.c", "errors")]


def test_a_circle_through_an_import_within_a_function_is_found(tmp_path: Path):
    root = write(
        tmp_path,
        a__one="from product.b import two",
        b__two="from product.c import three",
        c__three="def run():\n    import product.a.one",
    )
    assert packages.find_circle(packages.read_graph(root)) == ["a", "b", "c", "a"]


def test_relative_imports_are_not_passed_over(tmp_path: Path):
    with pytest.raises(AssertionError, match="relative"):
        packages.read_graph(write(tmp_path, a__one="from . import two"))
