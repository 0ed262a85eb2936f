"""A group of commands that suggests the nearest command for an unknown name."""

from __future__ import annotations

import click

from ser_pipeline.names import unknown

WORDS = f"{__name__}.words"
"""Key of the command line in click's context."""


class GuessingGroup(click.Group):
    """A group that reports an unknown command in one line, with the most similar known one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` begin with, as `click.Group` does."""
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            ctx.fail(unknown("command", name, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)
