"""Whisper's encoder, log-mel and loading against transformers, on tiny models and a real one if available."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank

from ser_pipeline.errors import PipelineError
from ser_pipeline.model.speech import FrameEncoder, Options, open_encoder
from ser_pipeline.model.speech.logmel import WhisperLogMel, slaney_filters
from support.sounds import tone

FROZEN = Options(frozen=True)
SIZE = {"d_model": 48, "encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "vocab_size": 60}
DECODER = {"decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 64}
IDS = {"pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 1}


def audio(samples: int, level: float = 1.0) -> Tensor:
    """Return a voice-like waveform float32 (N,)."""
    return torch.from_numpy(tone(samples, samples / 16_000, 140)).float()[:samples] * level


CLIPS = [audio(3_000), audio(36_345), audio(20_011, 1e-3), audio(16_000), audio(159), torch.zeros(8_000)]


def write(folder: Path, kind: str = "WhisperForConditionalGeneration", bands: int = 80, **saved: Any) -> Any:
    """Write a tiny random Whisper model to `folder`; returns its encoder."""
    torch.manual_seed(0)
    config = transformers.WhisperConfig(num_mel_bins=bands, **SIZE, **DECODER, **IDS)
    model = getattr(transformers, kind)(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.5 if parameter.dim() == 1 else 0.0, 0.2)
    model.half().save_pretrained(folder, **saved) if saved.pop("half", False) else model.save_pretrained(
        folder, **saved
    )
    transformers.WhisperFeatureExtractor(feature_size=bands).save_pretrained(folder)
    return model.float().eval().get_encoder()


@pytest.fixture(scope="module")
def real() -> Path:
    """Return the folder of a real encoder of Whisper tiny.en."""
    folder = os.environ.get("SER_PIPELINE_ENCODER")
    if not folder:
        pytest.skip("$SER_PIPELINE_ENCODER is not set: no pre-trained encoder here")
    return Path(folder)


@torch.inference_mode()
def states(encoder: FrameEncoder, *clips: Tensor, upto: int | None = None) -> tuple[list[Tensor], Tensor]:
    size = max(map(len, clips))
    batch = torch.stack([F.pad(clip, (0, size - len(clip))) for clip in clips])
    made = encoder.states(encoder.prepare(batch, torch.tensor([len(clip) for clip in clips])), upto)
    return made.layers, made.real


@torch.inference_mode()
def of_transformers(model: Any, clip: Tensor, bands: int = 80) -> list[Tensor]:
    extractor = transformers.WhisperFeatureExtractor(feature_size=bands)
    read = extractor(clip.numpy(), sampling_rate=16_000, return_tensors="pt")
    return list(model(**read, output_hidden_states=True).hidden_states)


@pytest.mark.parametrize("bands", [80, 128])
def test_filters_and_log_mel_are_those_of_transformers(bands: int) -> None:
    filters = mel_filter_bank(201, bands, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    assert torch.allclose(slaney_filters(bands, 16_000).T, torch.from_numpy(filters).double(), atol=1e-9)
    extractor, ours = transformers.WhisperFeatureExtractor(feature_size=bands), WhisperLogMel(bands)
    for clip in CLIPS:
        expected = extractor(clip.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
        found = ours(clip[None])
        assert found.shape[2] == -(-len(clip) // 160)
        torch.testing.assert_close(found, expected[..., : found.shape[2]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("bands", [80, 128])
def test_frames_of_thirty_seconds_are_those_of_transformers(tmp_path: Path, bands: int) -> None:
    model = write(tmp_path, bands=bands)
    encoder = open_encoder(str(tmp_path), replace(FROZEN, window="30s")).eval()
    for clip in CLIPS[:3]:
        expected = of_transformers(model, clip, bands)
        found, kept = states(encoder, clip)
        assert len(found) == len(expected) == 4 and found[0].shape == (1, 1500, 48)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5 * float(other.abs().max()), rtol=1e-5)
        assert int(kept.sum()) == -(-len(clip) // 320) and encoder.frames(len(clip)) == 1500


@pytest.mark.slow(reason="runs a real encoder twice")
def test_the_real_encoder_is_that_of_transformers(real: Path) -> None:
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig.from_pretrained(real))
    encoder = open_encoder(str(real), replace(FROZEN, window="30s")).eval()
    model.load_state_dict({f"model.encoder.{k}": v for k, v in encoder.encoder.state_dict().items()}, strict=False)
    for clip in CLIPS[:3]:
        found, _ = states(encoder, clip)
        for one, other in zip(found, of_transformers(model.eval().get_encoder(), clip), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5 * max(1.0, float(other.abs().max())), rtol=1e-5)


def test_thirty_seconds_of_audio_are_read_alike_by_both_windows_but_for_the_end(tmp_path: Path) -> None:
    model = write(tmp_path)
    clip = audio(480_000 - 400)
    expected = of_transformers(model, clip)
    found, _ = states(open_encoder(str(tmp_path), FROZEN).eval(), clip)
    assert found[-1].shape[1] == 1499
    torch.testing.assert_close(found[0][:, :1490], expected[0][:, :1490], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("window", ["cut", "30s"])
def test_frames_do_not_depend_on_the_rest_of_the_batch(tmp_path: Path, window: str) -> None:
    write(tmp_path)
    encoder = open_encoder(str(tmp_path), replace(FROZEN, window=window)).eval()
    together, kept = states(encoder, *CLIPS)
    for row, clip in enumerate(CLIPS):
        alone, real = states(encoder, clip)
        count = int(real.sum())
        assert count == int(kept[row].sum()) == -(-len(clip) // 320)
        assert window == "30s" or count == encoder.frames(len(clip)) == alone[0].shape[1]
        for one, other in zip(together, alone, strict=True):
            largest = float(other.abs().max().clamp(min=1))
            torch.testing.assert_close(one[row, :count], other[0, :count], atol=1e-5 * largest, rtol=1e-5)


def test_padding_is_not_heard_whatever_it_holds_unless_it_is_meant_to_be(tmp_path: Path) -> None:
    write(tmp_path)
    clip = audio(16_000)
    noisy = torch.cat([clip, torch.randn(8_000)])[None]
    lengths = torch.tensor([16_000])
    encoder = open_encoder(str(tmp_path), FROZEN).eval()
    frames, kept = encoder.hear(noisy, lengths)
    (alone, _), count = encoder.hear(clip[None]), int(kept.sum())
    torch.testing.assert_close(frames[:, :count], alone, atol=1e-4, rtol=1e-5)
    deaf = open_encoder(str(tmp_path), replace(FROZEN, mask_padding=False)).eval()
    assert deaf.hear(noisy, lengths)[1].all()
    assert torch.equal(deaf.hear(noisy, lengths)[0], encoder.hear(noisy)[0])


def test_layers_above_the_one_asked_for_are_not_computed(tmp_path: Path) -> None:
    write(tmp_path)
    encoder = open_encoder(str(tmp_path), FROZEN).eval()
    run: list[int] = []
    for number, block in enumerate(encoder.encoder["layers"]):
        block.register_forward_hook(lambda *_, number=number: run.append(number))
    part, _ = states(encoder, CLIPS[0], upto=2)
    assert run == [0, 1]
    whole, _ = states(encoder, CLIPS[0])
    assert len(part) == 3 and all(torch.equal(one, other) for one, other in zip(part, whole, strict=False))


@pytest.mark.parametrize("kind", ["WhisperModel", "WhisperForConditionalGeneration", "WhisperForAudioClassification"])
@pytest.mark.parametrize("saved", [{}, {"half": True}, {"max_shard_size": "40KB"}])
def test_an_encoder_is_read_from_every_kind_of_checkpoint(tmp_path: Path, kind: str, saved: dict[str, Any]) -> None:
    model = write(tmp_path, kind, **saved)
    assert (tmp_path / "model.safetensors.index.json").is_file() == ("max_shard_size" in saved)
    encoder = open_encoder(str(tmp_path), replace(FROZEN, window="30s")).eval()
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    found, _ = states(encoder, CLIPS[0])
    expected = of_transformers(model, CLIPS[0])[-1]
    torch.testing.assert_close(found[-1], expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


def test_an_encoder_is_read_from_weights_of_torch_and_alone(tmp_path: Path) -> None:
    model = write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    found, _ = states(open_encoder(str(tmp_path), replace(FROZEN, window="30s")).eval(), CLIPS[0])
    expected = of_transformers(model, CLIPS[0])[-1]
    torch.testing.assert_close(found[-1], expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


def test_the_same_weights_have_one_fingerprint_however_they_are_stored(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    write(first)
    write(second, max_shard_size="40KB")
    write(other, kind="WhisperForAudioClassification")
    prints = [open_encoder(str(folder), FROZEN).fingerprint() for folder in (first, second, other)]
    assert prints[0] == prints[1] and len(prints[0]) == 12
    encoder = open_encoder(str(first), FROZEN)
    with torch.no_grad():
        encoder.encoder["conv1"].bias[0] += 1
    assert encoder.fingerprint() != prints[0]


def test_an_encoder_is_made_anew_from_its_description(tmp_path: Path) -> None:
    write(tmp_path, bands=128)
    first = open_encoder(str(tmp_path), FROZEN)
    second = open_encoder("never/asked", FROZEN, settings=first.description())
    second.load_state_dict(first.state_dict())
    assert second.fingerprint() == first.fingerprint()


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    model = write(tmp_path)
    encoder = open_encoder(str(tmp_path), FROZEN)
    with pytest.raises(PipelineError, match=r"30\.1 s of audio for a speech encoder that reads at most 30\.0 s; cut"):
        encoder.prepare(torch.zeros(1, 481_600))
    with pytest.raises(PipelineError, match="one of cut, 30s, not '10s'"):
        open_encoder(str(tmp_path), replace(FROZEN, window="10s"))
    transformers.WhisperFeatureExtractor(feature_size=128).save_pretrained(tmp_path)
    with pytest.raises(PipelineError, match=r"reads 80 bands, but its preprocessor_config.json gives 128"):
        open_encoder(str(tmp_path), FROZEN)
    transformers.WhisperFeatureExtractor(feature_size=80, sampling_rate=8_000).save_pretrained(tmp_path)
    with pytest.raises(PipelineError, match=r"reads audio at 8000 Hz .*, but the pipeline's is at 16000 Hz"):
        open_encoder(str(tmp_path), FROZEN)
    transformers.WhisperFeatureExtractor().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({k: v for k, v in model.state_dict().items() if "conv2" not in k}, tmp_path / "pytorch_model.bin")
    with pytest.raises(PipelineError, match=r"lack 2 parameters, such as conv2.bias; give a folder"):
        open_encoder(str(tmp_path), FROZEN)
    torch.save({k: v[:7] for k, v in model.state_dict().items()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        PipelineError, match=r"do not fit its config.json: conv1.weight has the shape \(7, 80, 3\), not \(48"
    ):
        open_encoder(str(tmp_path), FROZEN)


def test_transformers_is_not_imported(tmp_path: Path) -> None:
    write(tmp_path)
    code = "import sys; from ser_pipeline.model.speech import *; open_encoder(sys.argv[1], Options(frozen=True)); "
    code += "assert not [name for name in sys.modules if name.startswith('transformers')]"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)


def test_a_trained_encoder_has_gradients_in_all_its_parts(tmp_path: Path) -> None:
    write(tmp_path)
    encoder = open_encoder(str(tmp_path), Options(layer_mix=True)).train()
    frames, kept = encoder.hear(torch.stack([CLIPS[3], -CLIPS[3]]), torch.tensor([16_000, 9_000]))
    (frames * kept[..., None]).square().sum().backward()
    without = {name for name, parameter in encoder.named_parameters() if parameter.grad is None}
    assert without == {"encoder.embed_positions.weight"}
