"""Which names of a PyTorch file may reach torch, that writes names into Python source and executes it (torch.fx, 2.13).

Two kinds: names of values (inputs, nodes, arguments) become variables there and must be identifiers; names of parts
(modules, parameters, buffers) stand between quotes where they are none, as "0" of a Sequential or "conv-1" of a ModuleDict.
"""

from __future__ import annotations

import dataclasses
import json
import keyword
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from converter.errors import UntrustedError

__all__ = ["check_module", "check_parts", "check_program", "is_part_name", "is_value_name"]

# What ends a text in Python's or TorchScript's source, or escapes in it; and where torch.fx looks for its counter of lines.
_CODE = set("\"'\\")
_COUNTER = "# COUNTER:"

# Texts of a program (torch/_export/serde/schema.py) that are no names: they reach no source, or only between quotes that
# are escaped; sizes and operators have checks of their own (program_trust.py).
_NO_NAMES = {
    *("metadata", "as_string", "as_strings", "torch_version", "class_fqn", "type", "verifiers", "guards_code"),
    *("target", "as_operator", "expr_str", "out_spec", "treespec_namedtuple_fields"),
}
_PARTS = {"parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name", "fqn"}


def is_value_name(name: str, dotted: bool = False) -> bool:
    """Whether the name is an identifier, or with `dotted` several or numbers with dots between them; and no keyword."""
    parts = name.split(".") if dotted else [name]
    return all((part.isidentifier() or dotted and part.isdecimal()) and not keyword.iskeyword(part) for part in parts)


def is_part_name(name: str) -> bool:
    """Whether the dotted name of a module, parameter or buffer is harmless between quotes, as "blocks.conv-1.weight"."""
    return name.isprintable() and not _CODE & set(name) and _COUNTER not in name


def check_parts(path: Path, names: Iterable[object]) -> None:
    """Raise UntrustedError for the first name of a part that is none."""
    for name in names:
        if isinstance(name, str) and not is_part_name(name):
            raise UntrustedError(
                f"{path} names a part of the model {_shown(name)}, which torch could take for code: name it with letters, "
                "digits, _ and -, and save the file again"
            )


def check_module(path: Path, module: torch.nn.Module) -> None:
    """Raise UntrustedError where the module, or one within it, has an attribute or part whose name could be taken for code."""
    for part in module.modules():
        check_parts(path, vars(part))
        for mapping in vars(part).values():
            if isinstance(mapping, dict):
                check_parts(path, mapping)
        for hook in vars(part).get("_forward_pre_hooks", {}).values():  # weight_norm's makes a parameter of this name
            check_parts(path, [getattr(hook, "name", "")])


def check_program(path: Path, program: object) -> None:
    """Raise UntrustedError where a name in the serialized program (schema.ExportedProgram) could be taken for code."""
    _check(path, program, "")


def _check(path: Path, node: Any, field: str) -> None:
    """`field`: what the schema calls the node, or the list or mapping that it is in."""
    if field in _NO_NAMES:
        return
    if isinstance(node, str):
        if field == "in_spec":
            _check_keywords(path, node)
        elif field in _PARTS:
            check_parts(path, [node])
        else:
            _check_value(path, node, dotted=True)
    elif isinstance(node, list | tuple):
        for item in node:
            _check(path, item, field)
    elif isinstance(node, dict):
        for key, value in node.items():
            if field != "as_string_to_argument":  # whose keys are texts
                _check_value(path, key, dotted=True)
            _check(path, value, field)
    elif hasattr(node, "type") and hasattr(node, "value"):  # a union
        _check(path, node.value, str(node.type))
    elif dataclasses.is_dataclass(node):
        if isinstance(node, _graph_class()):
            _check_inputs(path, node.inputs)
        for entry in dataclasses.fields(node):
            _check(path, getattr(node, entry.name, None), entry.name)


def _graph_class() -> type:
    from torch._export.serde import schema

    return schema.Graph


def _check_inputs(path: Path, inputs: Iterable[object]) -> None:
    """Inputs of a graph are the arguments of a function: a dot would end their names."""
    for argument in inputs:
        name = getattr(argument.value, "name", None) or getattr(argument.value, "as_name", None)
        if isinstance(name, str):
            _check_value(path, name, dotted=False)


def _check_value(path: Path, name: object, *, dotted: bool) -> None:
    if isinstance(name, str) and name and not is_value_name(name, dotted):
        raise UntrustedError(
            f"{path} names a value {_shown(name)}, which is no identifier of Python's: export the model again with names of "
            "letters, digits and underscores"
        )


def _check_keywords(path: Path, text: str) -> None:
    """Keys of the arguments given by name, in the structure of the inputs: [version, (positional, by name)] as JSON."""
    structure = json.loads(text)
    children = structure[1].get("children_spec", []) if isinstance(structure, list) and len(structure) == 2 else []
    for position, child in enumerate(children):
        keys = json.loads(child["context"]) if isinstance(child.get("context"), str) else child.get("context")
        for key in keys if isinstance(keys, list) else []:
            if position == 1 and len(children) == 2 and isinstance(key, str):
                _check_value(path, key, dotted=False)
            else:
                check_parts(path, [key])


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:80] + "...")
