"""Each family of PyTorch operators, in .keras files and, where layers exist for it, in HDF5 files too."""

import math

import keras
import pytest
import torch
from keras_checks import check_each
from pytorch_networks import vary
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
IMAGE = torch.randn(2, 8, 12, 10)
SEQUENCE = torch.randn(2, 8, 15)
VOLUME = torch.randn(2, 4, 6, 8, 8)
BOTH = pytest.mark.parametrize("suffix", [".keras", ".h5"])


def named(*modules):
    return {str(index) + type(module).__name__: vary(module, index) for index, module in enumerate(modules)}


@BOTH
def test_activations(tmp_path, suffix):
    modules = named(
        nn.Hardswish(),
        nn.GELU(),
        nn.GELU("tanh"),
        nn.SiLU(),
        nn.ReLU6(),
        nn.Hardsigmoid(),
        nn.ELU(0.7),
        nn.CELU(0.6),
        nn.SELU(),
        nn.Mish(),
        nn.Softplus(2),
        nn.LogSigmoid(),
        nn.Hardtanh(-0.3, 0.2),
        nn.Hardtanh(),
        nn.LeakyReLU(0.2),
        nn.RReLU(),
        nn.Tanhshrink(),
        nn.GLU(1),
        nn.GLU(3),
        nn.Softmax(1),
        nn.LogSoftmax(1),
        nn.Softmin(2),
        nn.Sigmoid(),
    )
    check_each(modules | {"prelu": vary(nn.PReLU(8)), "prelu of one": nn.PReLU(1, 0.3)}, IMAGE, tmp_path / f"m{suffix}")


def test_activations_without_layers(tmp_path):
    modules = named(nn.Softsign(), nn.Hardshrink(0.2), nn.Softshrink(), nn.Threshold(0.1, 2))
    check_each(modules, IMAGE, tmp_path / "m.keras")


@BOTH
def test_convolutions(tmp_path, suffix):
    modules = named(
        nn.Conv2d(8, 6, 3, 2, 1),
        nn.Conv2d(8, 6, (3, 5), (2, 1), (0, 2)),
        nn.Conv2d(8, 8, 3, groups=8, padding=1),
        nn.Conv2d(8, 16, 3, groups=8, padding=1, stride=2),
        nn.Conv2d(8, 16, 3, groups=8, padding=1, stride=(2, 1)),
        nn.Conv2d(8, 16, 3, groups=4),
        nn.Conv2d(8, 6, 3, dilation=2, padding=2),
        nn.Conv2d(8, 6, 3, dilation=2, stride=2, padding=2),
        nn.Conv2d(8, 8, 3, dilation=2, padding=2, groups=8),
        nn.Conv2d(8, 6, 4, padding="same"),
        nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(8, 6, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(8, 6, 3, padding=(1, 2), padding_mode="replicate"),
        nn.Conv2d(8, 6, 1, bias=False),
    )
    check_each(modules, IMAGE, tmp_path / f"m{suffix}")


@BOTH
def test_transposed_convolutions(tmp_path, suffix):
    modules = named(
        nn.ConvTranspose2d(8, 6, 3, 2, 1, 1),
        nn.ConvTranspose2d(8, 6, 4, 2, 1),
        nn.ConvTranspose2d(8, 6, 3, 1, 1, dilation=2),
        nn.ConvTranspose2d(8, 6, 3, 2, 1, dilation=2),
        nn.ConvTranspose2d(8, 6, 3, 2, 0, 1),
        nn.ConvTranspose2d(8, 16, 3, 2, 1, groups=4),
    )
    check_each(modules, IMAGE, tmp_path / f"m{suffix}")


@BOTH
def test_one_dimension(tmp_path, suffix):
    modules = named(
        nn.Conv1d(8, 6, 3, 2, 1),
        nn.Conv1d(8, 8, 3, groups=8),
        nn.Conv1d(8, 8, 3, groups=2, padding=2, dilation=2),
        nn.ConvTranspose1d(8, 6, 3, 2, 1, 1),
        nn.MaxPool1d(3, 2, 1),
        nn.AvgPool1d(3, 2, 1),
        nn.AdaptiveAvgPool1d(4),
        nn.AdaptiveAvgPool1d(1),
        nn.BatchNorm1d(8),
        nn.InstanceNorm1d(8),
        nn.Upsample(scale_factor=2, mode="linear"),
        nn.Upsample(scale_factor=2),
        nn.ReflectionPad1d((2, 1)),
        nn.Linear(15, 4),
        nn.PReLU(8),
    )
    check_each(modules, SEQUENCE, tmp_path / f"m{suffix}")


@BOTH
def test_three_dimensions(tmp_path, suffix):
    modules = named(
        nn.Conv3d(4, 6, 3, 2, 1),
        nn.Conv3d(4, 6, (3, 1, 1), (1, 1, 1), (1, 0, 0)),
        nn.Conv3d(4, 8, 3, groups=4),
        nn.ConvTranspose3d(4, 6, 2, 2),
        nn.MaxPool3d(3, 2, 1),
        nn.AvgPool3d(2),
        nn.AdaptiveAvgPool3d((1, 1, 1)),
        nn.AdaptiveAvgPool3d((2, 3, 3)),
        nn.BatchNorm3d(4),
        nn.Upsample(scale_factor=2, mode="trilinear"),
        nn.ConstantPad3d(1, 0.5),
    )
    check_each(modules, VOLUME, tmp_path / f"m{suffix}")


@BOTH
def test_normalization(tmp_path, suffix):
    modules = named(
        nn.BatchNorm2d(8),
        nn.BatchNorm2d(8, affine=False),
        nn.GroupNorm(2, 8),
        nn.GroupNorm(4, 8, affine=False),
        nn.InstanceNorm2d(8, affine=True),
        nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
        nn.LayerNorm([8, 12, 10]),
        nn.LayerNorm(10),
        nn.LayerNorm([12, 10], elementwise_affine=False),
        nn.LayerNorm(10, bias=False),
        nn.RMSNorm(10),
    )
    check_each(modules, IMAGE, tmp_path / f"m{suffix}")


def test_normalization_without_layers(tmp_path):
    modules = named(nn.BatchNorm2d(8, track_running_stats=False), nn.LocalResponseNorm(3))
    check_each(modules, IMAGE, tmp_path / "m.keras")


@BOTH
def test_pooling(tmp_path, suffix):
    modules = named(
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.MaxPool2d(3, 1, 1),
        nn.MaxPool2d(2, 2, 1),
        nn.MaxPool2d((2, 3), (1, 2), (1, 0)),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(2, divisor_override=3),
        nn.AdaptiveAvgPool2d(5),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((6, None)),
        nn.AdaptiveAvgPool2d(15),
        nn.AdaptiveMaxPool2d(5),
        nn.AdaptiveMaxPool2d(1),
    )
    relu = {"padded after ReLU": lambda x: F.max_pool2d(F.relu(x), 3, 2, 1)}
    check_each(modules | relu, IMAGE, tmp_path / f"m{suffix}")


@BOTH
def test_resizing(tmp_path, suffix):
    variants = [
        {"scale_factor": 2},
        {"scale_factor": 1.5},
        {"size": (20, 17)},
        {"size": (7, 5)},
        {"scale_factor": 2, "mode": "bilinear"},
        {"scale_factor": 2, "mode": "bilinear", "align_corners": True},
        {"scale_factor": 1.3, "mode": "bilinear"},
        {"scale_factor": 1.3, "mode": "bilinear", "recompute_scale_factor": True},
        {"scale_factor": 0.5, "mode": "bilinear"},
        {"scale_factor": 0.5, "mode": "bilinear", "antialias": True},
        {"scale_factor": 1.5, "mode": "bicubic"},
        {"scale_factor": 1.5, "mode": "nearest-exact"},
        {"scale_factor": 0.5, "mode": "area"},
    ]
    functions = {str(kw): lambda x, kw=kw: F.interpolate(x, **kw) for kw in variants}
    functions |= {
        "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
        "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
        "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    }
    check_each(functions, IMAGE, tmp_path / f"m{suffix}")


@BOTH
def test_padding(tmp_path, suffix):
    variants = [
        ((1, 2, 3, 4), {}),
        ((1, 2, 3, 4), {"mode": "reflect"}),
        ((1, 2, 3, 4), {"mode": "replicate"}),
        ((1, 2, 3, 4), {"mode": "circular"}),
        ((1, 2), {"value": 3.0}),
        ((-1, 2, 0, -3), {}),
        ((0, 0, 0, 0, 1, 2), {}),
    ]
    functions = {f"{pad} {kw}": lambda x, pad=pad, kw=kw: F.pad(x, pad, **kw) for pad, kw in variants}
    check_each(functions, IMAGE, tmp_path / f"m{suffix}")


@BOTH
def test_shapes(tmp_path, suffix):
    functions = {
        "flatten": lambda x: x.flatten(1),
        "flatten some": lambda x: x.flatten(2),
        "unflatten": lambda x: x.unflatten(1, (2, 4)),
        "permute": lambda x: x.permute(0, 2, 3, 1),
        "transpose, reshape": lambda x: x.transpose(1, 2).reshape(x.shape[0], -1),
        "manual channel shuffle": lambda x: x.view(-1, 2, 4, 12, 10).transpose(1, 2).reshape(-1, 8, 12, 10),
        "squeeze": lambda x: x.mean(1, keepdim=True).squeeze(1),
        "expand": lambda x: x[:, None].expand(-1, 3, -1, -1, -1),
        "repeat": lambda x: x.repeat(1, 2, 1, 1),
        "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
        "chunk": lambda x: x.chunk(2, 1)[1],
        "split": lambda x: x.split([3, 5], 1)[1],
        "unbind": lambda x: x.unbind(1)[2],
        "stack": lambda x: torch.stack([x, x * 2], 1),
        "cat of channels": lambda x: torch.cat([x, x[:, :3]], 1),
        "cat of columns": lambda x: torch.cat([x, x], 3),
        "select": lambda x: x[:, -1, 2],
        "steps": lambda x: x[:, 1::3, ::2],
        "fixed index": lambda x: x[:, [1, 0, 2]],
        "roll": lambda x: torch.roll(x, (1, -2), (2, 3)),
        "flip": lambda x: x.flip(2),
    }
    check_each(functions, IMAGE, tmp_path / f"m{suffix}")


def test_shapes_of_the_batch(tmp_path):
    functions = {
        "windows": lambda x: x.view(-1, 8, 3, 4, 2, 5).permute(0, 2, 4, 1, 3, 5).reshape(-1, 8, 4, 5),
        "merged": lambda x: x.flatten(0, 1),
        "joined": lambda x: torch.cat([x, x * 2], 0),
        "two indices": lambda x: x[:, :, [1, 0], [3, 3]],
    }
    check_each(functions, IMAGE, tmp_path / "m.keras")


@BOTH
def test_arithmetic(tmp_path, suffix):
    ramp = torch.arange(1.0, 9.0)
    functions = {
        "scalars": lambda x: (2 - x) / 3 + (x * 2 + 1),
        "powers": lambda x: x**2 - x.pow(3),
        "constants per channel": lambda x: (x - ramp.view(8, 1, 1)) / ramp.view(1, 8, 1, 1),
        "constant per row": lambda x: x + torch.arange(12).view(12, 1),
        "constant per column": lambda x: torch.arange(x.shape[3]) + x,
        "constant triangle": lambda x: x * torch.tril(torch.ones(12, 10)),
        "infinite mask": lambda x: (x + torch.triu(torch.full((12, 10), float("-inf")), 1)).softmax(-1),
        "broadcast product": lambda x: x * x.mean((2, 3), keepdim=True),
        "broadcast sum": lambda x: x + x[:, :1],
        "broadcast difference": lambda x: x.mean(1, keepdim=True) - x,
        "maximum": lambda x: torch.maximum(x, x * 2) + torch.minimum(x, x * x),
        "clamp": lambda x: x.clamp(-0.3, 0.4) + x.clamp(min=0.3) * x.clamp(max=0.3) - x.clamp(0, 1),
        "in place": lambda x: (x + 1).mul_(2).relu_(),
        "abs, exp": lambda x: x.abs() + x.exp(),
        "zeros of the batch": lambda x: torch.cat([torch.zeros(x.shape[0], 1), x[:, :, 0, 0]], 1),
        "full": lambda x: torch.full_like(x, 2.0) + x,
        "means": lambda x: x.mean(1) + x.mean((1, 2), keepdim=True)[:, 0],
        "sums": lambda x: x.sum(3) + x.sum((1, 3), keepdim=True)[:, :, :, 0],
        "extrema": lambda x: x.amax(1) - x.amax((2, 3))[:, :1, None],
    }
    if suffix == ".h5":
        for name in ("means", "sums"):  # over axes that are not neighbours in a channels-last tensor
            functions.pop(name)
        functions |= {"means": lambda x: x.mean(1), "sums": lambda x: x.sum(3)}
    check_each(functions, IMAGE, tmp_path / f"m{suffix}")


def test_arithmetic_without_layers(tmp_path):
    functions = {
        "division": lambda x: x / (x.abs() + 1),
        "roots": lambda x: x.abs() ** 0.5 + (x.abs() + 0.1).rsqrt(),
        "rounding": lambda x: torch.floor(x) + torch.round(x) * torch.trunc(x) + x // 1 + torch.remainder(x, 0.7),
        "where": lambda x: torch.where(x > 0, x, -x * 3) + x.masked_fill(x > 1, 1.0),
        "logic": lambda x: (x > 0) & (x < 1) | (x == 0),
        "integers": lambda x: (x * 5).long() * 2 - 1,
        "argmax": lambda x: x.argmax(1),
        "max with index": lambda x: x.max(1),
        "topk": lambda x: x.topk(3, -1, largest=False),
        "topk of channels": lambda x: x.topk(2, 1),
        "sort": lambda x: x.sort(-1)[0],
        "gather": lambda x: x.gather(1, x.argmax(1, keepdim=True)),
        "one_hot": lambda x: F.one_hot((x > 0).long(), 2),
        "variance": lambda x: x.var(1) + x.std((2, 3))[:, :1, None] + x.var(1, unbiased=False),
        "norms": lambda x: F.normalize(x, dim=1) + x.norm(p=1, dim=(2, 3), keepdim=True),
        "cumsum": lambda x: torch.cumsum(x, 1),
        "products": lambda x: x @ x.mT,
        "einsum": lambda x: torch.einsum("nchw,ndhw->ncd", x, x),
        "logsumexp": lambda x: torch.logsumexp(x, 1),
        "cosine": lambda x: F.cosine_similarity(x, x + 1),
        "doubles": lambda x: x.double() * 2,
    }
    check_each(functions, IMAGE, tmp_path / "m.keras")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_sums_that_keras_takes_for_biases(tmp_path, suffix):
    """Keras 3.15 on TensorFlow adds (N, T, C) + (1, T, 1) along the wrong axis where sizes coincide."""
    square = torch.randn(2, 8, 8)
    functions = {
        "rows": lambda x: x + torch.arange(8.0).view(8, 1),
        "means of rows": lambda x: x + x.mean(2, keepdim=True),
        "means of columns": lambda x: x.mean(1, keepdim=True) + x,
        "both broadcast": lambda x: x.mean(1, keepdim=True) + x.amax(2, keepdim=True),
        "scaled": lambda x: torch.add(x, x.mean(1, keepdim=True), alpha=2),
    }
    check_each(functions, square, tmp_path / f"m{suffix}")
    # Three rows of three: the batch itself coincides with the features.
    check_each({"rows": lambda x: x + x.mean(1, keepdim=True)}, torch.randn(2, 3), tmp_path / f"n{suffix}")


def test_nchw_is_kept_on_request(tmp_path):
    conversion, model = check_each({"conv": vary(nn.Conv2d(8, 6, 3))}, IMAGE, tmp_path / "m.keras", channels_last=False)
    assert model.input_shape == (None, 8, 12, 10)
    assert conversion.input_permutations == conversion.output_permutations == {}
    assert isinstance(model.layers[1], keras.layers.Permute)


class OneKind(nn.Module):
    """Tokens whose kind is left at its default: constant indices, as many as there are tokens."""

    def __init__(self):
        super().__init__()
        self.word, self.kind, self.dense = nn.Embedding(9, 4), nn.Embedding(2, 4), nn.Linear(4, 3)

    def forward(self, tokens):
        return self.dense(self.word(tokens) + self.kind(torch.zeros_like(tokens)))


@BOTH
def test_constant_indices_of_an_embedding(tmp_path, suffix):
    check_each(named(OneKind()), torch.tensor([[1, 5, 8], [0, 2, 2]]), tmp_path / f"m{suffix}")


def _table(x, *sizes):
    """A constant for each row of the batch, whose values differ along its other axes."""
    return torch.linspace(-1.0, 2.0, math.prod(sizes)).reshape(1, *sizes).expand(x.shape[0], *sizes)


CONSTANTS = {
    "hidden": lambda x: x + (_table(x, 5, 6) > 0.5).any(dim=-1, keepdim=True).float(),
    "added": lambda x: x * (_table(x, 5, 6) + _table(x, 5, 1)).amax(1, keepdim=True),
    "sum along the batch's own rows": lambda x: x + _table(x, 5, 6).sum((1, 2), keepdim=True),
    "taken from a table": lambda x: x + torch.linspace(0, 1, 18).reshape(3, 6)[(_table(x, 5) > 0).long()],
    "joined": lambda x: x + torch.cat([_table(x, 2, 6), _table(x, 3, 6) * 2], 1),
    "viewed": lambda x: x + _table(x, 30).view(-1, 5, 6).transpose(1, 2).reshape(-1, 5, 6),
    "mean of all": lambda x: x + _table(x, 5, 6).mean(dim=None, keepdim=True),
    "resized": lambda x: x + F.interpolate(_table(x, 5, 3), size=6, mode="nearest"),
    "booleans": lambda x: torch.where((_table(x, 5, 6) > 0) & (x > 0), x, -x),
    "product": lambda x: x + _table(x, 5, 4) @ _table(x, 4, 6),
    "a function of both": lambda x: F.softmax(_table(x, 5, 6), -1) * x,
}  # fmt: skip


def test_constants_for_a_free_batch(tmp_path):
    """Folded where the batch takes no part, else made tensors of the model."""
    check_each(CONSTANTS, torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(3)), tmp_path / "m.keras")
