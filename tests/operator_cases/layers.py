"""Layers: normalization, attention, recurrence, and the control flow that depends on data."""

import torch
from torch import nn
from torch.nn import functional as F

from operator_cases.case import bools, case, floats

IMAGE = floats(2, 4, 6, 5)
STEPS = floats(3, 7, 8)
HEADS = floats(2, 4, 6, 8)


class Recurrent(nn.Module):
    """A recurrent module and all of its results."""

    def __init__(self, cls, **options):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = cls(8, 6, **options)

    def forward(self, x):
        output, state = self.rnn(x)
        return (output, *(state if isinstance(state, tuple) else (state,)))


class Cells(nn.Module):
    """One step of each kind of cell."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.gru, self.rnn = nn.LSTMCell(8, 6), nn.GRUCell(8, 6), nn.RNNCell(8, 6)

    def forward(self, x):
        return (*self.lstm(x[:, 0]), self.gru(x[:, 1]), self.rnn(x[:, 2]))


class Choice(nn.Module):
    """Takes a side by the values of its input."""

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,))


class Loop(nn.Module):
    """Halves until all is small."""

    def forward(self, x):
        return torch._higher_order_ops.while_loop(lambda x: x.abs().max() > 1, lambda x: (x / 2,), (x,))[0]


def _bilinear(x):
    return F.bilinear(x[:, 0], x[:, 1], torch.linspace(-1, 1, 192).view(3, 8, 8))


CASES = {
    "normalization": case(
        lambda x: (
            F.layer_norm(x, [5]),
            F.group_norm(x, 2),
            F.instance_norm(x),
            F.batch_norm(x, torch.arange(4.0), torch.arange(1.0, 5.0)),
            F.local_response_norm(x, 2),
            F.normalize(x, 2, 1),
            F.rms_norm(x, [6, 5]),
        ),
        IMAGE,
    ),
    "batch_norm_of_the_batch": case(lambda x: F.batch_norm(x, None, None, training=True), IMAGE),
    "attention": case(
        lambda q, k: (
            F.scaled_dot_product_attention(q, k, k),
            F.scaled_dot_product_attention(q, k, k, is_causal=True, scale=0.3),
        ),
        HEADS,
        floats(2, 4, 6, 8, seed=1),
    ),
    "attention_masked": case(
        lambda q, k, m: F.scaled_dot_product_attention(q, k, k, attn_mask=m[:, None]),
        HEADS,
        floats(2, 4, 5, 8, seed=1),
        bools(2, 6, 5),
    ),
    "attention_grouped": case(
        lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True), HEADS, floats(2, 2, 5, 8, seed=1)
    ),
    "lstm": case(Recurrent(nn.LSTM, batch_first=True, num_layers=2, bidirectional=True), STEPS),
    "gru": case(Recurrent(nn.GRU, batch_first=True), STEPS),
    "rnn": case(Recurrent(nn.RNN, batch_first=True, nonlinearity="relu"), STEPS),
    "lstm_with_projection": case(Recurrent(nn.LSTM, batch_first=True, proj_size=3), STEPS),
    "lstm_with_projection_both_ways": case(
        Recurrent(nn.LSTM, batch_first=True, proj_size=3, num_layers=2, bidirectional=True), STEPS
    ),
    "cells": case(Cells(), STEPS),
    "bilinear": case(_bilinear, STEPS),
    "cond": case(Choice(), STEPS),
    "while_loop": case(Loop(), STEPS),
}
