"""Claims on parts of a stage's work, with which any number of processes and machines share one folder.

A claim is a file that only one process can create, and that this process renews while it runs. A claim that is no
longer renewed is taken over: the next claim on the part has the next number. The working folder of its holder has the
same number, so that a suspended process finds its own folder gone when it continues.

Claims rely neither on `flock`, which some network file systems refuse or lose, nor on synchronised clocks. A claim is
abandoned if a watching process has seen it unchanged for the length of a lease, by its own clock. The death of a holder
on the same machine is detected at once.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import platform
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from ser_pipeline.errors import PipelineError
from ser_pipeline.text import parse_float

FOLDER = ".claims"
"""Name of the folder of claims, next to the folders whose parts are claimed."""

LEASE = 60.0
"""Default seconds for which a claim is valid without being renewed; `SER_PIPELINE_LEASE` overrides it."""

DAY = 24 * 60 * 60
"""Seconds after which a claim of another machine is ignored, even if the clocks differ."""

BEATS = 6
"""Number of times that a holder renews its claims during a lease."""

WITHOUT_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK)
"""Errors of file systems without hard links."""

HELD, LEFT, FAILED = "held", "left", "failed"
"""States of a claim: its holder works on the part, has released it unfinished, or was stopped by an error."""


@dataclass(frozen=True)
class Holder:
    """A process, described so that processes on the same machine can see whether it still runs."""

    host: str
    machine: str  # the boot and the process namespace in which `process` is valid
    process: int
    started: str  # start time by the kernel's clock, which distinguishes later processes with the same id
    token: str

    @property
    def dead(self) -> bool:
        """Whether it is known to have ended; this is never known for another machine."""
        return self.machine == _machine() and _started(self.process) != self.started


@dataclass(frozen=True)
class Record:
    """The contents of a claim's file."""

    holder: Holder
    since: str  # UTC
    beat: int = 0  # number of renewals
    state: str = HELD
    why: str = ""  # error that stopped the holder

    def write(self, file: Path) -> None:
        """Write it to `file` atomically; a removed folder is not created again."""
        temporary = self.beside(file)
        temporary.replace(file)

    def beside(self, file: Path) -> Path:
        """Write it to a temporary file with a unique name next to `file`, and return its path."""
        temporary = file.with_name(f"{file.name}.{self.holder.token}.{next(_count)}.tmp")
        try:
            temporary.write_text(json.dumps(self, default=vars), encoding="utf-8")
        except OSError:  # such as a full disk, which leaves an incomplete file
            temporary.unlink(missing_ok=True)
            raise
        return temporary


@dataclass(frozen=True)
class Claim:
    """A claim of this process on a part."""

    part: str
    number: int  # number among the claims on the part, counted from 1
    file: Path

    @property
    def held(self) -> bool:
        """Whether no other process has taken it over."""
        return self.file.exists() and not self.file.with_name(str(self.number + 1)).exists()


@dataclass
class Watch:
    """A watching process's observations of a part's claims."""

    said: tuple[str, int]  # number of the latest claim, and its beat
    looked: float  # time of the latest look, in seconds
    waited: float = 0.0  # seconds for which the claim was seen unchanged


@dataclass
class Claims:
    """The claims of one process on parts of work, which are named like paths: `NAME/PART`.

    Args:
        folder: folder of the claims.
        lease: seconds for which a claim is valid without being renewed.
        clock: this process's clock, in seconds.
        holder: the claiming process; by default this one.
    """

    folder: Path
    lease: float = field(default_factory=lambda: asked_lease())
    clock: Callable[[], float] = time.monotonic
    holder: Holder = field(default_factory=lambda: this_process())
    _held: dict[str, tuple[Claim, Record]] = field(default_factory=dict)
    _seen: dict[Path, Watch] = field(default_factory=dict)  # observations by the folder of a part
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def beside(cls, path: Path) -> Claims:
        """Return the claims on parts of the folder `path`, which need not exist yet, and of its siblings."""
        return cls(path.parent / FOLDER)

    def take(self, part: str) -> Claim | None:
        """Claim `part`; return None while another process holds it."""
        place = self.folder / part
        while True:
            last = _last(place)
            if not last:
                place.mkdir(parents=True, exist_ok=True)
            if last and not self.is_left(place / str(last)):
                return None
            claim = Claim(part, last + 1, place / str(last + 1))
            record = Record(self.holder, datetime.now(UTC).isoformat(timespec="seconds"))
            with self._guard, suppress(FileNotFoundError):  # the work was just finished, and its claims removed
                if not _made(claim.file, record):  # by another process, which a network file system did not show
                    return None
                self._held[part] = (claim, record)
                return claim

    def let_go(self, claim: Claim, state: str = LEFT, why: str = "") -> None:
        """Release a claim, so that other processes can take the part at once if it is unfinished.

        Args:
            claim: a claim of this process.
            state: `LEFT` or `FAILED`.
            why: the error that stopped the work.
        """
        with self._guard:
            _, record = self._held.pop(claim.part)
            with suppress(FileNotFoundError):  # the work is finished and its claims are removed
                replace(record, state=state, why=why).write(claim.file)

    def renew(self) -> None:
        """Renew all claims of this process."""
        with self._guard:
            for part, (claim, record) in self._held.items():
                self._held[part] = claim, replace(record, beat=record.beat + 1)
                with suppress(OSError):  # the work is finished and its claims are removed, or the disk is not available
                    self._held[part][1].write(claim.file)

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew the claims in a background thread until the block ends."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.lease / BEATS):
                self.renew()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def records(self, name: str) -> dict[str, Record]:
        """Return the latest readable claim on each part of `name`."""
        with suppress(FileNotFoundError):
            places = sorted(entry for entry in (self.folder / name).iterdir() if entry.is_dir())
            found = {place.name: read_record(place / str(_last(place))) for place in places}
            return {part: record for part, record in found.items() if record is not None}
        return {}

    def parts(self, name: str) -> set[str]:
        """Return the parts of `name` that were ever claimed, by listing its folder."""
        with suppress(FileNotFoundError), os.scandir(self.folder / name) as places:
            return {place.name for place in places}
        return set()

    def latest(self, part: str) -> Path:
        """Return the file of the latest claim on a part."""
        return self.folder / part / str(_last(self.folder / part))

    def remove(self, name: str) -> None:
        """Delete the claims on parts of `name`, which is finished."""
        gone = self.folder / f"{name}.{self.holder.token}.tmp"
        with suppress(FileNotFoundError):
            (self.folder / name).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def is_left(self, file: Path) -> bool:
        """Whether the holder of a claim has released it, is dead, or has not renewed it for a lease.

        If this process was suspended itself, at most one beat of that time counts, since the holder may have been too.
        """
        record, now = read_record(file), self.clock()
        if record is not None and (record.state != HELD or record.holder.dead):
            return True
        said = file.name, record.beat if record else -1
        seen = self._seen.setdefault(file.parent, Watch(said, now))
        seen.waited = 0.0 if seen.said != said else seen.waited + min(now - seen.looked, self.lease / BEATS)
        seen.said, seen.looked = said, now
        return seen.waited >= self.lease

    def suspect(self, part: str) -> bool:
        """Whether the claim on a part was not renewed between the latest two looks at it."""
        seen = self._seen.get(self.folder / part)
        return seen is not None and seen.waited > 0


def asked_lease() -> float:
    """Return the seconds for which a claim is valid without being renewed.

    Raises:
        PipelineError: `SER_PIPELINE_LEASE` is not a number of seconds from 1 to a day.
    """
    text = os.environ.get("SER_PIPELINE_LEASE") or str(LEASE)
    with suppress(ValueError):
        if 1 <= (seconds := parse_float(text)) <= DAY:
            return seconds
    raise PipelineError(f"SER_PIPELINE_LEASE is '{text}'; it must be seconds, from 1 to {DAY}")


def at_work(path: Path) -> bool:
    """Whether a process works on parts of the folder `path`; claims of other machines count for up to a day."""
    claims = Claims.beside(path)
    for part, record in claims.records(path.name).items():
        place = claims.folder / path.name / part
        with suppress(OSError):
            age = time.time() - (place / str(_last(place))).stat().st_mtime
            if record.state == HELD and not record.holder.dead and age < DAY:
                return True
    return False


def _made(file: Path, record: Record) -> bool:
    """Create the claim `file`, and return whether this process did; only one can link a file, even on NFS."""
    temporary = record.beside(file)
    try:
        os.link(temporary, file)
    except FileExistsError:
        return temporary.stat().st_nlink > 1  # the link was created, but the reply was lost on the network
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        return _made_alone(file, temporary.read_bytes())
    finally:
        temporary.unlink()
    return True


def _made_alone(file: Path, text: bytes) -> bool:
    """Create `file` on a file system without links, and return whether this process did."""
    try:
        with file.open("xb") as stream:
            stream.write(text)
    except FileExistsError:
        return False
    return True


def _last(place: Path) -> int:
    """Return the number of the latest claim on a part; 0 if there is none."""
    with suppress(FileNotFoundError), os.scandir(place) as files:
        return max((int(file.name) for file in files if file.name.isdigit()), default=0)
    return 0


def read_record(file: Path) -> Record | None:
    """Read a claim's file; None if it cannot be read."""
    try:
        value: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return Record(**{**value, "holder": Holder(**value["holder"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def this_process() -> Holder:
    """Return this process as a holder of claims; a forked process is another holder."""
    process = os.getpid()
    return Holder(platform.node(), _machine(), process, _started(process), uuid.uuid4().hex[:12])


@lru_cache
def _machine() -> str:
    """Return an identifier of the machine, its boot, and the container's process namespace."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"
    return f"{platform.node()}:{uuid.getnode()}"


def _started(process: int) -> str:
    """Return the start time of a process on this machine by the kernel's clock; "" if it ended, "alive" if unknown."""
    try:
        line = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _alive(process)
    state, *fields = line.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def _alive(process: int) -> str:
    """Return the result of `_started` by sending signal 0, on systems without /proc."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "alive"


_count = itertools.count()
