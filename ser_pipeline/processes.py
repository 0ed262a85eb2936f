"""Worker processes: how many, how they begin, and that none outlives the command that started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.util import get_temp_dir
from types import ModuleType
from typing import Any, TypeVar

from ser_pipeline.sockets import SOCKETS

Item = TypeVar("Item")
Result = TypeVar("Result")

LINUX = sys.platform == "linux"  # elsewhere a process that has loaded libraries may not be forked

POLL = 0.1
"""Seconds between two looks for work that others may have left."""

SOCKET_NAME = 107
"""Bytes of the name of a socket, at most. Source: unix(7), whose 108 hold a closing zero too."""

_number = 0
_hiding = threading.Lock()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pool(processes: int) -> ProcessPoolExecutor:
    """Worker processes for arithmetic that needs neither torch nor a device.

    On Linux they are forked, which takes milliseconds where a fresh interpreter needs most of a second for its imports.
    """
    return ProcessPoolExecutor(processes, multiprocessing.get_context("fork" if LINUX else None), _begin)


def apart(work: Callable[..., Result], *args: Any) -> Result:
    """What `work` returns, from a process that takes what it loaded with it, torch above all.

    Here, where processes are not forked, or torch is loaded anyway.
    """
    if not LINUX or "torch" in sys.modules:
        return work(*args)
    with suppress(BrokenProcessPool), ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as one:
        return one.submit(work, *args).result()
    return work(*args)


def spread(
    work: Callable[[Item], Result], items: Iterable[Item | None], processes: int
) -> Iterator[tuple[Item, Result]]:
    """`work` of every item in worker processes that may use torch and a device; each with its result, as they end.

    Whatever ends the loop early ends the workers too. They do not see what `__main__` holds.

    Args:
        work: a function that can be pickled.
        items: each a call, as `handed` takes them.
        processes: how many at a time.

    Raises:
        BrokenProcessPool: a worker was killed.
    """
    context = multiprocessing.get_context("forkserver" if prepare(work.__module__) else "spawn")
    numbers = context.SimpleQueue()
    for number in range(processes):
        numbers.put(number)
    others = multiprocessing.active_children()
    executor = ProcessPoolExecutor(processes, context, _begin, (numbers, dict(os.environ)))
    try:
        yield from handed(executor, work, items, processes)
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in others:
                process.kill()  # they may have SIGTERM ignored
        executor.shutdown(cancel_futures=True)
        raise
    executor.shutdown()


def handed(
    executor: ProcessPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item | None], processes: int
) -> Iterator[tuple[Item, Result]]:
    """`work` of every item in workers, each handed out when one is free; with its result, as they end.

    Args:
        executor: of the workers.
        work: a function that can be pickled.
        items: each a call; None where there is none for now, and more may come.
        processes: how many at a time.

    Raises:
        BrokenProcessPool: a worker, or what workers are forked from, was killed.
    """
    waiting, running, over = iter(items), dict[Future[Result], Item](), False
    while running or not over:
        while not over and len(running) < processes:
            try:
                item = next(waiting)
            except StopIteration:
                over = True
                break
            if item is None:
                break
            running[_submit(executor, work, item)] = item
        if not running and not over:
            time.sleep(POLL)
        for future in wait(running, None if over else POLL, FIRST_COMPLETED).done if running else ():
            yield running.pop(future), future.result()


def handed_here(work: Callable[[Item], Result], items: Iterable[Item | None]) -> Iterator[tuple[Item, Result]]:
    """`work` of every item in this process, as `handed` does it in others."""
    for item in items:
        if item is None:
            time.sleep(POLL)
        else:
            yield item, work(item)


def _submit(executor: ProcessPoolExecutor, work: Callable[[Item], Result], item: Item) -> Future[Result]:
    """`work` of an item handed to the workers of `executor`, which begin here."""
    try:
        with _without_main(), _start_method_kept():
            return executor.submit(work, item)
    except (EOFError, ConnectionError) as error:
        raise BrokenProcessPool("the process that workers are forked from was killed") from error


def prepare(module: str) -> bool:
    """Have a process import `module`, from which `spread` then forks its workers: one import for all, beside this one.

    To import torch takes seconds. The process ends with this one; once it is there, this does nothing.

    Returns:
        Whether there is one. Elsewhere than on Linux, and where a socket in the folder of temporary files would have
        too long a name, workers import for themselves.
    """
    if not LINUX or not _socket_fits():  # asked first, so that no folder is left of one that does not
        return False
    forkserver.set_forkserver_preload(["ser_pipeline.sockets", module])
    resource_tracker.ensure_running()  # which would start in between, and let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # it inherits that: Ctrl-C is not for it
    try:
        with _start_method_kept():
            os.environ[SOCKETS] = get_temp_dir()
            forkserver.ensure_running()
    except OSError:
        return False
    finally:
        os.environ.pop(SOCKETS, None)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return True


def _socket_fits() -> bool:
    """Whether `multiprocessing` can make a socket in a folder of its own in the folder of temporary files."""
    return len(os.fsencode(f"{tempfile.gettempdir()}/pymp-12345678/listener-12345678")) <= SOCKET_NAME


def worker() -> int:
    """The number of this process among the workers of a `spread`, from 0 on; 0 in a main process."""
    return _number


def _begin(numbers: Any = None, environment: Mapping[str, str] | None = None) -> None:
    """How a worker begins: Ctrl-C is its parent's to handle, and it ends soon after its parent is gone.

    A worker whose parent was killed would otherwise go on with its job beside the one that takes it over, and a
    forked one would hold its locks.
    """
    global _number
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if callable(signal.getsignal(signal.SIGTERM)):  # a forked one has the handler of the command
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _number = numbers.get() if numbers else 0
    os.environ.update(environment or {})  # as it is now, not as it was when the process it was forked from began
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module from processes that begin, which would run it again: it may have no guard against that."""
    with _hiding:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@contextmanager
def _start_method_kept() -> Iterator[None]:
    """Leave it to the program how its own processes start: to begin one by any context settles that for good."""
    before = multiprocessing.get_start_method(allow_none=True)
    try:
        yield
    finally:
        if before is None:
            multiprocessing.set_start_method(None, force=True)
