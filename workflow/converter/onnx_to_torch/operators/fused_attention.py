"""onnxruntime's own attention (com.microsoft)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional

from converter.onnx_to_torch.core.registry import Call, operator
from converter.onnx_to_torch.operators.attention import for_each_query, heads_joined, heads_split, rotated

__all__: list[str] = []

_DOMAIN = "com.microsoft"


@operator("RotaryEmbedding", domain=_DOMAIN)
def _rotary_embedding(call: Call) -> torch.Tensor:
    x, places, cosines, sines = (call.tensor(position) for position in range(4))
    if call.attribute("is_packed_batching", 0):
        raise call.refusal("has sequences of several lengths in one row")
    flat, size = x.dim() == 3, call.attribute("rotary_embedding_dim", 0)
    if flat:
        heads = call.attribute("num_heads", 0) if size else 0
        x = heads_split(x, heads or x.shape[2] // (cosines.shape[1] * 2))
    if places.dim() == 1 or statically_known_true(places.numel() == 1) and x.shape[0] != 1:
        places = places.reshape(1, 1) + torch.arange(x.shape[2])
    result = rotated(x, cosines[places], sines[places], size, bool(call.attribute("interleaved", 0)))
    return heads_joined(result) if flat else result


@operator("Attention", domain=_DOMAIN)
def _attention(call: Call) -> tuple[torch.Tensor, ...]:
    """input (N, T, C), weights (C, sizes of queries, keys and values)."""
    x, weights, bias = call.tensor(0), call.tensor(1), call.optional(2)
    if call.attribute("do_rotary", 0) or call.attribute("past_present_share_buffer", 0):
        raise call.refusal("rotates its queries or shares the buffers of its states")
    projected = functional.linear(x, weights.T, bias)
    sizes = call.attribute("qkv_hidden_sizes") or [projected.shape[2] // 3] * 3
    heads = call.attribute("num_heads")
    query, key, value = (heads_split(part, heads) for part in projected.split(sizes, 2))
    past = call.optional(4)
    if past is not None:
        key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
    before = 0 if past is None else past.shape[3]
    mask = _mask(call, call.optional(3), query, key)
    y = _attended(call, query, key, value, [mask, call.optional(5), _causal(call, query, key, before)])
    return (heads_joined(y), torch.stack([key, value])) if call.wants(1) else (heads_joined(y),)


@operator("MultiHeadAttention", domain=_DOMAIN)
def _multi_head_attention(call: Call) -> tuple[torch.Tensor | None, ...]:
    if call.has(8) or call.has(9) or call.wants(3):
        raise call.refusal("shares the buffers of its states, or gives its scores")
    heads = call.attribute("num_heads")
    query, key, value = _projections(call, heads)
    past_key = call.optional(6)
    before = 0 if past_key is None else past_key.shape[2]
    if past_key is not None:
        key, value = torch.cat([past_key, key], 2), torch.cat([call.tensor(7), value], 2)
    mask = _mask(call, call.optional(4), query, key)
    y = _attended(call, query, key, value, [mask, call.optional(5), _causal(call, query, key, before)])
    return heads_joined(y), key, value


def _projections(call: Call, heads: int) -> list[torch.Tensor]:
    """Queries, keys and values (N, heads, length, size), with their biases."""
    query, key, value, bias = call.tensor(0), call.optional(1), call.optional(2), call.optional(3)
    if key is None or value is None:
        raise call.refusal(
            "has queries, keys and values packed into one input, which onnxruntime has no CPU kernel for"
        )
    parts = [x if x.dim() == 4 else heads_split(x, heads) for x in (query, key, value)]
    if bias is None:
        return parts
    # Keys and values that come with their heads apart are projected already.
    biased = [x.dim() != 4 for x in (query, key, value)]
    sizes = [part.shape[3] * heads for part in parts]
    own = bias.split(sizes, 0)
    return [
        part + row.reshape(heads, 1, -1) if has else part for part, row, has in zip(parts, own, biased, strict=True)
    ]


def _mask(call: Call, mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor | None:
    """What is added to the scores: the mask_filter_value where nothing is to be seen."""
    if mask is None:
        return None
    filler = call.attribute("mask_filter_value", -10000.0)
    if mask.dim() == 1:
        if not statically_known_true(mask.shape[0] == query.shape[0]):
            raise call.refusal("has a mask that is not one number for each sequence")
        seen = torch.arange(key.shape[2]) < mask[:, None]
    else:
        seen = mask != 0
    seen = seen[:, None, None] if seen.dim() == 2 else seen[:, None] if seen.dim() == 3 else seen
    return torch.where(seen, 0.0, filler).to(query.dtype)


def _causal(call: Call, query: torch.Tensor, key: torch.Tensor, before: Any) -> torch.Tensor | None:
    if not call.attribute("unidirectional", 0):
        return None
    rows = torch.arange(query.shape[2])[:, None]
    # As onnxruntime (1.32) has it, the last query sees every key.
    allowed = (torch.arange(key.shape[2]) <= rows + before) | (rows == query.shape[2] - 1)
    return torch.where(allowed, 0.0, torch.finfo(query.dtype).min).to(query.dtype)


def _attended(
    call: Call, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, biases: list[torch.Tensor | None]
) -> torch.Tensor:
    scale = call.attribute("scale", 0.0) or 1 / math.sqrt(query.shape[3])
    total: torch.Tensor | None = None
    for bias in biases:
        if bias is not None:
            total = bias if total is None else total + bias
    return functional.scaled_dot_product_attention(query, key, value, total, scale=scale)


@operator("GroupQueryAttention", domain=_DOMAIN)
def _group_query_attention(call: Call) -> tuple[torch.Tensor, ...]:
    """Of a decoder with its cache of keys and values: what is new goes behind what each sequence has so far."""
    _check_group_query(call)
    heads, own = call.attribute("num_heads"), call.attribute("kv_num_heads")
    if call.has(1):
        query, key, value = heads_split(call.tensor(0), heads), *(heads_split(call.tensor(i), own) for i in (1, 2))
    else:
        size = call.tensor(0).shape[2] // (heads + 2 * own)
        parts = call.tensor(0).split([heads * size, own * size, own * size], 2)
        query, key, value = (heads_split(x, n) for x, n in zip(parts, (heads, own, own), strict=True))
    new, total = query.shape[2], call.int(6)
    past_key, past_value = call.optional(3), call.optional(4)
    # How many elements each sequence has once the new ones are there, and had before: none where all are new.
    lengths = call.tensor(5).reshape(-1).to(torch.int64) + 1
    before = (lengths - new).clamp(min=0)
    if call.attribute("do_rotary", 0):
        places = before[:, None] + torch.arange(new) if call.optional(9) is None else call.tensor(9)
        cosines, sines = call.tensor(7)[places], call.tensor(8)[places]
        interleaved, size = bool(call.attribute("rotary_interleaved", 0)), cosines.shape[-1] * 2
        size = 0 if size == query.shape[3] else size
        query, key = (rotated(x, cosines, sines, size, interleaved) for x in (query, key))
    held = 0 if past_key is None else past_key.shape[2]
    count = total if past_key is None else torch.sym_max(held, total)
    present_key, present_value = (_placed(past, x, before, count) for past, x in ((past_key, key), (past_value, value)))
    seen_key, seen_value = present_key[:, :, :total], present_value[:, :, :total]
    bias = _seen(call, query, before, total)
    seen_key, seen_value = for_each_query(seen_key, heads), for_each_query(seen_value, heads)
    scale, softcap = call.attribute("scale", 0.0) or 1 / math.sqrt(query.shape[3]), call.attribute("softcap", 0.0)
    if not softcap:
        y = functional.scaled_dot_product_attention(query, seen_key, seen_value, bias, scale=scale)
    else:
        scores = torch.matmul(query, seen_key.transpose(2, 3)) * scale
        y = torch.matmul(torch.softmax(softcap * torch.tanh(scores / softcap) + bias, -1), seen_value)
    return heads_joined(y), present_key, present_value


def _check_group_query(call: Call) -> None:
    others = {11: "a sink for each head", 12: "a quantized cache", 14: "normalized queries", 16: "padded queries"}
    for position, what in others.items():
        if call.has(position):
            raise call.refusal(f"has {what}, which is not known here")
    for name in ("smooth_softmax", "sliding_window_cache", "qk_output", "kv_cache_bit_width"):
        if call.attribute(name, 0) not in (0, -1):
            raise call.refusal(f"has {name}, which is not known here")
    if not call.attribute("causal", 1):
        raise call.refusal("is not causal")
    if not call.has(6) or isinstance(call.inputs[6], torch.Tensor):
        raise call.refusal("needs a total_sequence_length that follows from sizes, not from data")


def _placed(past: torch.Tensor | None, new: torch.Tensor, before: torch.Tensor, count: Any) -> torch.Tensor:
    """(N, heads, count, size): of each sequence what it had, and behind it what is new."""
    if past is None:
        return (
            new
            if statically_known_true(count == new.shape[2])
            else functional.pad(new, [0, 0, 0, count - new.shape[2]])
        )
    both, held = torch.cat([past, new], 2), past.shape[2]
    places = torch.arange(count)[None]
    index = torch.where(places < before[:, None], places, places - before[:, None] + held)
    # Behind both there are zeros.
    behind = (places >= before[:, None] + new.shape[2])[:, None, :, None]
    index = index.clamp(max=held + new.shape[2] - 1)[:, None, :, None]
    placed = torch.gather(both, 2, index.expand(both.shape[0], both.shape[1], count, both.shape[3]))
    return torch.where(behind, 0, placed)


def _seen(call: Call, query: torch.Tensor, before: torch.Tensor, total: Any) -> torch.Tensor:
    """What is added to the scores (N, 1 or heads, T, total)."""
    rows = before[:, None, None] + torch.arange(query.shape[2])[:, None]
    columns = torch.arange(total)
    allowed = columns <= rows
    window = call.attribute("local_window_size", -1)
    if window > 0:
        allowed = allowed & (columns > rows - window)
    added = torch.where(allowed, 0.0, -math.inf)[:, None].to(query.dtype)
    return added if call.optional(10) is None else added + call.tensor(10)
