import copy
import gc
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn

from ser_pipeline.data.batch import Batch
from ser_pipeline.model.fast import PLAIN, FastPaths, accelerate
from ser_pipeline.model.fast.convolutions import (
    FeatureEncoder,
    PositionalConvolution,
    fourier_convolution,
    weight_normed,
)
from ser_pipeline.model.fast.dropout import Dropout
from ser_pipeline.model.fast.graph import WARM_UP, Captured
from ser_pipeline.model.fast.images import convolved
from ser_pipeline.model.fast.layers import FusedLayer, kernel_forward, layer_forward, takes_kernels, weighted
from ser_pipeline.model.fast.lstm import fits, fused_lstm
from ser_pipeline.model.paper import AlexNet, plain_convolutions
from ser_pipeline.model.small import SmallLayer
from ser_pipeline.training.scoring import Forward
from support.models import make_batch, small_model
from support.places import TESTS
from support.speech_models import MODELS, make

CPU = torch.device("cpu")
NAMES = ("waveform", "spectrogram", "mfcc")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def with_speech(name: str, mask_padding: bool = False, **changes: object) -> torch.nn.Module:
    speech = make(name, **changes)
    settings = {"speech_encoder": "named", "spec_augment": False, "mask_padding": mask_padding}
    model = small_model(speech_settings=speech.config.to_dict(), **settings)
    model.encoders["waveform"].model.load_state_dict(speech.state_dict())
    return model


@pytest.mark.parametrize("samples", [8_000, 8_123])
@pytest.mark.parametrize("name", MODELS)
def test_fast_encoders_equal_those_of_transformers(name: str, samples: int) -> None:
    plain = make(name).eval()
    model = with_speech(name)
    keys = list(model.state_dict())
    encoder = accelerate(model, CPU, half=False).encoders["waveform"].eval()
    parts = encoder.model.feature_extractor, encoder.model.encoder.pos_conv_embed, encoder.model.encoder.layers[0]
    assert [type(part) for part in parts] == [FeatureEncoder, PositionalConvolution, FusedLayer]
    assert list(model.state_dict()) == keys
    wave = torch.randn(2, samples) * 3
    expected, frames = plain(wave).last_hidden_state, encoder(wave)
    assert torch.allclose(frames, expected, atol=2e-5, rtol=1e-4)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (frames * weight).sum().backward()
    gradients = {key: p.grad for key, p in plain.named_parameters() if p.grad is not None}
    largest = max(float(gradient.norm()) for gradient in gradients.values())
    for key, parameter in encoder.model.named_parameters():
        assert (parameter.grad is None) == (key not in gradients)
        if key in gradients:
            off = float((parameter.grad - gradients[key]).norm())
            assert off < 1e-3 * float(gradients[key].norm()) + 1e-6 * largest, key


@pytest.mark.parametrize("name", MODELS)
def test_fast_encoders_keep_padding_out_as_the_plain_ones_do(name: str) -> None:
    plain, fast = (with_speech(name, mask_padding=True) for _ in range(2))
    encoders = [model.encoders["waveform"].eval() for model in (plain, accelerate(fast, CPU, half=False))]
    assert type(encoders[1].model.encoder.layers[0]) is FusedLayer
    wave, lengths = torch.randn(3, 8_000), torch.tensor([8_000, 5_123, 900])
    wave = wave * (torch.arange(8_000) < lengths[:, None])
    (expected, real), (frames, found) = (encoder.hear(wave, lengths) for encoder in encoders)
    assert torch.equal(real, found) and not real.all()
    assert torch.allclose(frames[real], expected[real], atol=2e-5, rtol=1e-4)
    weight = torch.randn_like(expected) * real[..., None]
    for hidden in (expected, frames):
        (hidden * weight).sum().backward()
    gradients = [dict(encoder.model.named_parameters()) for encoder in encoders]
    largest = max(float(parameter.grad.norm()) for parameter in gradients[0].values() if parameter.grad is not None)
    for key, parameter in gradients[0].items():
        if parameter.grad is not None:
            off = float((gradients[1][key].grad - parameter.grad).norm())
            assert off < 1e-3 * float(parameter.grad.norm()) + 1e-6 * largest, key


def test_a_layer_that_is_not_known_is_left_as_it_is() -> None:
    model = with_speech("wav2vec2-large", adapter_attn_dim=8)
    layer = accelerate(model, CPU, half=False).encoders["waveform"].model.encoder.layers[0]
    assert type(layer).__name__ == "Wav2Vec2EncoderLayerStableLayerNorm"


@pytest.mark.parametrize(("frames", "kernel"), [(149, 128), (20, 16), (40, 19), (30, 5)])
def test_a_convolution_by_fourier_transforms_equals_torchs(frames: int, kernel: int) -> None:
    hidden, weight = torch.randn(2, frames, 12), torch.randn(12, 3, kernel)
    expected = nn.functional.conv1d(hidden.mT, weight, padding=kernel // 2, groups=4).mT[:, :frames]
    assert torch.allclose(fourier_convolution(hidden, weight, 4), expected, atol=1e-4)


def test_a_copy_of_a_fast_model_gives_the_same() -> None:
    model = accelerate(with_speech("wav2vec2"), CPU, half=False).eval()
    batch = make_batch(2)
    assert torch.equal(model(batch).logits, copy.deepcopy(model)(batch).logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fast_dropout_silences_a_share_and_enlarges_the_rest(dtype: torch.dtype) -> None:
    layer, ones = Dropout(0.1), torch.ones(3, 33_331, dtype=dtype, requires_grad=True)
    torch.manual_seed(0)
    dropped = layer(ones)
    (gradient,) = torch.autograd.grad(dropped.sum(), ones)
    kept = dropped != 0
    assert 0.897 < float(kept.float().mean()) < 0.903
    assert [float(row.float().mean()) for row in kept] == pytest.approx([0.9] * 3, abs=0.01)
    torch.testing.assert_close(dropped[kept], torch.full_like(dropped[kept], 1 / 0.9), rtol=1e-2, atol=0)
    assert torch.equal(gradient, dropped)
    neighbours = (kept[:, 1:] & kept[:, :-1]).float().mean()
    assert float(neighbours) == pytest.approx(0.81, abs=0.01)  # neighbours are independent
    torch.manual_seed(0)
    assert torch.equal(layer(ones), dropped)
    assert not torch.equal(layer(ones), dropped)
    assert torch.equal(layer.eval()(ones), ones)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_fast_dropout_of_nothing_and_of_all_is_torchs(share: float) -> None:
    assert torch.equal(Dropout(share)(torch.ones(5)), torch.full((5,), 1 - share))


def test_on_the_cpu_every_dropout_is_the_fast_one() -> None:
    model = with_speech("wav2vec2")
    keys = list(model.state_dict())
    found = [module for module in accelerate(model, CPU, half=False).modules() if isinstance(module, nn.Dropout)]
    assert len(found) > 10
    assert {type(module) for module in found} == {Dropout}
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_dropout_equals_torchs_but_for_what_is_dropped(
    monkeypatch: pytest.MonkeyPatch, masked: bool
) -> None:
    query, key, value = torch.randn(3, 2, 4, 10, 8)
    mask = torch.randn(2, 4, 10, 10) if masked else None
    shares: list[float] = []
    monkeypatch.setattr("ser_pipeline.model.fast.layers.drop", lambda rows, share: shares.append(share) or rows)
    expected = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert torch.allclose(weighted(query, key, value, mask, 0.1), expected, atol=1e-6)
    assert shares == [0.1]


def test_attention_with_dropout_keeps_to_the_frames_that_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ser_pipeline.model.fast.layers.drop", lambda rows, share: rows)
    query, key, value = torch.randn(3, 2, 2, 20, 8)
    heard = (torch.arange(20) < torch.tensor([20, 13])[:, None])[:, None, None]
    expected = nn.functional.scaled_dot_product_attention(query, key, value, heard)
    assert torch.allclose(weighted(query, key, value, heard, 0.1), expected, atol=1e-6)


def test_on_the_cpu_the_small_encoders_layers_drop_by_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = accelerate(small_model(), CPU, half=False)
    dropped: list[float] = []
    monkeypatch.setattr("ser_pipeline.model.fast.layers.drop", lambda rows, share: dropped.append(share) or rows)
    layers = [module for module in model.modules() if isinstance(module, SmallLayer)]
    hidden, heard = torch.randn(2, 5, layers[0].norm1.normalized_shape[0]), torch.ones(2, 5, dtype=torch.bool)
    layers[0].self_attn.dropout = 0.1
    layers[0].train()(hidden, heard)
    assert dropped == [0.1]
    layers[0].eval()(hidden, heard)
    assert dropped == [0.1]


def test_kernels_equal_torchs_modules(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    code = TESTS / "support" / "kernels_interpreted.py"
    done = subprocess.run(
        [sys.executable, code], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_weight_norm_by_plain_operations_equals_torchs() -> None:
    convolution = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 12, 5, groups=2), dim=2)
    parts = convolution.parametrizations.weight
    nn.init.normal_(parts.original0)
    assert torch.allclose(weight_normed(parts.original0, parts.original1), convolution.weight, atol=1e-6)


def test_alexnets_convolution_of_one_grey_channel_equals_that_of_three() -> None:
    torch.manual_seed(0)
    model = AlexNet(20, 30)
    level, weight = torch.randint(0, 256, (2, 20, 30)), torch.randn(2, model.size)
    results = []
    for convolve in (plain_convolutions, convolved):
        model.convolve = convolve
        output = model(level)
        results.append([output, *torch.autograd.grad((output * weight).sum(), list(model.parameters()))])
    for theirs, ours in zip(*([part.detach() for part in parts] for parts in results), strict=True):
        assert float((ours - theirs).norm()) < 1e-5 * float(theirs.norm())


def test_what_cannot_take_the_kernels_runs_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ser_pipeline.model.fast.layers.HEADS", (12,))  # heads of the models in these tests
    lstm, frames = nn.LSTM(8, 16, 2, batch_first=True, bidirectional=True), torch.randn(2, 5, 8)
    assert fits(lstm) and torch.equal(fused_lstm(lstm, frames), lstm(frames)[0])
    assert not fits(nn.LSTM(8, 16, batch_first=True)) and not fits(nn.LSTM(8, 17, batch_first=True, bidirectional=True))
    for name in MODELS:
        encoder = accelerate(with_speech(name), CPU, half=False).encoders["waveform"].eval()
        layer = encoder.model.encoder.layers[0]
        assert takes_kernels(layer) == (not layer.stable and not layer.gated)
        hidden = torch.randn(2, 5, layer.layer_norm.normalized_shape[0])
        if not layer.gated:
            assert torch.equal(kernel_forward(layer, hidden, None), layer_forward(layer, hidden, None))


@needs_cuda
def test_on_a_cuda_device_half_precision_is_as_near_to_float32_as_the_plain_model() -> None:
    device = torch.device("cuda")
    logits = {}
    for name, half, paths in (
        ("exact", False, PLAIN),
        ("plain", True, PLAIN),
        ("fast", True, FastPaths(compiled=False)),
    ):
        torch.manual_seed(0)
        model = accelerate(with_speech("wav2vec2").to(device), device, half=half, paths=paths).eval()
        batch = make_batch(4, device)
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            logits[name] = model(batch).logits.float()
    off = {name: float((value - logits["exact"]).norm()) for name, value in logits.items()}
    assert off["fast"] < 2 * off["plain"] + 1e-4


@needs_cuda
def test_a_captured_step_equals_the_step() -> None:
    device = torch.device("cuda")
    losses = []
    for captured in (False, True):
        torch.manual_seed(0)
        model = small_model().to(device).eval()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True, capturable=True)

        def step(*parts, model=model, optimiser=optimiser):  # type: ignore[no-untyped-def]
            batch = Batch.of(NAMES, parts)
            optimiser.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(model(batch).logits, batch.label)
            loss.backward()
            optimiser.step()
            return loss.detach()

        taken = Captured(step, "steps") if captured else step
        sizes = [4, 4, 4, 4, 4, 3, 4]
        losses.append([float(taken(*replace_labels(make_batch(size, device)).tensors())) for size in sizes])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@needs_cuda
def test_an_evaluation_from_a_graph_equals_the_model_as_its_weights_are_now() -> None:
    device = torch.device("cuda")
    model = small_model().to(device)
    pool = torch.cuda.graph_pool_handle()
    forward, plain = Forward(model, nullcontext, pool), Forward(model, nullcontext)
    with torch.inference_mode():
        for size in (4, 4, 4, 4, 3, 4, 4):
            batch = make_batch(size, device)
            for one, other in zip(forward(batch), plain(batch), strict=True):
                assert torch.allclose(one, other, atol=1e-5)
            model.train()
            for parameter in model.parameters():
                parameter.mul_(0.9)


@needs_cuda
def test_steps_that_are_gone_leave_no_memory_behind() -> None:
    device = torch.device("cuda")
    kept = []
    for _ in range(4):
        model, batch = small_model().to(device), make_batch(4, device)

        def step(*parts, model=model):  # type: ignore[no-untyped-def]
            model.zero_grad(set_to_none=True)
            loss = model(Batch.of(NAMES, parts)).logits.sum()
            loss.backward()
            return loss.detach()

        taken = Captured(step, "steps", pool=torch.cuda.graph_pool_handle())
        for _ in range(WARM_UP + 2):
            taken(*batch.tensors())
        del model, batch, step, taken
        gc.collect()
        torch.cuda.empty_cache()
        kept.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    assert kept[1:] == [kept[1]] * 3


def replace_labels(batch):  # type: ignore[no-untyped-def]
    labels = torch.arange(len(batch), device=batch.label.device) % 4
    return Batch(batch.inputs, batch.samples, labels, batch.utterance)
