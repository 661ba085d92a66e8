"""What a model of the corpus is, and running statistics for a network that was never trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from converter.torch.extensions.audio import prepare_torchaudio
from converter.torch.extensions.vision import import_torchvision

__all__ = ["Model", "settle", "varied"]

import_torchvision()  # transformers and timm import it, which works beside a CPU build of torch only so
prepare_torchaudio()


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


def varied(*shape: int) -> torch.Tensor:
    """Noise on coarse patches and on a level of each sample's own, as pictures and sounds have.

    Statistics of noise alone make a network that blows up whatever is not noise, and with it its own rounding.
    """
    noise = torch.randn(shape)
    if len(shape) < 3:
        return noise
    coarse = torch.nn.functional.interpolate(torch.randn(*shape[:2], *[4] * (len(shape) - 2)), size=shape[2:])
    return 0.5 * noise + coarse + torch.randn(*shape[:2], *[1] * (len(shape) - 2))


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
