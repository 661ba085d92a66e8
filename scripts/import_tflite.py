"""Read a TensorFlow Lite file into a hub: its graph as ONNX, and what LiteRT computes of it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.contracts import ImportSpec
from converter.errors import SourceError
from converter.hub.hub import Hub
from converter.running.step_runner import run_import


def import_model(spec: ImportSpec, out: Path) -> Hub:
    """Read `spec.source` as ONNX, run it in LiteRT for the reference, and write model.onnx and model.tflite into `out`."""
    import shutil

    from converter.onnx.hub_writer import write_hub
    from converter.onnx.interface import with_steps
    from converter.onnx.reading import write_model
    from converter.onnx.shapes import with_shapes
    from converter.onnx_to_torch.probe import module_probe
    from converter.planning.given_shapes import override_shapes
    from converter.tflite.oldest_runtime import of_file
    from converter.tflite_to_onnx import read_model
    from converter.verification.runtimes import TFLiteModel
    from converter.wording import first_line

    model = read_model(spec.source)
    shutil.copyfile(spec.source, out / "model.tflite")
    try:
        runtime = TFLiteModel(out / "model.tflite")
    except (RuntimeError, ValueError) as error:
        raise SourceError(
            f"LiteRT, which {spec.source} is compared with, does not take it: {first_line(error)}"
        ) from error
    inputs = override_shapes(spec, runtime.inputs)
    with_shapes(model, {entry.name: entry.shape for entry in inputs if entry.shape is not None})
    write_model(model, out)
    candidates = {"inputs": runtime.inputs, "outputs": runtime.outputs}
    outputs = with_steps(model, runtime.outputs)
    hub = write_hub(
        spec, out, model, (inputs, outputs), runtime.run, kind="tflite", candidates=candidates, probe=module_probe
    )
    hub.oldest_runtime = of_file(spec.source)
    return hub


if __name__ == "__main__":
    sys.exit(run_import("import_tflite", import_model))
