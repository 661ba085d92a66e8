"""PyTorch files of every form, of the networks here and of those that other tests use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mutation.recipes import Recipe

__all__ = ["RECIPES"]

_HERE = Path(__file__).parent
_SCRIPTS = {"networks": _HERE / "networks.py", "pytorch_networks": _HERE.parent / "pytorch_networks.py"}


def _network(module: str, name: str, arguments: dict) -> object:
    import pytorch_networks
    import torch

    from mutation import networks

    torch.manual_seed(0)
    made = getattr({"networks": networks, "pytorch_networks": pytorch_networks}[module], name)(**arguments)
    return pytorch_networks.vary(made).eval()


def _examples(shape: str) -> tuple:
    """Tensors for an input_shape such as "int64:-1,4;-1,6", its unknown batch and sizes taken as 2 and 8."""
    import torch

    made = []
    for part in shape.split(";"):
        dtype, _, dims = part.rpartition(":")
        sizes = [int(size) if size != "-1" else (2 if axis == 0 else 8) for axis, size in enumerate(dims.split(","))]
        made.append(torch.zeros(sizes, dtype=getattr(torch, dtype or "float32")))
    return tuple(made)


def _written(form: str, module: str, name: str, arguments: dict, shape: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import torch

        network, path = _network(module, name, arguments), folder / "source.pt"
        if form == "state dict":
            torch.save(network.state_dict(), path)
        elif form == "module":
            torch.save(network, path)
        elif form == "TorchScript":
            traced = torch.jit.script(network) if name == "Branches" else torch.jit.trace(network, _examples(shape))
            torch.jit.save(traced, path)
        else:
            batch, examples = torch.export.Dim("batch"), _examples(shape)
            program = torch.export.export(network, examples, dynamic_shapes=tuple({0: batch} for _ in examples))
            path = folder / "source.pt2"
            torch.export.save(program, path)
        return path

    return write


def _recipe(form: str, module: str, name: str, shape: str, arguments: dict | None = None, **ranges: tuple) -> Recipe:
    flags: dict = {} if form == ".pt2" else {"input_shape": shape}
    if form in ("state dict", "module"):
        flags["network_script"] = str(_SCRIPTS[module])
    if form == "state dict":
        flags |= {"network_name": name, **({"network_args": arguments} if arguments else {})}
    written = _written(form, module, name, arguments or {}, shape)
    return Recipe(f"torch_{name.lower()}", f"PyTorch {form}", written, flags, ranges)


RECIPES = [
    _recipe("state dict", "pytorch_networks", "Net", "-1,3,16,16"),
    _recipe("state dict", "pytorch_networks", "Tokens", "int64:-1,9", {"vocabulary": 12}, tokens=(0, 11)),
    _recipe("state dict", "networks", "MaskedEncoder", "-1,6,8;bool:-1,6"),
    _recipe(".pt2", "networks", "Norms", "-1,4,8,8"),
    _recipe("module", "pytorch_networks", "Encoder", "-1,7,16"),
    _recipe("module", "pytorch_networks", "Pieces", "-1,3,9,9"),
    _recipe("module", "networks", "Squeeze", "-1,4,9,9"),
    _recipe("TorchScript", "pytorch_networks", "UNet", "-1,3,8,12"),
    _recipe("TorchScript", "pytorch_networks", "Branches", "-1,4"),
    _recipe("TorchScript", "networks", "Perceptron", "-1,6"),
    _recipe(".pt2", "pytorch_networks", "TwoInputs", "-1,4;-1,6"),
    _recipe("module", "networks", "Gated", "-1,6,4"),
    _recipe("module", "networks", "Signal", "-1,3,-1"),
    _recipe("state dict", "networks", "Numbers", "int64:-1,5;bool:-1,5", numbers=(-20, 20)),
    _recipe(".pt2", "networks", "Double", "float64:-1,4"),
]
