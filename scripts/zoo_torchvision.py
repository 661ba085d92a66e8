"""Make a torchvision model as a pickled module: zoo_torchvision.py --name=resnet18 --shape=1,3,224,224 --weights=random OUTPUT.

Random weights are seeded and calibrated as those of zoo_keras.py, for the same reason: outputs that hardly vary would hide
a wrong conversion. Batch normalisation takes the statistics of random images, and the last layer is scaled so that each of
its outputs has mean 0 and standard deviation 1 over them.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

import torch

from converter.torch.extensions.vision import import_torchvision

_SEED = 7
_SAMPLES = 4
# Detectors hand out lists of whatever length; what a device runs is their backbone, whose answers are tensors.
_BACKBONE = "_backbone"


def build(name: str, weights: str) -> torch.nn.Module:
    """The model of torchvision's registry, in eval mode; "pretrained" downloads its default weights."""
    if import_torchvision() is None:
        raise SystemExit("the recipe needs torchvision: install requirements-vision.txt with --no-deps")
    from torchvision.models import get_model_builder

    torch.manual_seed(_SEED)
    builder = get_model_builder(name.removesuffix(_BACKBONE))
    if weights == "pretrained":
        model = builder(weights="DEFAULT")
    else:
        # Segmentation and detection models download the weights of their backbone unless told not to.
        backbone = {"weights_backbone": None} if "weights_backbone" in inspect.signature(builder).parameters else {}
        model = builder(weights=None, **backbone)
    return (model.backbone if name.endswith(_BACKBONE) else model).eval()


def spread(model: torch.nn.Module, shape: list[int]) -> None:
    """Give `model` weights with which its outputs vary over random inputs of `shape` (see the module's docstring)."""
    generator = torch.Generator().manual_seed(_SEED)
    data = torch.randn(_SAMPLES, *shape[1:], generator=generator)
    norms = [part for part in model.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, torch.nn.modules.conv._ConvNd):
                fan_in = part.weight[0].numel()
                part.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        for part in norms:
            part.weight.add_(0.1 * torch.randn(part.weight.shape, generator=generator))
            # Around 1: most of what follows, a ReLU, then passes. Around 0 each layer of a random network multiplies the
            # rounding errors of the one before by 1.2, and fifty layers would leave no digits to compare.
            part.bias.add_(1 + 0.1 * torch.randn(part.bias.shape, generator=generator))
        momenta = [part.momentum for part in norms]
        for part in norms:
            part.train()
            part.momentum = 1.0  # the statistics of this one pass
        model(data)
        for part, momentum in zip(norms, momenta, strict=True):
            part.eval()
            part.momentum = momentum
        _scale_last(model, data, generator)


def _scale_last(model: torch.nn.Module, data: torch.Tensor, generator: torch.Generator) -> None:
    """New weights for the last layer that ran: standard deviation 1 over the samples for what it answers."""
    ran: list[tuple[torch.nn.Module, torch.Tensor]] = []
    layers = [part for part in model.modules() if isinstance(part, torch.nn.Linear | torch.nn.modules.conv._ConvNd)]
    handles = [part.register_forward_hook(lambda part, _, result: ran.append((part, result))) for part in layers]
    model(data)
    last = ran[-1][0]
    last.weight.normal_(0, last.weight[0].numel() ** -0.5, generator=generator)
    if last.bias is not None:
        last.bias.zero_()
    model(data)
    for handle in handles:
        handle.remove()
    answers = ran[-1][1]
    axes = [axis for axis in range(answers.dim()) if axis != (1 if answers.dim() > 2 else answers.dim() - 1)]
    scale = 1 / answers.std(axes).mean().clamp(min=1e-12)
    last.weight.mul_(scale)
    if last.bias is not None:
        last.bias.copy_(-answers.mean(axes) * scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=("torchvision",), default="torchvision")
    parser.add_argument("--name", required=True, help="name in torchvision's registry")
    parser.add_argument("--shape", default="1,3,224,224", help="an input, channels first")
    parser.add_argument("--weights", choices=("random", "pretrained"), default="random")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    model = build(args.name, args.weights)
    if args.weights == "random":
        spread(model, [int(size) for size in args.shape.split(",")])
    args.output.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model, args.output)


if __name__ == "__main__":
    sys.exit(main())
