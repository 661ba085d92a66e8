"""PyTorch files in torch 1.6: whole modules, state dicts with a network_script, TorchScript; handed over as TorchScript."""

from __future__ import annotations

import collections
import inspect
import pickle
import types

import numpy as np
import torch

from legacy.errors import LegacyError
from legacy.network_script import build, load_script

__all__ = ["load_torch", "run_torch", "trace"]

# What rebuilds tensors and plain data, and calls nothing that is not allowed itself.
_INERT = {
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("functools", "partial"),
    ("argparse", "Namespace"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch", "Tensor"),
    ("torch.nn.parameter", "Parameter"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch.nn.utils.weight_norm", "WeightNorm"),
    ("torch.nn.utils.spectral_norm", "SpectralNorm"),
    ("builtins", "set"),
    ("__builtin__", "set"),
}
_WEIGHTS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "model_state", "state")


def _restricted_pickle(script, source):
    """A stand-in for the pickle module that refuses what is neither inert nor a module class: torch 1.6 has no weights_only."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            if (module, name) in _INERT or (module == "torch" and name.endswith("Storage")):
                return super().find_class(module, name)
            own = _own_class(script, module, name)
            if own is not None:
                return own
            if module.split(".")[0] in ("torch", "torchvision"):
                target = super().find_class(module, name)
                is_module = inspect.isclass(target) and issubclass(target, torch.nn.Module)
                if is_module or (inspect.isfunction(target) and target.__module__ == "torch.nn.functional"):
                    return target
            raise LegacyError(
                "UntrustedError",
                f"{source} would run code when it is loaded: it names {module}.{name}; "
                "give the network_script that defines the network, or write `trusted: true` if you know its origin",
            )

    return _pickle_module(Unpickler)


def _trusting_pickle(script):
    """pickle itself, but for the classes that the script defines: a file may know them under another module's name."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            return _own_class(script, module, name) or super().find_class(module, name)

    return _pickle_module(Unpickler)


def _pickle_module(unpickler):
    module = types.ModuleType("pickle_of_file")
    module.__dict__.update({name: value for name, value in vars(pickle).items() if not name.startswith("__")})
    module.Unpickler = unpickler
    module.load = lambda file, **options: unpickler(file, **options).load()
    return module


def _own_class(script, module, name):
    """The network class of that name in the script, or in a module beside it; a file may know it as `__main__`'s."""
    if script is None or module.split(".")[0] in ("torch", "torchvision", "numpy", "builtins", "collections"):
        return None
    value = getattr(script, name, None)
    is_own = inspect.isclass(value) and (value.__module__ == script.__name__ or issubclass(value, torch.nn.Module))
    return value if is_own else None


def load_torch(request):
    """The module of a PyTorch file, on the CPU and in eval mode."""
    source, script = request["source"], load_script(request.get("network_script"))
    make = _trusting_pickle(script) if request.get("trusted") else _restricted_pickle(script, source)
    content = torch.load(source, map_location="cpu", pickle_module=make)
    if not isinstance(content, torch.nn.Module):
        content = _from_state(request, script, content)
    if isinstance(content, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        content = content.module
    return content.eval()


def _from_state(request, script, content):
    source, key = request["source"], request.get("state_dict_key")
    if key is not None:
        if not isinstance(content, dict) or key not in content:
            raise LegacyError("ParameterError", f"state_dict_key: {source} has no entry {key}")
        content = content[key]
    elif isinstance(content, dict) and not _is_state(content):
        content = next((content[name] for name in _WEIGHTS if name in content), content)
    if isinstance(content, torch.nn.Module):
        return content
    if not _is_state(content):
        raise LegacyError("SourceError", f"{source} holds neither a module nor weights")
    if script is None or request.get("network_name") is None:
        raise LegacyError(
            "ParameterError",
            f"{source} holds weights only: write network_script and network_name, the Python file and the class in it",
        )
    module = build(script, request["network_name"], request.get("network_args"))
    state = collections.OrderedDict(
        (name[len("module.") :] if name.startswith("module.") else name, value) for name, value in content.items()
    )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise LegacyError(
            "SourceError", "{} does not fit the network: {}".format(source, " ".join(str(error).split()))
        ) from error
    return module


def _is_state(content):
    return isinstance(content, dict) and bool(content) and all(isinstance(v, torch.Tensor) for v in content.values())


def trace(module, shapes, path):
    """Write the module as TorchScript, traced on random inputs of `shapes`: [dims with None for unknown, dtype or None] each."""
    if isinstance(module, torch.jit.ScriptModule):
        module.save(path)
        return
    failure = None
    # Token numbers are integers, which input_shape need not say.
    for default in ("float32", "int64"):
        arguments = tuple(_example(dims, dtype or default) for dims, dtype in shapes)
        try:
            with torch.no_grad():
                module(*arguments)
        except Exception as error:  # whatever the module raises for a dtype or a size it cannot take
            failure = failure or error
            continue
        with torch.no_grad():
            # check_trace compares with another trace; the converted file is compared with the module itself.
            traced = torch.jit.trace(module, arguments, check_trace=False, strict=False)
        _name_inputs(traced, module)
        traced.save(path)
        return
    raise LegacyError(
        "ParameterError",
        "input_shape: the network fails on inputs of these sizes: {}".format(str(failure).strip().split("\n")[0][:300]),
    )


def _name_inputs(traced, module):
    """Inputs called as forward's arguments are: torch 1.6 names them after the first submodule that they go into."""
    names = list(inspect.signature(module.forward).parameters)
    values = list(traced.graph.inputs())[1:]  # the first is the module
    for index, value in enumerate(values):
        if index < len(names):
            value.setDebugName(names[index])


def _example(dims, dtype):
    sizes = [1 if index == 0 and dim is None else 8 if dim is None else dim for index, dim in enumerate(dims)]
    generator = np.random.RandomState(0)
    if dtype.startswith("float"):
        return torch.from_numpy(generator.standard_normal(sizes).astype(dtype))
    return torch.from_numpy(generator.randint(0, 2, sizes).astype(dtype))


def run_torch(module, arrays):
    """The module's outputs for arrays, flattened in order; a dictionary's by its own order."""
    with torch.no_grad():
        return [tensor.numpy() for tensor in _tensors(module(*[torch.from_numpy(array.copy()) for array in arrays]))]


def _tensors(result):
    if isinstance(result, torch.Tensor):
        return [result]
    values = result.values() if isinstance(result, dict) else result if isinstance(result, (list, tuple)) else []
    return [tensor for value in values for tensor in _tensors(value)]
