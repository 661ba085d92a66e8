"""Pinned, hashed, listed with their licences; an audit that could not ask says so and fails."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conftest import ROOT
from test_environment import pins

LOCK = ROOT / "requirements.lock"


def locked() -> dict[str, str]:
    lines = [line for line in LOCK.read_text().splitlines() if line and not line.startswith((" ", "#"))]
    return pins([line.removesuffix("\\").partition(";")[0] for line in lines])


def listed(*names: str) -> dict[str, str]:
    return pins([line for name in names for line in (ROOT / name).read_text().splitlines()])


def test_the_lock_has_the_same_pins_and_a_hash_for_each():
    found = locked()
    direct = listed("requirements.txt", "requirements-dev.txt")
    assert {name: found.get(name) for name in direct} == direct
    known = {**listed("constraints.txt"), **direct}
    # The two that come with the installer have no pin of ours.
    assert {name for name, version in found.items() if known.get(name) != version} <= {"setuptools", "wheel"}
    entries = re.split(r"\n(?=\S)", LOCK.read_text().strip())
    assert len(entries) == len(found) and all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in LOCK.read_text() and "index-url" not in LOCK.read_text()


def test_every_pinned_package_has_its_line_of_licence():
    page = (ROOT / "docs" / "licences.md").read_text()
    rows = re.findall(r"^\| \**([\w.-]+)\** \| (\d\S*) \| (.+) \|$", page, re.M)
    found = pins([f"{name}=={version}" for name, version, _ in rows])
    files = [path.name for path in sorted(ROOT.glob("requirements*.txt"))]
    assert found == {**listed("constraints.txt"), **listed(*files)}, "run make licences"
    assert not [name for name, _, licence in rows if licence == "not installed here"]


def audit(tool: str, tmp_path: Path) -> subprocess.CompletedProcess:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\n{tool}\n")
    program.chmod(0o755)
    return subprocess.run(
        [sys.executable, str(ROOT / "supply" / "audit.py"), str(program)], capture_output=True, text=True
    )


def test_an_audit_without_an_answer_is_no_good_audit(tmp_path: Path):
    run = audit("echo 'requests.exceptions.ConnectionError: Max retries exceeded' >&2; exit 1", tmp_path)
    assert run.returncode == 2 and "were not checked" in run.stdout
    run = audit("echo 'Found 1 known vulnerability in 1 package'; exit 1", tmp_path)
    assert run.returncode == 1 and "Found 1 known vulnerability" in run.stdout
    run = audit('for last; do :; done; grep -q tensorflow== "$last" && echo "$@" | grep -q -e --strict', tmp_path)
    assert run.returncode == 0 and "no known advisory" in run.stdout
