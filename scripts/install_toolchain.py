"""Install what only some conversions need into this environment, unless all of it is there: install_toolchain.py ROOT NAME.

ROOT: a clone. Where a package manager installed the program, the environment is that one's: planning asks for what is missing
(planning/extras.py), and nothing is left to do here. NAME: of planning/libraries.py.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.planning.libraries import LISTS, missing
from converter.run_state.failures import remember


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
