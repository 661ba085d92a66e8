"""State dicts and modules in what a checkpoint file holds: find them, choose the one that fits, load it with every key
accounted for. Where two fit that are not equal, the user is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from converter.errors import ParameterError, SourceError, nearest
from converter.torch.sources.fitting import Fit, fits, listed, transposed_weights
from converter.torch.sources.norm_forms import without_norms

__all__ = ["choose_module", "choose_state", "find_weights", "hyper_parameters", "is_state_dict"]

# Where training scripts put the weights, the most telling names first: the one whose misfit is told where none fits.
_USUAL_KEYS = (
    *("model_state_dict", "state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("generator", "encoder", "backbone"),
)


def is_state_dict(value: object) -> bool:
    """A non-empty mapping of names to tensors; `_metadata` and the odd number of an old file do not count against it."""
    if not isinstance(value, Mapping) or not value:
        return False
    tensors = [isinstance(item, torch.Tensor) for item in value.values()]
    return all(isinstance(key, str) for key in value) and any(tensors) and all(tensors)


def hyper_parameters(content: object) -> str:
    """What PyTorch Lightning keeps beside the weights: the arguments that the network was made with; "" where none are."""
    found = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping) or not found:
        return ""
    pairs = ", ".join(f"{name}: {value!r}" for name, value in found.items())
    return f"; its hyper_parameters are {pairs if len(pairs) <= 300 else pairs[:297] + '...'}"


def find_weights(path: Path, content: object, key: str | None) -> dict[str, object]:
    """The state dicts and modules within what was unpickled, by the `state_dict_key` that names each.

    The first is what a usual name says. `content` itself has the name "". Only one where `key` is given. Raises
    ParameterError when `key` is not there, SourceError when nothing in the file looks like weights.
    """
    if key is not None:
        return {key: _named(path, content, key)}
    if _is_weights(content):
        return {"": content}
    if isinstance(content, torch.Tensor):
        raise SourceError(
            f"{path} holds one tensor of shape {list(content.shape)}, not a model: save the module or its state_dict"
        )
    if not isinstance(content, Mapping):
        raise SourceError(f"{path} holds a {type(content).__name__}, not a model: save the module or its state_dict")
    found = _weights_within(content)
    if found:
        usual = [name for name in _USUAL_KEYS if name in found]
        return {name: found[name] for name in [*usual, *(name for name in found if name not in usual)]}
    entries = ", ".join(f"{name} ({type(value).__name__})" for name, value in list(content.items())[:8]) or "nothing"
    raise SourceError(f"{path} holds no weights: it has {entries}; save the module or its state_dict")


def _is_weights(value: object) -> bool:
    return isinstance(value, torch.nn.Module) or is_state_dict(value)


def _weights_within(content: Mapping, depth: int = 0) -> dict[str, object]:
    """By dotted names; an average is often kept beside its decay (`ema.shadow`), an optimizer's moments lie deeper."""
    found: dict[str, object] = {}
    for name, value in content.items():
        if not isinstance(name, str):
            continue
        if _is_weights(value):
            found[name] = value
        elif isinstance(value, Mapping) and depth < 2:
            found |= {f"{name}.{inner}": entry for inner, entry in _weights_within(value, depth + 1).items()}
    return found


def choose_module(path: Path, found: Mapping[str, object], wanted: type | None) -> tuple[str, torch.nn.Module] | None:
    """The pickled module to convert, and its name; None where there are state dicts only.

    wanted: the class that network_name names. Raises ParameterError where modules, or the weights of one and a state dict
    of other values, are there to choose from.
    """
    modules = {name: value for name, value in found.items() if isinstance(value, torch.nn.Module)}
    if not modules:
        return None
    if wanted is not None:
        others = sorted({type(value).__name__ for value in modules.values()})
        parallel = torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel
        modules = {
            name: value
            for name, value in modules.items()
            if isinstance(value.module if isinstance(value, parallel) else value, wanted)
        }
        if not modules:
            raise ParameterError(
                f"network_name is {wanted.__name__}, but {path} holds a whole {' and a '.join(others)}: "
                "leave network_name out"
            )
    name, module = next(iter(modules.items()))
    rivals = [name]
    own = module.state_dict()
    for other, value in found.items():
        state = value.state_dict() if isinstance(value, torch.nn.Module) else value
        if other != name and ((other in modules and not _equal(own, state)) or _fits_otherwise(own, state)):
            rivals.append(other)
    if len(rivals) > 1:
        raise ParameterError(_several(path, "modules or sets of weights", rivals))
    return name, module


def choose_state(
    path: Path, found: Mapping[str, Mapping[str, torch.Tensor]], module: torch.nn.Module, name: str, strict: bool = True
) -> tuple[str, list[str], list[str]]:
    """Load the one set of weights that fits the module. Its name, notes and decisions.

    strict: none of the module's entries may be missing. Entries that it has not are left out, and said. Raises ParameterError
    where several of other values fit, SourceError that says what is missing where none does.
    """
    plain = without_norms(module, [key for state in found.values() for key in state])
    own, transposed = module.state_dict(), transposed_weights(module)
    candidates: dict[str, Fit] = {}
    for key, state in found.items():
        several = fits(own, state, name, transposed)
        for fit in several:
            if not fit.state and key.startswith("callbacks."):  # what Lightning's keep of their own
                continue
            below = ".".join(filter(None, [key, fit.prefix.removesuffix(".")]))
            candidates[below if len(several) > 1 else key] = fit
    fitting = {key: fit for key, fit in candidates.items() if fit.is_loadable(strict)}
    if not fitting:
        raise _no_fit(path, found, next(iter(candidates.values())), name)
    key, fit = next(iter(fitting.items()))
    others = [other for other, rival in fitting.items() if not fit.equals(rival)]
    if others:
        raise ParameterError(_several(path, f"sets of weights that fit {name}", [key, *others]))
    module.load_state_dict(fit.state, strict=False)
    notes, decisions = list(fit.notes), []
    if plain:
        notes.append(f"weight_norm and the like were taken off {plain} weights, which the file holds without them")
    if len(candidates) > 1:
        rest = ", ".join(other for other in candidates if other != key)
        equal = "; those of the same values fit too" if len(fitting) > 1 else "; no other fits"
        notes.append(
            f"the weights are those of {key}, while the file also holds {rest}{equal} (state_dict_key chooses)"
        )
        decisions.append(f"weights: {key} of {', '.join(candidates)}")
    if fit.missing:
        notes.append(
            f"the file lacks {', '.join(fit.missing)}: their values are those that {name} is made with (strict)"
        )
        decisions.append(f"not in the file: {listed(fit.missing)}")
    if fit.unused:
        notes.append(f"{name} has no use for these entries of the file: {', '.join(fit.unused)}")
        decisions.append(f"entries of the file without use: {listed(fit.unused)}")
    return key, notes, decisions


def _no_fit(path: Path, found: Mapping[str, object], fit: Fit, name: str) -> SourceError:
    problems = fit.problems(name)
    # Nothing else is wrong than that some are not there.
    lenient = (
        ", or write strict: false, which leaves them as the network is made" if fit.state and not fit.wrong else ""
    )
    others = f"; or name another of its sets of weights as state_dict_key: {', '.join(found)}" if len(found) > 1 else ""
    return SourceError(
        f"the weights in {path} are not those of {name}: {'; '.join(problems)}; check network_name and "
        f"network_args{lenient}{others}"
    )


def _several(path: Path, what: str, names: list[str]) -> str:
    return f"{path} holds several {what} ({', '.join(names)}): write state_dict_key, one of {', '.join(names)}"


def _equal(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key]) for key, value in first.items() if isinstance(value, torch.Tensor)
    )


def _fits_otherwise(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> bool:
    """Whether a state dict would fit a module too, with other values."""
    return any(
        fit.is_loadable(strict=True) and not _equal({key: own[key] for key in fit.state}, fit.state)
        for fit in fits(own, state, "")
    )


def _below(state: object, prefix: str) -> dict[str, torch.Tensor]:
    if not is_state_dict(state):
        return {}
    return {key.removeprefix(f"{prefix}."): value for key, value in state.items() if key.startswith(f"{prefix}.")}


def _named(path: Path, content: object, key: str) -> object:
    """`content[key]`; dots lead into nested mappings where no entry has the dotted name itself.

    Within a state dict the key is a prefix of names: what lies below it, without it.
    """
    current, rest = content, key
    while rest:
        if not isinstance(current, Mapping):
            raise ParameterError(
                f"state_dict_key: {path} holds a {type(current).__name__} where {rest!r} is looked for"
            )
        if rest in current:
            current, rest = current[rest], ""
            continue
        below = _below(current, rest)
        if below:
            return below
        head, _, tail = rest.partition(".")
        if not tail or head not in current:
            names = [str(name) for name in current]
            close = nearest(rest, names) or names[:10]
            raise ParameterError(
                f"state_dict_key: {path} has no entry {rest!r}; it has {', '.join(close) or 'nothing'}"
            )
        current, rest = current[head], tail
    if not isinstance(current, torch.nn.Module) and not is_state_dict(current):
        raise ParameterError(f"state_dict_key: entry {key!r} of {path} is a {type(current).__name__}, not a state dict")
    return current
