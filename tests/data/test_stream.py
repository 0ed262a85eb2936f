import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from ser_pipeline.cache import manifest, shards
from ser_pipeline.data.gathering import gatherer
from ser_pipeline.data.stream import Data, Resident, Streamed, open_data, order
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.stores import store_entry
from support.stores import CONFIG, make

CPU = torch.device("cpu")


@pytest.fixture
def data(small_emodb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setattr(shards, "ROWS", 6)
    folder = make(small_emodb, tmp_path / "cache")
    stores = {name: [store_entry(folder, name, CONFIG).path] for name in ("mfcc", "spectrogram", "waveform")}
    return open_data(manifest.read(folder), stores)


def test_streamed_and_resident_batches_are_the_same(data: Data) -> None:
    rows = order(np.arange(len(data.manifest.segments)), 3, 1)
    count = 0
    for one, other in zip(Resident(data, CPU).batches(rows, 5), Streamed(data, CPU).batches(rows, 5), strict=True):
        count += 1
        assert all(torch.equal(left, right) for left, right in zip(one.tensors(), other.tensors(), strict=True))
        assert set(one.inputs) == set(data.stores)
    assert count == -(-len(rows) // 5)


def test_rows_of_several_shards_come_by_one_call_a_batch_once_they_are_verified(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = data.stores["waveform"]
    assert len(store.shards) > 1
    rows = order(np.arange(len(store)), 0, 0)
    found = torch.full((len(store), *store.shape), 7, dtype=torch.int16)
    gather = gatherer(store)
    gather(rows, found)
    np.testing.assert_array_equal(found.numpy(), store.read(rows))
    monkeypatch.setattr(store, "read", lambda rows, out: pytest.fail("rows are read one by one"))
    gather(rows[::-1], found)
    np.testing.assert_array_equal(found.numpy(), np.concatenate(store.maps)[rows[::-1]])


def test_an_epoch_has_every_row_once_in_an_order_of_its_own() -> None:
    rows = np.arange(100, 200)
    first, second = order(rows, 0, 0), order(rows, 0, 1)
    assert sorted(first.tolist()) == rows.tolist()
    assert first.tolist() != second.tolist()
    assert first.tolist() == order(rows, 0, 0).tolist() != order(rows, 1, 0).tolist()


def test_labels_and_lengths_belong_to_their_rows(data: Data) -> None:
    (batch,) = Resident(data, CPU).batches(np.arange(len(data.manifest.segments)), 1000)
    utterance, _, samples = data.manifest.segments.T
    np.testing.assert_array_equal(batch.label.numpy(), data.manifest.target[utterance])
    np.testing.assert_array_equal(batch.samples.numpy(), samples)
    for row, real in zip(batch["waveform"].numpy(), samples, strict=True):
        assert not row[1 + real :].any()


def test_leaving_an_epoch_early_ends_its_thread(data: Data) -> None:
    before = threading.active_count()
    batches = Streamed(data, CPU).batches(np.arange(len(data.manifest.segments)), 2)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.parametrize("kind", [Resident, Streamed])
def test_a_damaged_row_is_an_error_and_not_a_batch(data: Data, kind: type[Resident | Streamed]) -> None:
    file = data.stores["mfcc"].shards[1].file
    content = bytearray(file.read_bytes())
    content[-5000] ^= 4
    content[len(content) // 2] ^= 4
    file.write_bytes(bytes(content))
    with pytest.raises(PipelineError, match=r"001\.h5 is damaged"):
        list(kind(data, CPU).batches(np.arange(len(data.manifest.segments)), 4))


def test_extremes_of_a_fold_come_from_its_rows_alone(data: Data) -> None:
    store, chosen = data.stores["spectrogram"], np.array([1, 5, 8])
    low, high = store.extremes(chosen)
    rows = store.read(data.manifest.rows(chosen))
    np.testing.assert_array_equal(low, rows.min(axis=(0, 2)))
    np.testing.assert_array_equal(high, rows.max(axis=(0, 2)))


def test_two_streams_at_once_do_not_share_a_buffer(data: Data) -> None:
    streamed, resident = Streamed(data, CPU), Resident(data, CPU)
    rows = np.arange(len(data.manifest.segments))
    for one, other, right in zip(
        streamed.batches(rows, 5), streamed.batches(rows[::-1], 5), resident.batches(rows, 5), strict=True
    ):
        assert torch.equal(one["mfcc"], right["mfcc"])
        assert not torch.equal(one["mfcc"], other["mfcc"])


@pytest.mark.parametrize("kind", [Resident, Streamed])
@pytest.mark.parametrize("start", [0, 3, 8, 9])
def test_an_epoch_started_in_its_middle_goes_on_with_the_same_batches(data: Data, kind: type, start: int) -> None:
    rows = order(np.arange(36), 0, 0)
    whole = [batch.utterance.clone() for batch in kind(data, CPU).batches(rows, 4)]
    rest = [batch.utterance.clone() for batch in kind(data, CPU).batches(rows, 4, start)]
    assert len(whole) == 9
    assert len(rest) == 9 - start
    assert all(torch.equal(one, other) for one, other in zip(whole[start:], rest, strict=True))


def test_memory_bounds_what_is_read_ahead(data: Data) -> None:
    for memory, ring in ((1, 2), (10 * 4 * data.row_bytes, 10)):
        streamed = Streamed(data, CPU, memory)
        list(streamed.batches(np.arange(36), 4))
        assert [len(buffers) for buffers in streamed._idle] == [ring]


def test_rows_from_a_slow_disk_are_asked_for_ahead(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("ser_pipeline.data.stream.WARM", float("inf"))
    monkeypatch.setattr("os.posix_fadvise", lambda file, offset, length, advice: asked.append(length))
    rows = order(np.arange(36), 0, 0)
    batches = [batch.utterance.tolist() for batch in Streamed(data, CPU).batches(rows, 4)]
    assert batches == [batch.utterance.tolist() for batch in Resident(data, CPU).batches(rows, 4)]
    assert set(asked) == {store.read(np.array([0])).nbytes for store in data.stores.values()}


def test_every_row_is_verified_once_and_no_more(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    monkeypatch.setattr(shards.Shard, "compare", lambda self, row, copy: checked.append(row))
    streamed = Streamed(data, CPU)
    for epoch in range(2):
        list(streamed.batches(order(np.arange(36), 0, epoch), 4))
    assert len(checked) == 3 * 36
