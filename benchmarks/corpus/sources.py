"""The corpus: what models there are of each family, and each written down as people hold it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from converter.torch.huggingface.config import offline
from corpus.made import MADE, load_made, write_made
from corpus.model import Model, settle, varied

offline()

__all__ = ["FAMILIES", "Model", "load"]


def write_transformers(folder: Path, only: Sequence[str] | None) -> list[Model]:
    """A directory with a small model for each type of transformers.txt."""
    from corpus.small_transformers import write

    return _written(folder, "transformers", write, only)


def write_timm(folder: Path, only: Sequence[str] | None) -> list[Model]:
    """A directory for the smallest registered model of every file of timm, but two of more than 100 million parameters."""
    return _written(folder, "timm", _write_timm, only)


def _written(
    folder: Path, family: str, write: Callable[[str, Path], object], only: Sequence[str] | None
) -> list[Model]:
    """The models that the family's list names. What cannot be built is not of the corpus; why is printed."""
    models = []
    for name in (Path(__file__).parent / f"{family}.txt").read_text().split():
        if only is not None and name not in only:
            continue
        path = folder / f"{family}-{name}"
        try:
            if not (path / "config.json").exists():
                write(name, path)
        except Exception as error:  # whatever a configuration or a network raises
            path.joinpath("config.json").unlink(missing_ok=True)
            print(
                f"{family} {name} is not built: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
                flush=True,
            )
            continue
        models.append(Model(family, name, path.name))
    return models


def _write_timm(name: str, folder: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=10).eval()
    settle(network, varied(8, *network.default_cfg["input_size"]))
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / "model.safetensors")
    config = {"architecture": name, "num_classes": 10, "pretrained_cfg": network.pretrained_cfg}
    (folder / "config.json").write_text(json.dumps(config, default=str))


FAMILIES: dict[str, Callable[[Path, Sequence[str] | None], list[Model]]] = {
    "transformers": write_transformers,
    "timm": write_timm,
    **{family: functools.partial(write_made, family) for family in MADE},
}


def load(model: Model, folder: Path) -> torch.nn.Module:
    """The network with its weights, by its own library, for the official routes."""
    path = folder / model.source
    if model.family == "transformers":
        import transformers

        name = json.loads((path / "config.json").read_text())["architectures"][0]
        return getattr(transformers, name).from_pretrained(path, local_files_only=True).eval()
    if model.family == "timm":
        import timm
        from safetensors.torch import load_file

        network = timm.create_model(model.name, pretrained=False, num_classes=10)
        network.load_state_dict(load_file(path / "model.safetensors"))
        return network.eval()
    return load_made(model.family, model.name, path)
