"""Hub to ONNX: export_onnx.py HUB STAGED --report REPORT --target TARGET."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.contracts import ExportJob, ExportResult
from converter.divergence import first_divergence
from converter.hub.hub import Hub
from converter.running.step_runner import run_export


def export_model(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    if job.backend == "keras2onnx":
        from converter.legacy.backends import export_keras2onnx as export
    elif hub.framework == "tensorflow":
        from converter.tf.onnx.export import export
    else:
        from converter.torch.onnx.export import export
    return export(hub, job, staged)


if __name__ == "__main__":
    sys.exit(run_export("export_onnx", export_model, explain=first_divergence))
