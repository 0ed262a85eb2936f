"""Run a command of this package as an array of Slurm tasks, by a script to submit by hand, or through submitit.

Every task is the same command with a share of its own. Progress is stored in the shared folders, so a task that is
requeued resumes where it was stopped.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ser_pipeline.elsewhere.tasks import Task
from ser_pipeline.entry import write_text
from ser_pipeline.errors import PipelineError

SCRIPT = "array.sh"
"""Name of the script, next to the logs of its tasks."""

OURS = ("array", "chdir", "output", "error", "open-mode", "requeue")
"""Options of sbatch that this module sets."""


@dataclass(frozen=True)
class TaskArray:
    """Tasks that share the work of one command."""

    task: Task
    count: int
    settings: Mapping[str, str]  # options of sbatch -> value; "" for a flag
    folder: Path  # folder of the script and the logs

    @classmethod
    def of(cls, task: Task, parts: int, most: int, settings: Mapping[str, str], root: Path) -> TaskArray:
        """The tasks of a command.

        Args:
            task: the command without a share.
            parts: number of folds or shards to compute.
            most: maximum number of tasks; each gets several parts if there are more.
            settings: options of sbatch.
            root: parent of the arrays' folders; the same command has the same folder.
        """
        digest = sha256(shlex.join(task.words).encode()).hexdigest()[:12]
        return cls(task, min(parts, most), settings, root.resolve() / "slurm" / f"{task.words[0]}-{digest}")

    def script(self) -> str:
        """The script for `sbatch`: the command, which finds its share in the variables of the array."""
        options = {
            "job-name": f"ser-pipeline-{self.task.words[0]}",
            "array": f"1-{self.count}",
            "requeue": "",
            "chdir": self.task.folder,
            "output": f"{self.folder}/%A_%a.log",
            "open-mode": "append",
            **self.settings,
        }
        lines = [f"#SBATCH --{name}" + (f"={shlex.quote(value)}" if value else "") for name, value in options.items()]
        exports = [f"export {name}={shlex.quote(value)}" for name, value in self.task.environment]
        command = shlex.join([sys.executable, "-m", "ser_pipeline", *self.task.words])
        return "\n".join(["#!/usr/bin/env bash", *lines, "", *exports, f"exec {command}", ""])

    def write(self) -> Path:
        """Write the script; return its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / SCRIPT, self.script())
        return self.folder / SCRIPT

    def submit(self, cluster: str = "slurm") -> list[Any]:
        """Submit the tasks; return submitit's jobs.

        Args:
            cluster: "slurm", or "local" for processes on this machine.

        Raises:
            PipelineError: submitit or Slurm is missing, or refuses the tasks.
        """
        try:
            import submitit
        except ImportError:
            raise PipelineError("--submit needs submitit: pip install 'ser-pipeline[slurm]'") from None
        if cluster == "slurm" and not shutil.which("sbatch"):
            raise PipelineError(f"there is no sbatch here; on a machine of the cluster, run: sbatch {self.write()}")
        executor = submitit.AutoExecutor(folder=self.folder, cluster=cluster)
        executor.update_parameters(name=f"ser-pipeline-{self.task.words[0]}", timeout_min=7 * 24 * 60)
        if cluster == "slurm":
            given = {name: value or True for name, value in self.settings.items()}
            executor.update_parameters(
                slurm_time=None,
                slurm_wckey=None,
                slurm_use_srun=False,
                slurm_stderr_to_stdout=True,
                slurm_array_parallelism=self.count,
                slurm_additional_parameters={"requeue": True, **given},
            )
        shares = [self.task.share(number, self.count) for number in range(1, self.count + 1)]
        try:
            with executor.batch():
                jobs = [executor.submit(share) for share in shares]
        except submitit.core.utils.FailedJobError as error:
            raise PipelineError(f"sbatch refuses: {str(error).strip().splitlines()[-1]}") from None
        return list(jobs)


def sbatch_settings(pairs: Iterable[str]) -> dict[str, str]:
    """Options of sbatch from `NAME=VALUE` pairs; one text may contain several.

    >>> sbatch_settings(["gpus=1 time=2:00:00", "exclusive"])
    {'gpus': '1', 'time': '2:00:00', 'exclusive': ''}

    Raises:
        PipelineError: an invalid name, or an option that this module sets.
    """
    found = {}
    for pair in (word for text in pairs for word in shlex.split(text)):
        name, _, value = pair.partition("=")
        name = name.removeprefix("--").replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise PipelineError(f"--slurm-set {shlex.quote(pair)} is not NAME=VALUE, such as gpus=1 or time=2:00:00")
        if name in OURS:
            raise PipelineError(f"--slurm-set cannot change {name}" + ("; --array N can" if name == "array" else ""))
        found[name] = value
    return found
