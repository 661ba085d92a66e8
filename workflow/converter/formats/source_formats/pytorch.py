"""PyTorch files: modules, TorchScript, exported programs, and state dictionaries."""

from converter.formats.declarations import SourceFormat

__all__ = ["PYTORCH"]

PYTORCH = SourceFormat(
    name="pytorch",
    title="PyTorch",
    framework="pytorch",
    extensions=(".pt", ".pth", ".pt2", ".safetensors", ".bin"),
    parameters=frozenset({"network_script", "network_name", "network_args", "state_dict_key", "strict", "constants"}),
    packages=("torch", "numpy"),
)
