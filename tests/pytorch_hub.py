"""Helpers of the PyTorch tests: save a network in some form, and import it into a hub."""

from pathlib import Path

import pytorch_networks
import torch
from import_pytorch import import_model

from converter.contracts import ImportSpec
from converter.hub.hub import Hub
from converter.planning.input_shapes import parse_input_shape

SCRIPT = Path(pytorch_networks.__file__)


def network(name, *args, **kwargs):
    """A network of pytorch_networks in eval mode, with weights that make its outputs vary."""
    torch.manual_seed(0)
    return pytorch_networks.vary(getattr(pytorch_networks, name)(*args, **kwargs)).eval()


def saved(folder, name, *args, **kwargs):
    """The path of the whole network, pickled."""
    path = folder / f"{name}.pt"
    torch.save(network(name, *args, **kwargs), path)
    return path


def import_file(path, out, shape=None, **parameters):
    """What import_pytorch makes of the file, as an export step reads it."""
    parameters.setdefault("network_script", SCRIPT)
    out.mkdir(parents=True, exist_ok=True)
    spec = ImportSpec(Path(path), "pytorch", input_shape=parse_input_shape(shape) if shape else None, **parameters)
    hub = import_model(spec, out)
    hub.source, hub.versions = {"sha256": "0" * 64}, {"torch": "test"}
    hub.write()
    return Hub.read(out)
