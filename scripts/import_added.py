"""Source of a format that CONVERTER_FORMATS adds to hub: import_added.py FORMAT SOURCE HUB. The import: its declaration."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter import formats
from converter.running.step_runner import run_import

if __name__ == "__main__":
    declared = formats.source(sys.argv.pop(1))
    sys.exit(run_import(declared.step, formats.load(declared.importer)))
