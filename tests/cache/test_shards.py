import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ser_pipeline.cache import shard_writing, shards
from ser_pipeline.cache.store import Store, allow_open_files
from ser_pipeline.errors import PipelineError
from support.stores import registered

RNG = np.random.default_rng(0)
PARTS = [RNG.integers(0, 256, (count, 200, 300), dtype=np.uint8) for count in (1, 3, 2)]
KEYS = [f"{number:032x}" for number in range(3)]


def write(file: Path) -> Path:
    shard_writing.write_shard(file, "spectrogram", {"bins": 200}, KEYS, PARTS, extremes=True)
    return file


def test_a_shard_gives_back_what_was_written(tmp_path: Path) -> None:
    shard = shards.open_shard(write(tmp_path / "000.h5"))
    np.testing.assert_array_equal(shard.rows, np.concatenate(PARTS))
    assert shard.keys == tuple(KEYS)
    assert shard.counts.tolist() == [1, 3, 2]
    assert shard.firsts.tolist() == [0, 1, 4]
    assert shard.maximum is not None
    np.testing.assert_array_equal(shard.maximum[1], PARTS[1].max(axis=(0, 2)))
    shard.check(range(6))


@pytest.mark.parametrize("width", [1, 5, 300])
@pytest.mark.parametrize("compress", [False, True])
def test_rows_of_few_bytes_make_a_whole_shard(tmp_path: Path, width: int, compress: bool) -> None:
    """HDF5 writes tables after rows that are too small to be aligned."""
    parts = [RNG.normal(size=(2, width)).astype(np.float32) for _ in KEYS]
    shard_writing.write_shard(tmp_path / "a.h5", "level", {}, KEYS, parts, extremes=False, compress=compress)
    shard = shards.open_shard(tmp_path / "a.h5")
    np.testing.assert_array_equal(shard.rows, np.concatenate(parts))
    assert shard.counts.tolist() == [2, 2, 2]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a.h5").read_bytes() == write(tmp_path / "b.h5").read_bytes()


def test_rows_are_on_the_way_to_the_disk_before_the_last_is_made(tmp_path: Path) -> None:
    """Memory must never contain a second copy of a shard."""
    file, whole = tmp_path / "000.h5", write(tmp_path / "whole.h5")
    with shard_writing.writing_shard(file, "spectrogram", {"bins": 200}, KEYS, 6, extremes=True) as take:
        for part in PARTS[:2]:
            take(part)
        (unfinished,) = tmp_path.glob("000.h5.*.tmp")
        assert unfinished.stat().st_size > 3 * PARTS[0].nbytes
        assert not file.exists()
        take(PARTS[2])
    assert file.read_bytes() == whole.read_bytes()


def test_a_shard_whose_rows_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(PipelineError, match="broken"),
        shard_writing.writing_shard(tmp_path / "000.h5", "spectrogram", {}, KEYS, 6, extremes=True) as take,
    ):
        take(PARTS[0])
        raise PipelineError("broken")
    assert not list(tmp_path.iterdir())


def test_rows_start_at_a_page_and_lie_in_one_piece(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "000.h5")) as shard:
        assert shard["rows"].id.get_offset() % 4096 == 0
        assert shard["rows"].chunks is None


def flip(file: Path, offset: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("row", [0, 3, 5])
def test_a_flipped_bit_in_any_row_is_found_and_named(tmp_path: Path, row: int) -> None:
    file = write(tmp_path / "000.h5")
    with h5py.File(file) as shard:
        offset = shard["rows"].id.get_offset()
    flip(file, offset + row * 60_000 + 17)
    with pytest.raises(PipelineError, match=rf"000\.h5 is damaged \(row {row}: .*`ser-pipeline cache verify`"):
        shards.open_shard(file).check(range(6))


@pytest.mark.parametrize("table", ["key", "counts", "checksum", "minimum", "maximum"])
def test_a_flipped_bit_in_any_table_is_found(tmp_path: Path, table: str) -> None:
    file = write(tmp_path / "000.h5")
    with h5py.File(file) as shard:
        offset = shard[table].id.get_offset()
    flip(file, offset)
    with pytest.raises(PipelineError, match=r"000\.h5 is damaged"):
        shards.open_shard(file)


@pytest.mark.parametrize("keep", [0, 10, 5_000, 300_000])
def test_a_truncated_shard_is_named(tmp_path: Path, keep: int) -> None:
    file = write(tmp_path / "000.h5")
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(PipelineError, match=r"000\.h5 is damaged"):
        shards.open_shard(file)


def test_more_shards_than_files_at_first_may_be_open_can_be_mapped(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="this system has no limit on open files")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    folder = next(registered(tmp_path, speakers=2, takes=1).glob("features/emodb-*/waveform-*"))
    allow_open_files.cache_clear()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(128, before[1]), before[1]))
        opened = [Store(folder) for _ in range(200)]
        assert sum(len(store) for store in opened) == 200 * len(opened[0])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("counts", "number"), [([256], 1), ([1] * 257, 4), ([1] * 1024, 4), ([5] * 205, 8)])
def test_several_shards_are_a_multiple_of_four_and_hold_whole_utterances(counts: list[int], number: int) -> None:
    bounds = list(shards.shard_bounds(np.array(counts)))
    assert len(bounds) == number
    assert [row for first, last in bounds for row in range(first, last)] == list(range(len(counts)))
    assert max(sum(counts[first:last]) for first, last in bounds) <= shards.ROWS


def tables() -> dict[str, Any]:
    return {
        "checksum": np.arange(6, dtype=np.uint64),
        "key": np.array(KEYS, "S32"),
        "counts": np.array([1, 3, 2]),
        "minimum": np.zeros((3, 4), np.uint8),
    }


UNFIT: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "a row more": lambda made: {"counts": made["counts"] + 1},
    "a row less": lambda made: {"counts": np.array([1, 3, 1])},
    "an utterance without rows": lambda made: {"counts": np.array([4, 0, 2])},
    "rows taken away": lambda made: {"counts": np.array([8, -4, 2])},
    "a key more": lambda made: {"key": np.array([*KEYS, "x"], "S32")},
    "short keys": lambda made: {"key": made["key"].astype("S8")},
    "keys in a table": lambda made: {"key": made["key"][:, None]},
    "counts as fractions": lambda made: {"counts": made["counts"] * 1.0},
    "a checksum more": lambda made: {"checksum": np.arange(7, dtype=np.uint64)},
    "a checksum less": lambda made: {"checksum": np.arange(5, dtype=np.uint64)},
    "other extremes": lambda made: {"minimum": made["minimum"][:2]},
}


@pytest.mark.parametrize("case", UNFIT)
def test_tables_that_do_not_fit_the_rows_are_found(case: str) -> None:
    rows = np.zeros((6, 2))
    assert shards._fits(tables(), rows)
    assert not shards._fits(tables() | UNFIT[case](tables()), rows)


def test_rows_are_more_than_a_number_each() -> None:
    assert not shards._fits(tables(), np.zeros(6))
    assert not shards._fits(tables(), np.zeros((5, 2)))


def test_the_bytes_of_the_asked_rows_are_what_is_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, asked = write(tmp_path / "000.h5"), list[tuple[int, int]]()
    monkeypatch.setattr(os, "posix_fadvise", lambda _, first, width, __: asked.append((first, width)))
    shard, data = shards.open_shard(file), file.read_bytes()
    shard.prefetch([0, 4])
    assert [data[first : first + width] for first, width in asked] == [shard.rows[row].tobytes() for row in (0, 4)]


def test_what_is_no_shard_is_told_by_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(shards.DamagedError, match="it is missing") as raised:
        shards.open_shard(tmp_path / "000.h5")
    with pytest.raises(shards.DamagedError, match="it is not a file"):
        shards.open_shard(tmp_path)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.file, again.what) == (str(raised.value), tmp_path / "000.h5", "it is missing")


@pytest.mark.parametrize(("code", "said"), [(errno.EACCES, "cannot read"), (errno.EIO, "damaged"), (None, "damaged")])
def test_a_shard_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None, said: str
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(*(() if code is None else (code, "said")))

    file = write(tmp_path / "000.h5")
    monkeypatch.setattr(h5py, "File", refused)
    with pytest.raises(PipelineError, match=said) as raised:
        shards.open_shard(file)
    assert isinstance(raised.value, shards.DamagedError) == (said == "damaged")


def test_a_shard_of_another_store_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "000.h5")
    assert shards.open_shard(file, {"feature": "spectrogram", "settings": {"bins": 200}}).feature == "spectrogram"
    for feature in ("mfcc", "waveform"):
        with pytest.raises(shards.DamagedError, match=f"it contains spectrogram, not {feature}"):
            shards.open_shard(file, {"feature": feature, "settings": {"bins": 200}})
    with pytest.raises(shards.DamagedError, match="its settings are not those of its store"):
        shards.open_shard(file, {"feature": "spectrogram", "settings": {"bins": 100}})


@pytest.mark.parametrize("number", [shards.FORMAT - 1, shards.FORMAT + 1])
def test_a_shard_of_another_format_is_refused(tmp_path: Path, number: int) -> None:
    file = write(tmp_path / "000.h5")
    with h5py.File(file, "a") as shard:
        shard.attrs["format"] = number
    with pytest.raises(shards.DamagedError, match=f"format {number}, but this version reads {shards.FORMAT}"):
        shards.open_shard(file)
