"""The Python source that torch writes of a graph and executes (torch.fx, torch.export, 2.13): no name in it may be code.

Names are looked at when a file is read (names.py). This is the second lock, in every process that imports this package, for
whatever came past the first or was planted in a hub: where torch.fx puts a name into source, the name is looked at again.
"""

from __future__ import annotations

import functools
import keyword
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.fx.graph

from converter.errors import UnsupportedError, UntrustedError
from converter.library_patches.replacing import replaced_for_good
from converter.library_patches.torch import GENERATED_CODE
from converter.torch.trust.names import is_part_name, is_value_name

__all__ = ["lock", "refusals_raised"]


def lock() -> None:
    """Replace torch's functions, once. Raises UnsupportedError where this torch does not have them as they are known here."""
    if getattr(getattr(torch.fx.graph, "_format_target", None), "checks_names", False):
        return
    _, generate = GENERATED_CODE["source"].find()
    if overriding := _overriding(torch.fx.graph.CodeGen):
        raise UnsupportedError(
            f"torch {torch.__version__.partition('+')[0]} is not as it is known here ({overriding[0].__name__} writes Python "
            "code of a model in a way of its own): install the version that constraints.txt names"
        )
    replaced_for_good(
        (GENERATED_CODE["attribute"], _attribute),
        (GENERATED_CODE["source"], _checked(generate)),
        # A program brings its own conditions on its inputs as Python text, which torch compiles when it decomposes operators.
        (GENERATED_CODE["guards"], lambda: False),
    )


_refusals: list[UntrustedError] = []


@contextmanager
def refusals_raised() -> Iterator[None]:
    """Raises what the lock refused inside, also where torch put another error in its place or went on silently."""
    _refusals.clear()
    try:
        yield
    except Exception:
        if not _refusals:
            raise
    if _refusals:
        raise _refusals[0] from None


def _overriding(base: type) -> list[type]:
    return [kind for kind in base.__subclasses__() if "_gen_python_code" in vars(kind) or _overriding(kind)]


def _attribute(base: str, target: str) -> str:
    """Source that reads the attribute `target`, dotted, of the expression `base`: what torch's own writes, escaped."""
    _refuse(target, is_part_name(target))
    for part in target.split("."):
        plain = part.isascii() and part.isidentifier() and not keyword.iskeyword(part)
        base = f"{base}.{part}" if plain else f"getattr({base}, {part!r})"
    return base


_attribute.checks_names = True


def _checked(generate: Callable) -> Callable:
    @functools.wraps(generate)
    def generate_checked(self: Any, nodes: Iterable[torch.fx.Node], *args: object, **options: object) -> object:
        for node in nodes:
            if node.op == "placeholder":
                _refuse(node.target, _is_argument(node.target))
            for key in node.kwargs:
                _refuse(key, isinstance(key, str) and is_value_name(key))
        information = getattr(self, "pytree_info", None)
        if information is not None:
            for name in information.orig_args:
                _refuse(name, _is_argument(name))
            for key in _keywords(information.in_spec):
                _refuse(key, isinstance(key, str) and is_value_name(key))
        _refuse(self._func_name, is_value_name(self._func_name))
        return generate(self, nodes, *args, **options)

    return generate_checked


def _is_argument(name: str) -> bool:
    """Also those of a traced function: "*args"."""
    return is_value_name(name.removeprefix("*").removeprefix("*"))


def _keywords(spec: Any) -> list[object]:
    """Names of the arguments given by name, in the structure ((positional...), {name: ...}) of a module's inputs."""
    if spec is None or spec.type is not tuple or spec.num_children != 2 or spec.child(1).type is not dict:
        return []
    return list(spec.child(1).context)


def _refuse(name: object, harmless: bool) -> None:
    if not harmless:
        error = UntrustedError(
            f"the model names one of its parts {str(name)[:80]!r}, which torch would run as code: name it with letters, "
            "digits, _ and -, and save the file again"
        )
        _refusals.append(error)
        raise error
