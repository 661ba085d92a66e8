"""Models that a function of a package makes: of torchvision, segmentation_models_pytorch and torchaudio.

Each is a state dict with the function's name and arguments, as people hold it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from corpus.model import Model, settle, varied

__all__ = ["MADE", "load_made", "write_made"]


@dataclass(frozen=True)
class Made:
    """A function by its dotted name, its arguments, and the inputs: shapes, with the dtype of those that are no float32."""

    function: str
    arguments: dict[str, Any]
    inputs: tuple[str, ...]
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> torch.nn.Module:
        """With seeded weights, in eval mode."""
        torch.manual_seed(0)
        module, _, name = self.function.rpartition(".")
        return getattr(importlib.import_module(module), name)(**self.arguments).eval()

    def example(self) -> list[torch.Tensor]:
        """Some samples of each input; lengths are whole."""
        tensors = []
        for text in self.inputs:
            dtype, _, shape = text.rpartition(":")
            sizes = [4, *map(int, shape.split(",")[1:])]
            tensors.append(torch.full(sizes, _LENGTH) if dtype else varied(*sizes))
        return tensors


# Of inputs that say how long sequences are.
_LENGTH = 24
_IMAGE = ("1,3,224,224",)
_VIDEO = ("1,3,16,112,112",)


def _torchvision() -> dict[str, Made]:
    """The smallest of every file of its models."""
    plain = ("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "mnasnet0_5", "mobilenet_v2",
             "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1",
             "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_16", "maxvit_t")  # fmt: skip
    segmentation = ("deeplabv3_mobilenet_v3_large", "fcn_resnet50", "lraspp_mobilenet_v3_large", "deeplabv3_resnet50")
    inputs = {
        **dict.fromkeys(("video.r3d_18", "video.mc3_18", "video.r2plus1d_18", "video.swin3d_t"), _VIDEO),
        **dict.fromkeys(("video.s3d", "video.mvit_v2_s"), ("1,3,16,224,224",)),
        "optical_flow.raft_small": ("1,3,128,128", "1,3,128,128"),
    }
    untrained = {"weights": None}  # what keeps torchvision from downloading
    unset = {**untrained, "weights_backbone": None, "num_classes": 5}
    alone = {**untrained, "init_weights": True, "aux_logits": False}
    made = dict.fromkeys(plain, (untrained, _IMAGE))
    made |= {f"segmentation.{name}": (unset, _IMAGE) for name in segmentation}
    made |= {"googlenet": (alone, _IMAGE), "inception_v3": (alone, ("1,3,299,299",))}
    made |= {name: (untrained, shapes) for name, shapes in inputs.items()}
    return {name: Made(f"torchvision.models.{name}", *rest) for name, rest in made.items()}


def _segmentation_models() -> dict[str, Made]:
    """Every architecture on the smallest ResNet, and U-Nets on the smallest encoder of each other file."""
    architectures = ("unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet",
                     "segformer")  # fmt: skip
    encoders = ("vgg11_bn", "dpn68", "se_resnet50", "densenet121", "inceptionv4", "efficientnet-b0", "mobilenet_v2", "xception",
                "timm-skresnet18", "timm-efficientnet-b0", "mit_b0", "mobileone_s0", "tu-convnext_atto")  # fmt: skip
    pairs = [(architecture, "resnet18") for architecture in architectures]
    pairs += [("unet", encoder) for encoder in encoders] + [("dpt", "tu-vit_tiny_patch16_224")]
    made = {}
    for architecture, encoder in pairs:
        arguments = {"arch": architecture, "encoder_name": encoder, "encoder_weights": None, "classes": 4}
        inputs = _IMAGE if architecture == "dpt" else ("1,3,128,160",)
        made[f"{architecture}-{encoder}"] = Made("segmentation_models_pytorch.create_model", arguments, inputs)
    return made


def _torchaudio() -> dict[str, Made]:
    """Its architectures with few and narrow layers; not SQUIM's subjective one, whose speech encoder has 94 million weights."""
    rnn = {"n_res_block": 2, "n_rnn": 32, "n_fc": 32, "n_freq": 16, "n_hidden": 16, "n_output": 16}
    speech = {
        "extractor_mode": "group_norm", "extractor_conv_layer_config": [[32, 10, 5], [32, 3, 2], [32, 2, 2]],
        "extractor_conv_bias": False, "encoder_embed_dim": 32, "encoder_projection_dropout": 0.1, "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 4, "encoder_num_layers": 2, "encoder_num_heads": 4, "encoder_attention_dropout": 0.1,
        "encoder_ff_interm_features": 64, "encoder_ff_interm_dropout": 0.1, "encoder_dropout": 0.1,
        "encoder_layer_norm_first": False, "encoder_layer_drop": 0.0, "aux_num_out": 12,
    }  # fmt: skip
    sequence = {"input_dim": 16, "num_heads": 4, "ffn_dim": 32, "num_layers": 2}
    frames = ("1,24,16", "int64:1")
    separation = {
        "enc_num_feats": 32,
        "msk_num_feats": 16,
        "msk_num_hidden_feats": 32,
        "msk_num_layers": 3,
        "msk_num_stacks": 2,
    }
    tacotron = {
        "n_symbol": 30, "symbol_embedding_dim": 32, "encoder_embedding_dim": 32, "decoder_rnn_dim": 32, "attention_rnn_dim": 32,
        "prenet_dim": 16, "postnet_embedding_dim": 32, "attention_hidden_dim": 16, "n_mels": 16,
    }  # fmt: skip
    quality = {
        "feat_dim": 32, "win_len": 64, "d_model": 16, "nhead": 2, "hidden_dim": 16, "num_blocks": 1, "rnn_type": "GRU",
        "chunk_size": 7,
    }  # fmt: skip
    given = {
        "Wav2Letter": ({"num_classes": 12}, ("1,1,3200",)),
        "DeepSpeech": ({"n_feature": 16, "n_hidden": 64, "n_class": 12}, ("1,1,24,16",)),
        "ConvTasNet": (separation, ("1,1,3200",)),
        "HDemucs": ({"sources": ["a", "b"], "channels": 8, "nfft": 256, "depth": 4}, ("1,2,8192",)),
        "WaveRNN": ({"upsample_scales": [4, 4], "n_classes": 16, "hop_length": 16, **rnn}, ("1,1,128", "1,1,16,12")),
        "Conformer": ({**sequence, "depthwise_conv_kernel_size": 5}, frames),
        "Emformer": ({**sequence, "segment_length": 4, "right_context_length": 2}, frames),
        "Tacotron2": (tacotron, ("int64:1,24", "int64:1", "1,16,24", "int64:1")),
        "wav2vec2_model": (speech, ("1,4000",)),
        "wavlm_model": ({**speech, "encoder_num_buckets": 16, "encoder_max_distance": 40}, ("1,4000",)),
        "squim_objective_model": (quality, ("1,4000",)),
    }
    return {name: Made(f"torchaudio.models.{name}", *rest) for name, rest in given.items()}


MADE = {"torchvision": _torchvision(), "smp": _segmentation_models(), "torchaudio": _torchaudio()}


def write_made(family: str, folder: Path, only: Sequence[str] | None) -> list[Model]:
    """State dicts of a family's models, those of the names in `only` where it is given. What cannot be built is printed."""
    models = []
    for name, made in MADE[family].items():
        if only is not None and name not in only:
            continue
        source = folder / f"{family}-{name}.safetensors"
        try:
            if not source.exists():
                _write(made, source)
        except Exception as error:  # whatever a package raises
            print(
                f"{family} {name} is not built: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
                flush=True,
            )
            continue
        (folder / f"{family}-{name}.json").write_text(json.dumps(made.arguments))
        parameters = {
            "network_name": made.function,
            "network_args": f"models/{family}-{name}.json",
            "input_shape": ";".join(made.inputs),
        }
        models.append(Model(family, name, source.name, parameters))
    return models


def _write(made: Made, path: Path) -> None:
    from safetensors.torch import save_file

    network = made.network
    settle(network, *made.example())
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.clone() for key, value in network.state_dict().items()}, path)


def load_made(family: str, name: str, path: Path) -> torch.nn.Module:
    """The network with the weights of its file."""
    from safetensors.torch import load_file

    network = MADE[family][name].network
    network.load_state_dict(load_file(path))
    return network
