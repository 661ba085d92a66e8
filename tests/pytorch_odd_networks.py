"""Small PyTorch networks whose graph depends on values, on the number of the call, or on who calls. A `network_script`."""

import warnings

import torch
from torch import nn

# Calls of Global.
CALLS = []


class _Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 4)


class Split(_Linear):
    """(6, 5) rows cut into pieces of the given lengths: the sum of each. Random lengths do not add up to 6."""

    def forward(self, rows, lengths):
        return torch.stack([part.sum(0) for part in torch.split(self.fc(rows), lengths.tolist())])


class Scaled(_Linear):
    """Divided by its own largest value, as a plain number."""

    def forward(self, x):
        y = self.fc(x)
        return y / y.abs().max().item()


class Either(_Linear):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda y: self.fc(y), lambda y: 3 * self.fc(y) - 1, (x,))


class Repeated(_Linear):
    """Layers as often as the second input says."""

    def forward(self, x, times):
        y = self.fc(x)
        for _ in range(int(times)):
            y = torch.tanh(y) + 0.5
        return y


class Hidden(_Linear):
    """Values become numbers out of sight of TorchScript and of its warnings."""

    def forward(self, x, ends):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            numbers = ends.numpy()
        y = self.fc(x)
        return torch.stack([y[: int(end)].sum(0) for end in numbers])


class Particular(_Linear):
    """Takes whole numbers that leave 3 when divided by 7, and no other."""

    def forward(self, x, codes):
        if not torch.compiler.is_exporting():
            assert bool((codes % 7 == 3).all()), "codes"
        return self.fc(x) * codes[:, None]


class Bounded(_Linear):
    """Takes numbers from 0 to 1 only."""

    def forward(self, x):
        if not torch.compiler.is_exporting():
            assert 0 <= float(x.min()) <= float(x.max()) <= 1, "not between 0 and 1"
        return self.fc(x)


class Exporting(_Linear):
    def forward(self, x):
        y = self.fc(x)
        return 2 * y if torch.compiler.is_exporting() else torch.tanh(y)


class Compiling(_Linear):
    def forward(self, x):
        y = self.fc(x)
        return 2 * y if torch.compiler.is_compiling() else torch.tanh(y)


class Onnx(_Linear):
    def forward(self, x):
        y = self.fc(x)
        return 2 * y if torch.onnx.is_in_onnx_export() else torch.tanh(y)


class Tracing(_Linear):
    def forward(self, x):
        y = self.fc(x)
        return 2 * y if torch.jit.is_tracing() else torch.tanh(y)


class Scripting(_Linear):
    """TorchScript alone could follow its branch, and there it computes something else."""

    def forward(self, x):
        y = self.fc(x)
        if torch.jit.is_scripting():
            y = 2 * y
        if bool(x.sum() > 0):
            y = 3 * y
        return y


class FirstCall(_Linear):
    def __init__(self):
        super().__init__()
        self.is_first = True

    def forward(self, x):
        y = self.fc(x)
        if self.is_first:
            self.is_first = False
            return y
        return torch.tanh(y)


class Warmup(_Linear):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.fc(x) if self.calls < 22 else torch.tanh(self.fc(x))


class Global(_Linear):
    """State that is not the module's own."""

    def forward(self, x):
        CALLS.append(1)
        return self.fc(x) if len(CALLS) < 8 else torch.tanh(self.fc(x))


class Settling(_Linear):
    """Sets a weight from the first batch that it sees, as ActNorm does."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("is_set", torch.tensor(False))

    def forward(self, x):
        y = self.fc(x)
        if not self.is_set:
            self.scale.data.copy_(1 / (y.std(0, unbiased=False) + 1e-3))
            self.is_set.fill_(True)
        return y * self.scale


class Remembering(_Linear):
    """Adds something of the first batch of each size that it saw."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def forward(self, x):
        if len(x) not in self.seen:
            self.seen[len(x)] = x.mean().item()
        return self.fc(x) + self.seen[len(x)]


class Segments(_Linear):
    """The mean of each piece between two offsets; a piece without rows has none."""

    def forward(self, x, offsets):
        y = self.fc(x)
        pieces = []
        for i in range(offsets.shape[0] - 1):
            pieces.append(y[int(offsets[i]) : int(offsets[i + 1])].mean(0))
        return torch.stack(pieces)


class Caching(_Linear):
    """Keeps a table from call to call that makes no difference."""

    def __init__(self):
        super().__init__()
        self.table = None

    def forward(self, x):
        if self.table is None or len(self.table) < x.shape[1]:
            self.table = torch.arange(x.shape[1]).float()
        return self.fc(x + self.table[: x.shape[1]])


class Packed(nn.Module):
    """Rows of different lengths, packed for a recurrent layer; padded again to the size of the input."""

    def __init__(self):
        super().__init__()
        self.recurrent = nn.GRU(5, 4, batch_first=True, bidirectional=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        rows, last = self.recurrent(packed)
        rows, _ = nn.utils.rnn.pad_packed_sequence(rows, batch_first=True, total_length=x.shape[1])
        return rows + last.sum(0)[:, None].repeat(1, 1, 2)


class PackedByNumbers(Packed):
    """Lengths as Python's numbers, which a trace has from its example."""

    def forward(self, x, lengths):
        return super().forward(x, lengths.tolist())


class Gradients(_Linear):
    """Asks whether gradients are recorded, as the fast paths of torch's own layers do."""

    def forward(self, x):
        y = self.fc(x)
        return torch.tanh(y) if torch.is_grad_enabled() else y


class Flag(_Linear):
    """Its own training flag, which eval() sets."""

    def forward(self, x):
        return self.fc(x) if not self.training else torch.tanh(self.fc(x))
