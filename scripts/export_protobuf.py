"""Convert a hub directory to a TensorFlow graph (.pb)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

from converter.contracts import ExportJob, ExportResult  # noqa: E402
from converter.divergence import first_divergence  # noqa: E402
from converter.errors import UnsupportedError  # noqa: E402
from converter.hub.hub import Hub  # noqa: E402
from converter.running.step_runner import run_export  # noqa: E402


def export_model(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    if hub.framework != "tensorflow":
        raise UnsupportedError(
            f"a {hub.framework} model does not become a TensorFlow graph: ask for an .onnx, .tflite, .h5 or .keras file"
        )
    from converter.tf.protobuf.export import export

    return export(hub, job, staged)


if __name__ == "__main__":
    sys.exit(run_export("export_protobuf", export_model, explain=first_divergence))
