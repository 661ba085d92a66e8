"""A stub for the inspection of pickles: it stands for every object that a pickle makes."""

from __future__ import annotations

__all__ = ["Inert"]


class Inert:
    """Stands for every object, class and function, and takes all that a pickle may do to one."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def __call__(self, *_: object) -> Inert:
        """As any class or function that a pickle calls: nothing happens."""
        return self

    def append(self, _: object) -> None:
        """As a list that a pickle fills: nothing happens."""

    add = extend = append
