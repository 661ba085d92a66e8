"""Attention of ONNX (opset 23 and later), and the rotation of queries and keys by their positions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.core.values import torch_dtype

__all__ = ["for_each_query", "heads_joined", "heads_split", "rotated"]


@operator("Attention")
def _attention(call: Call) -> tuple[torch.Tensor | None, ...]:
    query, key, value = (call.tensor(position) for position in range(3))
    flat = query.dim() == 3
    if flat:
        heads, own = call.attribute("q_num_heads"), call.attribute("kv_num_heads")
        query, key, value = heads_split(query, heads), heads_split(key, own), heads_split(value, own)
    past_key, past_value = call.optional(4), call.optional(5)
    present_key = key if past_key is None else torch.cat([past_key, key], 2)
    present_value = value if past_value is None else torch.cat([past_value, value], 2)
    offset = 0 if past_key is None else past_key.shape[2]
    y, products = _attended(call, query, present_key, present_value, offset)
    return heads_joined(y) if flat else y, present_key, present_value, products


def heads_split(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(N, length, heads * size) to (N, heads, length, size)."""
    return x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads).transpose(1, 2)


def heads_joined(x: torch.Tensor) -> torch.Tensor:
    """(N, heads, length, size) to (N, length, heads * size)."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


def for_each_query(x: torch.Tensor, heads: Any) -> torch.Tensor:
    """Keys or values (N, own heads, ...), once for each of that many heads of queries."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def _attended(
    call: Call, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, offset: Any
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The result (N, heads, T, size), and the scores that the last output asks for."""
    scale = call.attribute("scale") or 1 / math.sqrt(query.shape[3])
    softcap, precision = call.attribute("softcap", 0.0), call.attribute("softmax_precision")
    causal = bool(call.attribute("is_causal", 0))
    windows = call.attribute("left_window_size", -1), call.attribute("right_window_size", -1)
    lengths, mask = call.optional(6), _mask(call, query.dtype, key.shape[2])
    products = call.wants(3)
    simple = not softcap and not products and (precision is None or torch_dtype(precision) == query.dtype)
    only_causal = causal and mask is None and lengths is None and max(windows) < 0 and call.inputs[4:5] in ([], [None])
    if causal and not only_causal or max(windows) >= 0 or lengths is not None:
        mask = _restricted(query, key, mask, offset, lengths, causal, windows)
    grouped = query.shape[1] != key.shape[1]
    if simple:
        y = functional.scaled_dot_product_attention(
            query, key, value, mask, is_causal=only_causal, scale=scale, enable_gqa=grouped
        )
        return y, None
    if only_causal:
        mask = _restricted(query, key, None, 0, None, True, windows)
    root = math.sqrt(scale)
    keys, values = for_each_query(key, query.shape[1]), for_each_query(value, query.shape[1])
    scores = torch.matmul(query * root, keys.transpose(2, 3) * root)
    stages = [scores]
    scores = softcap * torch.tanh(scores / softcap) if softcap else scores
    stages.append(scores)
    if mask is not None:
        scores = torch.where(mask, scores, -math.inf) if mask.dtype == torch.bool else scores + mask
    # onnxruntime shows the lowest number there is where nothing is to be seen.
    stages.append(scores.clamp(min=torch.finfo(scores.dtype).min))
    if precision is not None:
        scores = scores.to(torch_dtype(precision))
    weights = torch.softmax(scores, -1)
    # Where nothing is to be seen, weights are 0.
    weights = torch.where(scores.amax(-1, keepdim=True) == -math.inf, 0, weights).to(query.dtype)
    stages.append(weights)
    return torch.matmul(weights, values), stages[call.attribute("qk_matmul_output_mode", 0)]


def _mask(call: Call, dtype: torch.dtype, length: Any) -> torch.Tensor | None:
    """The mask as long as the keys: those behind its end are not to be seen."""
    mask = call.optional(3)
    if mask is None:
        return None
    if not statically_known_true(mask.shape[-1] == length):
        missing = [0, length - mask.shape[-1]]
        mask = functional.pad(mask, missing, value=False if mask.dtype == torch.bool else -math.inf)
    return mask if mask.dtype == torch.bool else mask.to(dtype)


def _restricted(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    offset: Any,
    lengths: torch.Tensor | None,
    causal: bool,
    windows: tuple[int, int],
) -> torch.Tensor:
    """The mask, True where to look or added, without what lies later, beyond a window, or behind a sequence's length.

    offset: how many keys stand before the first query.
    """
    rows, columns = torch.arange(query.shape[2])[:, None], torch.arange(key.shape[2])
    if lengths is not None:
        lengths = lengths.reshape(-1, 1, 1, 1).to(torch.int64)
        offset = lengths - query.shape[2]
    distance = columns - (rows + offset)
    parts = []
    if causal:
        parts.append(distance <= 0)
    if windows[0] >= 0:
        parts.append(distance >= -windows[0])
    if windows[1] >= 0:
        parts.append(distance <= windows[1])
    if lengths is not None:
        parts.append(columns < lengths)
    allowed = parts[0]
    for part in parts[1:]:
        allowed = allowed & part
    if mask is None:
        return allowed
    return mask & allowed if mask.dtype == torch.bool else torch.where(allowed, mask, -math.inf)


@operator("RotaryEmbedding")
def _rotary_embedding(call: Call) -> torch.Tensor:
    x, cosines, sines, places = call.tensor(0), call.tensor(1), call.tensor(2), call.optional(3)
    if places is not None:
        cosines, sines = cosines[places], sines[places]
    flat = x.dim() == 3
    heads = heads_split(x, call.attribute("num_heads")) if flat else x
    result = rotated(
        heads, cosines, sines, call.attribute("rotary_embedding_dim", 0), bool(call.attribute("interleaved", 0))
    )
    return heads_joined(result) if flat else result


def rotated(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, size: int, interleaved: bool) -> torch.Tensor:
    """x (N, heads, length, size of a head). cosines, sines: (N or 1, length, size / 2).

    size: how much of a head turns; 0 for all of it.
    """
    rest = x[..., size:] if size else None
    x = x[..., :size] if size else x
    cosines, sines = cosines[:, None], sines[:, None]
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, -1)
    real, imaginary = cosines * first - sines * second, sines * first + cosines * second
    if interleaved:
        turned = torch.stack([real, imaginary], -1).reshape(x.shape)
    else:
        turned = torch.cat([real, imaginary], -1)
    return turned if rest is None else torch.cat([turned, rest], -1)


@operator("FlexAttention", domain="ai.onnx.preview")
def _flex_attention(call: Call) -> torch.Tensor:
    query, key, value = (call.tensor(position) for position in range(3))
    root = math.sqrt(call.attribute("scale") or 1 / math.sqrt(query.shape[3]))
    keys, values = for_each_query(key, query.shape[1]), for_each_query(value, query.shape[1])
    scores = torch.matmul(query * root, keys.transpose(2, 3) * root)
    precision = call.attribute("softmax_precision")
    narrow = scores.dtype in (torch.float16, torch.bfloat16)
    scores = scores.to(torch_dtype(precision) if precision else torch.float32 if narrow else scores.dtype)
    dtype = scores.dtype
    if call.attribute("score_mod") is not None:
        scores = call.frame.module.tensor(call.graph("score_mod", [scores])[0]).to(dtype)
    weights = torch.softmax(scores, -1)
    if call.attribute("prob_mod") is not None:
        weights = call.frame.module.tensor(call.graph("prob_mod", [weights])[0]).to(dtype)
    return torch.matmul(weights, values.to(dtype)).to(value.dtype)
