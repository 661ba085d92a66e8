"""The page of one model: model_page.py MODEL OUTPUT REPORT..."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.pages.model import model_page
from converter.pages.page import write
from converter.publishing import report
from converter.run_state.folder import state_path


def main(model: str, output: Path, paths: list[Path]) -> None:
    entries = (json.loads(path.read_text(encoding="utf-8")) for path in state_path("benchmarks").rglob("*.json"))
    write(
        output, model_page(model, [report.read(path) for path in paths], {entry["target"]: entry for entry in entries})
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [Path(path) for path in sys.argv[3:]])
