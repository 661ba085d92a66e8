"""How well a state dict fits a module: wrappers' prefixes taken off, normalised weights in its form, all keys accounted for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from converter.torch.sources.norm_forms import plain_name, with_forms_of

__all__ = ["Fit", "fits", "listed", "transposed_weights"]

# Segments that wrappers put into names wherever a part is wrapped: torch.compile, activation checkpoints, FSDP.
_SEGMENTS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
# What DataParallel puts there; of a part within the model too.
_PARALLEL = "module"
# Counters of BatchNorm came with torch 0.4.1 and play no part in inference.
_COUNTER = "num_batches_tracked"


@dataclass
class Fit:
    """A state dict, or what lies below a prefix of its names, beside a module.

    state: under the module's names. missing: names of the module's; unused: of the file's. wrong: clauses on shapes and dtypes.
    """

    prefix: str
    state: dict[str, torch.Tensor]
    missing: list[str]
    unused: list[str]
    wrong: list[str]
    notes: list[str] = field(default_factory=list)

    def is_loadable(self, strict: bool) -> bool:
        """Whether the module can be given these weights; without `strict` some may be missing."""
        return bool(self.state) and not self.wrong and not (strict and self.missing)

    def problems(self, name: str) -> list[str]:
        """Clauses that say what keeps them from being the weights of the module `name`."""
        found = []
        if self.missing:
            found.append(f"the file lacks {listed(self.missing)}")
        if self.unused and (self.missing or not self.state):
            found.append(f"{name} has no {listed(self.unused)}")
        if self.wrong:
            found.append(
                "; ".join(self.wrong[:5]) + (f" and {len(self.wrong) - 5} more" if len(self.wrong) > 5 else "")
            )
        return found

    def equals(self, other: Fit) -> bool:
        """Whether both would give the module the same values."""
        return self.state.keys() == other.state.keys() and all(
            torch.equal(value, other.state[key]) for key, value in self.state.items()
        )


def fits(
    own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], name: str, transposed: set[str] = frozenset()
) -> list[Fit]:
    """The fit of each prefix below which most of the module's entries are found; of the names as they are, if that is one.

    own: the state dict of the module, whose name is `name`. transposed: as in with_forms_of.
    """
    current, notes = _without_segments(own, state)
    wanted = {plain_name(key) for key in own if not key.endswith(_COUNTER)}
    covered = _covered(wanted, current)
    most = max(map(len, covered.values()), default=0)
    prefixes = [prefix for prefix, keys in covered.items() if len(keys) == most]
    if not prefixes or "" in prefixes:
        prefixes = [""]
    return [_fit(own, current, prefix, name, transposed, notes) for prefix in prefixes]


def _covered(wanted: set[str], state: Mapping[str, object]) -> dict[str, set[str]]:
    """By prefix (with its dot, or ""), which of the wanted names are there behind it."""
    found: dict[str, set[str]] = {}
    for key in state:
        plain = plain_name(key)
        for at in (0, *(match.end() for match in re.finditer(r"\.", plain))):
            if plain[at:] in wanted:
                found.setdefault(plain[:at], set()).add(plain[at:])
    return found


def _without_segments(
    own: Mapping[str, object], state: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    current, notes = dict(state), []
    for segment in (*_SEGMENTS, _PARALLEL):
        pattern = re.compile(rf"(^|\.){segment}\.")
        if any(pattern.search(key) for key in own) or not any(pattern.search(key) for key in current):
            continue
        shorter = {pattern.sub(r"\1", pattern.sub(r"\1", key)): value for key, value in current.items()}
        if len(shorter) == len(current):
            current = shorter
            notes.append(f"the prefix '{segment}.' of the weights' names was taken off")
    return current, notes


def _fit(
    own: Mapping[str, torch.Tensor],
    state: Mapping[str, torch.Tensor],
    prefix: str,
    name: str,
    transposed: set[str],
    notes: list[str],
) -> Fit:
    below = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    beside = [key for key in state if not key.startswith(prefix)]
    adapted, formed = with_forms_of(own, below, transposed)
    missing = [key for key in own if key not in adapted and not key.endswith(_COUNTER)]
    unused = [prefix + key for key in adapted if key not in own] + beside
    used = {key: value for key, value in adapted.items() if key in own}
    wrong = [clause for key, value in used.items() if (clause := _misfit(key, own[key], value, name))]
    taken = [f"the prefix {prefix!r} of the weights' names was taken off"] if prefix else []
    return Fit(prefix, used, missing, unused, wrong, [*notes, *taken, *formed])


def _misfit(key: str, own: object, value: torch.Tensor, name: str) -> str | None:
    # A tensor of a lazy module has no shape yet; 0-d and 1-element tensors are interchangeable, as in load_state_dict.
    if not isinstance(own, torch.Tensor) or torch.nn.parameter.is_lazy(own):
        return None
    if own.shape != value.shape and not (own.dim() == 0 and value.shape == (1,)):
        return f"{key} is {list(value.shape)} in the file and {list(own.shape)} in {name}"
    # Numbers of one byte are quantized weights, which mean nothing without the scales that lie beside them.
    if own.is_floating_point() and own.itemsize > 1 and value.itemsize == 1 and value.dtype != torch.bool:
        kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in (value, own)]
        return f"{key} is {kinds[0]} in the file and {kinds[1]} in {name}: quantized weights need their own network"
    return None


def transposed_weights(module: torch.nn.Module) -> set[str]:
    """The weights of transposed convolutions, whose second axis is that of the outputs."""
    return {
        f"{name}.weight" if name else "weight"
        for name, part in module.named_modules()
        if isinstance(part, torch.nn.modules.conv._ConvTransposeNd)
    }


def listed(keys: list[str]) -> str:
    """The first few, and how many more."""
    return ", ".join(keys[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")
