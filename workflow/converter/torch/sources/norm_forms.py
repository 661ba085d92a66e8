"""Normalised weights: weight_norm and spectral_norm keep the parts that a weight is computed of, under names of two forms.

A file of one form and a module of the other hold the same tensors, and compute the same weight of them in eval mode. So do
a file and a module of which one has the weight itself, after remove_weight_norm and the like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

__all__ = ["fold_parametrizations", "plain_name", "with_forms_of", "without_norms"]

# What follows a layer's name, of a parameter {name}: in hooks (torch before 2.0, and torch.nn.utils.weight_norm and
# spectral_norm still) and in parametrizations.
_WEIGHT_NORM = {"{name}_g": "parametrizations.{name}.original0", "{name}_v": "parametrizations.{name}.original1"}
_SPECTRAL_NORM = {
    "{name}_orig": "parametrizations.{name}.original",
    "{name}_u": "parametrizations.{name}.0._u",
    "{name}_v": "parametrizations.{name}.0._v",
}
_FORMS = (_WEIGHT_NORM, _SPECTRAL_NORM)
_PART = re.compile(r"(?P<layer>.*\.|)(?:parametrizations\.(?P<new>[^.]+)\..+|(?P<old>[^.]+)_(?:g|v|u|orig))")


def plain_name(key: str) -> str:
    """The name of the weight that an entry of this name would be a part of; its own name for any other."""
    match = _PART.fullmatch(key)
    return key if match is None else match["layer"] + (match["new"] or match["old"])


def with_forms_of(
    own: Mapping[str, object], state: Mapping[str, torch.Tensor], transposed: Iterable[str] = ()
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The state with normalised weights as the module has them, and notes: under its names, or computed where it has none.

    own: the module's state dict. transposed: the names of weights whose second axis is that of the outputs, by which
    spectral_norm takes them apart. All other entries stay.
    """
    current = dict(state)
    renamed = computed = 0
    transposed = set(transposed)
    for layer, name in _normalised([*own, *state]):
        for form in _FORMS:
            pairs = [_keys(layer, name, form), _keys(layer, name, form.values())]
            for given, wanted in (pairs, pairs[::-1]):
                if not all(key in current for key in given):
                    continue
                if all(key in own for key in wanted):
                    current |= {new: current.pop(old) for new, old in zip(wanted, given, strict=True)}
                    renamed += 1
                elif layer + name in own and not any(key in own for key in given) and layer + name not in current:
                    parts = [current[key] for key in given]
                    weight = _weight(form, parts, layer + name in transposed)
                    if weight is not None:
                        current = {key: value for key, value in current.items() if key not in given}
                        current[layer + name] = weight
                        computed += 1
    notes = []
    if renamed:
        notes.append(
            f"the weights of {renamed} normalised layers were read from the names of another form of weight_norm or "
            "spectral_norm"
        )
    if computed:
        notes.append(
            f"{computed} weights were computed of the parts that weight_norm or spectral_norm keep in the file"
        )
    return current, notes


def without_norms(module: torch.nn.Module, names: Iterable[str]) -> int:
    """Take the normalisation off those weights of the module that occur in `names`, of files, as themselves. How many."""
    own, taken = module.state_dict(), 0
    plain = set(names)
    ends = {name[at:] for name in plain for at in [0, *(m.end() for m in re.finditer(r"\.", name))]}
    parts = dict(module.named_modules())
    for layer, name in _normalised(own):
        if layer + name not in own and layer + name in ends:
            taken += _fold(parts[layer.removesuffix(".")], name)
    return taken


def fold_parametrizations(module: torch.nn.Module) -> bool:
    """Replace weight_norm, spectral_norm and parametrizations by the weights they compute. True if there were any."""
    return sum(_fold(part, None) for part in module.modules()) > 0


def _fold(part: torch.nn.Module, only: str | None) -> bool:
    """Of one module without those within it; of its parameter `only`, or of all."""
    found = False
    if torch.nn.utils.parametrize.is_parametrized(part):
        for name in list(part.parametrizations):
            if only in (None, name):
                torch.nn.utils.parametrize.remove_parametrizations(part, name, leave_parametrized=True)
                found = True
    for hook in list(part._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm) and only in (None, hook.name):
            torch.nn.utils.remove_weight_norm(part, hook.name)
            found = True
        elif isinstance(hook, SpectralNorm) and only in (None, hook.name):
            torch.nn.utils.remove_spectral_norm(part, hook.name)
            found = True
    return found


def _keys(layer: str, name: str, form: Iterable[str]) -> list[str]:
    return [layer + key.format(name=name) for key in form]


def _normalised(keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(layer's prefix with its dot, parameter) of what may be normalised in either form, each once."""
    seen = set()
    for key in keys:
        for pattern in (r"(.*\.|)parametrizations\.([^.]+)\.original0?", r"(.*\.|)([^.]+)_(?:g|orig)"):
            match = re.fullmatch(pattern, key)
            if match and match.groups() not in seen:
                seen.add(match.groups())
                yield match[1], match[2]


def _weight(form: Mapping[str, str], parts: list[torch.Tensor], transposed: bool) -> torch.Tensor | None:
    """As the layer computes it in eval mode; None where the shapes of the parts are not those of any layer."""
    if not all(part.is_floating_point() for part in parts):
        return None
    dtype = parts[-1].dtype if form is _WEIGHT_NORM else parts[0].dtype
    wide = [part.double() if part.dtype == torch.float64 else part.float() for part in parts]
    if form is _WEIGHT_NORM:
        g, v = wide
        # The norm is taken over all axes but one, along which g has its numbers; over all if g is one number.
        if g.dim() not in (0, v.dim()) or any(a not in (1, b) for a, b in zip(g.shape, v.shape, strict=g.dim() > 0)):
            return None
        axes = [axis for axis in range(v.dim()) if g.dim() == 0 or g.shape[axis] == 1]
        norm = torch.linalg.vector_norm(v, dim=axes, keepdim=g.dim() > 0) if axes else v.abs()
        return (v * (g / norm)).to(dtype)
    weight, u, v = wide
    if u.dim() != 1 or v.dim() != 1 or u.numel() * v.numel() != weight.numel() or weight.dim() < 2:
        return None
    axis = 1 if transposed else 0
    if weight.shape[axis] != u.numel():
        axis = next((axis for axis, size in enumerate(weight.shape) if size == u.numel()), -1)
    if axis < 0:
        return None
    matrix = weight.movedim(axis, 0).reshape(u.numel(), -1)
    return (weight / torch.dot(u, torch.mv(matrix, v))).to(dtype)
