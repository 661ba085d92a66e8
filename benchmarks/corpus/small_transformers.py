"""Small configurations of transformers' model types: a few narrow layers, weights that are seeded and not shrunk towards zero."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from converter.torch.huggingface.config import configuration, offline

offline()

import torch  # noqa: E402

from converter.torch.extensions.vision import import_torchvision  # noqa: E402

import_torchvision()  # transformers imports it, which works beside a CPU build of torch only so

import transformers  # noqa: E402
from transformers.models.auto import modeling_auto  # noqa: E402
from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # noqa: E402

__all__ = ["TooLarge", "class_name", "write"]

_MOST_PARAMETERS = 30_000_000  # a detector has a ResNet50
# The head that most people have of each type, the first that there is.
_TASKS = (
    "MASKED_LM", "CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_CLASSIFICATION", "OBJECT_DETECTION", "SEMANTIC_SEGMENTATION",
    "INSTANCE_SEGMENTATION", "UNIVERSAL_SEGMENTATION", "DEPTH_ESTIMATION", "AUDIO_CLASSIFICATION", "CTC", "SPEECH_SEQ_2_SEQ",
    "VIDEO_CLASSIFICATION", "TIME_SERIES_PREDICTION", "VISUAL_QUESTION_ANSWERING", "SEQUENCE_CLASSIFICATION",
    "TOKEN_CLASSIFICATION", "QUESTION_ANSWERING",
)  # fmt: skip


def _at_most(most: int) -> Callable[[int], int]:
    return lambda value: min(value, most)


def _heads(value: Any) -> Any:
    return 4 if isinstance(value, int) else [2 for _ in value]


# (pattern of a field's whole name, its new value or a function of the old one); the first that fits. Numbers below 1 stay.
_RULES: tuple[tuple[str, Any], ...] = (
    (r".*(num_experts_per_tok|topk_experts|moe_k|moe_topk|num_experts_per_token|experts_top_k|top_k_experts|topk)", _at_most(2)),
    (r"num_feat_extract_layers|num_conv_layers|query_dim", lambda value: value),
    (r"mamba_d_head|mamba_head_dim|ssm_head_dim", 16),
    (r"n_group|topk_group|num_expert_group|n_groups_moe", 1),
    (r"(num_|n_)?(hidden_)?(key_value|kv)_heads|num_kv_heads|n_head_kv|num_key_value_heads", 2),
    (r".*(attention_heads|num_heads|n_heads?|_heads|nhead)", _heads),
    (r"qk_head_dim", 16),
    (r"(qk_nope_|qk_rope_|v_|qk_|swa_|index_|global_)?head_dim|attention_head_(size|dim)|d_kv|kv_channels|head_dim_.*", 8),
    (r"rotary_dim", 4),
    (r"(kv|q|o)_lora_rank", 8),
    (r".*(num_hidden_layers|num_layers|n_layers?|_layers|num_blocks|n_blocks|num_encoder_blocks)", _at_most(2)),
    (r"(.*_)?(intermediate_size|ffn_dim|d_ff|d_inner|n_inner|inner_dim|feedforward_dim|ff_dim|mlp_dim|ffn_hidden_size|"
     r"intermediate_dim)", 48),
    (r"(.*_)?(hidden_size|d_model|dim|n_embd|embed_dim|emb_dim|embedding_size|hidden_dim|embedding_dim|projection_dim|width|"
     r"d_embed|n_embed|encoder_dim|decoder_dim|proj_dim|entity_emb_size|mask_feature_size|feature_size|fusion_hidden_size|"
     r"attention_dim)", 32),
    (r"(.*_)?vocab_size|num_embeddings", 99),
    (r"(.*_)?(max_position_embeddings|n_positions|n_ctx|max_sequence_length|max_seq_len|max_seq_length|seq_length)", 64),
    (r"image_size|img_size|input_size", lambda value: 32 if isinstance(value, int) else [32, 32]),
    (r"num_labels|num_queries|num_query_tokens", _at_most(10)),
    (r"num_(local_)?experts|n_routed_experts|moe_num_experts|num_routed_experts", 4),
    (r".*_token_id|.*_token_index|.*_idx", lambda value: value % 90),
    (r"max_source_positions|max_target_positions", 32),
    (r"num_frames", _at_most(4)),
    (r"max_2d_position_embeddings", 128),
    (r"context_size|chunk_size|block_size|sliding_window|local_window|attention_window", _at_most(16)),
)  # fmt: skip
# What follows from other fields, and would contradict them.
_DERIVED = (
    "id2label", "label2id", "transformers_version", "architectures", "layer_types", "mlp_layer_types", "out_features",
    "out_indices", "stage_names", "num_labels", "per_layer_config", "layers_block_type", "attention_types",
    "attention_layers",
)  # fmt: skip
# What some types need beyond the rules.
_FOUR_LAYERS = {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "backbone_featmap_shape": [1, 32, 4, 4]}
_OWN: dict[str, dict[str, Any]] = {
    "deformable_detr": {"d_model": 64},  # of 32 groups, each has more than one value then
    "dpt": {**_FOUR_LAYERS, "neck_hidden_sizes": [16, 16, 16, 16]},
    "esm": {"vocab_size": 33},
    "esmc": {"num_key_value_heads": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "hubert": {"num_conv_pos_embedding_groups": 4},
    "falcon_h1": {"mamba_d_ssm": 64},
    "maskformer": {"image_size": 64},
    "mobilevit": {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 64], "image_size": 64},
    "nemotron": {"num_key_value_heads": 2, "head_dim": 8},
    "deepseek_v2": {"num_experts_per_tok": 2, "topk_method": "greedy"},
    "xlnet": {"d_head": 8},
    "xmod": {"default_language": "en_XX"},
    "swin": {"image_size": 56, "depths": [1, 1], "num_heads": [2, 2], "embed_dim": 16},
}


class TooLarge(Exception):
    """A small configuration still has too many parameters."""


def _small(name: str, value: Any) -> Any:
    integers = (
        isinstance(value, list | tuple) and value and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    )
    if isinstance(value, bool) or not (isinstance(value, int) or integers):
        return value
    if name == "mrope_section":
        return [2, 1, 1][: len(value)]
    for pattern, new in _RULES:
        if re.fullmatch(pattern, name):
            if callable(new):
                try:
                    return new(value)
                except TypeError:  # of a number, and there are several
                    break
            if isinstance(value, int):
                return new if value > 0 else value
            break
    if integers and re.search(r"depths|layers|blocks", name):
        return [1 for _ in value]
    if integers and re.search(r"sizes|dims|channels|embed|dim|stem", name) and max(value) > 32 and min(value) > 0:
        return [max(8, v * 16 // min(value)) for v in value]
    return value


def _shrunk(values: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in values.items():
        found[key] = _shrunk(value) if isinstance(value, dict) else _small(str(key), value)
    for key in _DERIVED:
        found.pop(key, None)
    if "qk_rope_head_dim" in found:
        found.pop("head_dim", None)
    if "kv_lora_rank" in found and "num_key_value_heads" in found:  # latent attention has as many
        found["num_key_value_heads"] = found["num_attention_heads"]
    if "vocab_size" in found and found.get("pad_token_id", 0) is None:
        found["pad_token_id"] = 0
    if found.get("prediction_length", 0) is None:
        found["prediction_length"] = 4
    return found


def class_name(model_type: str) -> str | None:
    """The class that `architectures` of its configuration names."""
    for task in _TASKS:
        names = getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES", {}).get(model_type)
        if names:
            return names if isinstance(names, str) else names[0]
    names = modeling_auto.MODEL_MAPPING_NAMES.get(model_type)
    return names if names is None or isinstance(names, str) else names[0]


def write(model_type: str, folder: Path, seed: int = 0) -> torch.nn.Module:
    """Save a small model of the type as save_pretrained does. Raises TooLarge, or what transformers raises."""
    name = class_name(model_type)
    values = _shrunk(CONFIG_MAPPING[model_type]().to_dict()) | _OWN.get(model_type, {})
    values |= {"architectures": [name], "model_type": model_type}
    config = configuration(folder, values)
    config.architectures = [name]
    with torch.device("meta"):
        parameters = sum(p.numel() for p in getattr(transformers, str(name))(config).parameters())
    if parameters > _MOST_PARAMETERS:
        raise TooLarge(f"{parameters / 1e6:.1f} million parameters")
    torch.manual_seed(seed)
    model = getattr(transformers, str(name))(config).eval()
    _spread(model, seed)
    model.save_pretrained(folder)
    return model


def _spread(model: torch.nn.Module, seed: int) -> None:
    """Weights of 0.02 make every layer but the embeddings whisper: matrices get the size that keeps a signal's."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2 and parameter.is_floating_point():
                inputs = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (1.0 / inputs) ** 0.5)
            elif parameter.is_floating_point() and parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
