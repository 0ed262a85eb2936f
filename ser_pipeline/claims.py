"""Claims on parts of a stage's work, so that any number of processes on any number of machines share one folder.

A claim is a file that one process alone can make, and that it renews for as long as it lives. One that is no longer
renewed is taken over: the next claim on the part has the next number, which its holder's working folder bears too, so
that a process which was asleep finds its own folder gone when it wakes.

Nothing here relies on `flock`, which network file systems refuse or forget, or on clocks that agree: a claim counts as
left when whoever watches it has seen it unchanged for as long as a lease, by the watcher's own clock. The holder of
a claim that dies on the same machine is known at once.
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
"""Where claims are kept: beside the folders that they are on the parts of."""

LEASE = 60.0
"""Seconds that a claim holds without being renewed, where `SER_PIPELINE_LEASE` does not set another number."""

DAY = 24 * 60 * 60
"""Seconds after which a claim of another machine says nothing, whatever the two clocks show."""

BEATS = 6
"""Times that a holder renews its claims in a lease."""

WITHOUT_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK)
"""What a file system without hard links says."""

HELD, LEFT, FAILED = "held", "left", "failed"
"""What a claim's file says of its holder: at work, gone without an end, or stopped by a mistake."""


@dataclass(frozen=True)
class Holder:
    """A process, so told that processes of the same machine can see whether it still lives."""

    host: str
    machine: str  # the boot and the process namespace, in which `process` means this one
    process: int
    started: str  # by the kernel's count, so that a later process of the same number is another
    token: str

    @property
    def dead(self) -> bool:
        """Whether it is known to have ended; one on another machine never is."""
        return self.machine == _machine() and _started(self.process) != self.started


@dataclass(frozen=True)
class Record:
    """What a claim's file says."""

    holder: Holder
    since: str
    beat: int = 0
    state: str = HELD
    why: str = ""

    def write(self, file: Path) -> None:
        """Put it into `file`, whole or not at all; a folder that is gone stays gone."""
        temporary = self.beside(file)
        temporary.replace(file)

    def beside(self, file: Path) -> Path:
        """A whole file with it beside `file`, of a name that no other has."""
        temporary = file.with_name(f"{file.name}.{self.holder.token}.{next(_count)}.tmp")
        try:
            temporary.write_text(json.dumps(self, default=vars), encoding="utf-8")
        except OSError:  # a full disk: half a file is of no use
            temporary.unlink(missing_ok=True)
            raise
        return temporary


@dataclass(frozen=True)
class Claim:
    """A part that this process holds."""

    part: str
    number: int  # of the claims on the part, from 1 on
    file: Path

    @property
    def held(self) -> bool:
        """Whether nobody has taken it over."""
        return self.file.exists() and not self.file.with_name(str(self.number + 1)).exists()


@dataclass
class Watch:
    """What a watcher has seen of a part's claims."""

    said: tuple[str, int]  # number of the latest, and its beat
    looked: float
    waited: float = 0.0  # seconds that it was seen unchanged


@dataclass
class Claims:
    """The claims of one process on parts of work, each named as a path: `NAME/PART`.

    Args:
        folder: where they are kept.
        lease: seconds that a claim holds without being renewed.
        clock: seconds of the watcher's own.
        holder: who claims; by default this process.
    """

    folder: Path
    lease: float = field(default_factory=lambda: asked_lease())
    clock: Callable[[], float] = time.monotonic
    holder: Holder = field(default_factory=lambda: this_process())
    _held: dict[str, tuple[Claim, Record]] = field(default_factory=dict)
    _seen: dict[Path, Watch] = field(default_factory=dict)  # folder of a part -> what was seen there
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def beside(cls, path: Path) -> Claims:
        """The claims on parts of the folder `path`, there or to be made, and of those beside it."""
        return cls(path.parent / FOLDER)

    def take(self, part: str) -> Claim | None:
        """A claim on `part`; None while another holds it."""
        place = self.folder / part
        while True:
            last = _last(place)
            if not last:
                place.mkdir(parents=True, exist_ok=True)
            if last and not self.is_left(place / str(last)):
                return None
            claim = Claim(part, last + 1, place / str(last + 1))
            record = Record(self.holder, datetime.now(UTC).isoformat(timespec="seconds"))
            with self._guard, suppress(FileNotFoundError):  # the work was just found done, and its claims removed
                if not _made(claim.file, record):  # by another, whatever a network file system showed before
                    return None
                self._held[part] = (claim, record)
                return claim

    def let_go(self, claim: Claim, state: str = LEFT, why: str = "") -> None:
        """End a claim, so that others may take the part at once if it is not whole.

        Args:
            claim: of this process.
            state: `LEFT` or `FAILED`.
            why: what stopped it.
        """
        with self._guard:
            _, record = self._held.pop(claim.part)
            with suppress(FileNotFoundError):  # the work is done and its claims are gone
                replace(record, state=state, why=why).write(claim.file)

    def renew(self) -> None:
        """Say of every claim that its holder lives."""
        with self._guard:
            for part, (claim, record) in self._held.items():
                self._held[part] = claim, replace(record, beat=record.beat + 1)
                with suppress(OSError):  # the work is done and its claims are gone, or the disk comes back
                    self._held[part][1].write(claim.file)

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew the claims in a thread of its own, until the block ends."""
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
        """The latest claim on each part of `name` that has one that can be read."""
        with suppress(FileNotFoundError):
            places = sorted(entry for entry in (self.folder / name).iterdir() if entry.is_dir())
            found = {place.name: read_record(place / str(_last(place))) for place in places}
            return {part: record for part, record in found.items() if record is not None}
        return {}

    def parts(self, name: str) -> set[str]:
        """The parts of `name` that were claimed at any time, by one look at its folder."""
        with suppress(FileNotFoundError), os.scandir(self.folder / name) as places:
            return {place.name for place in places}
        return set()

    def latest(self, part: str) -> Path:
        """The file of the latest claim on a part."""
        return self.folder / part / str(_last(self.folder / part))

    def remove(self, name: str) -> None:
        """Delete the claims on parts of `name`, which is whole."""
        gone = self.folder / f"{name}.{self.holder.token}.tmp"
        with suppress(FileNotFoundError):
            (self.folder / name).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def is_left(self, file: Path) -> bool:
        """Whether the holder of a claim has ended it, is dead, or has not renewed it for a lease.

        A watcher that was stopped itself counts no more than a beat of that time: the holder may have been, too.
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
        """Whether the latest two looks at the claim on a part saw no sign of its holder between them."""
        seen = self._seen.get(self.folder / part)
        return seen is not None and seen.waited > 0


def asked_lease() -> float:
    """Seconds that a claim holds without being renewed.

    Raises:
        PipelineError: `SER_PIPELINE_LEASE` is no number of seconds from 1 to a day.
    """
    text = os.environ.get("SER_PIPELINE_LEASE") or str(LEASE)
    with suppress(ValueError):
        if 1 <= (seconds := parse_float(text)) <= DAY:
            return seconds
    raise PipelineError(f"SER_PIPELINE_LEASE is '{text}'; it is seconds, from 1 to {DAY}")


def at_work(path: Path) -> bool:
    """Whether a process seems to be at work on parts of the folder `path`: one on another machine, within a day."""
    claims = Claims.beside(path)
    for part, record in claims.records(path.name).items():
        place = claims.folder / path.name / part
        with suppress(OSError):
            age = time.time() - (place / str(_last(place))).stat().st_mtime
            if record.state == HELD and not record.holder.dead and age < DAY:
                return True
    return False


def _made(file: Path, record: Record) -> bool:
    """Whether this process made the claim `file`: a link to a whole file is made by one alone, on NFS too."""
    temporary = record.beside(file)
    try:
        os.link(temporary, file)
    except FileExistsError:
        return temporary.stat().st_nlink > 1  # it was made, and the answer was lost on the network
    except OSError as error:
        if error.errno not in WITHOUT_LINKS:
            raise
        return _made_alone(file, temporary.read_bytes())
    finally:
        temporary.unlink()
    return True


def _made_alone(file: Path, text: bytes) -> bool:
    """Whether this process made `file`, where a file system has no links."""
    try:
        with file.open("xb") as stream:
            stream.write(text)
    except FileExistsError:
        return False
    return True


def _last(place: Path) -> int:
    """The number of the latest claim on a part; 0 where there is none."""
    with suppress(FileNotFoundError), os.scandir(place) as files:
        return max((int(file.name) for file in files if file.name.isdigit()), default=0)
    return 0


def read_record(file: Path) -> Record | None:
    """What a claim's file says; None where it cannot be read."""
    try:
        value: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return Record(**{**value, "holder": Holder(**value["holder"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def this_process() -> Holder:
    """This process as a holder of claims; a forked one is another."""
    process = os.getpid()
    return Holder(platform.node(), _machine(), process, _started(process), uuid.uuid4().hex[:12])


@lru_cache
def _machine() -> str:
    """What tells apart machines, their boots, and containers whose processes are numbered apart."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"
    return f"{platform.node()}:{uuid.getnode()}"


def _started(process: int) -> str:
    """When a process of this machine began, by its kernel's count; "" where there is none, "alive" where unknown."""
    try:
        line = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _alive(process)
    state, *fields = line.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def _alive(process: int) -> str:
    """What `_started` says of a process, by a signal that does nothing, where the kernel has no count to read."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "alive"


_count = itertools.count()
