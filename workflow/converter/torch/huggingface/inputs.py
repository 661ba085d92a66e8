"""What a model of transformers is called with: names, shapes, dtypes and ranges by its kind and its configuration.

forward has up to fifty arguments, most of them optional or alternatives of each other. Taken are those without a default, the
model's main input and what usually goes with it; a call decides whether they suffice, and more are added until one runs.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from converter.errors import ParameterError
from converter.hub.hub import TensorSpec
from converter.torch.huggingface.config import read_json
from converter.torch.program.flat import Call, Slot
from converter.torch.sources.inputs import Inputs, check_constants
from converter.torch.sources.tracing import quiet, reason

__all__ = ["known_bounds", "usual_inputs"]

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class _Argument:
    """An input behind its batch: tail of its shape, dtype, and what whole numbers in it stay below."""

    tail: Shape
    dtype: str
    bound: int | None = None

    def spec(self, name: str) -> TensorSpec:
        return TensorSpec(name, (None, *self.tail), self.dtype)


# What is added to the main input, in this order, where forward takes it: at once, and where a call needs more.
_ALWAYS = ("attention_mask", "token_type_ids", "past_time_features", "past_observed_mask")
_WHERE_NEEDED = (
    *("decoder_input_ids", "pixel_values", "input_ids", "input_features", "input_values", "decoder_attention_mask"),
    *("bbox", "pixel_values_videos", "pixel_mask", "past_values", "future_values", "future_time_features"),
)
# Sizes of unknown dimensions in trials: of sequences, and of recordings, a second at 16 kHz.
_LENGTHS, _RECORDING = (7, 64), 16000
# Where a length is fixed and nobody says at what: the first that the model takes.
_USUAL = (128, 64, 32, 16, 8)
_NEVER = ("labels", "inputs_embeds", "past_key_values", "return_dict", "use_cache", "encoder_outputs")


def usual_inputs(
    model: torch.nn.Module, folder: Path, constants: Mapping[str, Any], length: str | None = None
) -> tuple[Inputs, int | None]:
    """The inputs of a model as it is mostly called, with a free batch, without past keys and values; and their length.

    constants: values of arguments that are no inputs. length: as in ImportSpec; the answer is None where it stays free, or
    where there are none of any length. Raises ParameterError that asks for input_shape where none of what is
    known of its kind suffices.
    """
    check_constants(model, constants)
    parameters = {k: p for k, p in inspect.signature(model.forward).parameters.items() if k not in constants}
    known = _Known(model, folder)
    failure: Exception | None = None
    for names in _choices(parameters, getattr(model, "main_input_name", "input_ids"), known):
        for arguments in itertools.islice(_alternatives(names, known), 24):
            call = Call((), {**{name: Slot(index) for index, name in enumerate(arguments)}, **constants})
            for size, batch in itertools.product(_sizes(arguments, length), (2, 1)):
                error = _try(model, call, arguments, size, batch)
                if error is None:
                    fixed = size if length not in (None, "free") and _has_lengths(arguments) else None
                    return _inputs(call, arguments, fixed), fixed
                failure = failure or error
    required = [
        p.name for p in parameters.values() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    names = required or [getattr(model, "main_input_name", "input_ids")]
    raised = f" ({reason(failure)})" if failure is not None else ""
    raise ParameterError(
        f"{folder}: which inputs {type(model).__name__} takes is not known here{raised}; write "
        f'input_shape with their names, such as "{";".join(f"{name}=1,3,224,224" for name in names[:3])}"'
    )


def known_bounds(model: torch.nn.Module, folder: Path, names: Sequence[str]) -> dict[str, int]:
    """What whole numbers in these inputs stay below, as far as their names and the configuration tell."""
    known = _Known(model, folder)
    found = {name: arguments[0].bound for name in names if (arguments := known.of(name))}
    return {name: bound for name, bound in found.items() if bound is not None}


def _choices(parameters: Mapping[str, inspect.Parameter], main: str, known: _Known) -> Iterator[list[str]]:
    """Sets of arguments to try, in forward's order."""
    required = [
        p.name for p in parameters.values() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    first = [name for name in [*required, main] if name in parameters]
    if not all(known.of(name) for name in first):
        return
    usual = [name for name in _ALWAYS if name in parameters and known.of(name) and known.goes_with(name, first)]
    more = [name for name in _WHERE_NEEDED if name in parameters and name not in first and known.of(name)]
    order = list(parameters)
    tried: list[list[str]] = []
    for companions in (usual, []):
        for count in range(3):
            for added in itertools.combinations(more, count):
                names = sorted({*first, *companions, *added}, key=order.index)
                if names not in tried:
                    tried.append(names)
                    yield names


def _alternatives(names: Sequence[str], known: _Known) -> Iterator[dict[str, _Argument]]:
    for chosen in itertools.product(*(known.of(name) for name in names)):
        yield dict(zip(names, chosen, strict=True))


def _has_lengths(arguments: Mapping[str, _Argument]) -> bool:
    return any(None in argument.tail for argument in arguments.values())


def _sizes(arguments: Mapping[str, _Argument], length: str | None) -> tuple[int, ...]:
    """What to try for unknown dimensions; one size where there are none."""
    if not _has_lengths(arguments):
        return _LENGTHS[:1]
    if length is not None and length.isdigit():
        return (int(length),)
    sound = any(argument.dtype == "float32" and argument.tail[-1:] == (None,) for argument in arguments.values())
    if length == "usual":
        return (_RECORDING,) if sound else _USUAL
    return (*_LENGTHS, _RECORDING) if sound else _LENGTHS


def _try(
    model: torch.nn.Module, call: Call, arguments: Mapping[str, _Argument], size: int, batch: int
) -> Exception | None:
    """What stands in the way, with ordinary numbers and with ones that are nowhere a text's padding: positions count the rest."""
    padding = getattr(getattr(model, "config", None), "pad_token_id", None)
    weights = dict(model.named_parameters())
    for avoided in dict.fromkeys((None, padding)):
        tensors = _drawn(arguments, size, batch, avoided)
        try:
            with torch.no_grad(), quiet():
                call(model, tensors)
        except Exception as error:  # whatever forward raises
            return error
        grown = [name for name, weight in model.named_parameters() if weights.get(name) is not weight]
        if grown:  # a table of positions that is made longer where a text is (FSMT)
            for name in grown:
                setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], weights[name])
            return RuntimeError(f"forward replaces {', '.join(grown)} for inputs of {size}")
    return None


def _drawn(arguments: Mapping[str, _Argument], size: int, batch: int, avoided: int | None) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = []
    for argument in arguments.values():
        dims = [batch, *(size if dim is None else dim for dim in argument.tail)]
        if argument.dtype.startswith("float"):
            tensors.append(torch.randn(dims, generator=generator))
        elif argument.bound == 2:
            tensors.append(torch.ones(dims, dtype=getattr(torch, argument.dtype)))
        else:
            bound = min(argument.bound or 1, 1000)
            values = torch.randint(0, bound, dims, generator=generator)
            if avoided is not None:
                values = torch.where(values == avoided, (avoided + 1) % bound, values)
            tensors.append(values.to(getattr(torch, argument.dtype)))
    return tensors


def _inputs(call: Call, arguments: Mapping[str, _Argument], length: int | None) -> Inputs:
    if length is not None:
        arguments = {
            name: replace(a, tail=tuple(length if d is None else d for d in a.tail)) for name, a in arguments.items()
        }
    bounds = {name: argument.bound for name, argument in arguments.items() if argument.bound is not None}
    return Inputs(call, [argument.spec(name) for name, argument in arguments.items()], bounds=bounds)


class _Known:
    """The arguments whose shape follows from the configuration; several where it may be one or the other."""

    def __init__(self, model: torch.nn.Module, folder: Path) -> None:
        self._config: Any = model.config
        self._folder = folder
        self._of: dict[str, Callable[[], list[_Argument]]] = {
            "input_ids": lambda: [_Argument((None,), "int64", self._number("vocab_size"))],
            "decoder_input_ids": lambda: [_Argument((None,), "int64", self._number("vocab_size", decoder=True))],
            "attention_mask": lambda: [_Argument((None,), "int64", 2)],
            "decoder_attention_mask": lambda: [_Argument((None,), "int64", 2)],
            "token_type_ids": self._token_types,
            "bbox": lambda: [_Argument((None, 4), "int64", 1)],
            "pixel_values": self._images,
            "pixel_values_videos": self._videos,
            "pixel_mask": lambda: [_Argument(image.tail[1:], "int64", 2) for image in self._images()],
            "input_values": self._sound,
            "input_features": self._sound,
            "past_values": self._series,
            "future_values": lambda: self._future(()),
            "past_time_features": lambda: self._features("context"),
            "future_time_features": lambda: self._features("prediction_length"),
            "past_observed_mask": lambda: [_Argument(series.tail, "float32", 2) for series in self._series()],
        }

    def of(self, name: str) -> list[_Argument]:
        """How this argument may look; nothing where that is not known."""
        return self._of[name]() if name in self._of and name not in _NEVER else []

    def goes_with(self, name: str, first: Sequence[str]) -> bool:
        """Whether a companion belongs to one of the inputs that are there in any case."""
        texts = {"input_ids"} & set(first)
        if name == "attention_mask":
            return bool(texts)
        if name == "token_type_ids":
            return bool(texts) and self._number("type_vocab_size", default=0) > 1
        return "past_values" in first

    def _parts(self, decoder: bool = False) -> list[Any]:
        """The configuration, and those of a model's parts."""
        parts = [value for value in vars(self._config).values() if hasattr(value, "model_type")]
        parts += [inner for part in parts for inner in vars(part).values() if hasattr(inner, "model_type")]
        first = [getattr(self._config, "decoder", None)] if decoder else []
        return [part for part in [*first, self._config, *parts] if part is not None and not isinstance(part, bool)]

    def _value(self, *names: str, decoder: bool = False) -> Any:
        for part in self._parts(decoder):
            for name in names:
                value = getattr(part, name, None)
                if value is not None and not isinstance(value, bool):
                    return value
        return None

    def _number(self, *names: str, decoder: bool = False, default: int = 1) -> int:
        value = self._value(*names, decoder=decoder)
        return value if isinstance(value, int) and value > 0 else default

    def _token_types(self) -> list[_Argument]:
        return [_Argument((None,), "int64", self._number("type_vocab_size"))]

    def _image_size(self) -> tuple[int, int]:
        """As configured, else as the directory's preprocessing makes images, else what most are trained with."""
        size = self._value("image_size", "input_size", "img_size")
        if size is None and (path := self._folder / "preprocessor_config.json").is_file():
            found = read_json(path)
            size = found.get("crop_size") if found.get("do_center_crop") else None
            size = size or found.get("size")
        if isinstance(size, dict):
            size = [size.get("height") or size.get("shortest_edge"), size.get("width") or size.get("shortest_edge")]
        sizes = [size, size] if isinstance(size, int) else list(size)[-2:] if isinstance(size, list | tuple) else []
        numbers = [entry for entry in sizes if isinstance(entry, int)]
        return (numbers[0], numbers[1]) if len(numbers) == 2 else (224, 224)

    def _images(self) -> list[_Argument]:
        channels = self._number("num_channels", "in_channels", "in_chans", "num_input_channels", default=3)
        height, width = self._image_size()
        images = [_Argument((channels, height, width), "float32")]
        frames = self._value("num_frames", "num_image_with_embedding")
        if isinstance(frames, int):
            video = _Argument((frames, channels, height, width), "float32")
            is_video = self._value("tubelet_size", "attention_type") is not None
            images = [video, *images] if is_video else [*images, video]
        return images

    def _videos(self) -> list[_Argument]:
        frames = self._number("frames_per_clip", "num_frames", default=8)
        return [_Argument((frames, *image.tail[-3:]), "float32") for image in self._images()[:1]]

    def _sound(self) -> list[_Argument]:
        """A recording of any length; or its spectrogram, as large as the configuration says."""
        found = []
        bins = self._value("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim", "input_dim")
        if isinstance(bins, int):
            length = self._value("max_length", "max_source_positions")
            if self._value("patch_size", "frequency_stride") is not None and isinstance(self._value("max_length"), int):
                found.append(_Argument((self._value("max_length"), bins), "float32"))
            if isinstance(length, int):
                found.append(_Argument((bins, 2 * length), "float32"))
            found.append(_Argument((None, bins), "float32"))
            spectrum = self._value("spec_size")
            if isinstance(spectrum, int):
                found.append(_Argument((1, spectrum * 4, bins), "float32"))
        return [*found, _Argument((None,), "float32"), _Argument((1, None), "float32")]

    def _series(self) -> list[_Argument]:
        context = self._number("context_length", "prediction_length", default=32)
        lags = self._value("lags_sequence")
        if isinstance(lags, list | tuple) and lags:
            size = self._number("input_size", default=1)
            tail = (context + max(lags),)
            return [_Argument(tail if size == 1 else (*tail, size), "float32")]
        return [
            _Argument((context, self._number("num_input_channels", "num_channels")), "float32"),
            _Argument((context,), "float32"),
        ]

    def _future(self, tail: Shape) -> list[_Argument]:
        return [_Argument((self._number("prediction_length"), *tail), "float32")]

    def _features(self, what: str) -> list[_Argument]:
        count = self._number("num_time_features", default=0)
        if not count:
            return [_Argument((self._length(what), 0), "float32")]
        return [_Argument((self._length(what), count), "float32")]

    def _length(self, what: str) -> int:
        series = self._series()[0].tail[0]
        return (series or 1) if what == "context" else self._number(what)
