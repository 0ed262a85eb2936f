"""Worker processes: their number, their start, and their end with the command that started them."""

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

LINUX = sys.platform == "linux"  # on other systems it is not safe to fork a process that has loaded libraries

POLL = 0.1
"""Seconds between two checks for work that other processes may have abandoned."""

SOCKET_NAME = 107
"""Largest length of a socket's path in bytes. Source: unix(7), where 108 bytes include a final zero."""

_number = 0
_hiding = threading.Lock()


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pool(processes: int) -> ProcessPoolExecutor:
    """Return a pool of worker processes for computations that need neither torch nor a device.

    On Linux they are forked, which takes milliseconds; a new interpreter needs most of a second for its imports.
    """
    return ProcessPoolExecutor(processes, multiprocessing.get_context("fork" if LINUX else None), _begin)


def apart(work: Callable[..., Result], *args: Any) -> Result:
    """Call `work` in a forked process, whose memory is freed afterwards, and return its result.

    It is called in this process if processes are not forked, or if torch is already imported.
    """
    if not LINUX or "torch" in sys.modules:
        return work(*args)
    with suppress(BrokenProcessPool), ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as one:
        return one.submit(work, *args).result()
    return work(*args)


def spread(
    work: Callable[[Item], Result], items: Iterable[Item | None], processes: int
) -> Iterator[tuple[Item, Result]]:
    """Call `work` for every item in worker processes that may use torch and a device; yield items with their results.

    Items are yielded in the order in which they end. If the loop ends early, so do the workers. Workers do not import
    the main module.

    Args:
        work: a function that can be pickled.
        items: the items, as in `handed`.
        processes: number of workers.

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
    """Call `work` for every item in workers, when one is free, and yield items with their results as they end.

    Args:
        executor: the pool of workers.
        work: a function that can be pickled.
        items: the items; None if there is none for now, but more may come.
        processes: number of items at the same time.

    Raises:
        BrokenProcessPool: a worker, or the process that workers are forked from, was killed.
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
    """Call `work` for every item in this process; the arguments are those of `handed`."""
    for item in items:
        if item is None:
            time.sleep(POLL)
        else:
            yield item, work(item)


def _submit(executor: ProcessPoolExecutor, work: Callable[[Item], Result], item: Item) -> Future[Result]:
    """Submit `work` of an item to `executor`, whose workers are started here."""
    try:
        with _without_main(), _start_method_kept():
            return executor.submit(work, item)
    except (EOFError, ConnectionError) as error:
        raise BrokenProcessPool("the process that workers are forked from was killed") from error


def prepare(module: str) -> bool:
    """Start a process that imports `module` in the background, and from which `spread` forks its workers.

    Importing torch takes seconds, which is then done once for all workers. The process ends with this one; further
    calls do nothing.

    Returns:
        Whether there is such a process. There is none on other systems than Linux, or if a socket in the folder of
        temporary files would have too long a path; each worker then imports the module itself.
    """
    if not LINUX or not _socket_fits():  # checked first, so that no temporary folder is left behind
        return False
    forkserver.set_forkserver_preload(["ser_pipeline.sockets", module])
    resource_tracker.ensure_running()  # otherwise it would be started below and unblock Ctrl-C again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited, so that it ignores Ctrl-C
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
    """Whether the path of a socket of `multiprocessing` in the folder of temporary files is short enough."""
    return len(os.fsencode(f"{tempfile.gettempdir()}/pymp-12345678/listener-12345678")) <= SOCKET_NAME


def worker() -> int:
    """Return the number of this process among the workers of `spread`, counted from 0; 0 in a main process."""
    return _number


def _begin(numbers: Any = None, environment: Mapping[str, str] | None = None) -> None:
    """Initialise a worker: it leaves Ctrl-C to its parent, and ends soon after its parent.

    Otherwise a worker whose parent was killed would continue its job next to the process that takes it over, and a
    forked worker would keep its locks.
    """
    global _number
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if callable(signal.getsignal(signal.SIGTERM)):  # a forked one has the handler of the command
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _number = numbers.get() if numbers else 0
    os.environ.update(environment or {})  # the current one, not that of the start of the process it was forked from
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module from new processes, which would run it again if it has no `__name__` guard."""
    with _hiding:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


@contextmanager
def _start_method_kept() -> Iterator[None]:
    """Restore the program's start method of processes, which starting one in any context would fix."""
    before = multiprocessing.get_start_method(allow_none=True)
    try:
        yield
    finally:
        if before is None:
            multiprocessing.set_start_method(None, force=True)
