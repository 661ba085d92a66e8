"""Read a directory of Hugging Face or timm (config.json and weights) into a hub, as a PyTorch module of its class."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

from converter.contracts import ImportSpec
from converter.errors import UnsupportedError
from converter.hub.hub import Hub
from converter.running.step_runner import run_import


def import_model(spec: ImportSpec, out: Path) -> Hub:
    """Load the model of `spec.source`, run it for the reference, trace it, and write program.pt2 into `out`."""
    from converter.torch.huggingface.loading import load_directory
    from converter.torch.sources.evidence import FirstCalls
    from converter.torch.sources.hub_writer import write_hub

    source, find_inputs = load_directory(spec)
    first_calls = FirstCalls(source)  # before its inputs are found, which calls the model
    inputs = find_inputs(spec.length)
    try:
        return write_hub(source, inputs, first_calls, spec, out)
    except UnsupportedError:
        free = any(None in (tensor.shape or ())[1:] for tensor in inputs.specs)
        if not free or spec.length is not None or spec.input_shape is not None:
            raise
    # Some models take some lengths only, such as multiples of a block's.
    return write_hub(source, find_inputs("usual"), first_calls, spec, out)


if __name__ == "__main__":
    sys.exit(run_import("import_huggingface", import_model))
