"""The `ser-pipeline` command: one small file a command, loaded when it is asked for."""

from __future__ import annotations

import importlib
import signal
from typing import Any

import click

from ser_pipeline import __version__
from ser_pipeline.errors import PipelineError

from .encodings import write_anything
from .groups import GuessingGroup
from .stopping import Terminated, stoppable, told
from .stopping import status as exit_status

COMMANDS = (
    "features",
    "train",
    "status",
    "report",
    "verify",
    "predict",
    "export",
    "profile",
    "corpora",
    "audit",
    "folds",
    "cache",
    "doctor",
)
"""The commands in the order of `--help`; each is a module of this package that holds a command of its own name."""


class Commands(GuessingGroup):
    """A group whose commands are imported when used, and whose errors are one line each."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f".{cmd_name}", __name__), cmd_name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words of the command line, for commands that other machines run."""
        ctx.meta[f"{__name__}.elsewhere.words"] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what a user can mend ends in one line and exit status 1, Ctrl-C in 130, SIGTERM in 143."""
        write_anything()
        try:
            with stoppable():
                return super().invoke(ctx)
        except PipelineError as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt as stop:
            number = stop.args[0] if isinstance(stop, Terminated) else signal.SIGINT
            click.echo(f"\n{told(number)}", err=True)
            raise click.exceptions.Exit(exit_status(number)) from None
        except BrokenPipeError:
            raise
        except Exception as error:
            from ser_pipeline.errors import is_full, no_space

            if is_full(error):
                place = getattr(error, "filename", None) or "what this writes or prints to"
                raise click.ClickException(no_space(place)) from None
            if not isinstance(error, OSError):
                raise
            raise click.ClickException(f"{error.strerror or error}: {error.filename or 'no file named'}") from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ser-pipeline")
def main() -> None:
    """Speech emotion recognition with co-attention: features, training, report.

    \b
    A first look, on a synthetic corpus that is made on the spot:
      ser-pipeline features
      ser-pipeline train --protocol speaker
      ser-pipeline report
    """
