"""Runs of a small corpus, trained once: one on small encoders, one on a frozen Whisper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from ser_pipeline.cli import main

from support.reducing import TINY
from support.sounds import write_emodb
from support.speech_models import write_whisper


def command(*args: object) -> str:
    """Return what `ser-pipeline` prints."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three speakers with EMO-DB's file names; utterances of 4 s have two segments."""
    return write_emodb(tmp_path_factory.mktemp("export-corpus"), speakers=3, takes=1, seconds=4.0)


@pytest.fixture(scope="session")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that runs `features` and `train` with its arguments, once for each, and returns the run."""
    folder, known = tmp_path_factory.mktemp("export"), dict[tuple[object, ...], Path]()

    def train(*words: str, final: bool = False) -> Path:
        if (final, *words) not in known:
            places = ["--cache", str(folder / "cache")]
            command("features", "emodb", corpus, "--jobs", "1", "--quiet", "--device", "cpu", *places, *words)
            run = command(
                "train",
                "--accept",
                "counts",
                "--jobs",
                "1",
                "--quiet",
                "--device",
                "cpu",
                *places,
                "--runs-root",
                folder / "runs",
                *(["--final"] if final else []),
                *words,
            )
            known[final, *words] = Path(run)
        return known[final, *words]

    return train


@pytest.fixture(scope="session")
def small_run(trained: Callable[..., Path]) -> Path:
    """Return a run of three folds on the small encoders."""
    return trained("--preset", "demo", *(word for setting in TINY for word in ("--set", setting)))


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a tiny Whisper with random weights; returns its folder."""
    return write_whisper(tmp_path_factory.mktemp("export-whisper") / "tiny-whisper")


@pytest.fixture(scope="session")
def frozen_run(trained: Callable[..., Path], whisper: Path) -> Path:
    """Return a run of three folds on statistics of the tiny Whisper."""
    return trained("--preset", "frozen", "--set", f"features.statistics.encoder={whisper}")
