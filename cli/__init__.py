"""The `ser-pipeline` command: one small module per command, imported when the command is used."""

from __future__ import annotations

import importlib
import signal
from typing import Any

import click

from ser_pipeline import __version__
from ser_pipeline.errors import PipelineError

from .encodings import write_anything
from .groups import WORDS, GuessingGroup
from .stopping import Terminated, stoppable, told
from .stopping import status as exit_status
from .terminal import folded

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
"""The commands in the order of `--help`; each is a module of this package that defines a command of the same name."""


class Commands(GuessingGroup):
    """A group that imports its commands when they are used and prints each error as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of a typical workflow."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`, or None."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f".{cmd_name}", __name__), cmd_name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the command line, for commands that hand their work to other machines."""
        ctx.meta[WORDS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and print each error that a user can fix as one line.

        The exit status is 1 after an error, 2 after a usage error, 130 after Ctrl-C and 143 after SIGTERM.
        """
        write_anything()
        words = ctx.meta[WORDS]
        try:
            with stoppable(words):
                return super().invoke(ctx)
        except PipelineError as error:
            raise click.ClickException(folded(str(error), "Error: ")) from None
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise click.UsageError(folded(error.format_message(), "Error: "), error.ctx) from None
        except KeyboardInterrupt as stop:
            number = stop.args[0] if isinstance(stop, Terminated) else signal.SIGINT
            click.echo(f"\n{told(number, words)}", err=True)
            raise click.exceptions.Exit(exit_status(number)) from None
        except BrokenPipeError:
            raise
        except Exception as error:
            from ser_pipeline.errors import is_full, no_space

            if is_full(error):
                place = getattr(error, "filename", None) or "the output file or pipe"
                raise click.ClickException(no_space(place)) from None
            if not isinstance(error, OSError):
                raise
            raise click.ClickException(f"{error.strerror or error}: {error.filename or 'no file named'}") from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ser-pipeline")
def main() -> None:
    """Speech emotion recognition with co-attention: features, training, report.

    \b
    Quick start, on a synthetic corpus that the first command generates:
      ser-pipeline features
      ser-pipeline train --protocol speaker
      ser-pipeline report
    """
