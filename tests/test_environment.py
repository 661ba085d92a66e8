"""One set of pins: environment.yml for conda users says what the requirements files say."""

from __future__ import annotations

import re

import pytest
import yaml
from conftest import ROOT

FILES = sorted(ROOT.glob("requirements*.txt"))
# What is installed by itself, without dependencies: by `make corpus`, and when a first C array is asked for.
BY_ITSELF = ("requirements-corpus.txt", "requirements-micro.txt")


def pins(lines: list[str]) -> dict[str, str]:
    """Versions by normalized name (PEP 503)."""
    found = {}
    for line in lines:
        line = line.partition("#")[0].strip()
        if line:
            name, separator, version = line.partition("==")
            assert separator and re.fullmatch(r"[\w.+]+", version), f"{line} is not pinned"
            name = re.sub(r"[-_.]+", "-", name).lower()
            assert found.setdefault(name, version) == version, f"{name} is pinned twice"
    return found


def test_environment_has_the_pins_of_the_requirements():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (nested,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pins(nested) == pins(
        [line for path in FILES if path.name not in BY_ITSELF for line in path.read_text().splitlines()]
    )
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert "python=3.11" in plain
    assert 'requires-python = ">=3.11,<3.12"' in (ROOT / "pyproject.toml").read_text()


def test_constraints_do_not_contradict_the_requirements():
    constraints = pins((ROOT / "constraints.txt").read_text().splitlines())
    direct = pins([line for path in FILES for line in path.read_text().splitlines()])
    assert {name: version for name, version in constraints.items() if direct.get(name, version) != version} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_names_a_registry(path):
    assert "://" not in path.read_text() and "index-url" not in path.read_text()
