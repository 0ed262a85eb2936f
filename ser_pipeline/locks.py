"""Locks of folders, so that one process at a time writes to them; a killed process releases its lock.

A lock is a file in `.locks` next to the folder that is locked by the operating system. On file systems without locks,
such as some network file systems, a plain file that names its process replaces it; that of a dead process is ignored.
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
    from filelock import BaseFileLock  # imported when a lock is taken, since it would slow the start of every command

FOLDER = ".locks"
MARK = ".held"
"""Suffix of a plain file that replaces a lock."""

WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
"""Errors of file systems without locks."""

CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of folders that are not writable."""

log = logging.getLogger(__name__)


def lock_file(path: Path) -> Path:
    """Return the file that a process locks while it writes the folder `path`."""
    return path.parent / FOLDER / path.name


@contextmanager
def hold(path: Path, *, needed: bool = True) -> Iterator[None]:
    """Lock the folder `path`, which need not exist yet; a second process waits, and logs for whom.

    Args:
        path: the folder.
        needed: whether to fail if the parent folder is not writable; otherwise no lock is taken, for reading.

    Raises:
        PipelineError: the parent folder is not writable.
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
    except OSError:  # no process writes to a folder that is not writable
        return False
    return False


def _taken(file: Path, path: Path) -> BaseFileLock:
    """Lock `file`, after waiting for the process that has the lock, and write this process's name to it."""
    from filelock import Timeout

    try:
        lock = _try(file)
    except Timeout:
        log.warning("waiting for %s, which is writing %s", _holder(file), path)
        lock = _try(file, forever=True)
    with suppress(OSError):  # only informs waiting processes
        file.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
    return lock


def _try(file: Path, *, forever: bool = False) -> BaseFileLock:
    """Lock `file`, or the plain file that replaces it on a file system without locks.

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
    """Log once per process that a folder has no locks."""
    log.warning(
        "%s is on a file system without locks; plain files NAME%s replace them: delete one whose process is gone",
        folder,
        MARK,
    )


def _holder(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(encoding="utf-8") or "another process"
    return "another process"
