"""A PyTorch file as a callable module in eval mode: state dicts, checkpoints, pickled modules, TorchScript, programs."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from converter.errors import ParameterError, SourceError, UntrustedError
from converter.importing.installed import InstalledNetwork, is_dotted, load_installed
from converter.importing.network_script import NetworkScript, build, load_script
from converter.torch.extensions.audio import prepare_torchaudio
from converter.torch.extensions.vision import importable_torchvision
from converter.torch.sources.archives import checked_kind, load_program, load_torchscript
from converter.torch.sources.checkpoints import choose_module, choose_state, find_weights, hyper_parameters
from converter.torch.sources.norm_forms import fold_parametrizations
from converter.torch.sources.quantized_script import refuse_unwritable
from converter.torch.trust.names import check_module
from converter.torch.trust.pickles import load_pickled
from converter.torch.trust.safetensors import load_safetensors
from converter.wording import TRUST

if TYPE_CHECKING:
    from converter.contracts import ImportSpec

__all__ = ["Source", "check_is_model", "complete_old_modules", "fold_parametrizations", "load_source"]


@dataclass
class Source:
    """A loaded model. `kind`: "module", "torchscript" or "program" (then `program` is set, and `module` made from it).

    versions: of the installed package that builds the network, where network_name names one.
    """

    path: Path
    kind: str
    module: torch.nn.Module
    program: torch.export.ExportedProgram | None = None
    script: NetworkScript | None = None
    notes: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What to call the model in messages."""
        return getattr(self.module, "original_name", None) or type(self.module).__name__


def load_source(spec: ImportSpec) -> Source:
    """Load `spec.source`, and put it into eval mode. Raises ConverterError for whatever the user can mend."""
    path = spec.source
    script, installed, name = _network(spec)
    kind = checked_kind(path, spec.trusted)
    if kind == "program":
        program, module = load_program(path, spec.trusted)
        return Source(path, kind, module, program, script)
    if kind == "torchscript":
        module = load_torchscript(path, spec.trusted).eval()
        refuse_unwritable(path, module)
        return Source(path, kind, module, None, script)
    content = load_safetensors(path) if kind == "safetensors" else load_pickled(path, script, spec.trusted)
    found = find_weights(path, content, spec.state_dict_key)
    for value in found.values():
        if isinstance(value, torch.nn.Module):
            _check_is_whole(path, value, spec.trusted)
    network = script or installed
    named = network.attribute(name) if network is not None and name is not None else None
    try:
        chosen = choose_module(path, found, named if inspect.isclass(named) else None)
        if chosen is None:
            if network is None:
                raise _without_network(path, found)
            try:
                return _from_state(path, found, network, name, spec)
            except (ParameterError, SourceError) as error:
                raise type(error)(f"{error}{hyper_parameters(content)}") from error
        source = _from_module(path, chosen[1], script)
    except RecursionError:
        raise SourceError(f"{path} holds a module that contains itself, or modules nested without end") from None
    if len(found) > 1:
        rest = ", ".join(name for name in found if name != chosen[0])
        source.notes.append(
            f"the model is {chosen[0]} of the file, which also holds {rest} (state_dict_key chooses another)"
        )
        source.decisions.append(f"model: {chosen[0]} of {', '.join(found)}")
    return source


def _network(spec: ImportSpec) -> tuple[NetworkScript | None, InstalledNetwork | None, str | None]:
    """The user's script, or the installed package without one, and the network's name in it."""
    name = spec.network_name
    prepare_torchaudio()
    with importable_torchvision():
        if spec.network_script is not None:
            return load_script(spec.network_script), None, name
        if name is None:
            return None, None, None
        if not is_dotted(name):
            raise ParameterError(
                f"network_name is {name!r}, but no network_script says where it is defined: write one, or a name in an "
                "installed package, as timm.create_model"
            )
        return None, *load_installed(name)


def _from_module(path: Path, module: torch.nn.Module, script: NetworkScript | None) -> Source:
    notes = []
    if isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
        module = module.module
        notes.append("the wrapper for several GPUs was taken off")
    check_module(path, module)
    check_is_model(path, module)
    complete_old_modules(module)
    module.eval()
    return Source(path, "module", module, None, script, notes)


# What a module of a file may not have as its own: torch and the checks here call these of torch.nn.Module.
_METHODS = {"forward", *(name for name, value in vars(torch.nn.Module).items() if callable(value))}


def _check_is_whole(path: Path, module: torch.nn.Module, trusted: bool) -> None:
    """A pickled module is any set of attributes; without these none of torch.nn's own functions works."""
    mappings = [name for name, value in vars(torch.nn.Module()).items() if isinstance(value, dict)]
    kinds = {"_modules": torch.nn.Module, "_parameters": torch.Tensor, "_buffers": torch.Tensor}
    pending, seen = [module], set()
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        # Mappings that came after the file's release are added by torch itself as it loads (Module.__setstate__).
        wrong = [name for name in mappings if not isinstance(vars(part).get(name, {}), dict)]
        wrong += [name for name in kinds if name not in vars(part)]
        wrong += [
            name
            for name, kind in kinds.items()
            if not wrong and not all(value is None or isinstance(value, kind) for value in vars(part)[name].values())
        ]
        if isinstance(part, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            wrong += [] if wrong or isinstance(part._modules.get("module"), torch.nn.Module) else ["module"]
        if wrong:
            raise SourceError(f"{path} is damaged: its {type(part).__name__} has no sound {wrong[0]}")
        own = sorted(_METHODS & vars(part).keys())
        if own and not trusted:
            raise UntrustedError(
                f"{path} replaces {own[0]} of its {type(part).__name__}: save the module without that, or {TRUST}"
            )
        for name, value in [*part._parameters.items(), *part._buffers.items()]:
            if value is not None and (value.is_meta or value.layout not in (torch.strided, torch.sparse_coo)):
                lacks = "has no values" if value.is_meta else f"has the layout {value.layout}"
                raise SourceError(
                    f"{path}: {name} of its {type(part).__name__} {lacks}, which no exporter takes: save it as a dense tensor"
                )
        pending += [child for child in part._modules.values() if child is not None]


def _without_network(path: Path, found: dict[str, Any]) -> ParameterError:
    state = next(iter(found.values()))
    first = ", ".join(list(state)[:3])
    sets = f" in {next(iter(found))}; others in {', '.join(list(found)[1:])}" if len(found) > 1 else ""
    return ParameterError(
        f"{path} holds weights only ({len(state)} tensors: {first}, ...{sets}): "
        "write network_script and network_name, the Python file and the class or function in it that builds the network, "
        "or network_name alone for an installed package's, as timm.create_model"
    )


def _from_state(
    path: Path, found: dict[str, Any], network: NetworkScript | InstalledNetwork, name: str | None, spec: ImportSpec
) -> Source:
    script = network if isinstance(network, NetworkScript) else None
    if name is None:
        assert script is not None  # that of a package has its name
        name = _only_network(script)
    # What the file does not set, or the network draws itself, comes out the same each time.
    torch.manual_seed(0)
    prepare_torchaudio()
    with importable_torchvision():
        module = build(network, name, spec.network_args)
    if not isinstance(module, torch.nn.Module):
        raise ParameterError(
            f"network_name: {name} of {network.path} gives a {type(module).__name__}, not a torch.nn.Module"
        )
    module = _unwrapped(module).eval()  # in training mode spectral_norm moves its vectors as it is taken off
    _, notes, decisions = choose_state(path, found, module, name, spec.strict)
    source = Source(path, "module", module, None, script, notes, decisions)
    if isinstance(network, InstalledNetwork):
        source.notes.append(
            f"the network is built by {network.module.__name__}.{name} of {network.distribution} {network.version}"
        )
        source.versions[network.distribution] = network.version
    return source


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """Without what a factory put around its network: torch.compile, and the wrappers for several GPUs."""
    parallel = torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel
    while True:
        inner = module.module if isinstance(module, parallel) else module._modules.get("_orig_mod")
        if not isinstance(inner, torch.nn.Module):
            return module
        module = inner


def _only_network(script: NetworkScript) -> str:
    """The script's one module class that no other module class of it uses as a base, when network_name is not given."""
    own = {
        name: value
        for name, value in script.classes().items()
        if issubclass(value, torch.nn.Module) and value.__module__ == script.module.__name__
    }
    if len(own) == 1:
        return next(iter(own))
    if not own:
        raise ParameterError(f"network_name is needed: {script.path} defines no torch.nn.Module class")
    raise ParameterError(f"network_name is needed: {script.path} defines {', '.join(sorted(own))}")


def complete_old_modules(module: torch.nn.Module) -> None:
    """Give modules pickled by an older release the attributes that came later, with their constructor's defaults.

    GELU.approximate (torch 1.12) and Upsample.recompute_scale_factor (1.11) are such: forward fails without them.
    """
    for part in module.modules():
        if not type(part).__module__.startswith(("torch.nn.", "torchvision.")):
            continue
        if isinstance(part, torch.nn.TransformerEncoder) and not hasattr(part, "use_nested_tensor"):
            part.use_nested_tensor = False  # no constructor argument, but computed from them (torch 2.1)
        try:
            parameters = inspect.signature(type(part).__init__).parameters.values()
        except (TypeError, ValueError):
            continue
        for parameter in parameters:
            known = parameter.default is inspect.Parameter.empty or parameter.name in ("device", "dtype", "bias")
            if not known and not hasattr(part, parameter.name):
                setattr(part, parameter.name, parameter.default)


def check_is_model(path: Path, module: torch.nn.Module) -> None:
    """Quantized modules compute with packed integers that no exporter takes. Raises SourceError that names one."""
    for name, part in module.named_modules():
        kind = type(part).__module__
        if ".quantized" in kind and "qat" not in kind:
            raise SourceError(
                f"{path} holds quantized modules ({name or 'the model'} is {kind}.{type(part).__name__}): "
                "give the float model, and ask for a quantized .tflite file of it"
            )
