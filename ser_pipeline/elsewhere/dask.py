"""A command of this package as tasks of a Dask cluster, of which a lost worker's run again on another one.

A task is a process beside its worker, so that it has the machine's libraries to itself, and ends with it. While the
tasks run, this process holds a claim in the shared folder: where that is let go or no longer renewed, they end.
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
"""Seconds in which a scheduler must answer."""

GPU = "GPU"
"""What workers with a GPU call it among their resources: `dask worker --resources GPU=1`."""

log = logging.getLogger(__name__)


class Cluster:
    """The workers behind a scheduler."""

    def __init__(self, address: str) -> None:
        """Connect.

        Args:
            address: of the scheduler, such as "tcp://10.0.0.1:8786".

        Raises:
            PipelineError: `distributed` is missing, nobody answers, or there are no workers.
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
        """GPUs among the resources of all workers."""
        return int(sum(worker["resources"].get(GPU, 0) for worker in self._workers))

    @property
    def places(self) -> int:
        """Tasks that take a whole machine or GPU and can run at once."""
        return self.gpus or len(self._workers)

    def run(self, tasks: Sequence[Task], root: Path, progress: Callable[[int, int], None]) -> list[str]:
        """Run tasks to their end; the lines that they print, each once.

        Args:
            tasks: to run.
            root: a folder that all machines see, for the claim.
            progress: called with the tasks done and wanted.

        Raises:
            PipelineError: what stopped a task, once the others have ended.
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
        """What the tasks print, as they end."""
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
    """Run a task on a worker for as long as it is wanted; what it prints, and what stopped it.

    Args:
        task: to run.
        claim: held by who wants it.
    """
    watcher = Claims(claim.parent.parent.parent)
    try:
        return task(lambda: not watcher.is_left(claim)), ""
    except PipelineError as error:
        return "", str(error)
