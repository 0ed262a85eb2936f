"""The small encoders: padding changes nothing, statistics are standardised, learned paths can be left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ser_pipeline.config import Audio, Config, load
from ser_pipeline.data.batch import Batch
from ser_pipeline.model import SpeechEmotionModel, build_model
from ser_pipeline.model.contours import LIMIT, PathDropout, Standard, centred, moments, quantiles, summary
from ser_pipeline.model.prosody import DESCRIPTORS, Prosody
from ser_pipeline.model.small import BANDS, Convolution, SmallLayer, SmallMfcc, SmallSpectrogram, SmallSpeech, bands

RATE = 16_000


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def tone(hertz: float, samples: int) -> Tensor:
    """Return a voice-like tone of ten harmonics followed by silence, float32 (1, 48000)."""
    time = torch.arange(samples) / RATE
    signal = torch.zeros(1, 48_000)
    for harmonic in range(1, 11):
        signal[0, :samples] += torch.sin(2 * torch.pi * hertz * harmonic * time) / harmonic
    return signal


def test_frames_that_do_not_count_change_no_statistic() -> None:
    contours, real = torch.randn(2, 5, 40), torch.zeros(2, 1, 40)
    real[..., :25] = 1
    other = contours.clone()
    other[..., 25:] = 1e3
    for of in (summary, centred):
        assert torch.equal(of(contours, real), of(other, real))
    assert torch.equal(quantiles(contours, real, (0.1, 0.5)), quantiles(other, real, (0.1, 0.5)))


def test_moments_are_those_of_the_frames_that_count() -> None:
    contours, real = torch.randn(1, 3, 30), torch.zeros(1, 1, 30)
    real[..., 4:21] = 1
    mean, deviation = moments(contours, real)
    assert torch.allclose(mean, contours[..., 4:21].mean(2), atol=1e-6)
    assert torch.allclose(deviation, contours[..., 4:21].std(2, correction=0), atol=1e-4)


def test_standardised_training_rows_have_zero_mean_and_unit_deviation_and_outliers_are_clipped() -> None:
    rows = torch.randn(200, 4) * torch.tensor([1.0, 10.0, 0.1, 300.0]) + 7
    standard = Standard(4)
    standard.fit([rows[:150], rows[150:]])
    found = standard(rows)
    assert torch.allclose(found.mean(0), torch.zeros(4), atol=1e-2)
    assert torch.allclose(found.std(0), torch.ones(4), atol=2e-2)
    assert standard(rows * 1e6).abs().max() == LIMIT


def test_a_left_out_path_is_whole_in_evaluation_and_a_share_of_one_leaves_it_out_for_good() -> None:
    path = torch.ones(400, 3)
    half = PathDropout(0.5)
    found = half(path)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(found[:, 0], found[:, 2])
    assert torch.equal(half.eval()(path), path)
    assert not PathDropout(1.0).eval()(path).any()


def test_prosody_knows_the_pitch_of_a_tone() -> None:
    prosody = Prosody(RATE)
    for hertz in (110.0, 220.0, 330.0):
        contours, _, _, voiced = prosody.contours(tone(hertz, 32_000), torch.tensor([32_000]))
        pitch = contours[0, DESCRIPTORS.index("pitch"), 10:80]
        assert voiced[0, 0, 10:80].min() > 0.9
        assert (100 * 2 ** (pitch / 12) - hertz).abs().max() < 0.03 * hertz


def test_prosody_knows_neither_level_nor_padding() -> None:
    prosody, samples = Prosody(RATE), torch.tensor([24_000])
    signal = tone(150.0, 24_000) * torch.linspace(1, 2, 48_000)
    once = prosody(signal, samples)
    noisy_after = signal.clone()
    noisy_after[:, 24_000:] = 5.0
    assert torch.allclose(prosody(signal * 0.2, samples), once, atol=1e-3)
    assert torch.equal(prosody(noisy_after, samples), once)
    assert once.shape == (1, prosody.size)


def test_silence_and_a_segment_of_a_few_samples_give_finite_prosody() -> None:
    prosody = Prosody(RATE)
    assert prosody(torch.zeros(2, 48_000), torch.tensor([48_000, 5])).isfinite().all()


def test_small_encoders_of_frames_do_not_see_padding() -> None:
    settings = load("scratch").model
    mfcc = torch.randn(2, 300, 40)
    mfcc[:, 120:] = 0
    encoder = SmallMfcc(40, settings, 100.0).eval()
    assert torch.allclose(encoder(mfcc), encoder(mfcc[:, :160]), atol=1e-5)
    level = torch.randint(1, 255, (2, 200, 300)).float()
    level[..., 120:] = 0
    encoder = SmallSpectrogram(bands(200, BANDS, 20.0), settings, 100.0).eval()
    assert torch.allclose(encoder(level), encoder(level[..., :160]), atol=1e-4)


def test_small_speech_gives_the_same_frames_whatever_comes_after_the_speech() -> None:
    encoder = SmallSpeech(32, 1, 0.0, Audio()).eval()
    samples = torch.tensor([24_000])
    signal = torch.randn(1, 48_000)
    other = signal.clone()
    other[:, 24_000:] = 0.3
    first, second = encoder(signal, samples), encoder(other, samples)
    there = first.real[0] == 1
    assert 0 < there.sum() < len(there)
    assert torch.allclose(first.frames[:, there], second.frames[:, there], atol=1e-5)
    assert torch.allclose(first.mean(), second.mean(), atol=1e-5)
    assert first.frames.shape[1] == encoder.frames(48_000)


@pytest.mark.parametrize("kind", ["relu", "softmax"])
def test_padding_gets_no_attention(kind: str) -> None:
    config = load("demo", overrides=[f"model.attention={kind}"])
    batch = segments(3)
    output = model_of(config).eval()(batch)
    encoder = SmallSpeech(32, 0, 0.0, Audio())
    real = encoder(batch["waveform"][:, 1:].float(), batch.samples).real
    assert output.attention is not None
    assert not output.attention[real == 0].any()
    assert output.attention[real == 1].any()


@pytest.mark.parametrize("preset", ["scratch", "demo"])
def test_a_batch_gives_what_its_segments_give_alone(preset: str) -> None:
    model, batch = model_of(load(preset)).eval(), segments(4)
    with torch.no_grad():
        together = model(batch).logits
        alone = torch.cat([model(batch.part(slice(row, row + 1))).logits for row in range(4)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_fitted_statistics_are_in_the_state_and_come_back_with_it() -> None:
    config, batch = load("demo"), segments(6)
    model = model_of(config)
    model.fit_statistics([batch.part(slice(0, 4)), batch.part(slice(4, 6))])
    other = model_of(config)
    assert not torch.equal(other.eval()(batch).logits, model.eval()(batch).logits)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(batch).logits, model(batch).logits)


def test_the_small_mfcc_encoder_reads_levels_and_the_papers_does_not() -> None:
    config, batch = load("demo"), segments(2)
    paper = replace(config, model=replace(config.model, mfcc_encoder="bilstm"))
    for each, level in ((config, True), (paper, False)):
        model = model_of(each)
        norms = model.finished(batch)["mfcc"].norm(dim=2)
        assert (norms > 2).any() == level


def test_every_parameter_gets_a_gradient() -> None:
    model = model_of(load("scratch", overrides=["model.small_drop=0.0", "model.dropout=0.0"]))
    model(segments(4)).logits.square().sum().backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing


def model_of(config: Config) -> SpeechEmotionModel:
    """Return a model of four classes with seeded weights."""
    torch.manual_seed(1)
    return build_model(config.model, audio=config.audio, features=config.features, classes=4)


def segments(size: int) -> Batch:
    """Return random segments; the first is a whole one, and each is shorter than the one before."""
    samples = torch.tensor([48_000 // (1 + row) for row in range(size)], dtype=torch.int32)
    waveform = (torch.randn(size, 48_001) * 3000).short()
    spectrogram = torch.randint(1, 256, (size, 200, 300), dtype=torch.uint8)
    mfcc = torch.randn(size, 300, 40) * 20
    for row, count in enumerate(samples.tolist()):
        waveform[row, 1 + count :] = 0
        frames = min(300, 1 + count // 160)
        spectrogram[row, :, frames:] = 0
        mfcc[row, frames:] = 0
    inputs = {"waveform": waveform, "spectrogram": spectrogram, "mfcc": mfcc.half()}
    return Batch(inputs, samples, torch.arange(size) % 4, torch.arange(size))


@pytest.mark.parametrize("frames", [300, 301, 2, 1])
def test_a_convolution_by_windows_equals_torchs(frames: int) -> None:
    layer, hidden = Convolution(5, 8), torch.randn(2, frames, 5, requires_grad=True)
    real = torch.ones(2, frames, 1)
    real[1, frames // 2 :] = 0
    found, left = layer(hidden, real)
    expected = torch.nn.functional.gelu(layer.norm(layer.convolution(hidden.mT).mT)) * real[:, ::2]
    assert torch.equal(left, real[:, ::2])
    assert torch.allclose(found, expected, atol=1e-6)
    leaves = (hidden, layer.convolution.weight, layer.convolution.bias)
    weight = torch.randn_like(found)
    gradients = [torch.autograd.grad((output * weight).sum(), leaves) for output in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_filter_bank_by_windows_equals_torchs_convolution() -> None:
    model, wave = SmallSpeech(12, 0, 0.0, Audio()), torch.randn(2, 8_123)
    level, real = model.energies(wave, torch.tensor([8_123, 4_000]))
    cosine, sine = torch.nn.functional.conv1d(wave[:, None], model.bank, stride=160).chunk(2, dim=1)
    expected = torch.log(cosine.square() + sine.square() + 1e-4) / model.gain
    expected = (expected - (expected * real).sum(2, keepdim=True) / real.sum(2, keepdim=True)) * real
    assert torch.allclose(level, expected, atol=1e-5)


def test_an_evaluation_computes_what_training_does_to_the_last_bit() -> None:
    encoder = SmallSpeech(width=64, layers=2, dropout=0.0, audio=Audio())
    waveform, samples = torch.cat([tone(120, 48_000), tone(180, 20_000)]), torch.tensor([48_000, 20_000])
    trained = encoder.train()(waveform, samples).frames
    with torch.inference_mode():
        evaluated = encoder.eval()(waveform, samples).frames
    assert torch.equal(trained, evaluated)


@pytest.mark.parametrize(("dropout", "training"), [(0.0, True), (0.3, False)])
def test_a_layer_is_torchs_with_its_first_weights_and_its_gradients(dropout: float, training: bool) -> None:
    torch.manual_seed(1)
    layer = SmallLayer(64, dropout)
    torch.manual_seed(1)
    theirs = torch.nn.TransformerEncoderLayer(64, 2, 128, dropout, activation="gelu", batch_first=True, norm_first=True)
    assert layer.state_dict().keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(layer.state_dict()[name], weight)
    hidden, real = torch.randn(3, 20, 64), torch.arange(20) < torch.tensor([20, 13, 1])[:, None]
    outputs = []
    for one, mask in ((layer, {"real": real}), (theirs, {"src_key_padding_mask": ~real})):
        outputs.append(one.train(training)(hidden, **mask)[real])
        outputs[-1].square().sum().backward()
    assert torch.allclose(*outputs, atol=1e-6)
    for ours, other in zip(layer.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(ours.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_a_layer_drops_attention_both_blocks_and_what_is_between() -> None:
    torch.manual_seed(1)
    layer = SmallLayer(64, 0.3)
    hidden, real = torch.randn(2, 20, 64), torch.ones(2, 20, dtype=torch.bool)
    whole = layer.eval()(hidden, real)
    assert not torch.allclose(layer.train()(hidden, real), whole)
    parts = {part.p for part in (layer.dropout, layer.dropout1, layer.dropout2)} | {layer.self_attn.dropout}
    assert parts == {0.3}
    for part in (layer.dropout, layer.dropout1, layer.dropout2):
        part.p = 0.0
    assert not torch.allclose(layer(hidden, real), whole)  # only the attention
    layer.self_attn.dropout = 0.0
    assert torch.allclose(layer(hidden, real), whole, atol=1e-6)
