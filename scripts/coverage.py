"""The coverage table of all reports: coverage.py --recipes=configs/zoo.yaml MARKDOWN HTML CSV."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.pages.coverage import collect, markdown, page, table
from converter.pages.page import write
from converter.planning.library_versions import all_packages, versions_of
from converter.run_state.folder import state_path


def _made(now: datetime) -> str:
    """When, and with which libraries."""
    listed = ", ".join(f"{name} {version}" for name, version in versions_of(all_packages()).items())
    return f"Made on {now:%Y-%m-%d} with {listed}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", type=Path, required=True, help="the zoo's recipes")
    parser.add_argument(
        "--reports", type=Path, default=state_path("reports"), help="folder of reports (default reports)"
    )
    parser.add_argument("markdown", type=Path)
    parser.add_argument("html", type=Path)
    parser.add_argument("csv", type=Path)
    args = parser.parse_args()
    recipes = yaml.safe_load(args.recipes.read_text(encoding="utf-8"))
    rows = collect(args.reports, recipes)
    made = _made(datetime.now(UTC))
    write(args.markdown, markdown(rows, made))
    write(args.html, page(rows, made))
    write(args.csv, table(rows))


if __name__ == "__main__":
    main()
