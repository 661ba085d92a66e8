"""PyTorch objects that pickle well and still are no models: circles, depths, numbers that are none, other things."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from fuzz.bytes_cases import Case

__all__ = ["pytorch_cases"]


def pytorch_cases(seed: Path, random_: random.Random) -> Iterator[Case]:
    """Without end."""
    while True:
        change = random_.choice(_CHANGES)
        old, state = seed.name == "old.pt", random_.getrandbits(32)
        yield change.__name__.strip("_").replace("_", " "), _build(seed, change, old, state)


def _build(seed: Path, change: Callable, old: bool, state: int) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        content = torch.load(seed, weights_only=False)
        content = change(content, random.Random(state))
        torch.save(content, folder / seed.name, _use_new_zipfile_serialization=not old)
        return folder / seed.name

    return build


def _parameters(module):
    return [parameter for parameter in module.parameters() if parameter.dim()]


def _no_numbers(module, random_):
    for parameter in random_.sample(_parameters(module), 2):
        parameter.data.fill_(random_.choice([float("nan"), float("inf"), 1e38, 1e-45]))
    return module


def _other_shape(module, random_):
    parameter = random_.choice(_parameters(module))
    parameter.data = torch.zeros(random_.choice([(0,), (7,), (3, 3), (1, 1, 1, 1, 1)]))
    return module


def _other_type(module, random_):
    parameter = random_.choice(_parameters(module))
    parameter.data = parameter.data.to(random_.choice([torch.float64, torch.float16, torch.complex64, torch.bfloat16]))
    return module


def _huge_by_stride(module, random_):
    """2^40 elements in four bytes."""
    parameter = random_.choice(_parameters(module))
    parameter.data = torch.zeros(1).expand(2 ** random_.choice([20, 31, 40]), 2)
    return module


def _other_setting(module, random_):
    part = random_.choice(list(module.children()))
    names = [
        name for name, value in vars(part).items() if isinstance(value, int | tuple | bool | str) and name[0] != "_"
    ]
    setattr(part, random_.choice(names or ["extra"]), random_.choice([-1, 2**40, "x", None, (0, 0), (2**31, 1), 1.5]))
    return module


def _without_a_part(module, random_):
    parts = module._modules
    parts.pop(random_.choice(list(parts)))
    return module


def _without_an_attribute(module, random_):
    part = random_.choice([module, *module.children()])
    vars(part).pop(random_.choice(list(vars(part))))
    return module


def _circle(module, random_):
    part = random_.choice(list(module.children()))
    part._modules["self"] = module
    return module


def _deep(module, random_):
    for _ in range(random_.choice([20, 150])):
        module = torch.nn.Sequential(module)
    return module


def _other_thing(module, random_):
    circle: dict = {}
    circle["circle"] = circle
    things = [
        None, 1, "x", b"x", [], {}, (), circle, [[]], {"state_dict": 1}, {"model": {"a": 1}}, {1: torch.zeros(1)},
        torch.zeros(3), [torch.zeros(3)], {"weight": torch.zeros(0)}, module.state_dict(), {"epoch": 3}, torch.nn.Module(),
        {"model": module, "net": module}, torch.nn.ModuleList([module]), set(), {"a": {"b": module.state_dict()}},
    ]  # fmt: skip
    return random_.choice(things)


_CHANGES = [
    _no_numbers, _other_shape, _other_type, _huge_by_stride, _other_setting, _other_setting, _without_a_part,
    _without_an_attribute, _without_an_attribute, _circle, _deep, _other_thing, _other_thing,
]  # fmt: skip
