"""Read an ONNX file into a hub: its graph, its weights beside it, and what onnxruntime computes of it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.contracts import ImportSpec
from converter.hub.hub import Hub
from converter.running.step_runner import run_import


def import_model(spec: ImportSpec, out: Path) -> Hub:
    """Check `spec.source`, cut it and fix its sizes as asked, run it for the reference, and write model.onnx into `out`."""
    from tempfile import TemporaryDirectory

    from converter.onnx.constants import fix_constants
    from converter.onnx.containers import containers_of, lengths_of, tensors_only
    from converter.onnx.cut import cut
    from converter.onnx.hub_writer import write_hub
    from converter.onnx.interface import inputs_of, outputs_of
    from converter.onnx.oldest_runtime import of_file
    from converter.onnx.reading import open_model, read_model, write_model
    from converter.onnx.shapes import with_shapes
    from converter.onnx_to_torch.probe import module_probe
    from converter.planning.given_shapes import override_shapes

    model = read_model(spec.source)
    plain = tensors_only(model, {})
    candidates = {"inputs": inputs_of(plain, spec.source), "outputs": outputs_of(plain, spec.source)}
    fix_constants(model, spec.source, spec.constants)
    if spec.input_nodes or spec.output_nodes:
        model = cut(model, spec.input_nodes, spec.output_nodes)
    inputs = override_shapes(spec, inputs_of(tensors_only(model, {}), spec.source))
    with_shapes(model, {entry.name: entry.shape for entry in inputs if entry.shape is not None})
    write_model(model, out)
    containers, lengths = containers_of(model), dict[str, int]()
    if not containers:
        runtime = open_model(out / "model.onnx", spec.source)
    else:
        with TemporaryDirectory(dir=out) as folder:
            write_model(tensors_only(model, {}), Path(folder))
            lengths = lengths_of(model, inputs, open_model(Path(folder) / "model.onnx", spec.source), spec.source)
        with TemporaryDirectory(dir=out) as folder:
            write_model(tensors_only(model, lengths), Path(folder))
            runtime = open_model(Path(folder) / "model.onnx", spec.source)
    plain = tensors_only(model, lengths)
    outputs = outputs_of(plain, spec.source)
    hub = write_hub(
        spec, out, plain, (inputs, outputs), runtime.run, kind="onnx", candidates=candidates, probe=module_probe
    )
    if containers:
        hub.extra["containers"], hub.extra["lengths"] = containers, lengths
    hub.oldest_runtime = of_file(spec.source)
    return hub


if __name__ == "__main__":
    sys.exit(run_import("import_onnx", import_model))
