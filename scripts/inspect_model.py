"""Write what a source holds as JSON: inspect_model.py HUB OUTPUT (the schema is configs/inspection.schema.json)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.escape import json_text
from converter.hub.hub import Hub
from converter.hub.inspection import inspect_hub
from converter.run_state import failures


def main(hub_path: Path, output: Path) -> int:
    hub = Hub.read(hub_path)
    if hub.error is not None and not hub.candidates["inputs"]:
        failures.remember(output.stem, f"{output}: {hub.error['message']}")
        return 1
    output.write_text(json_text(inspect_hub(hub)) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
