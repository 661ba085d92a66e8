"""Rank the layers of an integer TensorFlow Lite file by what quantization costs them, and propose which to keep in float."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

from converter import formats  # noqa: E402
from converter.contracts import ExportJob  # noqa: E402
from converter.escape import printable  # noqa: E402
from converter.hub.hub import Hub  # noqa: E402
from converter.planning.library_versions import export_packages, versions_of  # noqa: E402
from converter.publishing import report  # noqa: E402
from converter.running.analysis_runner import run_analysis  # noqa: E402
from converter.running.step_runner import measure  # noqa: E402


def analyse(hub: Hub, job: ExportJob, output: Path) -> None:
    from converter.quantization.layer_ranking import rank_layers

    export = formats.load(formats.target("tflite").exporters[hub.framework].function)
    ranking = rank_layers(hub, job, export, output.parent)
    versions = versions_of(export_packages("tflite", hub.framework))
    ranking |= {"steps": [measure("quantization_layers")], "versions": versions}
    report.write(output, ranking)
    print(printable(f"{output}  {ranking['proposal']['reason']}"), flush=True)


if __name__ == "__main__":
    sys.exit(run_analysis("quantization_layers", analyse))
