"""Shapes: views, copies, repetitions, and tensors made from sizes."""

import torch

from operator_cases.case import case, floats, ints

X = floats(3, 4, 6)
SQUARE = floats(3, 5, 5)


class Strides(torch.nn.Module):
    """Fills tensors with a buffer's numbers, as detectors do for their anchors."""

    def __init__(self):
        super().__init__()
        self.register_buffer("strides", torch.tensor([8.0, 16.0]))

    def forward(self, x):
        first = x.new_full((4, 6), self.strides[1])
        second = torch.full((4, 1), self.strides[0], dtype=x.dtype)
        literal = x.new_full((x.shape[0], 1, 1), torch.tensor([0.5, 2.5])[1])
        return x * first + second, x + literal


class Scaled(torch.nn.Module):
    """Fills a tensor with what is computed of a weight."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return x * x.new_full((4, 6), (self.scale * 2).item()) + torch.full_like(x, self.scale.item())


CASES = {
    "views": case(
        lambda x: (
            x.view(-1, 24),
            x.reshape(x.shape[0], 2, 12),
            x.flatten(1),
            x.unflatten(1, (2, 2)),
            x.permute(0, 2, 1),
            x.transpose(0, 1),
            x.mT,
            x.unsqueeze(1).squeeze(1),
            x.swapaxes(1, 2),
            x.movedim(2, 0),
            torch.atleast_3d(x[0, 0]),
        ),
        X,
    ),
    "as_strided": case(lambda x: x[0].clone().as_strided((3, 4), (6, 1), 2), X),
    "expand": case(
        lambda x: (
            x[:, :1].expand(-1, 3, -1),
            x[:1].expand(x.shape[0], -1, -1),
            x[:, 0].unsqueeze(1).expand(x.shape[0], x.shape[0], 6),
        ),
        X,
    ),
    "repeat": case(lambda x: (x.repeat(1, 2, 3), x.repeat(2, 1, 1, 1), torch.tile(x, (2, 1, 1))), X),
    "repeat_by_an_unknown_number": case(
        lambda x: (x[0].repeat(x.shape[0], 1), x[:1].repeat(x.shape[0], 2, 1), x.repeat(x.shape[0], 1, 1)), X
    ),
    "repeat_interleave": case(
        lambda x: (
            x.repeat_interleave(2, 1),
            x.repeat_interleave(3, 0),
            x.repeat_interleave(2),
            x.repeat_interleave(torch.tensor([1, 0, 2, 3]), 1),
        ),
        X,
    ),
    "split": case(
        lambda x: (
            *x.split(3, 1),
            *x.split([1, 3], 1),
            *x.chunk(4, 2),
            *x.unbind(1),
            *x.tensor_split(4, 2),
            *x.hsplit(2),
        ),
        X,
    ),
    "join": case(
        lambda x: (
            torch.cat([x, x * 2], 1),
            torch.cat([x, x], 0),
            torch.stack([x, -x], 1),
            torch.stack([x, -x], -1),
            torch.hstack([x, x]),
            torch.dstack([x, x]),
        ),
        X,
    ),
    "slices": case(lambda x: (x[:, 1:3], x[:, :, ::2], x[:, -1], x[..., 2:-1], x[:, None, 2], x[::2]), X),
    "narrow": case(lambda x: (x.narrow(1, 1, 2), x.select(2, -1), x.narrow(2, 0, 3)), X),
    "roll": case(lambda x: (x.roll(2, 1), x.roll((1, -2), (1, 2)), x.roll(3), x.roll(-1, 0)), X),
    "flip": case(
        lambda x: (x.flip(1), x.flip((0, 2)), x.fliplr(), x.rot90(1, (1, 2)), x.rot90(3, (1, 2)), x.rot90(2, (1, 2))), X
    ),
    "triangles": case(lambda x: (x.triu(), x.tril(-1), x.triu(2), x.tril(1)), SQUARE),
    "triangles_of_a_size": case(
        lambda x: (x + torch.ones(5, 5).tril(), x.masked_fill(torch.ones(x.shape[1], x.shape[1]).triu(1).bool(), 0)),
        SQUARE,
    ),
    "triangle_of_the_batch": case(lambda x: (x @ x.T).tril(), X[:, 0]),
    "indices_of_triangles": case(lambda x: x[:, torch.tril_indices(5, 5)[0], torch.triu_indices(5, 5)[1]], SQUARE),
    "meshgrid": case(lambda x: tuple(torch.meshgrid(x[0, 0], x[0, :, 0], indexing="ij")), X),
    "cartesian": case(lambda x: torch.cartesian_prod(x[0, 0], x[0, 1]), X),
    "zeros_of_a_size": case(
        lambda x: (
            x + torch.zeros(x.shape[0], 1, 6),
            x * torch.ones_like(x),
            x.new_zeros(x.shape[0], 2),
            x.new_full((x.shape[0], 1), 2.5),
            x.new_ones(3),
            torch.full_like(x, -1.0),
            torch.full((x.shape[0],), 7),
        ),
        X,
    ),
    "arange_of_the_batch": case(
        lambda x: (
            torch.arange(x.shape[0]),
            torch.arange(x.shape[0]) + 2,
            torch.arange(1, x.shape[0] + 1),
            torch.arange(x.shape[0] * 4),
            torch.arange(0, x.shape[0] * 4, 2),
            torch.arange(x.shape[0] - 1, -1, -1),
        ),
        X,
    ),
    "arange_of_floats": case(
        lambda x: (x + torch.arange(0, 3, 0.5), torch.arange(x.shape[0], dtype=torch.float32) / 2), X
    ),
    "linspace": case(lambda x: (x + torch.linspace(-1, 1, 6), x * torch.logspace(0, 1, 6)), X),
    "eye": case(lambda x: (x + torch.eye(5), torch.eye(x.shape[0])), SQUARE),
    "scalar_tensor": case(lambda x: (x * torch.scalar_tensor(2.5), x + torch.tensor(x.shape[0]), x / x.shape[0]), X),
    "size_of_a_tensor": case(lambda x: (x * x.numel(), x.sum() / x.shape[0] ** 0.5), X),
    "full_of_a_buffer": case(Strides(), X),
    "full_of_a_learned_number": case(Scaled(), X),
    "block_diagonal": case(lambda x: torch.block_diag(x[0], x[1]), X),
    "casts": case(
        lambda x: (
            x.long(),
            x.to(torch.int32),
            x.double(),
            x > 0,
            (x > 0).float(),
            x.to(torch.uint8).abs() * 0 + 3,
            x.type_as(x.double()),
        ),
        X,
    ),
    "windows_of_a_batch": case(lambda x: x.view(-1, 2, 2, 6).permute(0, 2, 1, 3).reshape(-1, 6), X),
    "channel_shuffle": case(lambda x: torch.nn.functional.channel_shuffle(x.unsqueeze(-1), 2), X),
    "complex": case(
        lambda x: torch.view_as_real(
            torch.view_as_complex(x.reshape(-1, 4, 3, 2)) * torch.view_as_complex(x.reshape(-1, 4, 3, 2))
        ),
        X,
    ),
    "polar": case(
        lambda x: (torch.polar(x.abs(), x).real, torch.complex(x, x * 2).abs(), torch.complex(x, x * 2).angle()), X
    ),
    "fft": case(
        lambda x: (
            torch.view_as_real(torch.fft.fft(x)),
            torch.fft.rfft(x, dim=1).abs(),
            torch.fft.irfft(torch.fft.rfft(x)),
            torch.view_as_real(torch.fft.fft2(x)),
        ),
        X,
    ),
    "stft": case(
        lambda x: torch.view_as_real(torch.stft(x, 8, 3, window=torch.hann_window(8), return_complex=True)),
        floats(3, 40),
    ),
    "istft": case(
        lambda x: torch.istft(
            torch.stft(x, 8, 2, window=torch.hann_window(8), return_complex=True),
            8,
            2,
            window=torch.hann_window(8),
            length=40,
        ),
        floats(3, 40),
    ),
    "positions": case(lambda i: (i.cumsum(1) - 1, (i > 0).cumsum(-1)), ints(0, 2, 3, 6)),
}
