"""Operators that carry a state along the sequence: linear attention, and causal convolutions."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.operators.attention import for_each_query, heads_joined, heads_split

__all__: list[str] = []


@operator("LinearAttention")
def _linear_attention(call: Call) -> tuple[torch.Tensor, torch.Tensor]:
    """The results (N, T, heads * size) and the state (N, heads, size of keys, size of values), in float32."""
    heads, own = call.attribute("q_num_heads"), call.attribute("kv_num_heads")
    query, key, value = (call.tensor(position) for position in range(3))
    if not isinstance(query.shape[1], int):
        raise call.refusal("needs a number of steps that does not vary")
    dtype, past, decay, beta = query.dtype, call.optional(3), call.optional(4), call.optional(5)
    query, key, value = heads_split(query, heads), heads_split(key, own), heads_split(value, own)
    query, key, value = query.float(), key.float(), value.float()
    scale = call.attribute("scale") or 1 / math.sqrt(query.shape[3])
    decay = None if decay is None else heads_split(decay, own).float()
    beta = None if beta is None else beta.float().transpose(1, 2)[..., None]
    state = torch.zeros(query.shape[0], own, key.shape[3], value.shape[3]) if past is None else past.float()
    outputs = []
    for time in range(query.shape[2]):
        keys, values = key[:, :, time, :, None], value[:, :, time, None]
        if decay is not None:
            state = state * torch.exp(decay[:, :, time])[..., None]
        if beta is not None:
            # What the state already holds of it is taken off.
            values = beta[:, :, time, None] * (values - torch.matmul(keys.transpose(2, 3), state))
        state = state + keys * values
        outputs.append(scale * torch.matmul(query[:, :, time, None], for_each_query(state, heads)))
    return heads_joined(torch.cat(outputs, 2)).to(dtype), state.to(dtype if past is None else past.dtype)


@operator("CausalConvWithState", domain="")
def _causal_convolution(call: Call) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, C, T) and the last elements (N, C, k - 1), which go before the next ones."""
    x, weight, past = call.tensor(0), call.tensor(1), call.optional(3)
    reach = weight.shape[2] - 1
    padded = functional.pad(x, [reach, 0]) if past is None else torch.cat([past, x], 2)
    y = functional.conv1d(padded, weight, call.optional(2), groups=weight.shape[0])
    if call.attribute("activation", "none") != "none":
        y = functional.silu(y)
    return y, padded[:, :, padded.shape[2] - reach :]
