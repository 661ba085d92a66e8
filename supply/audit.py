"""Check every pinned package against known advisories: audit.py PIP_AUDIT. Exit status 0 only if all were checked.

pip-audit (the tool of the Python Packaging Authority) asks the OSV database. With its default service a package that the
service does not know is skipped and the exit status is 0 (2.10): no answer would pass for a good one, hence --strict.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_UNREACHABLE = ("ConnectionError", "NameResolutionError", "Max retries exceeded", "Could not connect", "ServiceError")


def pins() -> list[str]:
    files = [*sorted(ROOT.glob("requirements*.txt")), ROOT / "constraints.txt"]
    lines = (line.partition("#")[0].strip() for path in files for line in path.read_text(encoding="utf-8").splitlines())
    return sorted({line for line in lines if line})


def main(pip_audit: str) -> int:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins()) + "\n")
        file.flush()
        command = [pip_audit, "--strict", "--vulnerability-service", "osv", "--no-deps", "--disable-pip"]
        run = subprocess.run([*command, "--requirement", file.name], capture_output=True, text=True)
    output = run.stdout + run.stderr
    if any(sign in output for sign in _UNREACHABLE):
        print(f"{len(pins())} pinned packages were not checked: the advisory service cannot be reached from here")
        return 2
    print(output)
    print(f"{len(pins())} pinned packages: {'no known advisory' if run.returncode == 0 else 'see above'}")
    return run.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
