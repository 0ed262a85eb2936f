"""Row-by-row training on the CPU gives the plain model's results, and a row's random draws depend on it alone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ser_pipeline import config as settings
from ser_pipeline.arrays import Rows
from ser_pipeline.config import Audio, Config
from ser_pipeline.data.batch import Batch
from ser_pipeline.device import autocasting
from ser_pipeline.model import SpeechEmotionModel, build_model
from ser_pipeline.model.prosody import Prosody
from ser_pipeline.model.silence import until
from ser_pipeline.model.small import SmallSpectrogram
from ser_pipeline.splits.folds import Fold
from ser_pipeline.training import rows as kept
from ser_pipeline.training import rowwise
from ser_pipeline.training.context import FoldContext
from ser_pipeline.training.distributed import World
from ser_pipeline.training.rows import Numbered, NumberedSource, draws
from ser_pipeline.training.rowwise import Rowwise, RowwiseForward, fits
from ser_pipeline.training.stage import train
from support.models import followed_by_silence, make_batch
from support.stores import registered

LENGTHS = (20_000, 100, 48_000, 30_000, 47_000, 9_000, 33_000, 21_000)
CHANGES = ["model.small_width=16", "model.width=32", "train.batch=8", "train.epochs=2"]
CPU = torch.device("cpu")


class Held:
    """A source that takes its batches from one batch, as if they were stored."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def batches(self, rows: Rows, size: int) -> Iterator[Batch]:
        for part in torch.split(torch.from_numpy(rows), size):
            yield self.batch.map(lambda column, part=part: column[part])  # type: ignore[misc]


class Stored:
    """The data that a fold reads, for a batch in memory."""

    segments = np.zeros((len(LENGTHS), 3), np.int64)
    manifest = property(lambda self: self)


def configured(*overrides: str) -> Config:
    return settings.load("scratch", None, ["model.segments=1", *CHANGES, *overrides])


def fold_of(config: Config) -> tuple[SpeechEmotionModel, FoldContext, Numbered]:
    """Return a model, a fold, and a batch of all rows."""
    held, data = followed_by_silence(make_batch(len(LENGTHS)), LENGTHS), Stored()
    fold: Any = Fold("a", np.arange(8), np.arange(8), np.arange(8))
    untyped: Any = data
    source = NumberedSource(Held(held))
    context = FoldContext(fold, untyped, source, config, CPU, World(), autocasting(config, CPU))
    torch.manual_seed(0)
    model = build_model(config.model, audio=config.model_audio, features=config.features, classes=4)
    (batch,) = source.batches(np.arange(8), 8)
    assert isinstance(batch, Numbered)
    return model, context, batch


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep results of other tests out of each test."""
    monkeypatch.setattr(rowwise, "_MEMORIES", type(rowwise._MEMORIES)())


@torch.inference_mode()
@pytest.mark.parametrize("more", [(), ("model.attends=false",), ("model.layer_mix=true",)])
def test_an_evaluation_is_the_plain_models(more: tuple[str, ...]) -> None:
    model, context, batch = fold_of(configured(*(part for part in more if "attends" not in part)))
    model.eval()
    plain, found = model(batch), RowwiseForward(Rowwise(model, context), context)(batch)
    for name in ("logits", "w2e", "fused", "attention"):
        torch.testing.assert_close(getattr(found, name), getattr(plain, name), atol=1e-5, rtol=1e-4)


def test_a_step_is_the_plain_models_on_the_changed_rows() -> None:
    """The plain model gives the same loss and gradients for whole rows with the epoch's changes."""
    config = configured("model.dropout=0", "model.small_drop=0", "augment.noise=0.5")
    model, context, batch = fold_of(config)
    own = Rowwise(model, context)
    found = gradients(model, model(batch, None, own.known(batch, 1)).logits, batch.label)
    table = draws(config, 1, len(LENGTHS))
    changed: dict[str, Any] = {}
    samples = batch.samples
    for name in model.encoders:
        parts = []
        for row in range(len(batch)):
            one = own._cut(name, batch, torch.tensor([row]), config.model_audio.segment)
            noisy = bool(table.chosen[row]) and name != "mfcc"
            one = own._changed(one, table, np.array([row]), noise=noisy, longest=config.model_audio.segment)
            parts.append(one)
        changed[name] = torch.cat([part[name] for part in parts])
        samples = torch.cat([part.samples for part in parts])
    plain = batch.changed(changed, samples)
    expected = gradients(model, model(plain).logits, batch.label)
    assert not torch.equal(plain["waveform"], batch["waveform"])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=2e-4, rtol=2e-3, msg=name)


def gradients(model: SpeechEmotionModel, logits: torch.Tensor, label: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the loss and the gradient of every parameter."""
    loss = F.cross_entropy(logits, label)
    model.zero_grad()
    loss.backward()
    found = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    return {"loss": loss.detach(), **found}


def test_a_path_that_is_left_out_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, context, batch = fold_of(configured("model.small_drop=0.5"))
    own, heard = Rowwise(model, context), []
    for encoder in own.encoders.values():
        if hasattr(encoder, "hear"):
            original = encoder.hear
            monkeypatch.setattr(encoder, "hear", lambda wave, n: (heard.append(len(wave)), original(wave, n))[1])  # noqa: B023
    torch.manual_seed(3)
    known = own.known(batch, 0)
    assert known.speech is not None and known.speech.rows is not None
    left_out = set(range(8)) - set(known.speech.rows.tolist())
    assert sum(heard) == len(known.speech.rows) and 0 < len(left_out) < 8
    summary = known.speech.spread(known.speech.mean())
    assert all(not summary[row].any() for row in left_out)


def test_statistics_are_computed_once_for_all_folds_and_alike_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured()
    model, context, batch = fold_of(config)
    seen, forward = [], Prosody.forward
    monkeypatch.setattr(Prosody, "forward", lambda self, x, n: (seen.append(len(x)), forward(self, x, n))[1])
    together = Rowwise(model, context).statistics(batch, 0)
    assert sum(seen) == 8
    again = Rowwise(model, replace(context, config=replace(config, train=replace(config.train, lr=1.0))))
    assert all(torch.equal(rows, together[name]) for name, rows in again.statistics(batch, 0).items())
    assert sum(seen) == 8, "another fold in the process reuses them"
    monkeypatch.setattr(rowwise, "_MEMORIES", type(rowwise._MEMORIES)())
    alone, own = [], Rowwise(model, context)
    for row in reversed(range(8)):
        (one,) = context.source.batches(np.array([row]), 1)
        assert isinstance(one, Numbered)
        alone.append(own.statistics(one, 0))
    for name, rows in together.items():
        assert torch.equal(torch.cat([part[name] for part in reversed(alone)]), rows), name
    assert not torch.equal(own.statistics(batch, 1)["waveform"], together["waveform"]), "another epoch has another draw"


def test_rows_are_read_as_long_as_they_are_once_their_speed_is_changed() -> None:
    config = configured("augment.speed=0.4", "augment.noise=0")
    model, context, batch = fold_of(config)
    own, heard = Rowwise(model, context), {}
    for place, read, samples in own._read("waveform", batch, torch.arange(8), 0, alike=True):
        heard |= {row: (read.shape[1], count) for row, count in zip(place.tolist(), samples.tolist(), strict=True)}
    assert len(heard) == 8
    assert any(count < 0.9 * LENGTHS[row] for row, (_, count) in heard.items()), "some speech is faster"
    for read, count in heard.values():
        assert count <= read <= max(until(0, Audio()), count + rowwise.STEP + 2 * 160)


def test_images_of_all_folds_have_the_same_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, summed_up = [], SmallSpectrogram._summed_up
    monkeypatch.setattr(
        SmallSpectrogram, "_summed_up", lambda self, x, real: (seen.append(len(x)), summed_up(self, x, real))[1]
    )
    model, context, batch = fold_of(configured())
    for low in (0, 9):
        model.fit_scaler("spectrogram", *(torch.full((200,), edge, dtype=torch.uint8) for edge in (low, 200)))
        Rowwise(model, context).statistics(batch, 0)
    assert sum(seen) == 8


def test_noise_of_a_row_does_not_depend_on_how_much_of_it_is_asked_for() -> None:
    short, long = (kept.white(torch.zeros(1, size), [7], [size])[0] for size in (1_000, 1_005))
    assert torch.equal(short[:992], long[:992])


def test_old_statistics_go_when_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MEMORY", 1000)
    memory = kept.StatisticsMemory()
    first = memory.table("first", (10, 15))
    assert memory.table("first", (10, 15)) is first
    memory.table("second", (10, 15))
    assert list(memory.kept) == ["second"]


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ([], True),
        (
            ["augment.speed=0", "augment.gain=0", "augment.noise=0", "augment.frame_masks=0", "augment.bin_masks=0"],
            False,
        ),
        (["model.small_drop=1"], False),
        (["model.pre_emphasis=0.97"], False),
        (["train.precision=bf16"], False),
    ],
)
def test_what_is_trained_row_by_row(overrides: list[str], wanted: bool) -> None:
    model, context, _ = fold_of(configured(*overrides))
    assert fits(model, context) == wanted
    assert not fits(model, replace(context, micro=4))


@pytest.mark.slow(reason="trains folds twice")
def test_weights_do_not_depend_on_how_many_folds_a_process_trains(tmp_path: Path) -> None:
    cache = registered(tmp_path / "cache", speakers=3, takes=2)
    taken = []
    for jobs in (1, 3):
        (run,) = train(
            "emodb",
            preset="scratch",
            overrides=CHANGES,
            device="cpu",
            jobs=jobs,
            cache=cache,
            runs=tmp_path / str(jobs),
        )
        taken.append({file.parent.name: file.read_bytes() for file in run.glob("*/*.safetensors")})
    assert len(taken[0]) == 3
    assert taken[0] == taken[1]
