"""What parameter `device` asks of the other parameters: a file is made to fit, or refused before anything runs."""

from __future__ import annotations

from collections.abc import Collection

from converter.errors import ParameterError
from converter.planning.parameters import DEFAULT_OPSET
from converter.planning.profiles import Profile, profile, profiles
from converter.planning.value_types import Parameters

__all__ = ["made_to_fit", "takes_fixed_shapes"]

# What all exporters write, and models of today need; where a device takes no opset as low as the default.
_USUAL_OPSET = 17
_INTEGERS = ("int8", "uint8")


def takes_fixed_shapes(name: str, extensions: Collection[str]) -> bool:
    """Whether a device of that name is for files with one of these extensions, and takes fixed shapes only. Raises as below."""
    found = profile(name)
    return found.fixed_shapes and bool(set(found.formats) & set(extensions))


def made_to_fit(parameters: Parameters, extension: str, is_jobs: bool) -> Parameters:
    """Export parameters with those that the device asks for. A device that is not for files with this extension counts only
    where it is the job's own (`is_jobs`): one of a model or of the defaults stands for other targets then.

    Raises ParameterError where the device does not exist, or does not take what the other parameters ask for.
    """
    found = profile(parameters["device"])
    if extension not in found.formats:
        if is_jobs:
            raise ParameterError(_other_format(found, extension))
        return {name: value for name, value in parameters.items() if name != "device"}
    if found.opset is not None:
        parameters = _with_opset(parameters, found, found.opset)
    kind = parameters.get("quantization", {}).get("type", "float32")
    load = "load" in parameters.get("quantization", {})
    if found.integer_only and kind not in _INTEGERS and not (kind == "float32" and load):
        raise ParameterError(
            f"device {found.name} computes in integers only: write quantization.type int8 with quantization.load, or ask for "
            f"a .int8.{extension} file"
        )
    return parameters


def _with_opset(parameters: Parameters, found: Profile, opset: tuple[int, int]) -> Parameters:
    lowest, highest = opset
    asked = parameters.get("onnx_opset")
    if asked is None:
        return parameters if lowest <= DEFAULT_OPSET else {**parameters, "onnx_opset": min(_USUAL_OPSET, highest)}
    if not lowest <= asked <= highest:
        raise ParameterError(
            f"onnx_opset {asked} is none that device {found.name} takes: write one from {lowest} to {highest}"
        )
    return parameters


def _other_format(found: Profile, extension: str) -> str:
    others = [entry.name for entry in profiles().values() if extension in entry.formats]
    hint = f"name one of {', '.join(others)}" if others else "leave device out"
    return f"device {found.name} takes .{' and .'.join(found.formats)} files, not .{extension}: {hint}"
