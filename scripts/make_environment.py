"""Build the isolated environment of a legacy toolchain, unless it is there: make_environment.py TOOLCHAIN MARKER."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.errors import ConverterError
from converter.planning.toolchains import PYTHONS, ensure
from converter.run_state.failures import remember


def main(toolchain: str, marker: Path) -> int:
    """Write `marker`, which holds the interpreter's path. Returns the exit status."""
    if toolchain not in PYTHONS:
        print(f"{toolchain} is no legacy toolchain: write {' or '.join(PYTHONS)}", file=sys.stderr)
        return 1
    try:
        interpreter = ensure(toolchain)
    except ConverterError as error:
        # Several targets wait for it: this is said once, when the run ends.
        remember(f"toolchain {toolchain}", f"toolchain {toolchain}: {error}")
        print(error, file=sys.stderr)
        return 1
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(f"{interpreter}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
