"""Small PyTorch networks for the tests, with weights that make outputs vary. Usable as a `network_script`."""

import torch
from torch import nn
from torch.nn import functional as F


def vary(module, seed=0):
    """Seeded weights, large enough that a wrong conversion shows; BatchNorm statistics away from 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2.0 / fan_in) ** 0.5)
        for name, buffer in module.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
            elif name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
    return module


class Net(nn.Module):
    """(N, 3, 16, 16) -> (N, classes); convolution, BatchNorm, dropout, linear."""

    def __init__(self, classes=5, width=8):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(width * 4 * 4, classes)

    def forward(self, image):
        x = F.relu(self.bn(self.conv(image)))
        x = F.max_pool2d(x, 4)
        return self.fc(self.drop(torch.flatten(x, 1)))


def make_net(classes):
    return Net(classes)


class Tokens(nn.Module):
    """(N, T) token numbers -> (N, 4); embedding and a bidirectional LSTM."""

    def __init__(self, rnn="LSTM", vocabulary=20):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 8)
        self.rnn = getattr(nn, rnn)(8, 12, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(24, 4)

    def forward(self, tokens):
        output, _ = self.rnn(self.embedding(tokens))
        return self.fc(output[:, -1] + output.mean(1))


class Sequence(nn.Module):
    """(N, T, 8) -> (N, 3): two recurrent layers and a Linear on the last output."""

    def __init__(self, rnn="LSTM", bidirectional=False):
        super().__init__()
        self.rnn = getattr(nn, rnn)(8, 12, 2, batch_first=True, bidirectional=bidirectional)
        self.fc = nn.Linear(24 if bidirectional else 12, 3)

    def forward(self, sequence):
        output, _ = self.rnn(sequence)
        return self.fc(output[:, -1])


class TwoInputs(nn.Module):
    """(N, 4) and (N, 6) -> a dict of two outputs."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3)
        self.b = nn.Linear(6, 3)

    def forward(self, left, right, scale: float = 2.0):
        return {"sum": self.a(left) + self.b(right), "scaled": self.a(left) * scale}


class UNet(nn.Module):
    """(N, 3, H, W) -> (N, 2, H, W); strided convolution, bilinear upsampling, a skip connection."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.out = nn.Conv2d(9, 2, 3, padding=1)

    def forward(self, x):
        return self.out(torch.cat([x, self.up(F.relu(self.down(x)))], 1))


class Pieces(nn.Module):
    """(N, 3, 9, 9) -> (N, 2, 10, 10): PReLU, ceil-mode pooling, PixelShuffle."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.prelu = nn.PReLU(8)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        return self.shuffle(self.pool(self.prelu(self.conv(x))))


class Encoder(nn.Module):
    """(N, 7, 16) -> (N, 7, 16); a transformer encoder layer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu"), 1, enable_nested_tensor=False
        )

    def forward(self, sequence):
        return self.layers(sequence)


class Branches(nn.Module):
    """Data-dependent control flow that TorchScript can keep."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        if bool(x.sum() > 0):
            y = self.fc(x)
        else:
            y = self.fc(x) * 3.0
        return y


class Unscriptable(nn.Module):
    """Data-dependent control flow in code that TorchScript cannot compile."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        table = {True: lambda y: y, False: lambda y: y * 3.0}
        return table[bool(x.sum() > 0)](self.fc(x))


class FixedBatch(nn.Module):
    """Works for a batch of 1 only."""

    def forward(self, x):
        return x.reshape(4, 2).sum(1)


class SizeBranch(nn.Module):
    """Gives another result for a batch of 1 than for a larger one, which torch.export does not notice."""

    def forward(self, x):
        return x * 2 if x.shape[0] == 1 else x * 3


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand(x.shape)


class Counting(nn.Module):
    """Keeps state from call to call."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls
