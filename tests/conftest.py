"""Fixtures that several tests share: small generated corpora, and the command by its entry point."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ser_pipeline.cli import main

from support.sounds import write_emodb

os.environ.setdefault("OMP_NUM_THREADS", "1")
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs and their children ignore it
os.environ["HF_HUB_OFFLINE"] = "1"  # no test uses the network
os.environ["HF_HUB_CACHE"] = str(
    Path(tempfile.gettempdir()) / "no-encoder-of-ser-pipeline"
)  # or reads the user's cache


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take minutes, so that no process works on one when the others have ended."""
    items.sort(key=lambda item: not any(mark.kwargs.get("first") for mark in item.iter_markers("slow")))


@pytest.fixture(scope="session")
def emodb() -> Path:
    """Return the folder of the real EMO-DB."""
    folder = os.environ.get("SER_PIPELINE_EMODB")
    if not folder:
        pytest.skip("$SER_PIPELINE_EMODB is not set: no EMO-DB here")
    return Path(folder)


@pytest.fixture(autouse=True)
def plain_log() -> None:
    """Restore the package's logger to its state before a command directs it to stderr."""
    log = logging.getLogger("ser_pipeline")
    log.handlers, log.propagate, log.level = [], True, logging.NOTSET


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Return the `ser-pipeline` command in an empty folder: `run("features", "emodb", root)`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SER_PIPELINE_CACHE", raising=False)

    def invoke(*args: object, status: int | None = 0) -> Result:
        result = CliRunner().invoke(main, [str(arg) for arg in args])
        if status is not None and result.exit_code != status:
            raise AssertionError(f"exit status {result.exit_code}: {result.stderr}{result.exception!r}")
        return result

    return invoke


@pytest.fixture
def small_emodb(tmp_path: Path) -> Path:
    """Write a small corpus with EMO-DB's file names: 4 speakers, 4 emotions, 2 takes."""
    return write_emodb(tmp_path / "small")
