"""Small models of transformers and timm with seeded weights, written as people hold them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from converter.torch.extensions.audio import prepare_torchaudio
from converter.torch.extensions.vision import import_torchvision
from converter.torch.huggingface.config import offline

offline()
# transformers imports both, which works beside a CPU build of torch only so.
import_torchvision()
prepare_torchaudio()
import timm  # noqa: E402
import transformers  # noqa: E402

BERT = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "initializer_range": 0.4,  # so that attention attends, and outputs vary
}


def bert(folder: Path, name: str = "BertForSequenceClassification", **options: object) -> torch.nn.Module:
    """A BERT of two layers with some head, saved in `folder` as save_pretrained does; `options` go to that."""
    torch.manual_seed(0)
    model = getattr(transformers, name)(transformers.BertConfig(**BERT)).eval()
    model.save_pretrained(folder, **options)
    return model


def llama(folder: Path) -> torch.nn.Module:
    """A decoder with grouped keys, whose masks are causal."""
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=53,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    return model


def t5(folder: Path) -> torch.nn.Module:
    """An encoder with a decoder."""
    torch.manual_seed(2)
    config = transformers.T5Config(
        vocab_size=47, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    return model


def vit(folder: Path) -> torch.nn.Module:
    """An image classifier of 32 by 32 pixels."""
    torch.manual_seed(3)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=32, patch_size=8
    )
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    return model


def timm_directory(folder: Path, architecture: str = "test_resnet") -> torch.nn.Module:
    """As timm writes it: architecture, head and pretrained_cfg in config.json."""
    torch.manual_seed(4)
    model = timm.create_model(architecture, pretrained=False, num_classes=7).eval()
    folder.mkdir(parents=True)
    from safetensors.torch import save_file

    save_file(model.state_dict(), folder / "model.safetensors")
    config = {"architecture": architecture, "num_classes": 7, "pretrained_cfg": {"input_size": [3, 64, 64]}}
    (folder / "config.json").write_text(json.dumps(config))
    return model
