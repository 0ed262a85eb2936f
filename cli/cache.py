"""`ser-pipeline cache`: list, check, copy and clean up the cache of features."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from . import options
from .columns import aligned
from .groups import GuessingGroup
from .status import claimed_lines
from .terminal import bar, say, start_log

if TYPE_CHECKING:
    from ser_pipeline.cache.housekeeping import Item

UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))
AGES = ((86_400, "d"), (3_600, "h"), (60, "min"))


@click.group(cls=GuessingGroup)
def cache() -> None:
    """List, check, repair, share and clean up the cache of features.

    \b
    Examples:
      ser-pipeline cache ls
      ser-pipeline cache status
      ser-pipeline cache verify
      ser-pipeline cache prune --yes
    """


@cache.command("ls")
@options.cache
def ls(cache: Path) -> None:
    """List corpora and stores with their size, age and source."""
    start_log(quiet=False)
    from ser_pipeline.cache import housekeeping

    items = housekeeping.contents(cache)
    if not items:
        say(f"nothing in {cache}; extract features first: ser-pipeline features")
        return
    for line in _table(items):
        click.echo(line)


@cache.command()
@options.cache
def status(cache: Path) -> None:
    """List who works on unfinished features, and what failed.

    Prints one line per part, separated by tabs: features, part, "held", "left" or "failed", who, since when, why.
    Finished features are not listed; `ser-pipeline status` lists those, and runs.
    """
    start_log(quiet=False)
    from ser_pipeline.cache import catalogue
    from ser_pipeline.cache.sharing import shared_parts

    parts = shared_parts(catalogue.features_root(cache))
    if not parts:
        say(f"no process is at work in {cache}")
    for line in claimed_lines(parts):
        click.echo(line)


@cache.command()
@options.cache
@options.quiet
@click.pass_context
def verify(ctx: click.Context, cache: Path, quiet: bool) -> None:
    """Check every checksum, and remove what is damaged.

    Also compares every row with its manifest. The exit status is 1 if anything was damaged. The printed command
    extracts the removed parts again, and only those.
    """
    start_log(quiet)
    from ser_pipeline.cache import housekeeping

    with bar("verify", "shards", quiet) as progress:
        damages = housekeeping.verify(cache, progress)
    for damage in damages:
        click.echo(f"damaged: {damage.path}: {damage.what}")
    there = (
        f" --cache {shlex.quote(str(cache))}"
        if ctx.get_parameter_source("cache") == ParameterSource.COMMANDLINE
        else ""
    )
    for command in dict.fromkeys(damage.command for damage in damages):
        click.echo(f"repair: {command}{there}")
    if damages:
        ctx.exit(1)
    if quiet:
        return
    if items := housekeeping.contents(cache):
        click.echo(_sound(items))
    else:
        say(f"nothing in {cache}")


def _sound(items: list[Item]) -> str:
    """Return the message about a cache in which nothing is damaged."""
    unfinished = [item.path.name for item in items if item.kind == "unfinished"]
    if unfinished:
        names = ", ".join(unfinished)
        return f"finished features are as written; {names} is unfinished: resume with the same `features` command"
    return "everything is as written"


@cache.command()
@options.cache
@click.option("--yes", is_flag=True, help="Remove without asking.")
def prune(cache: Path, yes: bool) -> None:
    """Remove features that are no longer used.

    These are features that no corpus refers to, and unfinished features that no process works on.
    """
    start_log(quiet=False)
    from ser_pipeline.cache import housekeeping

    items = housekeeping.unused(cache)
    if not items:
        say("nothing to remove")
        return
    for line in _table(items):
        click.echo(line)
    total = _size(sum(item.bytes for item in items))
    if not yes:
        click.confirm(f"Remove {total}?", abort=True)
    housekeeping.remove(items, cache)
    click.echo(f"removed {total}")


@cache.command()
@click.argument("url")
@click.option("--corpus", "corpora", metavar="NAME", multiple=True, help="Of which corpus; may be repeated.")
@options.cache
@options.quiet
def push(url: str, corpora: tuple[str, ...], cache: Path, quiet: bool) -> None:
    """Copy finished features from the cache to URL.

    URL is any folder that fsspec can write, such as s3://bucket/cache. Files that are already there are not copied
    again; the index of a folder is copied last. Prints the copied folders.

    \b
    Examples:
      ser-pipeline cache push s3://bucket/cache
      ser-pipeline cache push s3://bucket/cache --corpus emodb
    """
    start_log(quiet)
    from ser_pipeline.cache import transfer

    with _copying("push", quiet) as (told, progress):
        transfer.push(cache, url, corpora, told, progress)


@cache.command()
@click.argument("url")
@click.option("--corpus", "corpora", metavar="NAME", multiple=True, help="Of which corpus; may be repeated.")
@options.cache
@options.quiet
def pull(url: str, corpora: tuple[str, ...], cache: Path, quiet: bool) -> None:
    """Copy finished features from URL into the cache.

    `train` finds them there. Every checksum is compared before a folder gets its final name. To resume a stopped copy,
    run the same command again. Prints the copied folders.

    \b
    Examples:
      ser-pipeline cache pull s3://bucket/cache
      ser-pipeline cache pull s3://bucket/cache --corpus emodb
    """
    start_log(quiet)
    from ser_pipeline.cache import transfer

    with _copying("pull", quiet) as (told, progress):
        transfer.pull(cache, url, corpora, told, progress)


@cache.command()
@options.cache
def path(cache: Path) -> None:
    """Print the path of the cache."""
    click.echo(cache.resolve())


@contextmanager
def _copying(verb: str, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """Yield a function that notes a copied folder, printed once the bar is gone, and the update function of the bar."""
    copied = list[str]()
    try:
        with bar(verb, "files", quiet) as progress:
            yield copied.append, progress
    finally:
        for name in copied:
            click.echo(name)
    if not copied and not quiet:
        say("nothing to copy: everything is there")


def _table(items: list[Item]) -> list[str]:
    rows = [("what", "size", "age", "folder", "made from")]
    rows += [(item.kind, _size(item.bytes), _age(item.changed), _folder(item), item.source) for item in items]
    return list(aligned(rows, right=[1, 2]))


def _folder(item: Item) -> str:
    """Return the folder's name below the features, with a store indented by two spaces."""
    return item.path.name if item.path.parent.name == "features" else f"  {item.path.name}"


def _size(count: int) -> str:
    """Format bytes in the largest unit that fits.

    >>> _size(3 << 20), _size(12)
    ('3.0 MB', '12 B')
    """
    return next((f"{count / unit:.1f} {name}" for unit, name in UNITS if count >= unit), f"{count} B")


def _age(changed: float, now: Callable[[], float] = time.time) -> str:
    """Format the time since `changed`, in seconds since the epoch, in the largest unit that fits.

    >>> _age(0, lambda: 7200), _age(0, lambda: 3)
    ('2 h', '3 s')
    """
    seconds = now() - changed
    return next((f"{seconds / unit:.0f} {name}" for unit, name in AGES if seconds >= unit), f"{seconds:.0f} s")
