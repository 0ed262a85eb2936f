"""Options that several commands share."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from ser_pipeline.errors import PipelineError
from ser_pipeline.limits import MOST
from ser_pipeline.names import unknown
from ser_pipeline.parts import array_part
from ser_pipeline.remote import is_url
from ser_pipeline.settings import STORES

from . import completion

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path, file_okay=False)


class CorpusRoot(click.ParamType):  # type: ignore[type-arg]  # older versions of click have no argument
    """A folder or file, or the URL of one."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """A path, or the URL as it is.

        Args:
            value: what the user wrote.
            param: of which it is the value.
            ctx: of the command.
        """
        return value if is_url(value) else Path(value)


class _PlainNumber(click.ParamType):  # type: ignore[type-arg]
    """A number without the underscores that Python's code may have."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number.

        Args:
            value: what the user wrote.
            param: of which it is the value.
            ctx: of the command.
        """
        if "_" in str(value):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return super().convert(value, param, ctx)


class IntRange(_PlainNumber, click.IntRange):
    """A whole number between bounds."""


class FloatRange(_PlainNumber, click.FloatRange):
    """A number between bounds."""


class CacheFolder(click.Path):
    """A folder, or where it is only read the URL of one."""

    def __init__(self, *, far: bool) -> None:
        super().__init__(path_type=Path, file_okay=False)
        self.far = far

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A path, or the URL as it is.

        Args:
            value: what the user wrote.
            param: of which it is the value.
            ctx: of the command.
        """
        if not is_url(value):
            return super().convert(value, param, ctx)
        if not self.far:
            mend = f"ser-pipeline cache pull {shlex.quote(value)}"
            self.fail(f"{value} is a URL, from which train alone reads; {mend}", param, ctx)
        return value


ROOT = CorpusRoot()
WORKERS = IntRange(1, MOST["jobs"])  # processes or threads


def cache(command: Command, *, far: bool = False) -> Command:
    """`--cache`: where features are kept; with `far`, behind a URL as well."""
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
    """`--cache` of a command that reads features alone."""
    return cache(command, far=True)


def corpus(text: str, known: completion.Completer = completion.FEATURED) -> Callable[[Command], Command]:
    """`--corpus`, once at most, since the last of several would be taken without a word.

    Args:
        text: its help.
        known: what the shell offers.
    """
    return click.option("--corpus", metavar="NAME", multiple=True, callback=_once, shell_complete=known, help=text)


def test_corpus(command: Command) -> Command:
    """`--test-corpus`, once at most."""
    text = "Test on another corpus, in the classes that all have."
    return click.option(
        "--test-corpus", metavar="NAME", multiple=True, callback=_once, shell_complete=completion.FEATURED, help=text
    )(command)


def _once(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> str | None:
    if len(values) > 1:
        mend = f"join corpora: --corpus {shlex.quote('+'.join(values))}" if option.name == "corpus" else "name one"
        raise click.UsageError(f"{option.opts[0]} is given {len(values)} times; {mend}")
    return values[0] if values else None


def part(command: Command) -> Command:
    """`--part`: which share of the work is done first."""
    return click.option(
        "--part",
        metavar="K/N",
        callback=_part,
        help="Begin with share K of N, then help with the others.  [default: the task of a Slurm array]",
    )(command)


def _part(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return array_part()
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", value)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise click.BadParameter(f"'{value}' is no share K/N, such as 1/8 to 8/8")
    return number, count


def store(command: Command) -> Command:
    """`--store`: what of the acoustic features is kept; the command has it among its `overrides`."""

    @wraps(command)
    def taking(*given: Any, store: str | None, overrides: tuple[str, ...], **chosen: Any) -> Any:
        own = () if store is None else (f'store="{store}"',)
        return command(*given, overrides=(*overrides, *own), **chosen)

    return click.option(
        "--store",
        type=click.Choice(STORES),
        help="Keep rows of features, or waveforms alone, of which a step makes them.  [default: by the corpus's size]",
    )(cast("Command", taking))


def runs(command: Command) -> Command:
    """`--runs-root`: where runs are kept."""
    return click.option(
        "--runs-root", type=FOLDER, default=Path("runs"), show_default=True, help="Folder of the runs."
    )(command)


def settings(command: Command) -> Command:
    """`--preset`, `--config` and `--set`: the layers of the settings."""
    for option in (
        click.option(
            "--set",
            "overrides",
            metavar="KEY=VALUE",
            multiple=True,
            shell_complete=completion.SETTINGS,
            help="One setting, such as train.lr=1e-4; may be repeated.",
        ),
        click.option(
            "--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file of settings over the preset."
        ),
        click.option(
            "--preset",
            callback=_preset,
            shell_complete=completion.PRESETS,
            help="Named settings: paper, reference, frozen, finetune, scratch, demo.  "
            "[default: what suits corpus and machine; for train, as the features were made]",
        ),
    ):
        command = option(command)
    return command


def _preset(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """A preset that there is, so that a mistake is told before anything else is looked for."""
    if value is not None and not context.resilient_parsing:
        from ser_pipeline.config import presets

        if value not in presets():
            raise PipelineError(unknown("preset", value, presets()))
    return value


def quiet(command: Command) -> Command:
    """`--quiet`: results and errors alone."""
    return click.option("-q", "--quiet", is_flag=True, help="No progress and no log lines.")(command)
