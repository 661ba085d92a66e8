"""The user's .npz files: reference inputs and representative data. Plain arrays only, never objects, which are pickles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from converter.errors import ConverterError, ParameterError
from converter.safety.containers import refuse_archive

__all__ = ["read_arrays_file"]


def read_arrays_file(path: Path, parameter: str) -> dict[str, np.ndarray]:
    """Every array of the file, by name. Raises ParameterError, which names `parameter`, for anything but plain arrays."""
    try:
        refuse_archive(path, hint="save fewer samples, with numpy.savez")
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except MemoryError:
        raise
    except ConverterError as error:
        raise ParameterError(f"{parameter}: {error}") from error
    except Exception as error:  # zipfile, numpy and the operating system each have their own
        raise ParameterError(
            f"{parameter}: {path} is no .npz file of plain arrays that NumPy reads ({type(error).__name__}: {error})"
        ) from error
