"""`ser-pipeline status`: list what is finished, what is in work, and what failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ser_pipeline.text import plural

from . import options
from .columns import listed
from .terminal import say, start_log

if TYPE_CHECKING:
    from ser_pipeline.cache.sharing import SharedPart

WHOLE, UNFINISHED = "whole", "unfinished"


@click.command()
@options.cache
@options.runs
def status(cache: Path, runs_root: Path) -> None:
    """List what is finished, in work, or failed.

    The list of features and runs says who works on a part since when, and why a part failed. Prints one line per store,
    run or claimed part, separated by tabs: folder, part, state, who, since, why. A store or run is "whole" or
    "unfinished"; a shard or fold is "held", "left" or "failed".

    \b
    Examples:
      ser-pipeline status
      ser-pipeline status | grep failed
      watch ser-pipeline status --cache /shared/cache --runs-root /shared/runs
    """
    start_log(quiet=False)
    found = [*_features(cache), *_runs(runs_root)]
    if not found:
        say(f"nothing in {cache} and {runs_root}; start with: ser-pipeline features")
    for line in listed(found):
        click.echo(line)


def _features(cache: Path) -> Iterator[str]:
    """Yield the stores in the cache, and the claims on their shards."""
    from ser_pipeline.cache import catalogue, housekeeping
    from ser_pipeline.cache.sharing import shared_parts

    for item in housekeeping.contents(cache):
        if item.path.parent.name != catalogue.features_root(cache).name:
            name, state = item.path.name.rpartition("-")[0], UNFINISHED if item.kind == UNFINISHED else WHOLE
            count = plural(len(list(item.path.glob("*.h5"))), "shard")
            yield f"{item.path.parent.name}\t{name}, {count}\t{state}"
    yield from claimed_lines(shared_parts(catalogue.features_root(cache)))


def _runs(root: Path) -> Iterator[str]:
    """Yield the runs, and the claims on their folds."""
    from ser_pipeline.cache.sharing import shared_parts
    from ser_pipeline.runs.states import run_states

    for run in run_states(root):
        yield f"{run.name}\t{run.trained} of {plural(run.folds, 'fold')}\t{WHOLE if run.whole else UNFINISHED}"
    yield from claimed_lines(shared_parts(root))


def claimed_lines(parts: Iterable[SharedPart]) -> Iterator[str]:
    """Yield a line, separated by tabs, for each claimed part."""
    for part in parts:
        why = " ".join(part.why.split())
        yield "\t".join([part.folder, part.part, part.state, part.who, part.since, why]).rstrip()
