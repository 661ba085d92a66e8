"""NumPy's dtypes, numbers and arrays in a pickle, rebuilt without NumPy's own way to restore them.

That takes a dtype's flags and a structure's offsets from the file as they are (NumPy 2.4): bytes then pass for Python
objects at addresses of the file's choice, which is as good as code. Here a dtype is plain, or it is refused.
"""

from __future__ import annotations

import pickle
from typing import BinaryIO

import numpy

from converter.torch.trust.inert import Inert

__all__ = ["PLAIN", "check_dtypes"]


class _Dtype:
    """Stands for numpy.dtype. `dtype`: of numbers, or of text of fixed length."""

    def __init__(self, name: object, *_: object) -> None:
        self.dtype = numpy.dtype(name)
        if self.dtype.kind not in "biufcSU":
            raise pickle.UnpicklingError(f"the NumPy dtype {name!r} is none of numbers or text")

    def __setstate__(self, state: tuple) -> None:
        """numpy.dtype.__reduce__: all but the byte order follows from the name."""
        dtype = self.dtype.newbyteorder(state[1])
        if tuple(state) != dtype.__reduce__()[2]:
            raise pickle.UnpicklingError(f"the NumPy dtype {dtype} has a state of another one, {state}")
        self.dtype = dtype


class _Array(numpy.ndarray):
    """Stands for numpy.ndarray."""

    def __setstate__(self, state: tuple) -> None:
        *first, dtype, is_fortran, data = state
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("a NumPy array without a dtype")
        super().__setstate__((*first, dtype.dtype, is_fortran, data))


def _array(kind: type, shape: tuple, typecode: object) -> _Array:
    """Stands for numpy.core.multiarray._reconstruct: an empty array, whose state follows."""
    return _Array((0,), numpy.int8)


def _scalar(dtype: _Dtype, data: bytes) -> numpy.generic:
    """Stands for numpy.core.multiarray.scalar."""
    return numpy.frombuffer(data, dtype.dtype, 1)[0]


# Stubs for the classes and functions that a file names.
PLAIN: dict[str, object] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy._core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
}


def check_dtypes(stream: BinaryIO) -> None:
    """Raise UnpicklingError for a dtype that is not plain in the pickles at the start of a stream, before an old NumPy sees it.

    The old format is a row of five pickles (see pickles.py). Nothing that they name is imported or called.
    """
    for _ in range(5):
        _DtypesOnly(stream).load()
        if not stream.peek(1):
            return


class _DtypesOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        return _Dtype if (module, name) == ("numpy", "dtype") else Inert

    def persistent_load(self, reference: tuple) -> object:
        return Inert if reference[0] == "module" else Inert()  # a class, or a storage
