"""Install what only some conversions need into this environment, unless all of it is there: install_toolchain.py ROOT NAME.

ROOT: a clone. Where a package manager installed the program, the environment is that one's: planning asks for what is missing
(planning/extras.py), and nothing is left to do here. NAME: torch (PyTorch and what hangs on it), micro
(TensorFlow Lite Micro) or openvino.
"""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.run_state.failures import remember

# By name: lists of requirements, with options of pip for each.
LISTS = {
    "torch": (("requirements-torch.txt", []), ("requirements-vision.txt", ["--no-deps"])),
    "micro": (("requirements-micro.txt", ["--no-deps"]),),
    "openvino": (("requirements-openvino.txt", ["--no-deps"]),),
}


def missing(requirements: Path) -> list[str]:
    """The lines `name==version` that are not installed at that version (a local suffix such as +cpu does not count)."""
    lines = [line.strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#") and not _installed(*line.split("=="))]


def _installed(name: str, version: str) -> bool:
    try:
        return importlib.metadata.version(name).partition("+")[0] == version
    except importlib.metadata.PackageNotFoundError:
        return False


def main(root: Path, name: str) -> int:
    if not (root / "requirements-torch.txt").is_file():
        return 0
    pip = [sys.executable, "-m", "pip", "install", "--constraint", str(root / "constraints.txt")]
    for requirements, options in LISTS[name]:
        lacking = missing(root / requirements)
        if lacking and subprocess.run([*pip, *options, "--requirement", str(root / requirements)]).returncode:
            # Several targets wait for it: this is said once, when the run ends.
            remember(
                f"toolchain {name}",
                f"toolchain {name}: {', '.join(lacking)} could not be installed, which needs the network once and a machine "
                f"that there are wheels for: logs/toolchains/{name}.log has what pip says",
            )
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
