"""The corpus: what models there are of each family, and each written down as people hold it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from converter.torch.extensions.vision import import_torchvision
from converter.torch.huggingface.config import offline

offline()
import_torchvision()  # transformers and timm import it, which works beside a CPU build of torch only so

__all__ = ["FAMILIES", "Model", "load"]


@dataclass(frozen=True)
class Model:
    """One model of the corpus: its family, its name there, the source's path in models/, and parameters for Converter."""

    family: str
    name: str
    source: str
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """Of its targets' names."""
        return f"{self.family}-{self.name}".replace("/", "_")


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
    settle(network, torch.randn(4, *network.default_cfg["input_size"]))
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / "model.safetensors")
    config = {"architecture": name, "num_classes": 10, "pretrained_cfg": network.pretrained_cfg}
    (folder / "config.json").write_text(json.dumps(config, default=str))


def settle(network: torch.nn.Module, *inputs: torch.Tensor) -> None:
    """Running statistics of what really goes through: with those of new networks the outputs hardly depend on the input."""
    norms = [
        m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and m.track_running_stats
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    try:
        with torch.no_grad():
            network(*inputs)
    except ValueError:  # one value a channel
        pass
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


# torchvision's smallest of every file of its models, and how large their input is.
_IMAGE = (3, 224, 224)
_VIDEO = (3, 16, 112, 112)
_TORCHVISION: dict[str, tuple[tuple[int, ...], ...]] = {
    **dict.fromkeys(
        ("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "mnasnet0_5",
         "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5",
         "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_16", "maxvit_t",
         "segmentation.deeplabv3_mobilenet_v3_large", "segmentation.fcn_resnet50", "segmentation.lraspp_mobilenet_v3_large",
         "segmentation.deeplabv3_resnet50"),
        (_IMAGE,),
    ),
    "inception_v3": ((3, 299, 299),),
    **dict.fromkeys(("video.r3d_18", "video.mc3_18", "video.r2plus1d_18"), (_VIDEO,)),
    "video.s3d": ((3, 16, 224, 224),),
    "video.swin3d_t": ((3, 16, 112, 112),),
    "video.mvit_v2_s": ((3, 16, 224, 224),),
    "optical_flow.raft_small": ((3, 128, 128), (3, 128, 128)),
}  # fmt: skip
# What keeps torchvision from downloading.
_WITHOUT = {"weights": None}


def _arguments(name: str) -> dict[str, Any]:
    if name.startswith("segmentation"):
        return {"weights": None, "weights_backbone": None, "num_classes": 5}
    if name in ("googlenet", "inception_v3"):
        return {"weights": None, "init_weights": True, "aux_logits": False}
    return _WITHOUT


def write_torchvision(folder: Path, only: Sequence[str] | None) -> list[Model]:
    """State dicts with the names of the networks."""
    models = []
    for name, sizes in _TORCHVISION.items():
        if only is not None and name not in only:
            continue
        source = folder / f"torchvision-{name}.safetensors"
        if not source.exists():
            _write_torchvision(name, source, sizes)
        (folder / f"torchvision-{name}.json").write_text(json.dumps(_arguments(name)))
        shape = ";".join(",".join(map(str, (1, *size))) for size in sizes)
        models.append(
            Model("torchvision", name, source.name, {
                "network_name": f"torchvision.models.{name}",
                "network_args": f"models/torchvision-{name}.json",
                "input_shape": shape,
            })
        )  # fmt: skip
    return models


def _write_torchvision(name: str, path: Path, sizes: tuple[tuple[int, ...], ...]) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = _torchvision_network(name)
    settle(network, *(torch.randn(2, *size) for size in sizes))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)


def _torchvision_network(name: str) -> torch.nn.Module:
    from torchvision import models

    make = functools.reduce(getattr, name.split("."), models)
    return make(**_arguments(name)).eval()  # type: ignore[operator]


FAMILIES: dict[str, Callable[[Path, Sequence[str] | None], list[Model]]] = {
    "transformers": write_transformers,
    "timm": write_timm,
    "torchvision": write_torchvision,
}


def load(model: Model, folder: Path) -> torch.nn.Module:
    """The network with its weights, by its own library, for the official routes."""
    path = folder / model.source
    if model.family == "transformers":
        import transformers

        name = json.loads((path / "config.json").read_text())["architectures"][0]
        return getattr(transformers, name).from_pretrained(path, local_files_only=True).eval()
    from safetensors.torch import load_file

    if model.family == "timm":
        import timm

        network = timm.create_model(model.name, pretrained=False, num_classes=10)
        network.load_state_dict(load_file(path / "model.safetensors"))
    else:
        network = _torchvision_network(model.name)
        network.load_state_dict(load_file(path))
    return network.eval()
