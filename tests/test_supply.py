"""Pinned, hashed, listed with their licences; an audit that could not ask says so and fails."""

from __future__ import annotations

import json
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


def audit(tool: str, tmp_path: Path, *folder: str) -> subprocess.CompletedProcess:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\n{tool}\n")
    program.chmod(0o755)
    command = [sys.executable, str(ROOT / "supply" / "audit.py"), str(program), *folder]
    return subprocess.run(command, capture_output=True, text=True)


def test_an_audit_without_an_answer_is_no_good_audit(tmp_path: Path):
    run = audit("echo 'requests.exceptions.ConnectionError: Max retries exceeded' >&2; exit 1", tmp_path)
    assert run.returncode == 2 and "were not checked" in run.stdout and "ADVISORIES=FOLDER" in run.stdout
    run = audit("echo 'Found 1 known vulnerability in 1 package'; exit 1", tmp_path)
    assert run.returncode == 1 and "Found 1 known vulnerability" in run.stdout
    run = audit('for last; do :; done; grep -q tensorflow== "$last" && echo "$@" | grep -q -e --strict', tmp_path)
    assert run.returncode == 0 and "no known advisory" in run.stdout


def _advisory(folder: Path, name: str, events: list[dict], **more: object) -> None:
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    record = {"id": f"TEST-{name}-{len(list(folder.iterdir()))}", "modified": "2026-03-01T00:00:00Z"}
    (folder / f"{record['id']}.json").write_text(json.dumps({**record, "affected": [affected | more]}))


def test_an_audit_against_a_snapshot(tmp_path: Path):
    """Events of a range in any order, a list of versions, names in another spelling, and what does not concern the pins."""
    folder = tmp_path / "advisories"
    folder.mkdir()
    run = audit("exit 1", tmp_path, str(folder))
    assert run.returncode == 2 and "were not checked" in run.stdout
    version = listed("constraints.txt", "requirements.txt")["tensorflow"]
    _advisory(folder, "tensorflow", [{"introduced": "0"}, {"fixed": version}])
    _advisory(folder, "tensorflow", [{"introduced": "999"}])
    _advisory(folder, "tensorflow", [{"introduced": "0"}, {"last_affected": "1.0"}])
    _advisory(folder, "nobody-pins-this", [{"introduced": "0"}])
    run = audit("exit 1", tmp_path, str(folder))
    assert run.returncode == 0 and "4 advisories, the newest of 2026-03-01: no known advisory" in run.stdout
    _advisory(folder, "TensorFlow", [{"fixed": "999"}, {"introduced": version}])
    _advisory(folder, "tf_keras", [{"introduced": "0"}, {"last_affected": "999"}])
    _advisory(
        folder, "numpy", [{"introduced": "999"}], versions=[listed("constraints.txt", "requirements.txt")["numpy"]]
    )
    run = audit("exit 1", tmp_path, str(folder))
    assert run.returncode == 1
    assert sorted(line.split()[0] for line in run.stdout.splitlines()[:-1]) == ["numpy", "tensorflow", "tf-keras"]
