"""One process at a time: a lock for each folder that is written, which a killed holder lets go.

The lock is a file in `.locks` beside the folder, held by the system. Where a file system has no locks, as some of a
network, a plain file stands for it, which says who made it; one whose process is gone counts for nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ser_pipeline.errors import PipelineError, unwritable

if TYPE_CHECKING:
    from filelock import BaseFileLock  # imported when a lock is taken: what it brings would slow every command's start

FOLDER = ".locks"
MARK = ".held"
"""What the name of a plain file ends with that stands for a lock."""

WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What a file system without locks says."""

CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
"""What a place says where nothing can be written."""

log = logging.getLogger(__name__)


def lock_file(path: Path) -> Path:
    """The file that is locked by who writes the folder `path`."""
    return path.parent / FOLDER / path.name


@contextmanager
def hold(path: Path, *, needed: bool = True) -> Iterator[None]:
    """Hold the folder `path`, there or to be made, alone; a second process waits, and says for whom.

    Args:
        path: the folder.
        needed: whether to fail where nothing can be written; otherwise nothing is held there, for who only reads.

    Raises:
        PipelineError: nothing can be written beside the folder.
    """
    file = lock_file(path)
    lock = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = _taken(file, path)
    except OSError as error:
        if needed or error.errno not in CLOSED:
            raise PipelineError(unwritable(path.parent, error)) from None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def is_held(path: Path) -> bool:
    """Whether a process is writing the folder `path`."""
    from filelock import Timeout

    file = lock_file(path)
    if not file.exists():
        return False
    try:
        _try(file).release()
    except Timeout:
        return True
    except OSError:  # where nothing can be written, nobody writes
        return False
    return False


def _taken(file: Path, path: Path) -> BaseFileLock:
    """The lock on `file`, after a wait for who has it; who holds it now is written in it."""
    from filelock import Timeout

    try:
        lock = _try(file)
    except Timeout:
        log.warning("waiting for %s, which is writing %s", _holder(file), path)
        lock = _try(file, forever=True)
    with suppress(OSError):  # a courtesy to who waits
        file.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
    return lock


def _try(file: Path, *, forever: bool = False) -> BaseFileLock:
    """The lock on `file`, or on the plain file that stands for it where there are no locks.

    Raises:
        Timeout: another process has it.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    wait = -1 if forever else 0
    try:
        lock: BaseFileLock = FileLock(file)
        lock.acquire(timeout=wait)
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in WITHOUT:
            raise
        _say(file.parent)
        lock = SoftFileLock(f"{file}{MARK}")
        lock.acquire(timeout=wait)
    return lock


@cache
def _say(folder: Path) -> None:
    """Say once in a process that a folder has no locks."""
    log.warning(
        "%s is on a file system without locks; plain files NAME%s stand for them: delete one whose process is gone",
        folder,
        MARK,
    )


def _holder(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(encoding="utf-8") or "another process"
    return "another process"
