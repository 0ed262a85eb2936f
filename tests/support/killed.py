"""Commands that tests start, kill and limit: in a module of their own, as other processes import them."""

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
    """Start a process with this one's environment, as the fork server keeps that of its first test."""
    process = SERVER.Process(target=_within, args=(dict(os.environ), work, args))
    process.start()
    return process


def _within(environment: Mapping[str, str], work: Callable[..., Any], args: tuple[object, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    work(*args)


def run_command(folder: Path, args: list[str]) -> None:
    """Run a command in `folder` with small shards and frequent checkpoints, so that kills interrupt unfinished work."""
    os.chdir(folder)
    shard_store.ROWS = 24
    checkpoint.WRITE_SECONDS = 0.0
    if "1" in args and hasattr(os, "sched_setaffinity"):  # one job gets one core: threads never wait
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    main(args)


def run_until_finish(folder: Path, args: list[str], folds: int) -> None:
    """Run a command that kills itself before it finishes the fold after `folds` finished ones.

    Args:
        folder: working folder.
        args: arguments of `train`.
        folds: number of folds that it may finish.
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
    """Run a command as another user, with a umask and a limit on the size of files.

    Args:
        folder: working folder.
        args: arguments of the command.
        said: file that receives its stderr.
        limit: largest size of a file in bytes; 0: no limit.
        user: id of the user and group; 0: the current user.
        mask: umask for new files.
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
    """Become another user with its write permissions, who can read everything: Python's folder may be private."""
    kernel = ctypes.CDLL(None)
    os.setgroups([SHARED_GROUP])
    os.setgid(user)
    kernel.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setuid(user)
    header, reads = struct.pack("Ii", 0x20080522, 0), 1 << 2  # CAP_DAC_READ_SEARCH
    if kernel.capset(header, struct.pack("6I", reads, reads, 0, 0, 0, 0)):
        raise OSError("no right to read everything")


SHARED_GROUP = 60_000
"""Id of a group that contains both users of a test."""


def held(folder: Path, *args: object, limit: int = 0, user: int = 0, mask: int = 0o022) -> tuple[int | None, list[str]]:
    """Run a command with `run_held`; returns its exit status and its lines on stderr."""
    said = folder / "said.txt"
    said.unlink(missing_ok=True)
    process = begun(run_held, folder, [str(arg) for arg in args], said, limit, user, mask)
    process.join()
    return process.exitcode, said.read_text(encoding="utf-8").splitlines()
