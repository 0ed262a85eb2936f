"""Options that several commands share."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from ser_pipeline.limits import MOST
from ser_pipeline.parts import array_part
from ser_pipeline.remote import is_url
from ser_pipeline.settings import STORES

from . import completion, judged

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path, file_okay=False)


class CorpusRoot(click.ParamType):  # type: ignore[type-arg]  # older versions of click have no argument
    """A folder or file, or the URL of one."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return a path, or a URL unchanged.

        Args:
            value: the user's text.
            param: the parameter.
            ctx: the command's context.
        """
        return value if is_url(value) else Path(value)


class _PlainNumber(click.ParamType):  # type: ignore[type-arg]
    """A number without the underscores that Python's syntax allows."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number.

        Args:
            value: the user's text.
            param: the parameter.
            ctx: the command's context.
        """
        if "_" in str(value):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return super().convert(value, param, ctx)


class IntRange(_PlainNumber, click.IntRange):
    """A whole number between bounds."""


class FloatRange(_PlainNumber, click.FloatRange):
    """A number between bounds."""


class CacheFolder(click.Path):
    """A folder, or with `far` the URL of one."""

    def __init__(self, *, far: bool) -> None:
        super().__init__(path_type=Path, file_okay=False)
        self.far = far

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path, or a URL unchanged.

        Args:
            value: the user's text.
            param: the parameter.
            ctx: the command's context.
        """
        if not is_url(value):
            return super().convert(value, param, ctx)
        if not self.far:
            mend = f"ser-pipeline cache pull {shlex.quote(value)}"
            self.fail(f"{value} is a URL, which only train reads; copy it first: {mend}", param, ctx)
        return value


ROOT = CorpusRoot()
WORKERS = IntRange(1, MOST["jobs"])  # processes or threads


def cache(command: Command, *, far: bool = False) -> Command:
    """Add `--cache`, the folder of the features; with `far` it may be a URL."""
    return click.option(
        "--cache",
        type=CacheFolder(far=far),
        envvar="SER_PIPELINE_CACHE",
        default=Path("cache"),
        show_default=True,
        show_envvar=True,
        help="Folder of the features, or its URL." if far else "Folder of the features.",
    )(command)


def far_cache(command: Command) -> Command:
    """Add `--cache` to a command that only reads features."""
    return cache(command, far=True)


def corpus(text: str, known: completion.Completer = completion.FEATURED) -> Callable[[Command], Command]:
    """Return a decorator that adds `--corpus`, and refuses a second one instead of silently using the last.

    Args:
        text: the option's help.
        known: completes the option in the shell.
    """
    return click.option("--corpus", metavar="NAME", multiple=True, callback=_once, shell_complete=known, help=text)


def test_corpus(command: Command) -> Command:
    """Add `--test-corpus`, which is refused if repeated."""
    text = "Test on another corpus, on the classes that all corpora have."
    return click.option(
        "--test-corpus", metavar="NAME", multiple=True, callback=_once, shell_complete=completion.FEATURED, help=text
    )(command)


def _once(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> str | None:
    if len(values) > 1:
        mend = f"join corpora: --corpus {shlex.quote('+'.join(values))}" if option.name == "corpus" else "name one"
        raise click.UsageError(f"{option.opts[0]} is given {len(values)} times; {mend}")
    return values[0] if values else None


def part(command: Command) -> Command:
    """Add `--part`, the share of the work that is done first."""
    return click.option(
        "--part",
        metavar="K/N",
        callback=_part,
        help="Start with share K of N, then help with the others.  [default: the task of a Slurm array]",
    )(command)


def _part(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return array_part()
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", value)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise click.BadParameter(f"'{value}' is not a share K/N, such as 1/8 to 8/8")
    return number, count


def store(command: Command) -> Command:
    """Add `--store`, the form in which acoustic features are stored; the command gets it in its `overrides`."""

    @wraps(command)
    def taking(*given: Any, store: str | None, overrides: tuple[str, ...], **chosen: Any) -> Any:
        own = () if store is None else (f'store="{store}"',)
        return command(*given, overrides=(*overrides, *own), **chosen)

    return click.option(
        "--store",
        type=click.Choice(STORES),
        help="Store rows of features, or only waveforms, from which each training step computes them.  "
        "[default: by the corpus's size]",
    )(cast("Command", taking))


def runs(command: Command) -> Command:
    """Add `--runs-root`, the folder of the runs."""
    return click.option(
        "--runs-root", type=FOLDER, default=Path("runs"), show_default=True, help="Folder of the runs."
    )(command)


def settings(command: Command) -> Command:
    """Add `--preset`, `--config` and `--set`, the layers of the settings."""
    for option in (
        click.option(
            "--set",
            "overrides",
            metavar="KEY=VALUE",
            multiple=True,
            callback=judged.checked(judged.pair),
            shell_complete=completion.SETTINGS,
            help="A setting, such as train.lr=1e-4; may be repeated.",
        ),
        click.option(
            "--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file that overrides the preset."
        ),
        click.option(
            "--preset",
            callback=judged.checked(judged.preset),
            shell_complete=completion.PRESETS,
            help="Named settings: paper, reference, frozen, finetune, scratch, demo.  "
            "[default: chosen for the corpus and machine; for train, the preset of the features]",
        ),
    ):
        command = option(command)
    return command


def device(text: str) -> Callable[[Command], Command]:
    """Return a decorator that adds `--device`.

    Args:
        text: the option's help.
    """
    check = judged.checked(judged.device)
    return click.option("--device", metavar="NAME", default="auto", show_default=True, callback=check, help=text)


def classes(text: str = "Classes and merges, such as neutral=neu,happy=hap+exc.") -> Callable[[Command], Command]:
    """Return a decorator that adds `--classes`.

    Args:
        text: the option's help.
    """
    return click.option("--classes", metavar="LIST", callback=judged.checked(judged.classes), help=text)


def quiet(command: Command) -> Command:
    """Add `--quiet`, which hides all but results and errors."""
    return click.option("-q", "--quiet", is_flag=True, help="Hide progress and log lines.")(command)
