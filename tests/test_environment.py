"""One set of pins: environment.yml for conda users says what the requirements files say."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from conftest import ROOT

from converter.installation import DISTRIBUTION

FILES = sorted(ROOT.glob("requirements*.txt"))
# What is installed by itself, without dependencies: by `make corpus`, and when a first C array or OpenVINO file is asked for.
BY_ITSELF = ("requirements-corpus.txt", "requirements-micro.txt", "requirements-openvino.txt")


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


def test_the_wheel_asks_for_what_was_tested_and_its_bug_fixes():
    """Each requirement once, from its pin on (~= is: the same but for the last number)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    written = [*project["dependencies"], *extras["torch"], *extras["huggingface"], *extras["cluster"]]
    written += [entry.partition(";")[0] for name in ("micro", "openvino") for entry in extras[name]]
    written = [entry.replace("~=", "==") for entry in written if not entry.startswith(f"{DISTRIBUTION}[")]
    files = ("requirements.txt", "requirements-torch.txt", "requirements-vision.txt", "requirements-cluster.txt")
    files += ("requirements-micro.txt", "requirements-openvino.txt")
    assert pins(written) == pins([line for name in files for line in (ROOT / name).read_text().splitlines()])
    assert project["name"] == DISTRIBUTION and set(extras) == {
        "torch",
        "huggingface",
        "cluster",
        "micro",
        "openvino",
        "all",
    }


def test_constraints_do_not_contradict_the_requirements():
    constraints = pins((ROOT / "constraints.txt").read_text().splitlines())
    direct = pins([line for path in FILES for line in path.read_text().splitlines()])
    assert {name: version for name, version in constraints.items() if direct.get(name, version) != version} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_names_a_registry(path):
    assert "://" not in path.read_text() and "index-url" not in path.read_text()
