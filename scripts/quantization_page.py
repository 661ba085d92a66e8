"""Make a model's float32 file and all its quantized ones, and one HTML page that compares them."""

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

from converter import formats  # noqa: E402
from converter.contracts import ExportJob  # noqa: E402
from converter.escape import printable  # noqa: E402
from converter.exporting import exporter_of  # noqa: E402
from converter.hub.hub import Hub  # noqa: E402
from converter.running.analysis_runner import run_analysis  # noqa: E402


def analyse(hub: Hub, job: ExportJob, output: Path, blocks: str) -> None:
    from converter.pages.page import write
    from converter.pages.quantization import quantization_page
    from converter.quantization.compare import compare

    target = formats.target(job.target.rpartition(".")[2])
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        variants = compare(hub, job, json.loads(blocks), exporter_of(hub, job), Path(folder))
    name = output.name.removesuffix(".quantization.html")
    write(output, quantization_page(name, hub, variants, target.title))
    print(printable(f"{output}  " + ", ".join(f"{variant.name} {variant.status}" for variant in variants)), flush=True)


def blocks_of(options: Mapping[str, str]) -> list[dict]:
    """The blocks among `blocks`; the others are sentences."""
    return [block for block in json.loads(options["blocks"]).values() if isinstance(block, dict)]


if __name__ == "__main__":
    blocks_help = "by kind of file, as JSON, its quantization block, or why there is none"
    sys.exit(
        run_analysis(
            "quantization_page",
            analyse,
            options={"blocks": blocks_help},
            modules=["matplotlib.font_manager"],
            blocks=blocks_of,
            measures=True,
        )
    )
