"""The way to replace names in libraries: they are looked at before.

A release may rename what is replaced: the replacement would then stand beside the original, and do nothing. What is not as
it is known here ends the step with one sentence.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from converter.errors import UnsupportedError

__all__ = ["Patched", "check", "replaced", "replaced_for_good"]


@dataclass(frozen=True)
class Patched:
    """A name in a library that is replaced, or relied on although it is private.

    library: the package's name for pip. owner: a module or a class, or where it is ("tf2onnx.graph:Graph"). parameters: of a
    function, as `inspect.signature` names them; None for what is none, or says none, and is of type `kind` then.
    """

    library: str
    owner: str | type
    name: str
    parameters: tuple[str, ...] | None = None
    kind: type = object

    def find(self) -> tuple[Any, Any]:
        """The owner, and what it has under the name: within `replaced` the replacement.

        Raises UnsupportedError where that is not what is expected.
        """
        try:
            owner = _object(self.owner) if isinstance(self.owner, str) else self.owner
            found = getattr(owner, self.name)
        except (ImportError, AttributeError):
            raise self._unknown("is not there") from None
        if _replaced[self]:
            return owner, found
        if self.parameters is None:
            if not isinstance(found, self.kind):
                raise self._unknown(f"is a {type(found).__name__}")
            return owner, found
        try:
            parameters = tuple(inspect.signature(found).parameters)
        except (TypeError, ValueError):
            raise self._unknown("is no function with parameters") from None
        if parameters != self.parameters:
            raise self._unknown(f"takes ({', '.join(parameters)}), not ({', '.join(self.parameters)})")
        return owner, found

    def _unknown(self, what: str) -> UnsupportedError:
        try:
            version = importlib.metadata.version(self.library)
        except importlib.metadata.PackageNotFoundError:
            version = "of this installation"
        owner = self.owner.replace(":", ".") if isinstance(self.owner, str) else self.owner.__qualname__
        return UnsupportedError(
            f"{self.library} {version} is not as it is known here ({owner}.{self.name} {what}): "
            "install the version that constraints.txt names"
        )


# How many times each name is replaced now: a model may be opened while another one is.
_replaced: Counter[Patched] = Counter()


def _object(place: str) -> Any:
    module, _, qualified = place.partition(":")
    found = importlib.import_module(module)
    for part in qualified.split(".") if qualified else ():
        found = getattr(found, part)
    return found


def check(names: Sequence[Patched]) -> None:
    """Raise UnsupportedError for the first that the library does not have as it is known here."""
    for patched in names:
        patched.find()


@contextmanager
def replaced(*replacements: tuple[Patched, object]) -> Iterator[None]:
    """Inside, the names stand for their replacements. All are looked at before any is replaced; undone on exit.

    Raises UnsupportedError as `check`.
    """
    found = [(patched, replacement, *patched.find()) for patched, replacement in replacements]
    with ExitStack() as stack:
        for patched, replacement, owner, original in found:
            # As it stands in a class: a static method's function would become a method.
            stack.callback(setattr, owner, patched.name, vars(owner).get(patched.name, original))
            stack.callback(_replaced.subtract, [patched])
            setattr(owner, patched.name, replacement)
            _replaced[patched] += 1
        yield


def replaced_for_good(*replacements: tuple[Patched, object]) -> None:
    """Replace the names in this process. Raises UnsupportedError as `check`, before any is replaced."""
    for patched, replacement, owner, _ in [(*pair, *pair[0].find()) for pair in replacements]:
        setattr(owner, patched.name, replacement)
