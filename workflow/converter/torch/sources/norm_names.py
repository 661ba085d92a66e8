"""Names of normalised weights: weight_norm and spectral_norm wrote others before they became parametrizations.

A file of one form and a module of the other hold the same tensors, and compute the same weight of them in eval mode.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

__all__ = ["with_names_of"]

# What follows a layer's name, of a parameter {name}: in hooks (torch before 2.0, and torch.nn.utils.weight_norm and
# spectral_norm still) and in parametrizations.
_WEIGHT_NORM = {"{name}_g": "parametrizations.{name}.original0", "{name}_v": "parametrizations.{name}.original1"}
_SPECTRAL_NORM = {
    "{name}_orig": "parametrizations.{name}.original",
    "{name}_u": "parametrizations.{name}.0._u",
    "{name}_v": "parametrizations.{name}.0._v",
}


def with_names_of(
    own: Mapping[str, object], state: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The state with such weights under the names that the module has, and notes. All other names stay."""
    current = dict(state)
    renamed = 0
    for layer, name in _normalised(own):
        for form in (_WEIGHT_NORM, _SPECTRAL_NORM):
            hooks = [layer + key.format(name=name) for key in form]
            parametrizations = [layer + key.format(name=name) for key in form.values()]
            for wanted, given in ((hooks, parametrizations), (parametrizations, hooks)):
                if all(key in own for key in wanted) and all(key in current for key in given):
                    current |= {new: current.pop(old) for new, old in zip(wanted, given, strict=True)}
                    renamed += 1
    form = (
        "the weights of {} normalised layers were read from the names of another form of weight_norm or spectral_norm"
    )
    return current, [form.format(renamed)] if renamed else []


def _normalised(own: Mapping[str, object]) -> list[tuple[str, str]]:
    """(layer's prefix with its dot, parameter) of what may be normalised in either form."""
    found = {}
    for key in own:
        for pattern in (r"(.*\.|)parametrizations\.([^.]+)\.original0?", r"(.*\.|)([^.]+)_(?:g|orig)"):
            match = re.fullmatch(pattern, key)
            if match:
                found[match[1], match[2]] = None
    return list(found)
