"""External failures, none of which loses data."""

import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ser_pipeline.cache import manifest, shard_writing, shards
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import Audio
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.errors import PipelineError
from support.counting import calls
from support.sounds import write_emodb
from support.stores import contents, make

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from ser_pipeline.cli import main
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_emodb(tmp_path_factory.mktemp("faults") / "corpus", takes=3)


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(corpus, folder), check=True, capture_output=True)
    return stores(folder)


def command(corpus: Path, cache: Path, limit: int = 1 << 40, jobs: int = 1) -> list[str]:
    """Return the command for a process that cannot write a file of more than `limit` bytes."""
    args = ["features", "emodb", str(corpus), "--cache", str(cache), "--jobs", str(jobs), "--quiet"]
    return [sys.executable, "-c", LIMITED, str(limit), *args]


def stores(cache: Path) -> dict[str, bytes]:
    return contents(cache / "features")


def test_a_killed_worker_is_one_line_and_what_is_finished_is_kept(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "ROWS", 2)
    killed: list[int | None] = []

    def kill(done: int, total: int) -> None:
        if done and not killed:
            for worker in multiprocessing.active_children():
                worker.kill()
                killed.append(worker.pid)

    with pytest.raises(PipelineError, match=r"^a worker process was killed.*run the same command again"):
        make(corpus, tmp_path / "cache", jobs=2, progress=kill)
    finished = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.h5")}
    folder = make(corpus, tmp_path / "cache")
    assert killed
    assert finished
    assert set(finished.values()) <= {file.stat().st_mtime_ns for file in folder.rglob("*.h5")}
    assert contents(folder) == contents(make(corpus, tmp_path / "calm"))


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("limit", [4_000, 2_000_000])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    corpus: Path, undisturbed: dict[str, bytes], tmp_path: Path, limit: int, jobs: int
) -> None:
    full = subprocess.run(command(corpus, tmp_path, limit, jobs), capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert "no space left on the disk" in full.stderr
    assert len(full.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("*.tmp"))
    subprocess.run(command(corpus, tmp_path), check=True, capture_output=True)
    assert stores(tmp_path) == undisturbed


def test_two_extractions_of_the_same_corpus_at_once_give_one_whole_store(
    corpus: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    both = [subprocess.Popen(command(corpus, tmp_path), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, said = process.communicate()
        assert (process.returncode, said) == (0, "")
    assert stores(tmp_path) == undisturbed
    assert not list(tmp_path.rglob("*.partial"))


def test_a_bit_flipped_anywhere_in_a_shard_is_found_or_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 256, (count, 20, 30), dtype=np.uint8) for count in (1, 3, 2)]
    file, flipped = tmp_path / "000.h5", tmp_path / "001.h5"
    shard_writing.write_shard(file, "spectrogram", {}, ["a" * 32, "b" * 32, "c" * 32], parts, extremes=True)
    good, data = shards.open_shard(file), file.read_bytes()
    found = 0
    for position in range(0, len(data), 23):
        flipped.write_bytes(data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :])
        try:
            shard = shards.open_shard(flipped)
            shard.check(range(len(shard.rows)))
        except shards.DamagedError:
            found += 1
        else:
            np.testing.assert_array_equal(shard.rows, good.rows)
            assert (shard.keys, shard.counts.tolist()) == (good.keys, good.counts.tolist())
    assert found > 6 * 20 * 30 / 23


def test_damage_found_in_a_worker_reaches_its_parent() -> None:
    error = pickle.loads(pickle.dumps(shards.DamagedError(Path("a.h5"), "row 3")))
    assert (error.file, error.what, str(error)) == (
        Path("a.h5"),
        "row 3",
        str(shards.DamagedError(error.file, "row 3")),
    )


def manifest_of(count: int) -> Manifest:
    return Manifest(
        "many",
        {"happy": ("hap",)},
        Audio(),
        tuple(Utterance(f"{row:06d}", f"{row:06d}.wav", "happy", f"{row % 99}") for row in range(count)),
        tuple(f"{row:032x}" for row in range(count)),
        np.full(count, 800, np.int64),
    )


def written_and_read(made: Manifest, cache: Path) -> Manifest:
    made.entry(cache).begin()
    made.write(made.entry(cache).partial)
    return manifest.read(made.entry(cache).publish())


@pytest.mark.slow(reason="reads 200,000 utterances")
def test_a_manifest_of_200_000_utterances_is_whole_and_takes_half_a_gigabyte_at_most(tmp_path: Path) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 200_000
    made = manifest_of(count)
    again = written_and_read(made, tmp_path)
    assert again.utterances == made.utterances
    assert len(again.segments) == count
    ends = [last for _, last in shards.shard_bounds(again.counts)]
    assert (len(ends), ends[-1]) == (784, count)  # 782 of 256 rows are enough, rounded up to a multiple of 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_the_work_of_a_manifest_grows_as_its_utterances_do(tmp_path: Path) -> None:
    written_and_read(manifest_of(9), tmp_path)  # loads what the others use
    few, many = manifest_of(500), manifest_of(5_000)
    assert calls(lambda: written_and_read(many, tmp_path)) < 11 * calls(lambda: written_and_read(few, tmp_path))
