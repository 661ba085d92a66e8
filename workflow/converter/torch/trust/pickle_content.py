"""Whether all values of a pickled PyTorch file are in it: the pickle is run once with stand-ins, before torch runs it.

torch's weights-only unpickler (2.13) calls what it allows with any arguments: `torch.FloatTensor(1000)` is a tensor of what
lies in the process's memory, `torch.nn.Linear(4, 3)` has weights of chance. What torch.save writes calls neither. Mapped into
memory, a tensor's record may also be shorter than the tensor, and is then filled with what follows in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from types import FunctionType
from typing import Any, BinaryIO

from converter.errors import SourceError, UntrustedError
from converter.torch.trust.inert import Inert
from converter.torch.trust.legacy_pickles import CONTAINER_CLASS, container_class, with_plain_classes
from converter.torch.trust.records import Archive, TensorSizes, record_sizes
from converter.wording import TRUST

__all__ = ["check_pickle_content"]

_VALUES = re.compile(r"torch(\.cuda|\.sparse|\.storage)*\.\w*(Tensor|Storage)")
_PARAMETERS = "torch.nn.parameter."


def check_pickle_content(
    path: Path, is_archive: bool, trusted: bool, called: Path | None = None, networks: Collection[str] = ()
) -> None:
    """Raise UntrustedError where the file makes tensors or modules anew, SourceError where a record is too short.

    With `trusted` the former may be. `called`: the file that the messages name, where the pickle was taken out of one.
    networks: names of module classes beside those of torch and torchvision.
    """
    shown = path if called is None else called
    try:
        if not is_archive:
            with with_plain_classes(path) or open(path, "rb") as stream:  # what torch will read (pickles.py)
                for _ in range(5):  # the old format is a row of pickles (pickles.py), whose sizes torch compares itself
                    _Content(shown, stream, None, trusted, networks).load()
                    if not stream.peek(1):
                        break
            return
        with Archive(path) as archive:
            for name in archive.namelist():
                if name.lower().rpartition("/")[2] == "data.pkl":
                    with archive.open(name) as stream:
                        _Content(shown, stream, record_sizes(archive, name), trusted, networks).load()
    except (MemoryError, UntrustedError):
        raise
    except Exception as error:  # whatever the bytes lead the machine to
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(
            f"{path} is damaged ({text[:200]}): copy it again, or save it again with torch.save"
        ) from error


class _NotCalled(type):
    """The class of classes that a pickle may refer to, or make an empty object of, but not call."""

    def __call__(cls, *_: object, **__: object) -> Inert:
        if cls.trusted:
            return Inert()
        raise UntrustedError(
            f"{cls.path} makes {cls.full_name} anew while it is loaded, with values that are not in the file: save the module "
            f"or its state_dict with torch.save, or {TRUST}"
        )


class _Rebuilds(Inert):
    """Stands for torch._utils._rebuild_sparse_tensor and the like."""


class _Later(Inert):
    """Stands for functools.partial and collections.defaultdict, which call a function later: it may not make values."""

    def __init__(self, function: object = None, *_: object) -> None:
        known = function is None or isinstance(function, type | Inert) and not isinstance(function, _Rebuilds)
        if not known or getattr(function, "makes_values", False):
            _NotCalled.__call__(type(self))

    def __setstate__(self, state: object) -> None:
        """functools.partial.__reduce__: the function, which replaces the first one, and its arguments."""
        type(self).__init__(self, *(state if isinstance(state, tuple) else (state,)))


class _Content(TensorSizes):
    def __init__(
        self,
        path: Path,
        stream: BinaryIO,
        records: dict[str, int] | None,
        trusted: bool,
        networks: Collection[str],
    ) -> None:
        super().__init__(path, stream, records or {})
        self._path, self._in_archive, self._trusted, self._networks = path, records is not None, trusted, networks

    def find_class(self, module: str, name: str) -> Callable | type:
        full = f"{module}.{name}"
        if full in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_qtensor") and self._in_archive:
            return super().find_class(module, name)
        if module == "torch._utils" and name.startswith("_rebuild"):
            return _Rebuilds()
        if full == "torch._tensor._rebuild_from_type_v2":
            return self._rebuild_from_type
        if full in ("functools.partial", "collections.defaultdict"):
            members = {"path": self._path, "full_name": f"values by {full}", "trusted": self._trusted}
            return type("_Later", (_Later,), members)
        if full == CONTAINER_CLASS:
            return container_class
        if _VALUES.fullmatch(full):
            return self._not_called(full, keeps=full == "torch.Tensor")
        framework = module.startswith(("torch.nn.", "torchvision.", "torch._C._nn")) and not full.startswith(
            _PARAMETERS
        )
        if framework or full in self._networks:
            return self._not_called(full, keeps=True)
        return Inert

    def persistent_load(self, reference: tuple) -> object:
        if reference[0] == "module":  # a class of the old format
            return reference[1]
        if not self._in_archive:
            return Inert()
        kind, storage, *rest = reference
        return super().persistent_load((kind, getattr(storage, "__name__", storage), *rest))

    def _rebuild_from_type(self, function: Any, kind: object, arguments: tuple, state: object) -> Inert:
        """It calls the function that the file names."""
        if isinstance(function, FunctionType):
            function(*arguments)
        elif not isinstance(function, _Rebuilds):
            self._not_called("a tensor", keeps=False)()
        return Inert()

    def _not_called(self, full_name: str, *, keeps: bool) -> type:
        """`keeps`: an object of it may be made without arguments, whose state follows in the file."""

        def new(cls: type, *arguments: object) -> object:
            return object.__new__(cls) if keeps and not arguments else _NotCalled.__call__(cls)

        members = {"__new__": new, "path": self._path, "full_name": full_name, "trusted": self._trusted}
        members["makes_values"] = _VALUES.fullmatch(full_name) is not None
        return _NotCalled(full_name.rpartition(".")[2], (Inert,), members)
