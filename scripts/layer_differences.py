"""Compare a converted float file with its source tensor by tensor."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

from converter import formats  # noqa: E402
from converter.contracts import ExportJob, ExportResult  # noqa: E402
from converter.errors import ParameterError  # noqa: E402
from converter.hub.hub import Hub  # noqa: E402
from converter.planning.library_versions import export_packages, versions_of  # noqa: E402
from converter.publishing import report  # noqa: E402
from converter.running.analysis_runner import run_analysis  # noqa: E402
from converter.running.step_runner import measure  # noqa: E402


def analyse(hub: Hub, job: ExportJob, output: Path) -> None:
    from converter.divergence.layers import layer_differences

    table = layer_differences(hub, job, export, output.parent)
    versions = versions_of(export_packages(job.target.rpartition(".")[2], hub.framework))
    table |= {"steps": [measure("layer_differences")], "versions": versions}
    report.write(output, table)
    print(f"{output}  {table['summary']}", flush=True)


def export(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """The file as its export step writes it: the same bytes."""
    if job.backend != "default":
        raise ParameterError(f"backend {job.backend}: the layers of its files are not compared; leave backend out")
    exporter = formats.target(job.target.rpartition(".")[2]).exporters[hub.framework]
    return formats.load(exporter.function)(hub, job, staged)


if __name__ == "__main__":
    sys.exit(run_analysis("layer_differences", analyse))
