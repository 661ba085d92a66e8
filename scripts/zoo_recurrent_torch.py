"""Make a recurrent text classifier of PyTorch: zoo_recurrent_torch.py --recipe=recurrent_torch --name=lstm_torch OUTPUT.pt2.

The network of the recipe `recurrent` of zoo_keras.py: 53 tokens, an embedding, one LSTM or GRU layer, two classes. It is
written as an exported program, which needs no class of ours to be opened. Weights are seeded and calibrated likewise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

_SEED = 7
_SAMPLES = 8
_TOKENS = 53


class Classifier(torch.nn.Module):
    """Tokens (N, 53) of int64 to logits (N, 2)."""

    def __init__(self, layer: type[torch.nn.Module]) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(1000, 32)
        self.recurrent = layer(32, 64, batch_first=True)
        self.logits = torch.nn.Linear(64, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.logits(self.recurrent(self.embedding(tokens))[0][:, -1])


def build(name: str) -> torch.export.ExportedProgram:
    torch.manual_seed(_SEED)
    model = Classifier(torch.nn.GRU if name.startswith("gru") else torch.nn.LSTM).eval()
    tokens = torch.randint(0, 1000, (_SAMPLES, _TOKENS))
    with torch.no_grad():
        answers = model(tokens)
        scale = 1 / answers.std(0).mean()
        model.logits.bias.copy_((model.logits.bias - answers.mean(0)) * scale)
        model.logits.weight.mul_(scale)
    return torch.export.export(model, (tokens,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=("recurrent_torch",), default="recurrent_torch")
    parser.add_argument("--name", required=True, help="lstm_... or gru_...")
    parser.add_argument("--shape", help="of the conversions; the network's own is fixed")
    parser.add_argument("--weights", choices=("random", "pretrained"), default="random")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    if args.weights == "pretrained":
        raise SystemExit(f"{args.name} has no pretrained weights: write zoo: {{weights: random}}")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(build(args.name), args.output)


if __name__ == "__main__":
    sys.exit(main())
