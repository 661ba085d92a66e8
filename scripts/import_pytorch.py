"""Read a file of PyTorch weights or models into a hub: a torch.export program, or TorchScript where control flow needs it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

from converter.contracts import ImportSpec
from converter.hub.hub import Hub
from converter.running.step_runner import run_import


def import_model(spec: ImportSpec, out: Path) -> Hub:
    """Load `spec.source` in eval mode, run it for the reference, trace it, and write program.pt2 or module.pt into `out`."""
    if spec.toolchain != "default":
        from converter.legacy.source import import_pytorch

        return import_pytorch(spec, out, import_model)
    from converter.torch.extensions.vision import missing_operators
    from converter.torch.sources.evidence import FirstCalls
    from converter.torch.sources.hub_writer import write_hub
    from converter.torch.sources.inputs import find_inputs
    from converter.torch.sources.loading import load_source
    from converter.torch.sources.precision import in_float32

    source = load_source(spec)
    first_calls = FirstCalls(source)  # before find_inputs, which calls the model to see which dtypes it takes
    with missing_operators(source.path):
        source, inputs, first_calls = in_float32(source, find_inputs(source, spec), first_calls)
        hub = write_hub(source, inputs, first_calls, spec, out)
    hub.versions |= source.versions
    return hub


if __name__ == "__main__":
    sys.exit(run_import("import_pytorch", import_model))
