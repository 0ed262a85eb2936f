"""Small random models of transformers."""

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

SIZE = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (24,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
MODELS = {
    "wav2vec2": ("Wav2Vec2", {}),
    "wav2vec2-large": ("Wav2Vec2", LARGE),
    "hubert": ("Hubert", {}),
    "hubert-large": ("Hubert", LARGE),
    "wavlm": ("WavLM", {}),
    "wavlm-large": ("WavLM", LARGE),
    "data2vec-audio": ("Data2VecAudio", {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}),
}


def make(name: str, **changes: Any) -> nn.Module:
    """Return a small random model of transformers in which every parameter has an effect."""
    family, settings = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**{**SIZE, **settings, **changes})
    model: nn.Module = getattr(transformers, f"{family}Model")(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.5 if parameter.dim() == 1 else 0.0, 0.3)
    return model


def write_encoder(folder: Path, seed: int = 0) -> Path:
    """Write a tiny wav2vec 2.0 of transformers with random weights."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    Wav2Vec2Model(Wav2Vec2Config(**sizes, **convolutions)).save_pretrained(folder)
    return folder


def write_whisper(folder: Path) -> Path:
    """Write a small Whisper with random weights in the usual format."""
    torch.manual_seed(0)
    size = {"d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 48}
    other = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "vocab_size": 60}
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = transformers.WhisperConfig(**size, **other, **marks, suppress_tokens=None, begin_suppress_tokens=None)
    transformers.WhisperModel(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return folder
