"""Check every pinned package against known advisories: audit.py PIP_AUDIT [FOLDER]. Exit status 0 only if all were checked.

pip-audit (the tool of the Python Packaging Authority) asks the OSV database. With its default service a package that the
service does not know is skipped and the exit status is 0 (2.10): no answer would pass for a good one, hence --strict.

Where that database is out of reach, FOLDER is a snapshot of advisories: records in OSV's JSON, one a file, as GitHub's
advisory database has them, and OSV's own export for PyPI. The repository carries none (docs/reliability.md, "Supply").
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
_UNREACHABLE = ("ConnectionError", "NameResolutionError", "Max retries exceeded", "Could not connect", "ServiceError")


def pins() -> list[str]:
    files = [*sorted(ROOT.glob("requirements*.txt")), ROOT / "constraints.txt"]
    lines = (line.partition("#")[0].strip() for path in files for line in path.read_text(encoding="utf-8").splitlines())
    return sorted({line for line in lines if line})


def main(pip_audit: str, folder: str = "") -> int:
    return _against_snapshot(Path(folder)) if folder else _against_service(pip_audit)


def _against_service(pip_audit: str) -> int:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins()) + "\n")
        file.flush()
        command = [pip_audit, "--strict", "--vulnerability-service", "osv", "--no-deps", "--disable-pip"]
        run = subprocess.run([*command, "--requirement", file.name], capture_output=True, text=True)
    output = run.stdout + run.stderr
    if any(sign in output for sign in _UNREACHABLE):
        print(
            f"{len(pins())} pinned packages were not checked: the advisory service cannot be reached from here, and no "
            "snapshot of advisories may be shipped with this program; with one of your own: make audit ADVISORIES=FOLDER"
        )
        return 2
    print(output)
    print(f"{len(pins())} pinned packages: {'no known advisory' if run.returncode == 0 else 'see above'}")
    return run.returncode


def _against_snapshot(folder: Path) -> int:
    versions: dict[str, set[str]] = {}
    for pin in pins():
        name, _, version = pin.partition(";")[0].partition("==")
        versions.setdefault(canonicalize_name(name.partition("[")[0].strip()), set()).add(version.strip())
    read, newest, found = 0, "", []
    for path in sorted(folder.rglob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        packages = [entry for entry in record.get("affected", []) if entry["package"]["ecosystem"] == "PyPI"]
        if not packages or record.get("withdrawn"):
            continue
        read += 1
        newest = max(newest, record["modified"][:10])
        for entry in packages:
            name = canonicalize_name(entry["package"]["name"])
            found += [
                f"{name} {version}: {record['id']} {record.get('summary', '')}".rstrip()
                for version in sorted(versions.get(name, ()))
                if _affected(version, entry)
            ]
    if not read:
        print(
            f"{len(pins())} pinned packages were not checked: {folder} has no advisory on packages of PyPI's (*.json)"
        )
        return 2
    for line in dict.fromkeys(found):
        print(line)
    outcome = "see above" if found else "no known advisory"
    print(f"{len(pins())} pinned packages, {read} advisories, the newest of {newest}: {outcome}")
    return 1 if found else 0


def _affected(version: str, entry: dict) -> bool:
    """As https://ossf.github.io/osv-schema/ evaluates a version: listed, or between two events of a range."""
    if version in entry.get("versions", []):
        return True
    for range_ in entry.get("ranges", []):
        if range_["type"] == "GIT":
            continue
        events = [(_version(at), kind) for event in range_["events"] for kind, at in event.items()]
        inside = False
        for at, kind in sorted(events):
            if kind == "introduced" and Version(version) >= at:
                inside = True
            elif (kind == "fixed" and Version(version) >= at) or (kind == "last_affected" and Version(version) > at):
                inside = False
        if inside:
            return True
    return False


def _version(text: str) -> Version:
    """The event of a version that is none is taken for the first: rather one advisory too many."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
