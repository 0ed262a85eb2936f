"""One command of this package with a share of the work, run on another machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any

from ser_pipeline.errors import PipelineError

POLL = 0.5
"""Seconds between checks of whether a task is still wanted."""

GRACE = 10.0
"""Seconds that a process has to end before it is killed."""

TIED = (
    "import os, threading\n"
    "def watch():\n"
    "    os.read(0, 1)\n"  # ends with the process at its other end
    "    os._exit(1)\n"
    "threading.Thread(target=watch, daemon=True).start()\n"
    "import runpy\n"
    "runpy.run_module('ser_pipeline', run_name='__main__')\n"
)
"""A program that runs the command and ends with the process that started it, even if that is killed."""


@dataclass(frozen=True)
class Task:
    """A command of this package, and the folder it runs in."""

    words: tuple[str, ...]  # after `ser-pipeline`
    folder: str
    environment: tuple[tuple[str, str], ...] = ()  # variables added to the machine's own

    @classmethod
    def here(cls, words: Sequence[str]) -> Task:
        """The command, to be run in the current folder, with this package's environment variables."""
        own = tuple((name, value) for name, value in os.environ.items() if name.startswith("SER_PIPELINE_"))
        return cls(tuple(words), str(Path.cwd()), own)

    def share(self, number: int, count: int) -> Task:
        """The command with share `number` of `count`."""
        return Task((*self.words, "--part", f"{number}/{count}"), self.folder, self.environment)

    def __call__(self, wanted: Callable[[], bool] = lambda: True) -> str:
        """Run the command until it ends, or is no longer wanted; return its output.

        Args:
            wanted: called twice a second.

        Raises:
            PipelineError: the folder does not exist, or the command failed; then with the last line of its messages.
        """
        if not wanted():
            return ""
        if not Path(self.folder).is_dir():
            raise PipelineError(
                f"there is no folder {self.folder} on {platform.node()}; "
                "run the command in a folder that all machines of the cluster share"
            )
        command, environment = [sys.executable, "-c", TIED, *self.words], {**os.environ, **dict(self.environment)}
        theirs, ours = os.pipe()
        try:
            try:
                process = subprocess.Popen(
                    command, cwd=self.folder, env=environment, stdin=theirs, stdout=PIPE, stderr=PIPE, text=True
                )
            finally:
                os.close(theirs)
            printed, said = _ended(process, wanted)
        finally:
            os.close(ours)
        sys.stderr.write(said)
        sys.stdout.write(printed)
        if process.returncode:
            lines = said.strip().splitlines() or [f"exit status {process.returncode}"]
            raise PipelineError(lines[-1].removeprefix("Error: "))
        return printed

    def checkpoint(self, *_: Any) -> Any:
        """The task that submitit requeues if a time limit or another job stops this one."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _ended(process: subprocess.Popen[str], wanted: Callable[[], bool]) -> tuple[str, str]:
    """The output and messages of a process, once it has ended."""
    while True:
        try:
            return process.communicate(timeout=POLL)
        except subprocess.TimeoutExpired:
            if not wanted():
                process.terminate()
                break
    try:
        return process.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()
