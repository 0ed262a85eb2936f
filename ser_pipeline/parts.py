"""Distribution of the parts of a stage's work over processes, with each part processed by one of them."""

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
"""Name of the claim on all parts of a folder."""

LOOKS, TURNS = 8, 16
"""Smallest number of others' claims that an idle process checks per round, and rounds in which it checks all."""

PATIENCE = 8
"""Smallest number of rounds of an idle process during the time for which it has been idle."""

log = logging.getLogger(__name__)

Item = TypeVar("Item")


class Parts(Generic[Item]):
    """Iterator over the unfinished parts that this process claims, one at a time.

    Args:
        claims: claims of this process.
        items: the parts, in the order in which to try them.
        name: returns the name of a part in claims.
        whole: whether a part is finished, by any process.
        waited: whether to wait for a part that another process has claimed.
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
        self._idle: float | None = None  # start of the time without a part to claim
        self._again = -math.inf  # time of the next look

    def __iter__(self) -> Iterator[Item | None]:
        """Yield the parts as they are claimed; None if all remaining parts are claimed for now, here or elsewhere.

        A part of another process is yielded if that process abandons it. The iteration ends when each part is finished,
        has failed here, or is claimed by another process and not waited for.
        """
        while self._new or self._mine or any(map(self._waited, self._elsewhere.values())):
            item = self._first()
            yield self._left() if item is None else item

    @property
    def mine(self) -> list[Item]:
        """The parts that this process has claimed."""
        return [item for item, _ in self._mine.values()]

    def claim(self, item: Item) -> Claim:
        """Return this process's claim on `item`."""
        return self._mine[self._name(item)][1]

    def take(self, item: Item) -> bool:
        """Try to claim a certain part, and return whether this process has it now and it is unfinished."""
        name = self._name(item)
        try:
            claim = None if self._whole(item) else self._claims.take(name)
        except OSError as error:
            folder = self._claims.folder.parent
            raise PipelineError(unwritable(folder, error)) from None
        if claim and (self._whole(item) or _closed(self._claims, name)):  # finished or closed in the meantime
            self._claims.let_go(claim)
        elif claim:
            self._mine[name] = item, claim
            for waiting in (self._new, self._elsewhere):
                waiting.pop(name, None)
            return True
        return False

    def end(self, item: Item, why: str = "") -> None:
        """Release a part; one that is neither finished nor failed was taken over or is to be retried, and comes back.

        Args:
            item: a part that this process has.
            why: the error that stopped it for good, or "".
        """
        name = self._name(item)
        item, claim = self._mine.pop(name)
        self._claims.let_go(claim, FAILED if why else LEFT, why)
        if not why and not self._whole(item):
            self._elsewhere[name], self._again = item, -math.inf

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Renew the claims until the block ends, and then release those that remain, for other processes."""
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
        """Return the first new part that can be claimed; unfinished ones before it are put among those elsewhere.

        After a few claimed parts in a row, the folder of claims is listed once to find parts that were never claimed.
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
        """Return a part that another process has abandoned; check a few per round, with growing pauses.

        The parts are checked in turn, except that those without a sign of their holder are checked in every round.
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
    """Do `work` if it is not done yet; one of several processes does it, and the others wait.

    Args:
        claims: claims of this process.
        name: name of the claim on it.
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
    """Lock the whole folder `path` after waiting for all processes that work on its parts; later ones wait.

    In a folder that is not writable, no lock is taken.

    Args:
        path: a folder whose parts are shared by claims.
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
                    log.warning("waiting for %s, which works on %s", told, path)
                    said = True
                time.sleep(POLL)
                claim = claim or claims.take(f"{name}/{ALONE}")
            yield
        finally:
            if claim:
                claims.let_go(claim)
                claims.remove(f"{name}/{ALONE}")
                with suppress(OSError):  # other processes have claims there
                    (claims.folder / name).rmdir()


def _at_work(claims: Claims, name: str) -> list[Record]:
    """Return the claims on parts of `name`, except for that on the whole folder."""
    found = []
    for part, record in claims.records(name).items():
        if part != ALONE and record.state == HELD and not claims.is_left(claims.latest(f"{name}/{part}")):
            found.append(record)
    return found


def _closed(claims: Claims, part: str) -> bool:
    """Whether another process has locked the whole folder of `part`."""
    place = f"{part.rpartition('/')[0]}/{ALONE}"
    return (claims.folder / place).is_dir() and not claims.is_left(claims.latest(place))


def own_first(items: Sequence[Item], part: tuple[int, int] | None) -> list[Item]:
    """Return `items` with share K of N first, followed by the shares after it in turn.

    Args:
        items: the items, in the same order in all processes.
        part: K from 1 to N, and N; None for the given order.

    >>> own_first("abcde", (2, 2))
    ['b', 'd', 'a', 'c', 'e']
    """
    if part is None:
        return list(items)
    number, count = part
    return [item for shift in range(count) for item in items[(number - 1 + shift) % count :: count]]


def array_part(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """Return the number of this task of a Slurm array, 1 to N, and N; None outside of an array."""
    try:
        task, count, least = (int(environment[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "COUNT", "MIN"))
    except (KeyError, ValueError):
        return None
    return (task - least) % count + 1, count
