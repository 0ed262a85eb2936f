from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ser_pipeline.config import Audio, Features, load
from ser_pipeline.inputs import INPUTS
from ser_pipeline.model.inputs import FinishEmbedding, FinishMfcc, FinishSpectrogram, FinishWaveform, Resize
from ser_pipeline.model.paper import IMAGE, AlexNet
from ser_pipeline.model.registry import Sizes, make_finish


def rows(*shape: int, low: int = 0, high: int = 256, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(("bins", "frames"), [(200, 300), (120, 250), (257, 400), (513, 800)])
def test_a_resized_image_equals_pil_bit_for_bit(bins: int, frames: int) -> None:
    level = rows(3, bins, frames)
    ours = Resize(bins, IMAGE[0], flip=True)(Resize(frames, IMAGE[1])(level.int(), 2), 1)
    for image, resized in zip(level.numpy(), ours.numpy(), strict=True):
        expected = Image.fromarray(image[::-1]).resize(IMAGE[::-1], Image.Resampling.BILINEAR)
        assert np.array_equal(resized, np.asarray(expected))


def test_alexnet_reads_three_equal_channels_on_the_scale_of_imagenet() -> None:
    image = AlexNet(200, 300).image(torch.full((1, 200, 300), 255.0))
    assert image.shape == (1, 3, 256, 384)
    assert torch.allclose(
        image[0, :, 0, 0], torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    )


def test_a_waveform_has_zero_mean_and_unit_variance_as_in_transformers() -> None:
    from transformers import Wav2Vec2FeatureExtractor

    raw = rows(2, 1601, low=-9000, high=9000, dtype=torch.int16)
    raw[1, 900:] = 0
    ours = FinishWaveform()(raw, torch.tensor([1600, 899]))
    expected = Wav2Vec2FeatureExtractor(return_attention_mask=False)(
        list(raw[:, 1:].numpy() / 32768), sampling_rate=16_000
    )["input_values"]
    assert torch.allclose(ours, torch.from_numpy(np.stack(expected)).float(), atol=2e-5)


def test_silence_stays_finite() -> None:
    ours = FinishWaveform()(torch.zeros(1, 1601, dtype=torch.int16), torch.tensor([0]))
    assert torch.equal(ours, torch.zeros(1, 1600))


def test_pre_emphasis_uses_the_sample_before_the_segment_and_leaves_padding_silent() -> None:
    raw = torch.tensor([[1000, 2000, 500, 0, 0]], dtype=torch.int16)
    ours = FinishWaveform(pre_emphasis=0.97)(raw, torch.tensor([2]))
    plain = torch.tensor([2000 - 0.97 * 1000, 500 - 0.97 * 2000, 0.0, 0.0]) / 32768
    expected = (plain - plain.mean()) / torch.sqrt(plain.var(correction=0) + 1e-7)
    assert torch.allclose(ours[0], expected, atol=1e-5)


def test_front_padding_moves_the_samples_to_the_end() -> None:
    raw = torch.tensor([[0, 3, 4, 0, 0], [0, 1, 2, 3, 4]], dtype=torch.int16)
    front = FinishWaveform(pad_front=True)(raw, torch.tensor([2, 4]))
    back = FinishWaveform()(raw, torch.tensor([2, 4]))
    assert torch.allclose(front[0], back[0].roll(2)) and torch.allclose(front[1], back[1])


def test_extremes_of_the_full_scale_leave_a_spectrogram_as_it_is() -> None:
    level = torch.arange(256, dtype=torch.uint8).repeat(2, 1)[None]
    assert torch.equal(FinishSpectrogram(Audio(), 2)(level, torch.tensor([48_000])), level.float())


def test_a_spectrogram_is_scaled_to_the_extremes_of_the_training_rows() -> None:
    low, high = rows(200, high=100), rows(200, low=150)
    finish = FinishSpectrogram(Audio(), 200)
    finish.fit(low, high)
    level = rows(2, 200, 300)
    ours = finish(level, torch.tensor([48_000, 48_000])).numpy()
    first, last = (extreme.numpy().astype(int)[:, None] for extreme in (low, high))
    first, last = 2 * first + (first > 0), 2 * last + (last < 255)  # in half levels
    expected = (2 * level.numpy().astype(int) + 1 - first) * 255 // (last - first)
    assert np.array_equal(ours, expected.clip(0, 255))
    assert {"minimum", "maximum"} <= set(finish.state_dict())


def test_where_images_are_not_rescaled_no_extremes_are_kept() -> None:
    """Everything computed from them is then the same in all folds."""
    sizes = Sizes(Audio(), Features(), False, None)
    settings = load("scratch").model
    finish: Any = make_finish(INPUTS["spectrogram"], settings, sizes)
    finish.fit(rows(200, high=100), rows(200, low=150))
    level = rows(2, 200, 300)
    assert torch.equal(finish(level, torch.tensor([48_000, 48_000])), level.float())
    assert not finish.minimum.any() and (finish.maximum == 255).all()


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_bin_without_contrast_is_black(level: int) -> None:
    finish = FinishSpectrogram(Audio(), 1)
    row = torch.full((1, 1, 4), level, dtype=torch.uint8)
    finish.fit(row[0, :, 0], row[0, :, 0])
    assert not finish(row, torch.tensor([48_000])).any()


@pytest.mark.parametrize(("samples", "present"), [(0, 1), (159, 1), (160, 2), (16_000, 101), (48_000, 300)])
def test_loud_padding_starts_after_the_frames_that_are_present(samples: int, present: int) -> None:
    grey = torch.zeros(1, 2, 300, dtype=torch.uint8)
    level = FinishSpectrogram(Audio(), 2, pad_loud=True)(grey, torch.tensor([samples]))
    assert (level[0, 0] == 0).sum() == present and (level[0, :, present:] == 255).all()


def test_mfcc_frames_have_unit_length_and_padding_stays_zero() -> None:
    mfcc = torch.randn(1, 4, 40).half() * 50
    mfcc[0, 3] = 0
    finished = FinishMfcc()(mfcc)
    assert finished.dtype == torch.float32
    assert torch.allclose(finished.norm(dim=2), torch.tensor([[1.0, 1.0, 1.0, 0.0]]))


def test_stored_frames_are_normalised_where_the_settings_say_so() -> None:
    frames = (torch.randn(2, 3, 8) * torch.tensor([1.0, 300.0] * 4)).half()
    assert torch.equal(FinishEmbedding()(frames), frames.float())
    made = FinishEmbedding(normalise=True)(frames)
    torch.testing.assert_close(made.mean(-1), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(made.std(-1, correction=0), torch.ones(2, 3), atol=1e-3, rtol=0)
