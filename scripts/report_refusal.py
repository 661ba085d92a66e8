"""Write the report of a target of no known format, whose hub holds the reason."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub
from converter.running.step_runner import run_export


def export_model(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    raise UnsupportedError(f"{job.target} is of no known format")


if __name__ == "__main__":
    sys.exit(run_export("report_refusal", export_model))
