"""Parts of one piece of work that any number of processes share: each part is in work once, until all are whole."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

from ser_pipeline.claims import BEATS, FAILED, HELD, LEFT, Claim, Claims, Record
from ser_pipeline.errors import PipelineError, unwritable
from ser_pipeline.locks import CLOSED
from ser_pipeline.processes import POLL, handed_here

ALONE = "alone"
"""The claim on all parts of a folder."""

LOOKS, TURNS = 8, 16
"""Claims of others that a process without work looks at in a turn, at least, and turns in which it has seen all."""

PATIENCE = 8
"""How often a process without work looks, at least, in the time for which it has had none."""

log = logging.getLogger(__name__)

Item = TypeVar("Item")


class Parts(Generic[Item]):
    """The parts that are not whole, handed out one at a time as this process claims them.

    Args:
        claims: of this process.
        items: the parts, in the order in which they are looked at.
        name: the name of a part's claims.
        whole: whether a part is done, here or elsewhere.
        waited: whether a part that another holds is waited for.
    """

    def __init__(
        self,
        claims: Claims,
        items: Iterable[Item],
        name: Callable[[Item], str],
        whole: Callable[[Item], bool],
        waited: Callable[[Item], bool] = lambda item: True,
    ) -> None:
        self._claims, self._name, self._whole, self._waited = claims, name, whole, waited
        self._new = OrderedDict((name(item), item) for item in items)
        self._elsewhere = OrderedDict[str, Item]()
        self._mine: dict[str, tuple[Item, Claim]] = {}
        self._idle: float | None = None  # when there was nothing to take for the first time since there was something
        self._again = -math.inf  # when to look again

    def __iter__(self) -> Iterator[Item | None]:
        """The parts as they are claimed; None where those that are left are held, elsewhere or here: ask again later.

        What another process holds comes where it leaves it. The end is reached when each part is whole, has ended
        here with what stopped it, or is held elsewhere and not waited for.
        """
        while self._new or self._mine or any(map(self._waited, self._elsewhere.values())):
            item = self._first()
            yield self._left() if item is None else item

    @property
    def mine(self) -> list[Item]:
        """The parts that this process has."""
        return [item for item, _ in self._mine.values()]

    def claim(self, item: Item) -> Claim:
        """This process's claim on `item`."""
        return self._mine[self._name(item)][1]

    def take(self, item: Item) -> bool:
        """Claim one part, whatever its turn; whether this process has it now, and it is not whole."""
        name = self._name(item)
        try:
            claim = None if self._whole(item) else self._claims.take(name)
        except OSError as error:
            folder = self._claims.folder.parent
            raise PipelineError(unwritable(folder, error)) from None
        if claim and (self._whole(item) or _closed(self._claims, name)):  # finished, or closed, while it was asked for
            self._claims.let_go(claim)
        elif claim:
            self._mine[name] = item, claim
            for waiting in (self._new, self._elsewhere):
                waiting.pop(name, None)
            return True
        return False

    def end(self, item: Item, why: str = "") -> None:
        """Let a part go. One that is neither whole nor failed was taken over, or is to be tried again: it comes back.

        Args:
            item: that this process has.
            why: what stopped it for good.
        """
        name = self._name(item)
        item, claim = self._mine.pop(name)
        self._claims.let_go(claim, FAILED if why else LEFT, why)
        if not why and not self._whole(item):
            self._elsewhere[name], self._again = item, -math.inf

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Renew the claims until the block ends, and then let go those that are left, for others to go on."""
        with self._claims.renewing():
            try:
                yield
            except PipelineError as error:
                self._let_go(str(error))
                raise
            finally:
                self._let_go()

    def _let_go(self, why: str = "") -> None:
        for item, claim in self._mine.values():
            failed = why and not self._whole(item)
            self._claims.let_go(claim, FAILED if failed else LEFT, why if failed else "")
        self._mine.clear()

    def _first(self) -> Item | None:
        """The first new part that can be had; of those before it, what is not known to be whole waits among the others.

        Where others hold a few in a row, one look at the folder of the claims tells which parts nobody has had.
        """
        held, listed = 0, dict[str, set[str]]()
        while self._new:
            name, item = self._new.popitem(last=False)
            if held < LOOKS or not self._was_claimed(name, listed):
                if self.take(item):
                    self._idle = None
                    return item
                if self._whole(item):
                    continue
                held += 1
            self._elsewhere[name] = item
        return None

    def _was_claimed(self, name: str, listed: dict[str, set[str]]) -> bool:
        folder, _, part = name.rpartition("/")
        if folder not in listed:
            listed[folder] = self._claims.parts(folder)
        return part in listed[folder]

    def _left(self) -> Item | None:
        """A part that another process has left; a few are looked at in a turn, and the turns become rarer.

        All are looked at in their turn, and those of whom nothing was seen between two looks in every one.
        """
        now, held, most = self._claims.clock(), 0, max(LOOKS, len(self._elsewhere) // TURNS)
        if now < self._again:
            return None
        for name, item in list(self._elsewhere.items()):
            if self.take(item):
                self._idle, self._again = None, -math.inf
                return item
            if self._whole(item):
                del self._elsewhere[name]
                continue
            if not self._claims.suspect(name):
                self._elsewhere.move_to_end(name)
            held += 1
            if held == most:
                break
        self._idle = now if self._idle is None else self._idle
        self._again = now + min((now - self._idle) / PATIENCE, self._claims.lease / BEATS)
        return None


def once(claims: Claims, name: str, whole: Callable[[], bool], work: Callable[[], object]) -> None:
    """Do `work` where it is not done; of several processes one does it, and the others wait.

    Args:
        claims: of this process.
        name: of the claim on it.
        whole: whether it is done.
        work: does it.
    """
    if whole():
        return
    parts = Parts(claims, [name], str, lambda _: whole())
    with parts.sharing():
        for _ in handed_here(lambda _: work(), parts):
            parts.end(name)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the folder `path` alone, once all who are at work on parts of it have let go; who comes later waits.

    Where nothing can be written, nothing is held.

    Args:
        path: a folder that is shared by parts.
    """
    claims, name, said = Claims.beside(path), path.name, False
    try:
        claim = claims.take(f"{name}/{ALONE}")
    except OSError as error:
        if error.errno not in CLOSED:
            raise PipelineError(unwritable(path.parent, error)) from None
        yield
        return
    with claims.renewing():
        try:
            while claim is None or (others := _at_work(claims, name)):
                if not said:
                    who = others[0] if claim else claims.records(name).get(ALONE)
                    told = f"process {who.holder.process} on {who.holder.host}" if who else "another process"
                    log.warning("waiting for %s, which is at work on %s", told, path)
                    said = True
                time.sleep(POLL)
                claim = claim or claims.take(f"{name}/{ALONE}")
            yield
        finally:
            if claim:
                claims.let_go(claim)
                claims.remove(f"{name}/{ALONE}")
                with suppress(OSError):  # others have claims there
                    (claims.folder / name).rmdir()


def _at_work(claims: Claims, name: str) -> list[Record]:
    """Who holds parts of `name`, but for who holds it alone."""
    found = []
    for part, record in claims.records(name).items():
        if part != ALONE and record.state == HELD and not claims.is_left(claims.latest(f"{name}/{part}")):
            found.append(record)
    return found


def _closed(claims: Claims, part: str) -> bool:
    """Whether another process holds what `part` is of alone."""
    place = f"{part.rpartition('/')[0]}/{ALONE}"
    return (claims.folder / place).is_dir() and not claims.is_left(claims.latest(place))


def own_first(items: Sequence[Item], part: tuple[int, int] | None) -> list[Item]:
    """`items` with the share of part K of N first, then those of the parts after it in turn.

    Args:
        items: in the order that all processes agree on.
        part: K from 1 to N, and N; None: as they are.

    >>> own_first("abcde", (2, 2))
    ['b', 'd', 'a', 'c', 'e']
    """
    if part is None:
        return list(items)
    number, count = part
    return [item for shift in range(count) for item in items[(number - 1 + shift) % count :: count]]


def array_part(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """The part of a task of a Slurm array, 1 to N, and N; None outside of one."""
    try:
        task, count, least = (int(environment[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "COUNT", "MIN"))
    except (KeyError, ValueError):
        return None
    return (task - least) % count + 1, count
