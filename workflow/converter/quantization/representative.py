"""Representative data: the samples that `quantization.load` provides for calibration, checked against the model's inputs.

`load` is a script with `get_dataset()`, called afresh for each pass, or an .npz file. A sample of the script is an
array, a list or tuple of arrays in the order of the inputs, a mapping by input name (NumPy, TensorFlow or PyTorch
arrays all the same), or a pair (tensor, label) as the original tool's data sets yield it.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converter.errors import ParameterError, nearest
from converter.hub.hub import TensorSpec
from converter.hub.npz import read_arrays_file
from converter.wording import shape_text

__all__ = ["FEW_SAMPLES", "RepresentativeData"]

FEW_SAMPLES = 100
_HELD_OUT = 5  # every fifth sample is kept from calibration, to measure accuracy on
_MIN_FOR_HOLDING_OUT = 10
_RESERVED = "labels"

Sample = list[np.ndarray]


class RepresentativeData:
    """The samples of `path` for a model with these inputs, in the source's layout and order.

    With a free batch (`by_row`), each row of a sample is a sample of batch 1. The first pass, made here, checks and
    counts them all. Raises ParameterError for a file that cannot be read or run, and for samples that do not fit.
    """

    def __init__(self, path: Path, inputs: Sequence[TensorSpec], *, by_row: bool) -> None:
        self.path, self._inputs, self._by_row = Path(path), list(inputs), by_row
        if not self.path.is_file():
            raise ParameterError(f"quantization.load: there is no file {path}")
        self._source = _ArraysFile(self) if self.path.suffix == ".npz" else _Script(self.path)
        sizes: dict[tuple, int] = {}
        self.count = 0
        for sample in self._samples():
            sizes.setdefault(tuple(array.shape for array in sample), self.count)
            self.count += 1
        if not self.count:
            raise ParameterError(f"quantization.load: {path} yields no samples; yield at least {FEW_SAMPLES}")
        if len(sizes) > 1:
            shapes = " and ".join(_shapes_text(shapes) for shapes in list(sizes)[:2])
            raise ParameterError(
                f"quantization.load: {path} yields samples of different sizes, {shapes}: calibration needs one size"
            )

    @property
    def notes(self) -> list[str]:
        """A sentence for the report where there are few samples."""
        if self.count >= FEW_SAMPLES:
            return []
        count = f"{self.count} sample" + ("s" if self.count > 1 else "")
        return [f"{self.path} has {count}; {FEW_SAMPLES} or more give safer ranges for quantization"]

    @property
    def holds_out(self) -> bool:
        """Whether there are enough samples to keep some apart from calibration."""
        return self.count >= _MIN_FOR_HOLDING_OUT

    @property
    def calibration_count(self) -> int:
        """How many samples `calibration` gives."""
        return self.count - self.count // _HELD_OUT if self.holds_out else self.count

    def calibration(self) -> Iterator[Sample]:
        """The samples to calibrate on: all but every fifth, or all where there are fewer than ten."""
        for index, sample in enumerate(self._samples()):
            if not self._is_held_out(index):
                yield sample

    def evaluation(self, limit: int = 200) -> Iterator[Sample]:
        """The samples held out from calibration, at most `limit`; where none are, those of calibration."""
        taken = 0
        for index, sample in enumerate(self._samples()):
            if taken == limit:
                return
            if self._is_held_out(index) or not self.holds_out:
                taken += 1
                yield sample

    def _is_held_out(self, index: int) -> bool:
        return self.holds_out and index % _HELD_OUT == _HELD_OUT - 1

    def _samples(self) -> Iterator[Sample]:
        for index, yielded in enumerate(self._source.samples()):
            arrays = [
                self._fitting(index, spec, value)
                for spec, value in zip(self._inputs, self._in_order(index, yielded), strict=True)
            ]
            yield from self._rows(index, arrays) if self._by_row else [arrays]

    def _in_order(self, index: int, yielded: object) -> list[object]:
        """One value per input."""
        names = [spec.name for spec in self._inputs]
        if isinstance(yielded, Mapping):
            missing, unknown = [n for n in names if n not in yielded], [str(n) for n in yielded if n not in names]
            if missing or unknown:
                close = nearest(unknown[0], names, 1) if unknown else []
                raise self._error(
                    index,
                    f"expected the inputs {', '.join(names)}, found {', '.join(map(str, yielded)) or 'nothing'}"
                    + (f"; did you mean {close[0]}?" if close else ""),
                )
            return [yielded[name] for name in names]
        if isinstance(yielded, list | tuple):
            if len(yielded) == 2 and len(names) == 1 and hasattr(yielded[0], "numpy"):
                return [yielded[0]]  # (image, label)
            if len(yielded) != len(names):
                raise self._error(index, f"expected {len(names)} arrays, for {', '.join(names)}, found {len(yielded)}")
            return list(yielded)
        if len(names) != 1:
            raise self._error(index, f"expected {len(names)} arrays, for {', '.join(names)}, found one")
        return [yielded]

    def _fitting(self, index: int, spec: TensorSpec, value: object) -> np.ndarray:
        array = _to_numpy(value)
        if array is None or array.dtype.kind not in "biufc":
            raise self._error(index, f"input {spec.name} is {type(value).__name__}, expected an array")
        dims = spec.shape or ()
        fits = _fit(dims, array.shape)
        expected = f"{spec.dtype} {shape_text(dims)}"
        found = f"{array.dtype} {shape_text(array.shape)}"
        if not fits or 0 in array.shape:
            hint = "; a batch of 1 needs its own leading dimension" if array.ndim == len(dims) - 1 else ""
            hint = hint or _layout_hint(dims, array.shape)
            raise self._error(index, f"input {spec.name}: expected {expected}, found {found}{hint}")
        if not np.can_cast(array.dtype, np.dtype(spec.dtype), "same_kind"):
            raise self._error(index, f"input {spec.name}: expected {expected}, found {found}")
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise self._error(index, f"input {spec.name} holds NaN or infinite values")
        return np.ascontiguousarray(array, dtype=spec.dtype)

    def _rows(self, index: int, arrays: Sample) -> Iterator[Sample]:
        counts = {array.shape[0] for array in arrays if array.ndim}
        if len(counts) > 1:
            raise self._error(index, f"the inputs have different batches, {', '.join(map(str, sorted(counts)))}")
        for row in range(counts.pop() if counts else 1):
            yield [array[row : row + 1] if array.ndim else array for array in arrays]

    def _error(self, index: int, text: str) -> ParameterError:
        return ParameterError(f"quantization.load: sample {index} of {self.path}: {text}")


class _Script:
    def __init__(self, path: Path) -> None:
        from converter.importing.network_script import load_script

        self.path = path
        self.module = load_script(path, "quantization.load").module
        self.get_dataset = getattr(self.module, "get_dataset", None)
        if not callable(self.get_dataset):
            raise ParameterError(
                f"quantization.load: {path} defines no function get_dataset(); write a generator that yields samples"
            )

    def samples(self) -> Iterator[object]:
        """One fresh pass. Raises ParameterError where the script's own code raises."""
        index = 0
        try:
            dataset = self.get_dataset()
            if not isinstance(dataset, Iterable):
                raise ParameterError(
                    f"quantization.load: get_dataset() of {self.path} returned {type(dataset).__name__}; "
                    "write a generator that yields samples"
                )
            iterator = iter(dataset)
        except ParameterError:
            raise
        except Exception as error:
            raise self._raised(error, index) from error
        while True:
            try:
                sample = next(iterator)
            except StopIteration:
                return
            except Exception as error:
                raise self._raised(error, index) from error
            yield sample
            index += 1

    def _raised(self, error: Exception, index: int) -> ParameterError:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == self.path.name]
        text = (str(error).strip().splitlines() or [""])[0][:200]
        where = f" (line {lines[-1]})" if lines else ""
        return ParameterError(
            f"quantization.load: get_dataset() of {self.path} raised {type(error).__name__}: {text} "
            f"at sample {index}{where}"
        )


class _ArraysFile:
    """An .npz with one array per input name (any name where there is one input), its leading axis the samples."""

    def __init__(self, data: RepresentativeData) -> None:
        self.path, inputs = data.path, data._inputs
        stored = read_arrays_file(self.path, "quantization.load")
        self.arrays = {name: array for name, array in stored.items() if name != _RESERVED}
        names = [spec.name for spec in inputs]
        if len(names) == 1 and len(self.arrays) == 1:
            self.arrays = {names[0]: next(iter(self.arrays.values()))}
        missing = [name for name in names if name not in self.arrays]
        if missing:
            found = ", ".join(sorted(self.arrays)) or "nothing"
            raise ParameterError(
                f"quantization.load: {self.path} holds no array {', '.join(missing)}; it holds {found}"
            )
        counts = {name: self.arrays[name].shape[0] if self.arrays[name].ndim else 0 for name in names}
        if len(set(counts.values())) > 1 or 0 in counts.values():
            raise ParameterError(
                f"quantization.load: the arrays of {self.path} need the same number of samples, at least one, "
                f"as leading axis; found {', '.join(f'{name} {count}' for name, count in counts.items())}"
            )
        # Samples of the model's own batch; a leading axis of their own where the inputs have no batch.
        self.batches = {
            spec.name: (spec.shape[0] or 1) if spec.shape and len(spec.shape) == self.arrays[spec.name].ndim else None
            for spec in inputs
        }

    def samples(self) -> Iterator[object]:
        size = max((batch for batch in self.batches.values() if batch), default=1)
        count = next(iter(self.arrays[name].shape[0] for name in self.batches))
        for start in range(0, count - size + 1, size):
            yield {
                name: self.arrays[name][start] if batch is None else self.arrays[name][start : start + size]
                for name, batch in self.batches.items()
            }


def _to_numpy(value: Any) -> np.ndarray | None:
    """A NumPy array of a number, a nested list, or a TensorFlow or PyTorch tensor (detached, on CPU)."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        return np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    except ValueError:  # a ragged list
        return None


def _fit(dims: Sequence[int | None], shape: Sequence[int]) -> bool:
    return len(dims) == len(shape) and all(d is None or d == size for d, size in zip(dims, shape, strict=True))


def _layout_hint(dims: Sequence[int | None], shape: Sequence[int]) -> str:
    """Where images would fit with their channels elsewhere: it is the source's layout that counts, not the file's."""
    if len(shape) not in (4, 5):
        return ""
    batch, first, *middle, last = shape
    if _fit(dims, [batch, last, first, *middle]):
        return "; these look channels-last: load is in the source's layout, channels first"
    if _fit(dims, [batch, *middle, last, first]):
        return "; these look channels-first: load is in the source's layout, channels last"
    return ""


def _shapes_text(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join(shape_text(shape) for shape in shapes)
