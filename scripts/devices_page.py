"""A model's converted files against all device profiles: devices_page.py MODEL OUTPUT FILE..."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.devices.facts import facts_of
from converter.pages.devices import devices_page
from converter.pages.page import write


def main(model: str, output: Path, paths: list[Path]) -> None:
    write(output, devices_page(model, {path.name: facts_of(path, path.suffix[1:]) for path in paths}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [Path(path) for path in sys.argv[3:]])
