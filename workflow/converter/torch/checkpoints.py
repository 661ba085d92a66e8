"""State dicts: find one in what a checkpoint file holds, and load it into a module with every key accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from converter.errors import ParameterError, SourceError, nearest

__all__ = ["find_state_dict", "is_state_dict", "load_state"]

# Where training scripts put the weights, the most telling names first (averaged weights are not taken unasked).
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


def find_state_dict(path: Path, content: object, key: str | None) -> object:
    """The state dict, or the module, within what was unpickled: `content[key]`, else `content` or an entry of a usual name.

    Raises ParameterError when `key` is not there, SourceError when nothing in the file looks like weights.
    """
    if key is not None:
        return _named(path, content, key)
    if isinstance(content, torch.nn.Module) or is_state_dict(content):
        return content
    if isinstance(content, torch.Tensor):
        raise SourceError(
            f"{path} holds one tensor of shape {list(content.shape)}, not a model: save the module or its state_dict"
        )
    if not isinstance(content, Mapping):
        raise SourceError(f"{path} holds a {type(content).__name__}, not a model: save the module or its state_dict")
    for name in _USUAL_KEYS:
        if isinstance(content.get(name), torch.nn.Module) or is_state_dict(content.get(name)):
            return content[name]
    candidates = [
        str(name) for name, value in content.items() if isinstance(value, torch.nn.Module) or is_state_dict(value)
    ]
    if len(candidates) == 1:
        return content[candidates[0]]
    if candidates:
        raise ParameterError(
            f"{path} holds several sets of weights: write state_dict_key, one of {', '.join(candidates)}"
        )
    found = ", ".join(f"{name} ({type(value).__name__})" for name, value in list(content.items())[:8]) or "nothing"
    raise SourceError(
        f'{path} holds no weights under a usual name; it has {found}: write state_dict_key, such as "net.weights"'
    )


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
    if problems:
        raise SourceError(
            f"the weights in {path} are not those of {name}: {'; '.join(problems)}; check network_name and network_args"
        )
    module.load_state_dict(dict(adapted), strict=False)
    return notes


def _fits(own: torch.Tensor, value: torch.Tensor) -> bool:
    # A tensor of a lazy module has no shape yet; 0-d and 1-element tensors are interchangeable, as in load_state_dict.
    if torch.nn.parameter.is_lazy(own):
        return True
    return own.shape == value.shape or (own.dim() == 0 and value.shape == (1,))


def _strip(state: Mapping[str, torch.Tensor], own: Mapping[str, object]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Take off wrappers' prefixes as long as that brings more keys into agreement, or put one on that the module has."""
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
    return current, notes


def _list(keys: list[str]) -> str:
    return ", ".join(keys[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")
