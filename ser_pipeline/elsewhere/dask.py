"""Run a command of this package as tasks of a Dask cluster; tasks of a lost worker run again on another one.

A task is a process separate from its worker, so that it loads its own libraries, and it ends with the worker. While the
tasks run, this process holds a claim in the shared folder; tasks end when it is released or no longer renewed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

from ser_pipeline.claims import FOLDER, Claims
from ser_pipeline.elsewhere.tasks import GRACE, Task
from ser_pipeline.errors import PipelineError

CONNECT = 5
"""Seconds within which a scheduler must answer."""

GPU = "GPU"
"""Name of the GPU among the resources of workers: `dask worker --resources GPU=1`."""

log = logging.getLogger(__name__)


class Cluster:
    """The workers behind a scheduler."""

    def __init__(self, address: str) -> None:
        """Connect to a scheduler.

        Args:
            address: address of the scheduler, such as "tcp://10.0.0.1:8786".

        Raises:
            PipelineError: `distributed` is missing, the scheduler does not answer, or it has no workers.
        """
        try:
            self._distributed: Any = import_module("distributed")
        except ImportError:
            raise PipelineError("--dask needs distributed: pip install 'ser-pipeline[dask]'") from None
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        try:
            self._client = self._distributed.Client(address, timeout=CONNECT)
        except (OSError, ValueError, TypeError) as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise PipelineError(f"cannot reach a Dask scheduler at {address}: {told}") from None
        self._workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if not self._workers:
            self._client.close()
            raise PipelineError(f"the Dask scheduler at {address} has no workers; start some: dask worker {address}")

    @property
    def gpus(self) -> int:
        """Number of GPUs among the resources of all workers."""
        return int(sum(worker["resources"].get(GPU, 0) for worker in self._workers))

    @property
    def places(self) -> int:
        """Number of tasks that can run at once, each with a whole machine or GPU."""
        return self.gpus or len(self._workers)

    def run(self, tasks: Sequence[Task], root: Path, progress: Callable[[int, int], None]) -> list[str]:
        """Run tasks until all have ended; return the lines that they print, without duplicates.

        Args:
            tasks: tasks to run.
            root: a folder that all machines share, for the claim.
            progress: called with the number of finished tasks, and the total.

        Raises:
            PipelineError: a task failed; raised once the others have ended.
        """
        claims = Claims(root.resolve() / FOLDER)
        name = f"dask-{claims.holder.token}"
        claim = claims.take(f"{name}/tasks")
        assert claim, "nobody else has this name"
        with closing(self._client), claims.renewing():
            resources = {GPU: 1} if self.gpus else None
            futures = self._client.map(run_task, tasks, claim=claim.file, pure=False, resources=resources)
            try:
                return self._results(futures, progress)
            finally:
                claims.let_go(claim)
                self._distributed.wait(futures, timeout=2 * GRACE)
                self._client.cancel(futures)
                claims.remove(name)

    def _results(self, futures: Sequence[Any], progress: Callable[[int, int], None]) -> list[str]:
        """Collect what the tasks print as they end."""
        printed, failed = dict[str, None](), list[str]()
        progress(0, len(futures))
        for done, future in enumerate(self._distributed.as_completed(futures), 1):
            error = future.exception()
            lines, why = ("", f"{type(error).__name__}: {error}") if error else future.result()
            printed |= dict.fromkeys(lines.splitlines())
            if why:
                if why not in failed:
                    log.error("%s", why)
                failed.append(why)
            progress(done, len(futures))
        if failed:
            raise PipelineError(f"{len(failed)} of {len(futures)} tasks failed; the first: {failed[0]}")
        return list(printed)


def run_task(task: Task, claim: Path) -> tuple[str, str]:
    """Run a task on a worker for as long as it is wanted; return its output, and the error that stopped it.

    Args:
        task: the task to run.
        claim: file of the claim that the caller holds.
    """
    watcher = Claims(claim.parent.parent.parent)
    try:
        return task(lambda: not watcher.is_left(claim)), ""
    except PipelineError as error:
        return "", str(error)
