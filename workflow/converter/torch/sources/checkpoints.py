"""State dicts and modules in what a checkpoint file holds: find them, choose the one that fits, load it with every key
accounted for. Where two fit that are not equal, the user is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from converter.errors import ParameterError, SourceError, nearest
from converter.torch.sources.norm_names import with_names_of

__all__ = ["choose_module", "choose_state", "find_weights", "is_state_dict", "load_state"]

# Where training scripts put the weights, the most telling names first: the one whose misfit is told where none fits.
_USUAL_KEYS = (
    *("model_state_dict", "state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("generator", "encoder", "backbone"),
)
# What wrappers put in front of every key: DataParallel, torch.compile, Lightning modules named model or net.
_WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")


def is_state_dict(value: object) -> bool:
    """A non-empty mapping of names to tensors; `_metadata` and the odd number of an old file do not count against it."""
    if not isinstance(value, Mapping) or not value:
        return False
    tensors = [isinstance(item, torch.Tensor) for item in value.values()]
    return all(isinstance(key, str) for key in value) and any(tensors) and all(tensors)


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
    path: Path, found: Mapping[str, Mapping[str, torch.Tensor]], module: torch.nn.Module, name: str
) -> tuple[str, list[str], list[str]]:
    """Load the one set of weights that fits the module. Its name, notes and decisions.

    Raises ParameterError where several of other values fit, SourceError that says what is missing where none does.
    """
    own = module.state_dict()
    fitting = [key for key, state in found.items() if not _problems(own, _strip(state, own)[0], name)]
    others = [key for key in fitting[1:] if not _equal(_strip(found[fitting[0]], own)[0], _strip(found[key], own)[0])]
    if others:
        raise ParameterError(_several(path, f"sets of weights that fit {name}", [fitting[0], *others]))
    key = fitting[0] if fitting else next(iter(found))
    try:
        notes = load_state(path, module, found[key], name)
    except SourceError as error:
        if len(found) == 1:
            raise
        raise SourceError(
            f"{error}; or name another of its sets of weights as state_dict_key: {', '.join(found)}"
        ) from None
    if len(found) == 1:
        return key, notes, []
    rest = ", ".join(other for other in found if other != key)
    equal = "; those of the same values fit too" if len(fitting) > 1 else "; no other fits"
    notes.append(f"the weights are those of {key}, while the file also holds {rest}{equal} (state_dict_key chooses)")
    return key, notes, [f"weights: {key} of {', '.join(found)}"]


def _several(path: Path, what: str, names: list[str]) -> str:
    return f"{path} holds several {what} ({', '.join(names)}): write state_dict_key, one of {', '.join(names)}"


def _equal(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key]) for key, value in first.items() if isinstance(value, torch.Tensor)
    )


def _fits_otherwise(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> bool:
    """Whether a state dict would fit a module too, with other values."""
    stripped = _strip(state, own)[0]
    return not _problems(own, stripped, "") and not _equal({key: own[key] for key in stripped if key in own}, stripped)


def _named(path: Path, content: object, key: str) -> object:
    """`content[key]`; dots lead into nested mappings where no entry has the dotted name itself."""
    current, rest = content, key
    while rest:
        if not isinstance(current, Mapping):
            raise ParameterError(
                f"state_dict_key: {path} holds a {type(current).__name__} where {rest!r} is looked for"
            )
        if rest in current:
            current, rest = current[rest], ""
            continue
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


def load_state(path: Path, module: torch.nn.Module, state: Mapping[str, torch.Tensor], name: str) -> list[str]:
    """Copy the state into the module. Returns notes; raises SourceError that lists missing and unexpected keys and shapes."""
    own = module.state_dict()
    adapted, notes = _strip(state, own)
    problems = _problems(own, adapted, name)
    if problems:
        raise SourceError(
            f"the weights in {path} are not those of {name}: {'; '.join(problems)}; check network_name and network_args"
        )
    module.load_state_dict(dict(adapted), strict=False)
    return notes


def _problems(own: Mapping[str, Any], adapted: Mapping[str, torch.Tensor], name: str) -> list[str]:
    """Clauses that say what keeps a state dict from being that of the module `name`, whose own is `own`."""
    # Counters of BatchNorm came with torch 0.4.1 and play no part in inference.
    missing = [key for key in own if key not in adapted and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in adapted if key not in own]
    wrong = [
        f"{key} is {list(adapted[key].shape)} in the file and {list(own[key].shape)} in {name}"
        for key in own
        if key in adapted and isinstance(own[key], torch.Tensor) and not _fits(own[key], adapted[key])
    ]
    problems = []
    if missing:
        problems.append(f"the file lacks {_list(missing)}")
    if unexpected:
        problems.append(f"{name} has no {_list(unexpected)}")
    if wrong:
        problems.append("; ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""))
    return problems


def _fits(own: torch.Tensor, value: torch.Tensor) -> bool:
    # A tensor of a lazy module has no shape yet; 0-d and 1-element tensors are interchangeable, as in load_state_dict.
    if torch.nn.parameter.is_lazy(own):
        return True
    return own.shape == value.shape or (own.dim() == 0 and value.shape == (1,))


def _strip(state: Mapping[str, torch.Tensor], own: Mapping[str, object]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Take off wrappers' prefixes as long as that brings more keys into agreement; names of normalised weights as `own` has."""
    current, notes = dict(state), []
    improved = True
    while improved:
        improved = False
        matching = sum(key in own for key in current)
        for prefix in _WRAPPER_PREFIXES:
            with_prefix = [key for key in current if key.startswith(prefix)]
            if not with_prefix:
                continue
            stripped = {key.removeprefix(prefix): value for key, value in current.items() if key.startswith(prefix)}
            # Keys outside the prefix (a loss, a metric of a Lightning module) stay, and are reported as unexpected.
            stripped |= {
                key: value for key, value in current.items() if not key.startswith(prefix) and key not in stripped
            }
            if sum(key in own for key in stripped) > matching:
                current, improved = stripped, True
                notes.append(f"the prefix {prefix!r} of the weights' names was taken off")
                break
    current, renamed = with_names_of(own, current)
    return current, notes + renamed


def _list(keys: list[str]) -> str:
    return ", ".join(keys[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")
