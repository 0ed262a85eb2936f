"""Folders of recordings: decoded in advance, predicted in batches across files, in order."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ser_pipeline import PipelineError, config
from ser_pipeline.device import precision
from ser_pipeline.features.rendering import Renderer
from ser_pipeline.model.fast import accelerate
from ser_pipeline.predict import ahead, decoders, graphs
from ser_pipeline.predict.answers import Answer, Unanswered
from ser_pipeline.predict.asking import Beside
from ser_pipeline.predict.device_rows import DeviceRows
from ser_pipeline.predict.excerpts import Excerpt
from ser_pipeline.predict.front import FrontEnd, Piece, StoredRows
from ser_pipeline.predict.graphs import Graphed
from ser_pipeline.predict.models import in_half
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.predict.recordings import Decoded, Opened, Track
from support.models import make_batch, small_model
from support.sounds import tone, write_wav

RATE = 16_000
LABELS = ("a", "b")
CPU = torch.device("cpu")


class Levels:
    """A front end and a scorer: segments of a second, with log-probabilities that depend on their loudness."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.batches: list[int] = []

    def rows(self, excerpts: Iterator[Excerpt]) -> Iterator[tuple[Excerpt, Piece]]:
        for excerpt in excerpts:
            starts = range(0, len(excerpt), RATE)
            loud = [np.abs(excerpt.read(first, min(first + RATE, len(excerpt)))).max() for first in starts]
            yield excerpt, Piece({"level": np.array(loud)[:, None]}, np.full(len(loud), RATE), max(loud), last=True)

    def __call__(self, rows: dict[str, np.ndarray], samples: np.ndarray) -> np.ndarray:
        self.batches.append(len(samples))
        share = 0.25 + rows["level"] / 2
        return np.log(np.concatenate([share, 1 - share], 1)).astype(np.float32)[None]


class LevelsElsewhere(Levels):
    """The same on a device that gets batches in advance."""

    ahead = 2

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.events: list[tuple[str, int]] = []

    def begin(self, rows: dict[str, np.ndarray], samples: np.ndarray) -> Callable[[], np.ndarray]:
        number, found = len(self.batches), self(rows, samples)
        self.events.append(("begun", number))

        def wait() -> np.ndarray:
            self.events.append(("awaited", number))
            return found

        return wait


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Write 20 recordings of 0.5 to 3.4 s, each louder than the one before; the eighth is not audio."""
    place = tmp_path_factory.mktemp("folder")
    for number in range(20):
        samples = tone(number, 0.5 + number * 0.15, 200)
        write_wav(place / f"{number:02}.wav", (0.05 + 0.04 * number) * samples / np.abs(samples).max())
    (place / "07.wav").write_bytes(b"words")
    return sorted(map(str, place.iterdir()))


def asked(scorer: Levels) -> Predictor:
    front: FrontEnd = scorer.rows  # type: ignore[assignment]
    return Predictor(LABELS, RATE, 1.0, front, scorer, ("1",))


@pytest.mark.parametrize("kind", [Levels, LevelsElsewhere])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_answers_are_in_order_whatever_the_batch(kind: type[Levels], size: int, folder: list[str]) -> None:
    scorer = kind(size)
    found = list(asked(scorer).each(folder))
    assert [one.file for one in found] == folder
    assert isinstance(found[7], Unanswered) and "not readable audio" in found[7].error
    alone = [asked(Levels(1))(file) for file in folder if file != folder[7]]
    assert [one for one in found if isinstance(one, Answer)] == alone
    shares = [one.probabilities["a"] for one in alone]
    assert shares == sorted(shares) and len(set(shares)) == 19
    assert set(scorer.batches[:-1]) <= {size} and 0 < scorer.batches[-1] <= size, "batches are filled across recordings"


def test_a_device_is_given_batches_before_the_first_is_awaited(folder: list[str]) -> None:
    scorer = LevelsElsewhere(5)
    assert isinstance(scorer, Beside)
    list(asked(scorer).each(folder))
    last = len(scorer.batches)
    begun = [scorer.events.index(("begun", number)) for number in range(last)]
    awaited = [scorer.events.index(("awaited", number)) for number in range(last)]
    assert awaited == sorted(awaited)
    assert all(begun[number + 2] < awaited[number] < begun[number + 3] for number in range(last - 3))


@pytest.mark.parametrize(("many", "size", "most"), [(3, 1 << 30, 4), (256, 1, 2)])
def test_no_more_is_decoded_ahead_than_fits(
    many: int, size: int, most: int, folder: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "MANY", many)
    monkeypatch.setattr(ahead, "BYTES", size)
    taken: list[str] = []

    def sources() -> Iterator[str]:
        for file in folder:
            taken.append(file)
            yield file

    for number, held in enumerate(ahead.in_order(sources(), RATE, "mix"), 1):
        assert len(taken) - number <= most
        held.closing.close()
    assert taken == folder


def test_who_stops_early_leaves_nothing_open(folder: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Decoded] = []
    closed: list[Decoded] = []
    begin, close = Decoded.__init__, Decoded.close
    monkeypatch.setattr(Decoded, "__init__", lambda self, parts: (made.append(self), begin(self, parts))[1])
    monkeypatch.setattr(Decoded, "close", lambda self: (closed.append(self), close(self))[1])
    answers = asked(Levels(2)).each(folder)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert made and {id(one) for one in made} == {id(one) for one in closed}


def told(one: ahead.Held) -> Any:
    """Return all contents of a recording, and close it."""
    with one.closing:
        if isinstance(one.recording, Unanswered):
            return one.recording
        tracks = [
            (track.channel, track.samples.read(0, track.samples.count).tolist()) for track in one.recording.tracks
        ]
        return one.recording.name, one.recording.digest, tracks, one.recording.notes


@pytest.mark.skipif(not decoders.SHARED.is_dir(), reason="this system has no shared memory files")
def test_processes_decode_what_this_one_would(folder: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "FILES", 20)
    monkeypatch.setattr(decoders, "CHUNK", 3)
    monkeypatch.setattr(decoders, "cores", lambda: 3)
    monkeypatch.setattr(decoders, "in_order", lambda *_: pytest.fail("decoded here"))
    before = set(decoders.SHARED.glob("ser-pipeline-*"))
    chosen = decoders.held(folder, RATE, "split", fast=True)
    found = list(map(told, chosen))
    assert found == [told(ahead.decoded(file, RATE, "split")) for file in folder]
    assert [track[0] for track in found[0][2]] == [1]
    assert set(decoders.SHARED.glob("ser-pipeline-*")) <= before, "nothing is left behind"


def test_what_does_not_fit_into_a_slot_is_decoded_here(folder: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    memory = np.zeros((1, 30_000), np.float32)
    monkeypatch.setattr(decoders, "_mapped", lambda place: memory)
    found = decoders.decode(decoders.Chunk(0, "", 0, tuple(folder[:8]), RATE, "mix"))
    assert [type(one).__name__ for one in found] == ["Lying", "Lying", *["NoneType"] * 5, "Unanswered"]
    assert [one.tracks for one in found[:2]] == [((None, 0, 8_000),), ((None, 8_000, 10_400),)]
    with (one := ahead.decoded(folder[1], RATE, "mix")).closing:
        np.testing.assert_array_equal(memory[0, 8_000:18_400], one.recording.tracks[0].samples.read(0, 10_400))


@pytest.mark.parametrize("why", ["no memory", "few files", "a plain device", "standard input"])
def test_else_threads_decode(why: str, folder: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "FILES", 99 if why == "few files" else 20)
    monkeypatch.setattr(decoders, "cores", lambda: 3)
    if why == "no memory":
        monkeypatch.setattr(decoders, "SLOT", 1 << 50)
    monkeypatch.setattr(decoders, "spread", lambda *_: pytest.fail("processes were begun"))
    sources = [*folder[:-1], "-"] if why == "standard input" else folder
    monkeypatch.setattr(decoders, "in_order", lambda sources, rate, channels: iter(sources))
    assert list(decoders.held(sources, RATE, "mix", fast=why != "a plain device")) == sources


def test_an_answer_that_is_no_number_is_none(folder: list[str]) -> None:
    class Overflowing(Levels):
        def __call__(self, rows: dict[str, np.ndarray], samples: np.ndarray) -> np.ndarray:
            return np.where(rows["level"][None] > 0.5, np.nan, super().__call__(rows, samples))

    found = list(asked(Overflowing(4)).each(folder))
    assert [type(one) for one in found[:3]] == [Answer] * 3 and [type(one) for one in found[-3:]] == [Unanswered] * 3
    assert "not a finite number" in found[-1].error  # type: ignore[union-attr]


def excerpt(samples: np.ndarray) -> Excerpt:
    track = Track(Decoded([samples.astype(np.float32)]), None)
    return Excerpt(Opened("a", "", (track,)), track, 0, len(samples))


def by_excerpt(front: FrontEnd, excerpts: list[Excerpt]) -> list[list[Piece]]:
    found: dict[int, list[Piece]] = {}
    for one, piece in front(excerpts):
        found.setdefault(id(one), []).append(piece)
    assert list(found) == [id(one) for one in excerpts], "in order"
    return list(found.values())


@pytest.mark.parametrize("overrides", [[], ["features.spectrogram.pad_mode=reflect", "features.mfcc.pre_emphasis=0.9"]])
def test_rows_made_together_are_those_made_one_by_one(overrides: list[str]) -> None:
    chosen = config.load("paper", None, overrides)
    lengths = (1, 200, 47_000, 48_000, 100_000, 16_000 * 13, 320, 150_000)
    excerpts = [excerpt(tone(number, length / RATE, 150 + number)[:length]) for number, length in enumerate(lengths)]
    alone = StoredRows(chosen)
    rendering = Renderer(("mfcc", "spectrogram"), chosen.model_audio, chosen.features).on(CPU)
    together = by_excerpt(DeviceRows(alone, rendering, size=4), excerpts)
    for one, pieces, wanted in zip(excerpts, together, by_excerpt(alone, excerpts), strict=True):
        assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert [piece.peak for piece in pieces] == [piece.peak for piece in wanted]
        assert [piece.samples.tolist() for piece in pieces] == [piece.samples.tolist() for piece in wanted]
        for name, whole in wanted[0].rows.items():
            (made,) = (piece.rows[name].numpy() for piece in pieces)
            assert (made.dtype, made.shape) == (whole.dtype, whole.shape)
            there = rendering.rows(name, one.read(0, len(one))) if name in rendering.fronts else whole
            long = chosen.model_audio.segments(len(one)) > 4
            np.testing.assert_array_equal(made, whole if long else there)


def graphed(size: int, model: Any, seen: list[tuple[int, ...]]) -> Graphed:
    """Return a `Graphed` whose graph is the step itself."""

    def capture(step: Callable[..., Any], kind: str, *, search: bool) -> Callable[..., Any]:
        def taken(*parts: torch.Tensor) -> Any:
            seen.append(tuple(len(part) for part in parts))
            return step(*parts)

        return taken

    return Graphed(
        [model], size, half=False, forward=lambda ensemble, batch: ensemble(batch).log_softmax(-1), capture=capture
    )


def test_few_and_first_batches_are_computed_plainly() -> None:
    one = graphed(8, small_model().eval(), [])
    assert not any(one.takes(count) for count in (1, 3, 9, 1, 2, 3)), "less than half a batch or more than one"
    first = [one.takes(8) for _ in range(graphs.PLAIN_FIRST + 1)]
    assert first == [False] * (graphs.PLAIN_FIRST - 1) + [True, True]
    assert [one.takes(count) for count in (3, 4, 8)] == [False, True, True]


def test_a_batch_that_is_filled_up_gives_its_own_outputs() -> None:
    seen: list[tuple[int, ...]] = []
    model = small_model().eval().requires_grad_(False)
    one, batch = graphed(4, model, seen), make_batch(4)
    wanted = model(batch).logits.log_softmax(-1)
    for count in (4, 3, 1):
        found = one(batch.part(slice(count)))
        np.testing.assert_allclose(found, wanted[None, :count], atol=1e-5)
    assert set(seen) == {(4,) * 6}, "always the same size"
    with torch.no_grad():
        model.classifier.bias[0] += 3.0
    np.testing.assert_allclose(one(batch), model(batch).logits.log_softmax(-1)[None], atol=1e-5)


def test_the_arithmetic_is_that_of_training_or_the_one_asked_for() -> None:
    fast = precision("auto", CPU) == "bf16"
    for trained in ("fp32", "bf16"):
        chosen = config.load("paper", None, [f"train.precision={trained}"])
        found = [in_half(wanted, chosen, CPU) for wanted in ("auto", "fp32", "bf16")]
        assert found == [fast and trained == "bf16", False, True]
    with pytest.raises(PipelineError, match="precision must be one of auto, fp32, bf16, not half"):
        in_half("half", chosen, CPU)


def test_weights_stay_where_other_graphs_have_them() -> None:
    model = small_model(spectrogram_encoder="alexnet", spectrogram_weights="none").eval()
    before = {name: (weights.data_ptr(), weights.stride()) for name, weights in model.named_parameters()}
    fast = accelerate(
        graphs._shared(model), torch.device("cuda"), half=True, paths=replace(graphs.PATHS, streams=False)
    )
    for found in (model, fast):
        after = {name: (weights.data_ptr(), weights.stride()) for name, weights in found.named_parameters()}
        assert after == before
