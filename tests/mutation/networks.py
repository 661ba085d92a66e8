"""PyTorch networks of the campaign; usable as a `network_script`, so that nothing but torch is imported."""

import torch
from torch import nn
from torch.nn import functional as F


class MaskedEncoder(nn.Module):
    """(N, T, 8) and a boolean padding mask (N, T) -> (N, 3); the first position is never padding."""

    def __init__(self):
        super().__init__()
        self.attention = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 3)

    def forward(self, sequence, padding):
        q, k, v = self.attention(sequence).chunk(3, -1)
        first = torch.arange(padding.shape[1]) == 0
        scores = (q @ k.transpose(1, 2) / 8**0.5).masked_fill((padding & ~first)[:, None], float("-inf"))
        hidden = self.norm(sequence + torch.softmax(scores, -1) @ v)
        return self.out(F.gelu(hidden, approximate="tanh").mean(1))


class Norms(nn.Module):
    """(N, 4, 8, 8) -> (N, 3): group, instance and layer normalization, dilated and grouped convolution, hard-swish."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, padding=2, dilation=2)
        self.group = nn.GroupNorm(2, 8)
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=4, padding_mode="replicate")
        self.instance = nn.InstanceNorm2d(8, affine=True)
        self.layer = nn.LayerNorm(8)
        self.out = nn.Linear(8, 3)

    def forward(self, image):
        x = F.hardswish(self.group(self.first(image)))
        x = F.elu(self.instance(self.second(x)))
        return self.out(self.layer(x.amax((2, 3))))


class Squeeze(nn.Module):
    """(N, 4, 9, 9) -> (N, 5): a residual block with squeeze and excitation, average pooling without the border."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.down, self.up = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)
        self.fc = nn.Linear(4 * 16, 5)

    def forward(self, image):
        x = self.bn(self.conv(image))
        gate = torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        x = F.leaky_relu(x * gate + image, 0.2)
        x = F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False)[:, :, :4, 1:]
        return F.log_softmax(self.fc(x.flatten(1)), 1)


class Signal(nn.Module):
    """(N, 3, T) -> (N, 4, T'): strided and transposed 1-D convolution of any length, with softplus and tanh."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv1d(3, 6, 5, stride=2, padding=2)
        self.up = nn.ConvTranspose1d(6, 4, 4, stride=2, padding=1)

    def forward(self, signal):
        return torch.tanh(self.up(F.softplus(self.down(signal))))


class Numbers(nn.Module):
    """Whole numbers (N, 5) and a flag (N, 5) -> three outputs; comparisons, clamps, index arithmetic, casts."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.tensor([3, -1, 4, 1, -5]))

    def forward(self, numbers, flag):
        score = torch.where(flag, numbers * self.weights, numbers.clamp(-3, 6))
        share = (score.float() / 4).round()
        return score, share, (numbers >= self.weights).sum(1)


class Perceptron(nn.Module):
    """(N, 6) -> (N, 4); everything that bends a line."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu6(self.a(x) * 3)
        x = F.hardsigmoid(self.b(x)) + F.softsign(x).clamp(max=0.7)
        return torch.exp(-self.c(x).abs()) * torch.floor(self.c(x) * 2)


class Double(nn.Module):
    """(N, 4) of float64 -> (N, 3)."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3)
        self.double()

    def forward(self, x):
        return torch.sin(self.a(x)).cumsum(1)


class Gated(nn.Module):
    """(N, T, 4) -> (N, 3) and the last state: a GRU of both directions."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 5, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(10, 3)

    def forward(self, sequence):
        output, state = self.rnn(sequence)
        return self.fc(output[:, -1] * output[:, 0]), state.transpose(0, 1)
