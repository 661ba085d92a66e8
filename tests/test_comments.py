"""What comments and docstrings refer to exists."""

from __future__ import annotations

import ast
import re

import pytest
from conftest import ROOT

FILES = [
    path
    for pattern in ("workflow/**/*.py", "scripts/**/*.py", "rules/*.smk", "Snakefile", "profiles/**/*.yaml")
    for path in sorted(ROOT.glob(pattern))
]


def test_documents_that_are_named_are_in_the_repository():
    known = {path.name for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        missing = set(re.findall(r"\b[\w-]+\.md\b", text)) - known
        assert not missing, f"{path}: {missing}"
        assert not re.search(r"\bDESIGN\b", text), path


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".py"], ids=lambda path: path.stem)
def test_fields_that_a_dataclasss_docstring_explains_are_its_own(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ClassDef) or not any("dataclass" in ast.unparse(d) for d in node.decorator_list):
            continue
        own = {entry.target.id for entry in node.body if isinstance(entry, ast.AnnAssign)}
        own |= {entry.name for entry in node.body if isinstance(entry, ast.FunctionDef)}
        explained = set(re.findall(r"`(\w+)`:", ast.get_docstring(node) or ""))
        assert explained <= own, f"{path}: {node.name} has no {explained - own}"
