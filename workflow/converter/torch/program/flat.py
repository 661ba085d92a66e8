"""Arguments and results of a model as flat lists of tensors, and tensors as arrays.

A model's arguments may nest (a tuple of states) and mix tensors with constants; the hub knows flat lists of tensors. A
`Call` translates: it holds the arguments as a tree in which each tensor is a slot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils import _pytree as pytree

__all__ = ["Call", "Slot", "flat_outputs", "is_flat_result", "key_text", "numpy_name", "to_arrays", "to_tensors"]


@dataclass(frozen=True)
class Slot:
    """Stands for the tensor at `index` of the flat inputs."""

    index: int


@dataclass
class Call:
    """How to call a module with a flat list of tensors. `plain`: all arguments are tensors, given by position."""

    args: tuple
    kwargs: dict

    @property
    def plain(self) -> bool:
        """Whether the arguments are the tensors themselves, in their order."""
        return not self.kwargs and self.args == tuple(Slot(index) for index in range(len(self.args)))

    def arguments(self, tensors: Sequence[torch.Tensor]) -> tuple[tuple, dict]:
        """Positional and named arguments with these tensors in the places of the slots."""

        def fill(node: object) -> object:
            return tensors[node.index] if isinstance(node, Slot) else node

        return pytree.tree_map(fill, self.args), pytree.tree_map(fill, self.kwargs)

    def __call__(self, module: torch.nn.Module, tensors: Sequence[torch.Tensor]) -> object:
        """Call the module on these tensors; returns whatever it returns."""
        args, kwargs = self.arguments(tensors)
        return module(*args, **kwargs)


def flat_outputs(result: object, input_names: Sequence[str] = ()) -> tuple[list[str], list[torch.Tensor]]:
    """Names and tensors of a result: "output" of a tensor, "output_0" of a tuple, the keys of a mapping, the fields of a
    dataclass. What is no tensor is left out.
    """
    leaves, _ = pytree.tree_flatten_with_path(_plain(result))
    names, tensors = [], []
    for path, leaf in leaves:
        if not isinstance(leaf, torch.Tensor):
            continue
        keys = [key_text(key) for key in path]
        name = "_".join(keys)
        names.append("output" if not keys else f"output_{name}" if name[0].isdigit() else name)
        tensors.append(leaf)
    taken = set(input_names)
    unique = []
    for name in names:
        while name in taken:
            name += "_output"
        taken.add(name)
        unique.append(name)
    return unique, tensors


def is_flat_result(result: object) -> bool:
    """Whether it is a tensor, or tensors in plain lists, tuples and dictionaries.

    What a program returns otherwise it can be read again only where that kind of container is registered with torch.
    """
    if isinstance(result, torch.Tensor):
        return True
    if type(result) in (list, tuple):
        return all(map(is_flat_result, result))  # type: ignore[arg-type]
    return type(result) is dict and all(map(is_flat_result, result.values()))


def _plain(result: object) -> object:
    """Dictionaries and tuples in the place of containers that torch does not know, such as subclasses of OrderedDict."""
    if isinstance(result, Mapping):
        return {key: _plain(value) for key, value in result.items()}
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return {field.name: _plain(getattr(result, field.name)) for field in dataclasses.fields(result)}
    if isinstance(result, list | tuple) and not hasattr(result, "_fields"):
        return [_plain(item) for item in result]
    return result


def key_text(key: object) -> str:
    """The text of one step of a path into nested outputs: a key, an index, or an attribute's name."""
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def to_tensors(arrays: Sequence[np.ndarray]) -> list[torch.Tensor]:
    """Copies, since a model may write into its inputs."""
    return [
        torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
        if array.dtype.name == "bfloat16"
        else torch.from_numpy(np.array(array))
        for array in arrays
    ]


def to_arrays(tensors: Sequence[torch.Tensor]) -> list[np.ndarray]:
    """Tensors as arrays, bfloat16 as float32; they share memory where they can."""
    plain = [tensor.detach().resolve_conj().resolve_neg() for tensor in tensors]
    return [(tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy() for tensor in plain]


def numpy_name(dtype: torch.dtype) -> str:
    """ "float32" for torch.float32; "bfloat16", which numpy does not know by itself, too."""
    return str(dtype).removeprefix("torch.")
