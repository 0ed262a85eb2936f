"""Frames of every family equal those of transformers' own feature extractor and model for each utterance."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from torch import Tensor, nn

from ser_pipeline.errors import PipelineError
from ser_pipeline.model.speech import FrameEncoder, Options, open_encoder
from support.sounds import tone

FROZEN = Options(frozen=True)
KIN = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (24,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
ADAPTER = {"add_adapter": True, "num_adapter_layers": 2, "adapter_stride": 2, "adapter_kernel_size": 3}
BERT = {name: KIN[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")}
SEW = {**KIN, "squeeze_factor": 2, "conv_kernel": (10, 3, 3, 3, 3, 2, 2), "conv_stride": (5, 2, 2, 2, 2, 2, 2)}
AST = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_length": 128}

WAVES = {"do_normalize": True, "return_attention_mask": True}
ROWS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "wav2vec2, group norm": ("Wav2Vec2", KIN, "Wav2Vec2", WAVES | {"return_attention_mask": False}),
    "wav2vec2, layer norm, stable": ("Wav2Vec2", KIN | LARGE, "Wav2Vec2", WAVES),
    "wav2vec2, layer norm, not stable": ("Wav2Vec2", KIN | LARGE | {"do_stable_layer_norm": False}, "Wav2Vec2", WAVES),
    "wav2vec2, adapter": ("Wav2Vec2", KIN | LARGE | ADAPTER, "Wav2Vec2", WAVES),
    "wav2vec2, narrow adapter": ("Wav2Vec2", KIN | LARGE | ADAPTER | {"output_hidden_size": 32}, "Wav2Vec2", WAVES),
    "hubert, group norm": ("Hubert", KIN, "Wav2Vec2", WAVES | {"return_attention_mask": False}),
    "hubert, stable": ("Hubert", KIN | LARGE, "Wav2Vec2", WAVES),
    "hubert, batch norm of positions": ("Hubert", KIN | {"conv_pos_batch_norm": True}, "Wav2Vec2", WAVES),
    "wavlm, as it is": ("WavLM", KIN, "Wav2Vec2", WAVES | {"do_normalize": False}),
    "wavlm, stable": ("WavLM", KIN | LARGE, "Wav2Vec2", WAVES),
    "wavlm, adapter": ("WavLM", KIN | LARGE | ADAPTER, "Wav2Vec2", WAVES),
    "data2vec": (
        "Data2VecAudio",
        KIN | {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 19},
        "Wav2Vec2",
        WAVES,
    ),
    "unispeech": ("UniSpeech", KIN | LARGE, "Wav2Vec2", WAVES),
    "unispeech-sat": ("UniSpeechSat", KIN, "Wav2Vec2", WAVES),
    "conformer, relative": ("Wav2Vec2Conformer", KIN | {"position_embeddings_type": "relative"}, "Wav2Vec2", WAVES),
    "conformer, rotary": ("Wav2Vec2Conformer", KIN | {"position_embeddings_type": "rotary"}, "Wav2Vec2", WAVES),
    "conformer, no positions": ("Wav2Vec2Conformer", KIN | {"position_embeddings_type": None}, "Wav2Vec2", WAVES),
    "w2v-bert, relative key": ("Wav2Vec2Bert", BERT, "SeamlessM4T", {"padding_value": 1.0}),
    "w2v-bert, relative": ("Wav2Vec2Bert", BERT | {"position_embeddings_type": "relative"}, "SeamlessM4T", {}),
    "w2v-bert, rotary": ("Wav2Vec2Bert", BERT | {"position_embeddings_type": "rotary"}, "SeamlessM4T", {}),
    "w2v-bert, adapter": (
        "Wav2Vec2Bert",
        BERT | ADAPTER | {"output_hidden_size": 32, "use_intermediate_ffn_before_adapter": True},
        "SeamlessM4T",
        {},
    ),
    "sew": ("SEW", SEW, "Wav2Vec2", {"return_attention_mask": False}),
    "ast": ("AST", AST, "AST", {"max_length": 128}),
}
"""Name -> model class, its settings, feature extractor class, its settings."""


class Family(NamedTuple):
    """A tiny encoder of transformers, and the folder that it was saved to."""

    model: nn.Module
    extractor: Any
    folder: Path


def scatter(model: nn.Module) -> nn.Module:
    """Give every parameter an effect."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.5 if parameter.dim() == 1 else 0.0, 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    known: dict[str, Family] = {}

    def make(name: str) -> Family:
        if name not in known:
            kind, settings, front, more = ROWS[name]
            model = scatter(getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**settings)))
            extractor = getattr(transformers, f"{front}FeatureExtractor")(**more)
            folder = tmp_path_factory.mktemp("encoder")
            model.save_pretrained(folder)
            extractor.save_pretrained(folder)
            known[name] = Family(model, extractor, folder)
        return known[name]

    return make


def audio(samples: int, level: float = 1.0) -> Tensor:
    """Return a voice-like waveform float32 (N,) at `level` of its usual loudness."""
    return torch.from_numpy(tone(samples, samples / 16_000, 140)).float()[:samples] * level


CLIPS = {"short": audio(3_000), "long": audio(36_345), "quiet": audio(20_011, 1e-3), "exact": audio(16_000)}


@torch.inference_mode()
def of_transformers(family: Family, wave: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return one utterance's hidden states (T, D), the last one included, and which frames are real (T,)."""
    read = family.extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
    output = family.model(**read, output_hidden_states=True)
    states = [state[0] for state in (*output.hidden_states[:-1], output.last_hidden_state)]
    real = torch.ones(len(states[-1]), dtype=torch.bool)
    if type(family.extractor).__name__ == "SeamlessM4TFeatureExtractor" and not family.model.config.add_adapter:
        real = read["attention_mask"][0].bool()
    return states, real


@torch.inference_mode()
def ours(encoder: FrameEncoder, wave: Tensor, upto: int | None = None) -> tuple[list[Tensor], Tensor]:
    states = encoder.states(encoder.prepare(wave[None], torch.tensor([len(wave)])), upto)
    return [state[0] for state in states.layers], states.real[0]


def near(found: Tensor, expected: Tensor) -> None:
    """Check that frames are equal to 1e-5 of their size."""
    scale = float(expected.abs().max().clamp(min=1.0))
    torch.testing.assert_close(found, expected, atol=1e-5 * scale, rtol=1e-5)


@pytest.mark.parametrize("name", ROWS)
def test_frames_are_those_of_transformers(made: Callable[[str], Family], name: str) -> None:
    family = made(name)
    encoder = open_encoder(str(family.folder), FROZEN).eval()
    for clip in CLIPS.values():
        if encoder.longest is not None:
            clip = clip[: encoder.longest]
        expected, real = of_transformers(family, clip)
        found, kept = ours(encoder, clip)
        assert len(found) == len(expected) == encoder.layers + 1
        assert found[-1].shape == expected[-1].shape == (encoder.frames(len(clip)), encoder.width)
        assert torch.equal(kept, real) or "adapter" in name
        for one, other in zip(found, expected, strict=True):
            near(one, other)


@pytest.mark.parametrize("name", ROWS)
def test_frames_do_not_depend_on_the_rest_of_the_batch(made: Callable[[str], Family], name: str) -> None:
    encoder = open_encoder(str(made(name).folder), FROZEN).eval()
    clips = [clip[: encoder.longest] for clip in CLIPS.values()]
    size = max(map(len, clips))
    batch = torch.stack([torch.nn.functional.pad(clip, (0, size - len(clip))) for clip in clips])
    lengths = torch.tensor([len(clip) for clip in clips])
    with torch.inference_mode():
        together = encoder.states(encoder.prepare(batch, lengths))
        frames, kept = encoder.hear(batch + 0.3 * (batch == 0) * (torch.arange(size) >= lengths[:, None]), lengths)
    assert torch.equal(kept, together.real)
    for row, clip in enumerate(clips):
        alone, real = ours(encoder, clip)
        count = int(real.sum())
        assert int(together.real[row].sum()) == count and together.real[row, :count].all()
        for one, other in zip(together.layers, alone, strict=True):
            shared = min(count, len(other))
            near(one[row, :shared], other[:shared])
        near(frames[row, :count], alone[-1][:count])  # whatever the padding contains


@pytest.mark.parametrize("name", ROWS)
def test_layers_above_the_one_asked_for_are_not_computed(made: Callable[[str], Family], name: str) -> None:
    encoder = open_encoder(str(made(name).folder), replace(FROZEN, inner=True)).eval()
    whole, _ = ours(encoder, CLIPS["exact"])
    run: list[int] = []
    stack = getattr(encoder, "_stack", None)
    for number, layer in enumerate(encoder.model.encoder.layers if stack is None else stack):
        layer.register_forward_hook(lambda *_, number=number: run.append(number))
    for asked, upto in ((1, 1), (1, 1 - len(whole)), (0, 0)):
        run.clear()
        part, real = ours(encoder, CLIPS["exact"], upto)
        assert run == list(range(asked))
        assert len(part) == asked + 1 and all(torch.equal(one, other) for one, other in zip(part, whole, strict=False))
        assert len(real) == len(part[-1])
    with pytest.raises(
        PipelineError, match=f"layer {len(whole)} of a speech encoder with layers 0 to {len(whole) - 1}"
    ):
        ours(encoder, CLIPS["exact"], len(whole))
