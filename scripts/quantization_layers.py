"""Rank the layers of an integer file by what quantization costs them, and propose which to keep in float."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

from converter.contracts import ExportJob  # noqa: E402
from converter.escape import printable  # noqa: E402
from converter.exporting import exporter_of  # noqa: E402
from converter.hub.hub import Hub  # noqa: E402
from converter.planning.library_versions import export_packages, versions_of  # noqa: E402
from converter.publishing import report  # noqa: E402
from converter.running.analysis_runner import run_analysis  # noqa: E402
from converter.running.step_runner import measure  # noqa: E402


def analyse(hub: Hub, job: ExportJob, output: Path) -> None:
    from converter.quantization.layer_ranking import rank_layers

    extension = job.target.rpartition(".")[2]
    ranking = rank_layers(hub, job, exporter_of(hub, job), output.parent)
    versions = versions_of(export_packages(extension, hub.framework, job.quantization))
    ranking |= {"steps": [measure("quantization_layers")], "versions": versions}
    report.write(output, ranking)
    print(printable(f"{output}  {ranking['proposal']['reason']}"), flush=True)


if __name__ == "__main__":
    sys.exit(run_analysis("quantization_layers", analyse))
