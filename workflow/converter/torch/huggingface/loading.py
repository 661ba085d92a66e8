"""A directory of Hugging Face or timm as a module in eval mode, with the inputs that models of its kind take."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from converter.errors import ParameterError, SourceError, UnsupportedError
from converter.hub.hub import TensorSpec
from converter.torch.extensions.audio import prepare_torchaudio
from converter.torch.extensions.vision import importable_torchvision
from converter.torch.huggingface.config import configuration, model_class, offline, read_config
from converter.torch.huggingface.inputs import known_bounds, usual_inputs
from converter.torch.huggingface.weights import read_state
from converter.torch.program.flat import Call, Slot
from converter.torch.sources.inputs import Inputs, asked_batch, check_constants, find_inputs
from converter.torch.sources.loading import Source
from converter.wording import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.contracts import ImportSpec

__all__ = ["load_directory"]

Loaded = tuple[Source, Callable[[str | None], Inputs]]


def load_directory(spec: ImportSpec) -> Loaded:
    """The model of `spec.source`, computed in float32, and a function that finds its inputs, which calls the model.

    The function takes the length of texts and recordings, as in ImportSpec.
    Raises ConverterError for what the user can mend.
    """
    if spec.toolchain != "default":
        raise ParameterError(f"toolchain: {spec.source} is read by today's libraries only; leave toolchain out")
    if spec.length is not None and spec.input_shape is not None:
        raise ParameterError(f"length: input_shape gives all sizes of {spec.source}; leave one of them out")
    offline()
    folder = spec.source
    config = read_config(folder, spec.trusted)
    state = read_state(folder, spec.trusted)
    prepare_torchaudio()
    with importable_torchvision(), _silent():
        load = _timm if isinstance(config.get("architecture"), str) else _transformers
        source, usual = load(spec, config, state)
    narrow = {t.dtype for t in state.values()} & {torch.float16, torch.bfloat16}
    if narrow:
        kinds = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in narrow))
        source.notes.append(f"its weights of {kinds} are computed with in float32")
        source.decisions.append("computed in float32")

    def find(length: str | None) -> Inputs:
        with _silent():
            if spec.input_shape is None:
                return asked_batch(source, usual(length), spec)
            inputs = find_inputs(source, spec)
        if hasattr(source.module, "config"):
            inputs.bounds |= known_bounds(source.module, folder, [tensor.name for tensor in inputs.specs])
        return inputs

    return source, find


def _is_meant(model_type: str, name: str) -> bool:
    """Whether transformers itself takes the class for this type, though it was made for another (InternLM3: a Llama)."""
    from transformers.models.auto import modeling_auto

    tables = [table for key, table in vars(modeling_auto).items() if key.endswith("_MAPPING_NAMES")]
    found = [table.get(model_type) for table in tables]
    return any(name == entry or (isinstance(entry, list | tuple) and name in entry) for entry in found)


def _transformers(spec: ImportSpec, config: dict[str, Any], state: dict[str, torch.Tensor]) -> Loaded:
    folder = spec.source
    found = model_class(folder, config, spec.network_name)
    settings = configuration(folder, config, found.config_class if "auto_map" in config else None)
    other = getattr(found, "config_class", None) is not None and not isinstance(settings, found.config_class)
    if other and not _is_meant(config["model_type"], found.__name__):
        raise ParameterError(
            f"{folder}: {found.__name__} is not of models of type {config['model_type']}: "
            "write another class in network_name, or leave it out"
        )
    try:
        model, said = found.from_pretrained(
            None,
            config=settings,
            state_dict=state,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported below
            experts_implementation="batched_mm",  # the others are loops over data, or an operator of transformers' own
        )
    except ImportError as error:
        raise UnsupportedError(
            f"{folder}: {found.__name__} needs a library that is not installed: {first_line(error)}"
        ) from error
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise SourceError(
            f"{folder}: {found.__name__} cannot be built of its config.json: {first_line(error)}"
        ) from error
    missing = sorted(_names(said.get("missing_keys", ())))
    wrong = sorted(_names(said.get("mismatched_keys", ())))
    if missing or wrong:
        raise SourceError(
            f"{folder}: {len(missing) + len(wrong)} weights of {found.__name__} are not in its files, or of another size "
            f"({', '.join([*missing, *wrong][:3])}), so that they would be random: give the directory of a trained "
            f"{found.__name__}, or name the class that its weights are of in network_name"
        )
    source = Source(folder, "module", model.eval())
    unused = sorted(_names(said.get("unexpected_keys", ())))
    if unused:
        source.notes.append(f"{len(unused)} weights of the files are not {found.__name__}'s ({', '.join(unused[:3])})")
        source.decisions.append(f"{len(unused)} weights of the files not used")
    if spec.network_name is not None:
        source.decisions.append(f"model class {found.__name__}")
    return source, lambda length: _inputs_of(source, spec, length)


def _inputs_of(source: Source, spec: ImportSpec, length: str | None) -> Inputs:
    inputs, fixed = usual_inputs(source.module, spec.source, spec.constants, length)
    if fixed is None and length is not None and length.isdigit():
        raise ParameterError(f"length: no input of {spec.source} is a text or a recording of any length; leave it out")
    if fixed is not None:
        source.decisions.append(f"length fixed at {fixed}")
        source.notes.append(f"the length of texts or recordings is fixed at {fixed}: length says another, or free")
    return inputs


def _names(entries: Iterable[Any]) -> list[str]:
    return [entry if isinstance(entry, str) else str(entry[0]) for entry in entries]


def _timm(spec: ImportSpec, config: dict[str, Any], state: dict[str, torch.Tensor]) -> Loaded:
    import timm

    folder, name = spec.source, config["architecture"]
    if spec.network_name is not None:
        raise ParameterError(
            f"network_name: {folder} is a directory of timm, whose config.json names {name}; leave it out"
        )
    if spec.length is not None:
        raise ParameterError(f"length: {name} of timm, in {folder}, takes images; leave it out")
    if not timm.is_model(name):
        raise SourceError(f"{folder}/config.json: timm {timm.__version__} has no architecture {name[:80]!r}")
    options = config.get("model_args") if isinstance(config.get("model_args"), dict) else {}
    options = {
        **(options or {}),
        **{key: config[key] for key in ("num_classes", "global_pool") if config.get(key) is not None},
    }
    try:
        model = timm.create_model(name, pretrained=False, **options)
        missing, unused = model.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise SourceError(
            f"{folder}: {name} of timm cannot be built of its config.json: {first_line(error)}"
        ) from error
    if missing or unused:
        raise SourceError(
            f"{folder}: its weights are not those of {name} ({', '.join([*missing, *unused][:3])}): "
            "give the directory that timm or save_pretrained wrote"
        )
    model.eval()

    def usual(length: str | None) -> Inputs:
        trained = config.get("pretrained_cfg") if isinstance(config.get("pretrained_cfg"), dict) else {}
        size = (trained or {}).get("input_size") or getattr(model, "default_cfg", {}).get("input_size") or (3, 224, 224)
        check_constants(model, spec.constants)
        return Inputs(Call((Slot(0),), dict(spec.constants)), [TensorSpec("x", (None, *map(int, size)), "float32")])

    return Source(folder, "module", model), usual


@contextmanager
def _silent() -> Iterator[None]:
    """transformers prints tables of what it loads."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
