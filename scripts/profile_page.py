"""The page that compares all benchmarks: profile_page.py FOLDER OUTPUT."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.pages.page import write
from converter.pages.profile import compared_page


def main(folder: Path, output: Path) -> None:
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.json"))]
    write(output, compared_page(entries))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
