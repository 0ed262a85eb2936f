"""A group of commands that says which one was meant."""

from __future__ import annotations

import click

from ser_pipeline.names import unknown


class GuessingGroup(click.Group):
    """A group in which an unknown command is one line, with the known one that is alike."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with, as Click has it."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            ctx.fail(unknown("command", name, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)
