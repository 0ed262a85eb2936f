"""What a test starts, kills and holds to limits: importable, as it is another process."""

import ctypes
import multiprocessing
import multiprocessing.process
import os
import resource
import signal
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ser_pipeline.cli import main

from ser_pipeline.cache import shards as shard_store
from ser_pipeline.training import checkpoint, fold

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "ser_pipeline.features.extract",
        "ser_pipeline.training.queue",
        "ser_pipeline.cli.train",
        "ser_pipeline.report.page",
        "ser_pipeline.predict.predictor",
        "ser_pipeline.export.writing",
    ]
)

TINY = ["model.small_width=8", "model.small_layers=1", "train.epochs=3", "train.batch=8", "train.lr=1e-3"]
"""Settings of a model that learns within seconds."""


def begun(work: Callable[..., Any], *args: object) -> multiprocessing.process.BaseProcess:
    """A process at `work`, with the environment of this one: the server keeps that of the test that it began in."""
    process = SERVER.Process(target=_within, args=(dict(os.environ), work, args))
    process.start()
    return process


def _within(environment: Mapping[str, str], work: Callable[..., Any], args: tuple[object, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    work(*args)


def run_command(folder: Path, args: list[str]) -> None:
    """The command in `folder`, with small shards and states written often, so that kills find work in its middle."""
    os.chdir(folder)
    shard_store.ROWS = 24
    checkpoint.WRITE_SECONDS = 0.0
    if "1" in args and hasattr(os, "sched_setaffinity"):  # one job: one core, so that threads do not wait in turn
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    main(args)


def run_until_finish(folder: Path, args: list[str], folds: int) -> None:
    """`run_command`, killed by itself once it has trained one fold more than it has finished `folds`.

    Args:
        folder: to work in.
        args: of `train`.
        folds: that it may finish.
    """
    finish, begun = fold.finish_fold, []

    def counted(*given: Any) -> None:
        begun.append(given[0])
        if len(begun) > folds:
            os.kill(os.getpid(), signal.SIGKILL)
        finish(*given)

    fold.finish_fold = counted
    run_command(folder, args)


def run_held(folder: Path, args: list[str], said: Path, limit: int, user: int, mask: int) -> None:
    """`run_command` of another user with another mask, of which no file may grow beyond a limit.

    Args:
        folder: to work in.
        args: of the command.
        said: file that gets what it says on stderr.
        limit: bytes of the largest file; 0: none.
        user: number of the user and group; 0: this one.
        mask: takes rights from new files.
    """
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.umask(mask)
    if user:
        _become(user)
        os.environ["HOME"] = str(folder)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    run_command(folder, args)


def _become(user: int) -> None:
    """Be another user, who writes what rights allow, and reads everything: Python may be in a closed folder."""
    kernel = ctypes.CDLL(None)
    os.setgroups([SHARED_GROUP])
    os.setgid(user)
    kernel.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setuid(user)
    header, reads = struct.pack("Ii", 0x20080522, 0), 1 << 2  # CAP_DAC_READ_SEARCH
    if kernel.capset(header, struct.pack("6I", reads, reads, 0, 0, 0, 0)):
        raise OSError("no right to read everything")


SHARED_GROUP = 60_000
"""Number of a group that both users of a test are in."""


def held(folder: Path, *args: object, limit: int = 0, user: int = 0, mask: int = 0o022) -> tuple[int | None, list[str]]:
    """Exit status of a command that `run_held` runs, and its lines on stderr."""
    said = folder / "said.txt"
    said.unlink(missing_ok=True)
    process = begun(run_held, folder, [str(arg) for arg in args], said, limit, user, mask)
    process.join()
    return process.exitcode, said.read_text(encoding="utf-8").splitlines()
