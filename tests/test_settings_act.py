"""A setting has an effect everywhere or is refused with one line, even where code used to assume the paper's values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ser_pipeline import config
from ser_pipeline.audit.corpus import audit
from ser_pipeline.config import Audio
from ser_pipeline.corpora import read_corpus
from ser_pipeline.data.augment import augment
from ser_pipeline.data.batch import Batch
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.acoustic import spectrogram_rows
from ser_pipeline.features.embeddings import open_embedder
from ser_pipeline.model import build_model
from ser_pipeline.model.contours import RHYTHM, rhythm, trend
from ser_pipeline.model.needs import require_needs
from ser_pipeline.model.prosody import Prosody
from ser_pipeline.model.small import BANDS, SmallSpeech, bands
from ser_pipeline.report import figures, gallery
from ser_pipeline.report.contents import Choice, make_report
from ser_pipeline.report.drawing import Picture, Plan
from support.run_folders import Planted, people, write_examples, write_run
from support.sounds import tone, write_emodb
from support.speech_models import write_encoder


@pytest.mark.parametrize("hertz", [20.0, 10.0, 31.25])
def test_bands_lie_at_the_same_frequencies_whatever_the_bins(hertz: float) -> None:
    centre = bands(round(4_000 / hertz), BANDS, hertz) @ (torch.arange(round(4_000 / hertz)) + 0.5) * hertz
    usual = bands(200, BANDS, 20.0) @ (torch.arange(200) + 0.5) * 20
    assert torch.allclose(centre, usual, atol=1.5 * max(hertz, 20))


@pytest.mark.parametrize("rate", [60.0, 100.0, 200.0, 1000.0])
@pytest.mark.parametrize(("changes", "band"), [(4.0, 1), (12.0, 3)])
def test_a_modulation_is_found_in_its_band_at_any_frame_rate(rate: float, changes: float, band: int) -> None:
    time = torch.arange(round(3 * rate)) / rate
    wave = torch.sin(2 * math.pi * changes * time)[None, None]
    found = rhythm(wave, torch.ones_like(wave), rate)[0]
    assert len(found) == len(RHYTHM)
    assert int(found.argmax()) == band


@pytest.mark.parametrize("rate", [50.0, 100.0, 400.0])
def test_a_slope_is_one_a_second_at_any_frame_rate(rate: float) -> None:
    rising = 2.0 * torch.arange(round(3 * rate))[None, None] / rate
    assert trend(rising, torch.ones_like(rising), rate).item() == pytest.approx(2.0, rel=0.03)


def test_the_small_speech_encoders_frames_follow_hop_and_rate() -> None:
    assert SmallSpeech(8, 0, 0.0, Audio()).frames(48_000) == 75
    assert SmallSpeech(8, 0, 0.0, Audio(hop=80)).frames(48_000) == 149
    half = SmallSpeech(8, 0, 0.0, Audio(rate=8_000, segment=24_000, hop=80))
    assert half.frames(24_000) == 75
    assert half.bank.shape[2] == 200, "25 ms"
    frames = half(torch.randn(1, 24_000), torch.tensor([24_000])).frames
    assert frames.shape[1] == 75


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050])
def test_prosody_of_a_voice_is_alike_at_any_rate(rate: int) -> None:
    def pitch(at: int) -> float:
        time = torch.arange(2 * at) / at
        voice = sum(torch.sin(2 * math.pi * 150 * k * time) / k for k in range(1, 11))
        return float(Prosody(at)(torch.as_tensor(voice)[None], torch.tensor([2 * at]))[0, 0])

    assert pitch(rate) == pytest.approx(pitch(16_000), abs=0.3)


@pytest.mark.parametrize("top_db", [40.0, 80.0, 120.0])
def test_noise_raises_an_image_by_its_own_decibels(top_db: float) -> None:
    chosen = config.load("paper", None, ["augment.noise=1.0", f"features.spectrogram.top_db={top_db}"])
    voice = tone(0, 3.0, 150.0).astype(np.float32)
    rows = torch.from_numpy(spectrogram_rows(voice, chosen.audio, chosen.features.spectrogram)[:1])
    batch = Batch({"spectrogram": rows}, torch.tensor([48_000]), torch.tensor([0]), torch.tensor([0]))

    def power(images: torch.Tensor) -> float:
        return float((10 ** (images.double() / 255 * top_db / 10)).mean())

    torch.manual_seed(0)
    after = augment(batch, chosen)["spectrogram"]
    added = 10 * math.log10(power(after) / power(rows) - 1)
    assert -31 < added < -9, "10 to 30 dB under the mean power"


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ("audio.hop=400", "gives 40 frames per second, .* changes of up to 30 Hz, .* the nearest is audio.hop=250$"),
        ("audio.segment=480", "480 samples are too short .* reads 40 ms .* the nearest is audio.segment=640$"),
        ("model.small_layers=1 model.small_width=65", "cannot be divided into heads .* the nearest is .*=64$"),
        ("model.pad_front=true", "needs speech at the segment's start; the nearest is model.pad_front=false$"),
        ("model.pad_loud=true", "encoder of spectrogram mistakes loud padding .* the nearest is model.pad_loud=false$"),
        (
            "model.mfcc_encoder=bilstm model.lstm_width=2048 model.width=4096",
            "300 frames .* layer of 5033164800 weights, more than 268435456; the nearest is model.lstm_width=109$",
        ),
    ],
)
def test_what_an_encoder_cannot_follow_is_refused_with_the_nearest_that_it_can(pairs: str, said: str) -> None:
    overrides = pairs.split()
    with pytest.raises(PipelineError, match=said) as caught:
        require_needs(config.load("demo", None, overrides))
    require_needs(config.load("demo", None, [*overrides, str(caught.value).rpartition("the nearest is ")[2]]))


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (
            "model.mask_padding=true model.pad_front=true",
            "needs the audio at the segment's start; the nearest is model.pad_front=false$",
        ),
        (
            'model.mask_padding=true model.inputs=["embedding"]',
            "model.mask_padding applies to an encoder that runs .*, set features.embedding.mask_padding$",
        ),
        ('model.speech_window=30s model.inputs=["embedding"]', "for stored frames, set features.embedding.window$"),
    ],
)
def test_what_keeps_padding_out_is_refused_where_it_cannot_act(pairs: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        require_needs(config.load("paper", None, pairs.split(" ")))


def test_padding_is_heard_as_the_paper_has_it_and_kept_out_of_fine_tuning() -> None:
    masked = {name: config.load(name).model.mask_padding for name in ("paper", "reference", "finetune")}
    assert masked == {"paper": False, "reference": False, "finetune": True}


def test_what_the_small_encoders_need_is_no_matter_to_others() -> None:
    require_needs(config.load("paper", None, ["audio.hop=400", "model.pad_front=true", "model.pad_loud=true"]))


@pytest.mark.parametrize("pairs", ["audio.rate=8000 audio.segment=24000 audio.hop=80", "audio.hop=240"])
def test_a_small_model_of_other_frames_is_built_with_them(pairs: str) -> None:
    chosen = config.load("demo", None, pairs.split())
    model = build_model(chosen.model, audio=chosen.model_audio, features=chosen.features, classes=2)
    assert {model.encoders[name].rate for name in ("mfcc", "spectrogram")} == {chosen.audio.frame_rate}
    hertz = chosen.features.spectrogram.bin_hertz(chosen.audio.rate)
    assert torch.equal(model.encoders["spectrogram"].pool, bands(200, BANDS, hertz))


def test_the_audit_counts_what_is_shorter_than_a_segment(tmp_path: Path) -> None:
    utterances = read_corpus("emodb", write_emodb(tmp_path, speakers=2, takes=1))

    def said(**more: float) -> str:
        found = {finding.name: finding.message for finding in audit(utterances, tmp_path, **more)}  # type: ignore[arg-type]
        return found["durations"]

    assert said().endswith("100.0 % under 3 s")
    assert said(segment=1.06).endswith("50.0 % under 1.06 s")


@pytest.mark.slow(reason="draws the figures of a report")
def test_the_report_follows_the_settings_of_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    who, drawn = people(each=16), []
    attention, render = figures.attention, gallery.render

    def told(*args: Any, **scale: Any) -> Any:
        drawn.append(scale | {"frame": round(scale["length"] / args[1].shape[1], 9)})
        return attention(*args, **scale)

    def of_attention(plan: Plan, folder: Path) -> Picture | None:
        return render(plan, folder) if plan.id == "attention" else None

    monkeypatch.setattr(figures, "attention", told)
    monkeypatch.setattr(gallery, "render", of_attention)  # other figures do not depend on these settings
    pairs = ("audio.rate=8000", "audio.segment=20000", "audio.hop=50", "features.spectrogram.n_fft=500")
    parts = []
    for overrides in ((), (*pairs, "features.spectrogram.window=400")):
        place = tmp_path / str(len(overrides))
        run = write_run(place, who, Planted(embeddings=True, overrides=overrides))
        for fold in run.glob("*/segments.npz"):
            write_examples(fold.parent, [0, 5, 9], np.random.default_rng(0))
        report = make_report(place, Choice())
        parts.append([part.name for part in report.experiments[0].results["full"].parts["duration"]])
        assert len(gallery.pictures(report, place / "figures")) == 1
    assert parts[0][:2] == ["0 to 2 s", "2 to 3 s"]
    assert parts[1][:3] == ["0 to 2 s", "2 to 2.5 s", "2.5 to 5 s"]
    scales = [{name: scale[name] for name in ("frame", "top", "unit")} for scale in (drawn[0], drawn[-1])]
    assert scales[0] == {"frame": 0.01, "top": 4.0, "unit": "kHz"}
    assert scales[1] == {"frame": 0.00625, "top": 3.2, "unit": "kHz"}


def test_embeddings_are_made_at_the_rate_that_their_encoder_reads(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 16000}')
    pairs = [f"features.embedding.encoder={folder}", "audio.rate=8000", "audio.segment=24000"]
    with pytest.raises(PipelineError, match=r"reads audio at 16000 Hz .* is at 8000 Hz"):
        open_embedder(config.load("paper", None, pairs), torch.device("cpu"))
