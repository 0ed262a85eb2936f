"""`features --part K/N` computes its part of the shards first, then the others, until all are complete."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from ser_pipeline.cache import shards
from ser_pipeline.features import extract
from support.sounds import write_emodb


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of the shards in the order in which they are written."""
    numbers, write = list[int](), extract.write_job

    def note(job: extract.ShardJob) -> int:
        numbers.append(job.number)
        return write(job)

    monkeypatch.setattr(shards, "ROWS", 4)
    monkeypatch.setattr(extract, "write_job", note)
    return numbers


def test_a_share_is_written_first_and_then_the_others(
    run: Callable[..., Result], written: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_emodb(tmp_path / "corpus", speakers=3, takes=1)
    args = ("features", "emodb", corpus, "--feature", "mfcc", "--jobs", "1")
    run(*args, "--part", "2/3")
    count = len(written)
    assert count > 3
    assert written == [*range(1, count, 3), *range(2, count, 3), *range(0, count, 3)]
    for name, value in {"ID": "1", "COUNT": "2", "MIN": "0"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    written.clear()
    run(*args, "--cache", tmp_path / "other")
    assert written == [*range(1, count, 2), *range(0, count, 2)]


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "-1/2"])
def test_what_is_no_share_is_said(run: Callable[..., Result], part: str) -> None:
    assert "is not a share K/N" in run("features", "demo", f"--part={part}", status=2).stderr
