"""A simulation of the claims on 10,000 parts: workers on separate machines die, freeze, and have different clocks.

    python -m benchmarks.simulation [--parts 10000] [--workers 100] [--seconds 60] [--deaths 0.5]

Time is simulated; the claims are the real ones, in a real folder. Every worker has its own clock, which is off by up to
a day and runs up to a tenth of a percent fast or slow. Some workers die in the middle of a part, and a new one starts
after a while; some freeze for five leases, and resume.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ser_pipeline.claims import BEATS, LEASE, Claims, Holder
from ser_pipeline.parts import Parts, own_first

POLL = 1.0
"""Seconds until a worker without work tries again."""

SKEW, DRIFT = 24 * 60 * 60, 1e-3
"""Largest difference of two clocks in seconds, and of their rates."""


@dataclass
class Outcome:
    """The result of a simulation."""

    made: Counter[str] = field(default_factory=Counter)  # part -> how many workers completed it
    seconds: float = 0.0  # until all parts were complete
    alive: float = 0.0  # seconds that all workers together lived until then
    worked: float = 0.0  # seconds of these spent on parts that were still incomplete
    died: int = 0  # workers
    looks: int = 0  # checks of other workers' claims

    @property
    def busy(self) -> float:
        """Share of the workers' time that was spent on parts."""
        return self.worked / self.alive


class World:
    """The simulated events and their times."""

    def __init__(
        self, folder: Path, parts: int, workers: int, *, seconds: float, deaths: float, freezes: float, seed: int = 0
    ) -> None:
        """Start all workers at once.

        Args:
            folder: folder of the claims.
            parts: number of parts.
            workers: number of simultaneous workers; a dead one is replaced.
            seconds: mean duration of a part, which varies between half and three halves of it.
            deaths: mean number of deaths of a worker in the time that all parts take.
            freezes: mean number of freezes of a worker in that time.
            seed: seed of the random numbers.
        """
        self.folder, self.count, self.workers, self.seconds = folder, parts, workers, seconds
        self.now, self.outcome, self.random = 0.0, Outcome(), random.Random(seed)
        self.names = [f"work/{number:06}" for number in range(parts)]
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._number = itertools.count()
        whole = parts * seconds / workers
        self._risk = deaths / whole, freezes / whole
        for number in range(workers):
            Worker(self, number)

    def after(self, seconds: float, event: Callable[[], object]) -> None:
        """Schedule an event."""
        heapq.heappush(self._events, (self.now + seconds, next(self._number), event))

    def accident(self, seconds: float) -> tuple[str, float]:
        """The accident of a worker within `seconds`, "death", "freeze" or "", and its time."""
        times = [
            (self.random.expovariate(risk) if risk else seconds, name)
            for risk, name in zip(self._risk, ("death", "freeze"), strict=True)
        ]
        when, name = min(times)
        return (name, when) if when < seconds else ("", seconds)

    def run(self) -> Outcome:
        """Run until all parts are complete."""
        while len(self.outcome.made) < self.count:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.outcome.seconds = self.now
        self.outcome.alive = self.now * self.workers
        return self.outcome


@dataclass
class Counted(Claims):
    """Claims that count the checks of other workers' claims."""

    outcome: Outcome = field(default_factory=Outcome)

    def is_left(self, file: Path) -> bool:
        """Check as usual, and count it."""
        self.outcome.looks += 1
        return super().is_left(file)


class Worker:
    """A process on a machine of its own."""

    def __init__(self, world: World, number: int) -> None:
        """Start to take parts, first those of the share `number`."""
        self.world, self.number, self.here = world, number, True
        offset, rate = world.random.uniform(-SKEW, SKEW), 1 + world.random.uniform(-DRIFT, DRIFT)
        name = f"{number}-{next(world._number)}"
        holder = Holder(name, f"machine {name}", 1, "0", name)
        self.claims = Counted(world.folder, LEASE, lambda: offset + rate * world.now, holder, outcome=world.outcome)
        items = own_first(world.names, (1 + number, world.workers))
        self.parts = Parts(self.claims, items, str, world.outcome.made.__contains__)
        self._turns: Iterator[str | None] = iter(self.parts)
        self._beat()
        self._next()

    def _beat(self) -> None:
        if self.here:
            self.claims.renew()
            self.world.after(LEASE / BEATS, self._beat)

    def _next(self) -> None:
        if not self.here:
            return
        world = self.world
        part = next(self._turns, "")
        if part is None:
            world.after(POLL, self._next)
        elif part:
            work = world.seconds * world.random.uniform(0.5, 1.5)
            what, when = world.accident(work)
            event = {"death": self._die, "freeze": self._freeze}.get(what, self._end)
            world.after(when, lambda: event(part, work if not what else when))

    def _die(self, part: str, spent: float) -> None:
        self.here = False
        self.world.outcome.worked += spent
        self.world.outcome.died += 1
        self.world.after(LEASE, partial(Worker, self.world, self.number))

    def _freeze(self, part: str, spent: float) -> None:
        self.here = False
        self.world.outcome.worked += spent

        def wake() -> None:
            self.here = True
            self._beat()
            self.world.after(self.world.seconds, lambda: self._end(part, 0.0))

        self.world.after(5 * LEASE, wake)

    def _end(self, part: str, spent: float) -> None:
        whole = part in self.world.outcome.made
        self.world.outcome.made[part] += not whole or spent > 0
        self.world.outcome.worked += spent * (not whole)
        self.parts.end(part)
        self._next()


def main() -> None:
    """Simulate, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1_000])
    parser.add_argument("--seconds", type=float, default=60.0, help="mean duration of a part")
    parser.add_argument("--deaths", type=float, default=0.5, help="mean number per worker")
    parser.add_argument("--freezes", type=float, default=0.1, help="mean number per worker")
    asked = parser.parse_args()
    print("| workers | died | minutes at best | minutes | busy | done twice | checks per part |")
    print("|---|---|---|---|---|---|---|")
    for workers in asked.workers:
        with tempfile.TemporaryDirectory() as folder:
            world = World(
                Path(folder), asked.parts, workers, seconds=asked.seconds, deaths=asked.deaths, freezes=asked.freezes
            )
            found = world.run()
        ideal = asked.parts * asked.seconds / workers
        twice = sum(count - 1 for count in found.made.values())
        print(
            f"| {workers:,} | {found.died} | {ideal / 60:.0f} | {found.seconds / 60:.0f} "
            f"| {100 * found.busy:.1f} % | {twice} | {found.looks / asked.parts:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
