from pathlib import Path

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


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a.h5").read_bytes() == write(tmp_path / "b.h5").read_bytes()


def test_rows_are_on_the_way_to_the_disk_before_the_last_is_made(tmp_path: Path) -> None:
    """So that no second copy of a shard is in memory."""
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
    resource = pytest.importorskip("resource", reason="no limits of open files here")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    folder = next(registered(tmp_path, speakers=2, takes=1).glob("features/emodb-*/waveform-*"))
    allow_open_files.cache_clear()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(128, before[1]), before[1]))
        opened = [Store(folder) for _ in range(200)]
        assert sum(len(store) for store in opened) == 200 * len(opened[0])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
