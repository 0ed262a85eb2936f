"""`--slurm` and `--dask`: run a command in shares on other machines."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ser_pipeline.text import plural

from . import options
from .groups import WORDS
from .terminal import bar, say

MOST = 100_000
"""Largest number of tasks of an array."""

TAKEN = {
    "--slurm": 0,
    "--submit": 0,
    "--array": 1,
    "--slurm-set": 1,
    "--dask": 1,
    "--part": 1,
    "--no-wait": 0,
    "--share-only": 0,
}
"""Options that are not passed on to a task, with the number of their values."""


@dataclass(frozen=True)
class Elsewhere:
    """The user's choice of where and how to run a command."""

    slurm: bool
    submit: bool
    array: int
    settings: tuple[str, ...]
    dask: str | None

    def __bool__(self) -> bool:
        return self.slurm or self.dask is not None

    def hand_out(self, parts: int, noun: str, root: Path, quiet: bool) -> None:
        """Run the parts of this command on other machines.

        Args:
            parts: number of parts left to do.
            noun: what a part is called, "fold" or "shard".
            root: folder for the logs.
            quiet: whether to hide progress.
        """
        from ser_pipeline.elsewhere.tasks import Task

        if not parts:
            say("nothing to do: everything is finished")
            return
        words = click.get_current_context().find_root().meta[WORDS]
        folds = noun == "fold"
        if self.dask is not None:
            task = Task.here([*without(words), *(["--share-only"] if folds else [])])
            self._dask(self.dask, task, min(parts, self.array), folds, root, quiet)
        else:
            self._slurm(Task.here([*without(words), *(["--no-wait"] if folds else [])]), parts, noun, root)

    def _dask(self, address: str, task: Any, count: int, folds: bool, root: Path, quiet: bool) -> None:
        from ser_pipeline.elsewhere.dask import Cluster

        cluster = Cluster(address)
        count = count if folds else min(count, cluster.places)  # one task of `features` keeps a machine busy
        tasks = [task.share(number, count) for number in range(1, count + 1)]
        with bar("parts", "parts", quiet) as progress:
            printed = cluster.run(tasks, root, progress)
        click.echo("\n".join(printed))

    def _slurm(self, task: Any, parts: int, noun: str, root: Path) -> None:
        from ser_pipeline.elsewhere.slurm import TaskArray, sbatch_settings

        array = TaskArray.of(task, parts, self.array, sbatch_settings(self.settings), root)
        script = array.write()
        told = f"{plural(parts, noun)} in {plural(array.count, 'task')}"
        if self.submit:
            jobs = array.submit()
            click.echo(f"{told} submitted; logs in {array.folder}", err=True)
            click.echo(str(jobs[0].job_id).partition("_")[0])
        else:
            click.echo(f"{told}; submit with: sbatch {script}", err=True)
            click.echo(script)


def without(words: Sequence[str]) -> list[str]:
    """Return the words of a command without the options that choose where it runs.

    >>> without(["train", "--slurm", "--array", "8", "--slurm-set=gpus=1", "--seeds", "2"])
    ['train', '--seeds', '2']
    """
    found, skip = list[str](), 0
    for word in words:
        name, given, _ = word.partition("=")
        if skip:
            skip -= 1
        elif name in TAKEN:
            skip = 0 if given else TAKEN[name]
        else:
            found.append(word)
    return found


def elsewhere(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that run a command elsewhere; the command receives them as one `Elsewhere`."""

    @functools.wraps(command)
    def gathered(
        *, slurm: bool, submit: bool, array: int, slurm_set: tuple[str, ...], dask: str | None, **given: Any
    ) -> Any:
        if slurm and dask is not None:
            raise click.UsageError("--slurm and --dask exclude each other: use one")
        if (submit or slurm_set) and not slurm:
            raise click.UsageError("--submit and --slurm-set need --slurm")
        return command(elsewhere=Elsewhere(slurm, submit, array, slurm_set, dask), **given)

    for option in (
        click.option("--dask", metavar="URL", help="Run on a Dask cluster with this scheduler, tcp://HOST:PORT."),
        click.option(
            "--slurm-set",
            metavar="NAME=VALUE",
            multiple=True,
            help="An option of sbatch, such as gpus=1; may be repeated.",
        ),
        click.option(
            "--array",
            type=options.IntRange(1, MOST),
            default=1000,
            show_default=True,
            help="Largest number of tasks; if there are more parts, a task does several.",
        ),
        click.option("--submit", is_flag=True, help="Submit the array with submitit."),
        click.option("--slurm", is_flag=True, help="Write a script that runs this command as a Slurm job array."),
    ):
        gathered = option(gathered)
    return gathered
