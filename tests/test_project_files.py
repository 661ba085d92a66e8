"""What those find who join: one version, a changelog that agrees, and a guide that names what CI does not run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

import converter

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.removesuffix(".dev0").split(".")))


def test_the_version_goes_with_the_changelog():
    """A release has its heading; between releases the version is the next one's, and ends in .dev0."""
    unreleased = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", CHANGELOG, re.M | re.S)[1].strip()
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", CHANGELOG, re.M)
    assert released == sorted(released, key=numbers, reverse=True)
    if converter.__version__.endswith(".dev0"):
        assert numbers(converter.__version__) > numbers(released[0])
    else:
        assert not unreleased and converter.__version__ == released[0]


def test_the_version_stands_in_one_place():
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert not re.search(r"^version = \"", pyproject, re.M) and 'path = "workflow/converter/version.py"' in pyproject
    assert "version:" not in (ROOT / "CITATION.cff").read_text().replace("cff-version:", "")
    run = subprocess.run(
        [sys.executable, "-m", "converter", "--version"],
        env={"PYTHONPATH": str(ROOT / "workflow"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == f"converter {converter.__version__}"


@pytest.mark.parametrize("mark", ["slow", "legacy", "slurm"])
def test_the_guide_names_every_file_with_tests_that_ci_does_not_run(mark: str):
    marked = set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        if any(
            isinstance(node, ast.Attribute) and ast.unparse(node) == f"pytest.mark.{mark}" for node in ast.walk(tree)
        ):
            marked.add(path.name)
    marked.discard("test_project_files.py")
    (row,) = re.findall(rf"^\| `{mark}` \|.*$", CONTRIBUTING, re.M)
    if mark == "slurm":
        assert marked and "`slurm/`" in row and all((ROOT / "tests" / "slurm" / name).is_file() for name in marked)
    else:
        assert marked == set(re.findall(r"`(test_\w+\.py)`", row))


def test_paths_and_targets_that_the_guides_name_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    for name in ("CONTRIBUTING.md", "SECURITY.md"):
        text = (ROOT / name).read_text()
        assert set(re.findall(r"`make ([a-z-]+)`", text)) <= set(targets), name
        for path in re.findall(r"\]\(([\w/.-]+)\)", text):
            assert (ROOT / path).exists(), path
        for path in re.findall(r"`((?:workflow|docs|scripts|rules|tests)/[\w/]*)`", text):
            assert (ROOT / path).exists(), path


def test_hooks_and_workflow_run_what_the_guide_says():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    assert [hook["entry"] for hook in hooks[0]["hooks"]] == ["make lint"]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["ci"]["steps"][-1] == {"run": "bash .ci/run"}
    for name in ("CITATION.cff", ".snakemake-workflow-catalog.yml"):
        assert isinstance(yaml.safe_load((ROOT / name).read_text()), dict)


def test_whoever_reports_a_conversion_is_asked_for_the_report():
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "conversion.yml").read_text())
    (field,) = [entry for entry in form["body"] if entry.get("id") == "report"]
    assert field["validations"]["required"] and "reports/NAME.json" in field["attributes"]["description"]
