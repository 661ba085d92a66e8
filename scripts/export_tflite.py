"""Convert a hub directory to a TensorFlow Lite file (.tflite), quantized if asked."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

from converter.contracts import ExportJob, ExportResult  # noqa: E402
from converter.divergence import first_divergence  # noqa: E402
from converter.hub.hub import Hub  # noqa: E402
from converter.running.step_runner import run_export  # noqa: E402


def export_model(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    from converter.quantization.export import export_quantized
    from converter.quantization.model import kind_of

    kind = kind_of(job.quantization)
    if hub.framework == "tensorflow":
        from converter.tf.tflite.export import export
    else:
        from converter.torch.tflite.export import export
    if kind is not None:
        return export_quantized(hub, job, staged, kind, export)
    result = export(hub, job, staged)
    for key in ("load", "keep_float"):
        if key in job.quantization:
            result.notes.append(f"quantization.{key} is not used for float32")
    return result


if __name__ == "__main__":
    sys.exit(run_export("export_tflite", export_model, explain=first_divergence))
