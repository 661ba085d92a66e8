"""The networks of tests/test_pytorch_acceptance.py as PyTorch files of every form, and facenet-pytorch's detectors.

python tests/pytorch_sources.py FOLDER      writes FOLDER/models, FOLDER/nets and FOLDER/pytorch.yaml
"""

import sys
from pathlib import Path

import pytorch_networks
import torch
import yaml
from packages import unpacked
from pytorch_networks import vary

# name: class, its arguments, input_shape, form of the file
NETWORKS = {
    "lstm_classifier": ("Sequence", {}, "2,9,8", "state"),
    "gru_classifier": ("Sequence", {"rnn": "GRU"}, "2,9,8", "checkpoint"),
    "bidirectional_lstm": ("Tokens", {}, "2,9", "parallel"),
    "transformer_encoder": ("Encoder", {}, "2,7,16", "module"),
    "unet": ("UNet", {}, "2,3,16,24", "traced"),
    "two_inputs": ("TwoInputs", {}, "2,4;2,6", "program"),
    "pieces": ("Pieces", {}, "2,3,9,9", "old format"),
    "net": ("Net", {"classes": 7}, "2,3,16,16", "scripted"),
}
DETECTORS = {"pnet": "1,3,40,52", "rnet": "1,3,24,24", "onet": "1,3,48,48"}


def write_networks(folder: Path) -> dict[str, dict]:
    """Write folder/models/*.pt and folder/nets/networks.py; the `models:` of a configuration for them."""
    (folder / "models").mkdir(exist_ok=True)
    (folder / "nets").mkdir(exist_ok=True)
    (folder / "nets" / "networks.py").write_text(Path(pytorch_networks.__file__).read_text())
    return {name: _write(folder, name, *entry) for name, entry in NETWORKS.items()}


def _write(folder: Path, name: str, cls: str, arguments: dict, shape: str, form: str) -> dict:
    torch.manual_seed(0)
    module = vary(getattr(pytorch_networks, cls)(**arguments)).eval()
    sizes = [[int(size) for size in part.split(",")] for part in shape.split(";")]
    examples = tuple(torch.zeros(size, dtype=torch.int64) if cls == "Tokens" else torch.randn(size) for size in sizes)
    path = folder / "models" / f"{name}.pt"
    free = ";".join(",".join(["-1", *part.split(",")[1:]]) for part in shape.split(";"))
    entry = {"network_script": "nets/networks.py", "input_shape": free}
    built = {**entry, "network_name": cls, **({"network_args": arguments} if arguments else {})}
    if form == "state":
        torch.save(module.state_dict(), path)
        return built
    if form == "checkpoint":
        torch.save({"epoch": 3, "model_state_dict": module.state_dict(), "optimizer": {"lr": 0.1}}, path)
        return built
    if form == "parallel":
        torch.save({f"module.{key}": value for key, value in module.state_dict().items()}, path)
        return built
    if form in ("module", "old format"):
        torch.save(module, path, _use_new_zipfile_serialization=form == "module")
        return entry
    if form == "program":
        batch = torch.export.Dim("batch")
        program = torch.export.export(module, examples, dynamic_shapes=tuple({0: batch} for _ in examples))
        torch.export.save(program, path.with_suffix(".pt2"))
        return {}
    script = torch.jit.trace(module, examples) if form == "traced" else torch.jit.script(module)
    torch.jit.save(script, path)
    return {"input_shape": free}


def write_detectors(folder: Path) -> dict[str, dict]:
    """The state dicts of facenet-pytorch's three MTCNN networks, and the package's script that builds them."""
    package = unpacked("facenet-pytorch==2.6.0", folder / "facenet") / "facenet_pytorch"
    source = (package / "models" / "mtcnn.py").read_text()
    (folder / "nets").mkdir(exist_ok=True)
    # Its helpers want pillow and OpenCV, and build no network.
    (folder / "nets" / "mtcnn.py").write_text(source.replace("from .utils", "# from .utils"))
    entries = {}
    for name, shape in DETECTORS.items():
        (folder / "models" / f"{name}.pt").write_bytes((package / "data" / f"{name}.pt").read_bytes())
        entries[name] = {
            "network_script": "nets/mtcnn.py",
            "network_name": f"{name[0].upper()}Net",
            "network_args": {"pretrained": False},
            "input_shape": shape,
        }
    return entries


if __name__ == "__main__":
    root = Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    (root / "models").mkdir(exist_ok=True)
    (root / "facenet").mkdir(exist_ok=True)
    entries = {**write_networks(root), **write_detectors(root)}
    (root / "pytorch.yaml").write_text(yaml.safe_dump({"models": entries}))
