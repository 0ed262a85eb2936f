"""Logarithms of weighted sums of the bins of a short-time Fourier transform, sixteen frames at a time.

The code is compiled by numba, and the compiled code is cached for later processes. It takes a third of the time of
numpy and scipy, since neighbouring frames share the processor's vectors. Two real frames are transformed as one complex
frame and separated by their symmetry. Framing costs nothing: samples are laid out as (sample of a hop, hop), so the
same sample of neighbouring frames is contiguous in memory.

A transform of n = n1 n2 points is a transform of n1 points for each of n2 columns, a multiplication by twiddle factors,
and a transform of n2 points for each of n1 rows. Both fit into the first-level cache (Bailey, FFTs in external or
hierarchical memory, 1990). Radices 2, 4 and 5 are written out; any other radix is a sum over all points.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import config, njit
from numba.core import event
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats32, Ints
from ser_pipeline.features.lanes import WIDTH, conjugate, exponent, larger, load, mantissa, powers, quarter, same, store
from ser_pipeline.features.tables import FLOOR, Sums

Compiled = TypeVar("Compiled", bound=Callable[..., Any])

_LINE = 64  # bytes of a cache line: lanes that cross two lines cost twice as much
_TOGETHER = 16  # columns that are transformed together
_COLUMN = 32  # maximum points of a column

_COS1, _COS2 = np.cos(2 * np.pi * np.arange(1, 3) / 5).astype(np.float32)
_SIN1, _SIN2 = np.sin(2 * np.pi * np.arange(1, 3) / 5).astype(np.float32)
_ZERO, _HALF, _ONE, _LOG2 = np.array([0, 0.5, 1, np.log(2)], np.float32)

_SERIES = tuple(
    np.float32(number)
    for number in (
        *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
        *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
    )
)
"""Coefficients of p, highest power first, in log(1 + f) = f - f**2 / 2 + f**3 p(f). Source: Cephes, `logf`."""

log = logging.getLogger(__name__)


class _Plan(NamedTuple):
    """Tables of a transform of n points."""

    turns: NDArray[np.complex64]  # (n,) twiddle factors exp(-2j pi k / n)
    columns: Ints  # radices whose product is n1
    rows: Ints  # radices whose product is n2
    bins: Ints  # (n1,) the bin at each position of a transformed column
    order: Ints  # (n + 1,) position of each bin after the transform, and the first position again


class _Scratch(NamedTuple):
    """Buffers that pass values from one step to the next."""

    columns: Floats32  # (n1, _TOGETHER) lanes
    rows: Floats32  # (n,) lanes
    spare: Floats32  # (largest radix,) lanes
    power: Floats32  # (n // 2 + 1,) lanes
    places: Ints  # (n,) positions of the samples of the first frame


def logarithms(
    signal: Floats32, window: Floats32, n: int, hop: int, sums: Sums, *, pad_mode: str = "constant"
) -> tuple[Floats32, Floats32]:
    """Natural logarithms (K, T) of weighted sums of each frame's power, and the power of its loudest bin (T,).

    Power below `FLOOR` counts as `FLOOR`.

    Args:
        signal: samples (N,); a frame is centred on every `hop`-th sample.
        window: at most `n` values, centred in a frame.
        n: points of the transform.
        hop: samples from one frame to the next.
        sums: weighted sums of bins 0 to `n // 2`.
        pad_mode: padding on both sides: "constant" for silence, "reflect" for the samples mirrored at the first and
            at the last one.
    """
    frames = 1 + len(signal) // hop
    room = -(-frames // WIDTH) * WIDTH
    margin = n // 2 - (n - len(window)) // 2
    padded = np.zeros((room + (n - 1) // hop, hop), np.float32)
    if pad_mode == "reflect":
        signal, margin = np.pad(signal, (margin, len(window) - margin), mode="reflect"), 0
    padded.reshape(-1)[margin : margin + len(signal)] = signal[: padded.size - margin]
    hops = np.ascontiguousarray(padded.T)
    out, loudest = np.empty((len(sums.first), room), np.float32), np.empty(room, np.float32)
    halved = np.zeros(n, np.float32)  # padding the end alone instead of both ends only shifts the phase
    halved[: len(window)] = window * _HALF  # the bins of two frames in one are separated as a sum and a difference
    _compiled()(hops, halved, _plan(n), sums, _scratch(n), out, loudest)
    return out[:, :frames], loudest[:frames]


@lru_cache
def _plan(n: int) -> _Plan:
    radices, rest = [], n
    for radix in (4, 5, 2, 3, *range(7, n + 1)):
        while rest % radix == 0:
            radices.append(radix)
            rest //= radix
    small = max(1, int((np.cumprod(radices) <= _COLUMN).sum()))
    columns, rows = radices[:small], radices[small:]
    turns = np.exp(-2j * np.pi * np.arange(n) / n).astype(np.complex64)
    order = _order(radices, n)
    bins = np.argsort(_order(columns, int(np.prod(columns))))
    return _Plan(turns, np.array(columns, np.int64), np.array(rows, np.int64), bins, np.append(order, order[0]))


def _order(radices: list[int], n: int) -> Ints:
    """Position of each of n bins after the passes of `radices`: its digits in reverse order."""
    rest, place, size = np.arange(n), np.zeros(n, np.int64), n
    for radix in radices:
        size //= radix
        place += rest % radix * size
        rest //= radix
    return place


@lru_cache
def _scratch(n: int) -> _Scratch:
    """Buffers for all calls. No two threads use them at once: compiled code runs with the interpreter's lock."""
    plan = _plan(n)
    largest = int(np.append(plan.columns, plan.rows).max())
    columns, rows = _lanes(len(plan.bins) * _TOGETHER), _lanes(n)
    return _Scratch(columns, rows, _lanes(largest), _lanes(n // 2 + 1), np.empty(n, np.int64))


def _lanes(count: int) -> Floats32:
    """Buffer for `count` lanes, none of which crosses two cache lines."""
    room = np.empty(count * WIDTH + _LINE // 4, np.float32)
    first = -room.ctypes.data % _LINE // 4
    return room[first : first + count * WIDTH]


@lru_cache
def _compiled() -> Callable[..., None]:
    """Compile `_logarithms` to machine code; cached on disk for other processes where possible."""
    nothing = np.zeros((2, WIDTH), np.float32)
    sums = Sums(np.zeros(1, np.int64), np.ones(1, np.int64), np.ones(1, np.float32))
    made: Callable[..., None]
    for keep in (True, False):
        with suppress(RuntimeError, OSError), event.install_listener("numba:compile", _Compiling()), _in_users_cache():
            made = njit(cache=keep, error_model="numpy")(_logarithms)
            made(nothing, nothing[0, :2], _plan(2), sums, _scratch(2), nothing[1:], nothing[0])
            break
    return made


@contextmanager
def _in_users_cache() -> Iterator[None]:
    """Have numba keep code in the user's cache, unless `$NUMBA_CACHE_DIR` names a folder.

    Its own choice is the package's folder, where pip leaves such files behind when it removes the package: an empty
    package that hides one which is installed as editable afterwards.
    """
    before = config.CACHE_DIR
    config.CACHE_DIR = before or str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "ser-pipeline").expanduser())
    try:
        yield
    finally:
        config.CACHE_DIR = before


class _Compiling(event.Listener):  # type: ignore[misc]
    """Log the first compilation; loading cached code logs nothing."""

    said = False

    def on_start(self, event: event.Event) -> None:
        if not self.said:
            log.info("compiling the transforms, once per installation")
        self.said = True

    def on_end(self, event: event.Event) -> None:
        pass


def _part(function: Compiled) -> Compiled:
    """Compile `function` for use inside the compiled function."""
    made: Compiled = njit(error_model="numpy")(function)
    return made


@_part
def _two(x: Any, at: int, step: int, w: Any) -> None:
    """Transform two lanes, `step` apart, in place; multiply all but the first by `w`, its square, and so on."""
    a, b = load(x, at), load(x, at + step)
    store(x, at, a + b)
    store(x, at + step, (a - b) * w)


@_part
def _four(x: Any, at: int, step: int, w: Any, w2: Any, w3: Any) -> None:
    """A transform of four points, otherwise as `_two`."""
    a, b, c, d = load(x, at), load(x, at + step), load(x, at + 2 * step), load(x, at + 3 * step)
    even, odd, others, turned = a + c, a - c, b + d, quarter(b - d)
    store(x, at, even + others)
    store(x, at + step, (odd + turned) * w)
    store(x, at + 2 * step, (even - others) * w2)
    store(x, at + 3 * step, (odd - turned) * w3)


@_part
def _five(x: Any, at: int, step: int, w: Any, w2: Any, w3: Any, w4: Any) -> None:
    """A transform of five points, otherwise as `_two`."""
    a, b, c = load(x, at), load(x, at + step), load(x, at + 2 * step)
    d, e = load(x, at + 3 * step), load(x, at + 4 * step)
    outer, inner, far, near = b + e, c + d, b - e, c - d
    store(x, at, a + outer + inner)
    middle, turned = a + outer * _COS1 + inner * _COS2, quarter(far * _SIN1 + near * _SIN2)
    store(x, at + step, (middle + turned) * w)
    store(x, at + 4 * step, (middle - turned) * w4)
    middle, turned = a + outer * _COS2 + inner * _COS1, quarter(far * _SIN2 - near * _SIN1)
    store(x, at + 2 * step, (middle + turned) * w2)
    store(x, at + 3 * step, (middle - turned) * w3)


@_part
def _any(x: Any, at: int, step: int, turns: Any, turn: int, radix: int, spare: Any) -> None:
    """A transform of `radix` points, otherwise as `_two`; `turns[turn]` is w."""
    apart = len(turns) // radix
    for q in range(radix):
        total, angle = load(x, at), 0
        for m in range(1, radix):
            angle += q * apart
            if angle >= len(turns):
                angle -= len(turns)
            total = total + load(x, at + m * step) * turns[angle]
        store(spare, q * WIDTH, total * turns[q * turn])
    for q in range(radix):
        store(x, at + q * step, load(spare, q * WIDTH))


@_part
def _transform(x: Any, first: int, n: int, together: int, radices: Any, turns: Any, spare: Any) -> None:
    """Transform `together` columns of `n` points in place, from lane `first` on; bins end in the order of `_order`."""
    length, apart = n, len(turns) // n
    for radix in radices:
        step = length // radix
        wide = step * together * WIDTH
        for j in range(step):
            turn = j * apart
            w = turns[turn]
            starts = range((first + j * together) * WIDTH, (first + n * together) * WIDTH, length * together * WIDTH)
            if radix == 4:
                w2, w3 = turns[2 * turn], turns[3 * turn]
                for start in starts:
                    for at in range(start, start + together * WIDTH, WIDTH):
                        _four(x, at, wide, w, w2, w3)
            elif radix == 5:
                w2, w3, w4 = turns[2 * turn], turns[3 * turn], turns[4 * turn]
                for start in starts:
                    for at in range(start, start + together * WIDTH, WIDTH):
                        _five(x, at, wide, w, w2, w3, w4)
            elif radix == 2:
                for start in starts:
                    for at in range(start, start + together * WIDTH, WIDTH):
                        _two(x, at, wide, w)
            else:
                for start in starts:
                    for at in range(start, start + together * WIDTH, WIDTH):
                        _any(x, at, wide, turns, turn, radix, spare)
        length = step
        apart *= radix


@_part
def _spectra(samples: Any, places: Any, frame: int, window: Any, plan: Any, scratch: Any) -> None:
    """Transform the lanes of `frame` and the frames after it into `scratch.rows`."""
    columns, rows, spare, turns = scratch.columns, scratch.rows, scratch.spare, plan.turns
    n1 = len(plan.bins)
    n2 = len(turns) // n1
    for first in range(0, n2, _TOGETHER):
        together = min(_TOGETHER, n2 - first)
        for row in range(n1):
            for column in range(together):
                i = row * n2 + first + column
                store(columns, (row * together + column) * WIDTH, load(samples, places[i] + frame) * window[i])
        _transform(columns, 0, n1, together, plan.columns, turns, spare)
        for row in range(n1):
            for column in range(together):
                value = load(columns, (row * together + column) * WIDTH)
                turn = turns[plan.bins[row] * (first + column)]
                store(rows, (row * n2 + first + column) * WIDTH, value * turn)
    for row in range(n1):
        _transform(rows, row * n2, n2, 1, plan.rows, turns, spare)


@_part
def _powers(rows: Any, order: Any, power: Any) -> Any:
    """Write the power of all bins to `power`; return the loudest of each frame."""
    n, loudest = len(order) - 1, same(FLOOR)
    for k in range(n // 2 + 1):
        a, b = load(rows, order[k] * WIDTH), conjugate(load(rows, order[n - k] * WIDTH))
        both = powers(a + b, a - b)
        loudest = larger(loudest, both)
        store(power, k * WIDTH, both)
    return loudest


@_part
def _logarithm(x: Any) -> Any:
    f = mantissa(x) - same(_ONE)
    series = same(_SERIES[0])
    for number in _SERIES[1:]:
        series = series * f + same(number)
    return exponent(x) * _LOG2 + (f + f * f * (series * f - same(_HALF)))


def _logarithms(hops: Any, window: Any, plan: Any, sums: Any, scratch: Any, out: Any, loudest: Any) -> None:
    """Compute what `logarithms` returns, from samples laid out as (sample of a hop, hop); `window` is halved."""
    samples, places, power, flat = hops.reshape(-1), scratch.places, scratch.power, out.reshape(-1)
    for i in range(len(places)):
        places[i] = i % len(hops) * hops.shape[1] + i // len(hops)
    for frame in range(0, len(loudest), WIDTH):
        _spectra(samples, places, frame, window, plan, scratch)
        store(loudest, frame, _powers(scratch.rows, plan.order, power))
        used = 0
        for k in range(len(sums.first)):
            total = same(_ZERO)
            for i in range(sums.bins[k]):
                total = total + load(power, (sums.first[k] + i) * WIDTH) * sums.weights[used + i]
            used += sums.bins[k]
            store(flat, k * len(loudest) + frame, _logarithm(larger(total, same(FLOOR))))
