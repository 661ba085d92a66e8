"""Install PyTorch and what hangs on it into this environment, unless all of it is there: install_toolchain.py ROOT."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path


def missing(requirements: Path) -> list[str]:
    """The lines `name==version` that are not installed at that version (a local suffix such as +cpu does not count)."""
    lines = [line.strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#") and not _installed(*line.split("=="))]


def _installed(name: str, version: str) -> bool:
    try:
        return importlib.metadata.version(name).partition("+")[0] == version
    except importlib.metadata.PackageNotFoundError:
        return False


def main(root: Path) -> int:
    pip = [sys.executable, "-m", "pip", "install", "--constraint", str(root / "constraints.txt")]
    for name, options in (("requirements-torch.txt", []), ("requirements-vision.txt", ["--no-deps"])):
        if missing(root / name):
            subprocess.run([*pip, *options, "--requirement", str(root / name)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
