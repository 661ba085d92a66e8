"""Complex numbers in programs as pairs of reals: what PyTorch itself computes, without a complex tensor left."""

from __future__ import annotations

import pytest
import torch

from converter.torch.exact.complex_pairs import write_pairs

TURNS = torch.polar(torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.3, -2.0, 4.0]]))


def rotate(x):
    """Rotary embeddings as DeepSeek and the first LLaMA have them."""
    z = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    angles = torch.outer(torch.arange(x.shape[1]), torch.tensor([1.0, 0.1, 0.01]))
    return torch.view_as_real(z * torch.polar(torch.ones_like(angles), angles).unsqueeze(0)).flatten(2)


def pair(x):
    return torch.complex(x[..., :3], x[..., 3:])


def turned(x):
    return pair(x).permute(0, 2, 1).unsqueeze(-2)[:, 1:, 0, :3]


FUNCTIONS = {
    "rotary": rotate,
    "constant": lambda x: torch.view_as_real(pair(x) * TURNS),
    "quotient": lambda x: torch.view_as_real(pair(x) / pair(x * x + 1)),
    "by reals": lambda x: torch.view_as_real(pair(x) * x[..., :3] / (1 + x[..., 3:].abs()) * 2.0),
    "real by complex": lambda x: torch.view_as_real((1 + x[..., :3].abs()) / pair(x + 3)),
    "sums": lambda x: torch.view_as_real(pair(x) + x[..., :3] - pair(x).conj() * 0.5 + 1.5),
    "parts": lambda x: pair(x).real * pair(x).abs() + pair(x).imag + pair(x).angle(),
    "exponential": lambda x: torch.exp(pair(x)).real,
    "matrices": lambda x: torch.view_as_real(pair(x) @ pair(x).transpose(-1, -2)),
    "matrix of reals": lambda x: torch.view_as_real(pair(x) @ pair(x).real.transpose(-1, -2).to(torch.complex64)),
    "shapes": lambda x: torch.view_as_real(torch.cat([turned(x), pair(x).mean(-1, keepdim=True)[:, :3, [0, 0]].mT], 1)),
    "another width": lambda x: (pair(x).to(torch.complex128) * pair(x).to(torch.complex128)).to(torch.complex64).abs(),
    "a root": lambda x: torch.sqrt(pair(x)).real,
    "stacked": lambda x: torch.stack([pair(x), -pair(x)], -1).sum(1).abs(),
    "fft": lambda x: torch.view_as_real(torch.fft.fft(pair(x), dim=1)),
    "fft2": lambda x: torch.fft.fft2(x).real,
    "fftn": lambda x: torch.fft.fftn(x, dim=(1, 2), norm="ortho").imag,
    "ifft": lambda x: torch.view_as_real(torch.fft.ifft(pair(x), norm="forward") + torch.fft.ifft(pair(x), dim=-2)),
    "rfft": lambda x: torch.fft.rfft(x).abs(),
    "irfft": lambda x: torch.fft.irfft(torch.fft.rfft(x, norm="ortho"), norm="ortho") + torch.fft.irfft(pair(x), n=5)[..., :1],
    "irfft along another axis": lambda x: torch.fft.irfft(pair(x), dim=1, norm="forward"),
    "stft": lambda x: torch.view_as_real(torch.stft(x[:, 0], 4, 2, window=torch.hann_window(4), return_complex=True)),
    "stft of both sides": lambda x: torch.view_as_real(torch.stft(
        x.flatten(1), 7, 3, 4, torch.linspace(0.1, 1, 4), center=False, normalized=True, onesided=False, return_complex=True)),
    "filter": lambda x: torch.fft.ifft(torch.fft.fft(x) * torch.polar(torch.ones(6), torch.arange(6) * 0.4)).real,
}  # fmt: skip
# What the pairs do not know.
LEFT = ("a root",)


class Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_pytorch_computes(name):
    x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(2))
    batch = torch.export.Dim("batch")
    program = torch.export.export(Function(FUNCTIONS[name]), (x,), dynamic_shapes=({0: batch},))
    write_pairs(program)
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert any(isinstance(v, torch.Tensor) and v.is_complex() for v in values) == (name in LEFT)
    for rows in (x, torch.randn(2, 5, 6) * 3):
        torch.testing.assert_close(program.module()(rows), FUNCTIONS[name](rows), rtol=2e-5, atol=2e-5)


def test_a_buffer_of_complex_numbers():
    class Turned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("turns", TURNS.clone())

        def forward(self, x):
            return torch.view_as_real(pair(x) * self.turns)

    x = torch.randn(2, 5, 6)
    program = torch.export.export(Turned(), (x,))
    write_pairs(program)
    assert not any(value.is_complex() for value in program.state_dict.values())
    torch.testing.assert_close(program.module()(x), Turned()(x))
