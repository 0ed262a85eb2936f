"""`ser-pipeline doctor`: check the installation and the machine, and say how to fix problems."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ser_pipeline.text import plural

from . import options
from .columns import wrapped
from .terminal import start_log

if TYPE_CHECKING:
    from ser_pipeline.doctor import Diagnosis

INDENT = 20
"""Width of the two columns before the result of a check."""


@click.command()
@options.cache
@options.runs
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead of a table.")
def doctor(cache: Path, runs_root: Path, as_json: bool) -> None:
    """Check the installation, and say how to fix problems.

    Checks versions, devices, weights, the cache, the disk and locks. The exit status is 1 if something keeps commands
    from working. Nothing is changed or downloaded.

    \b
    Examples:
      ser-pipeline doctor
      ser-pipeline doctor --cache /scratch/features --json
    """
    start_log(quiet=False)
    from ser_pipeline.doctor import ERROR, OK, examine

    checks: list[Diagnosis] = []
    for check in examine(cache, runs_root):
        checks.append(check)
        if not as_json:
            click.echo(f"{check.state:9}{check.name:11}{wrapped(check.found, INDENT)}")
            if check.advice:
                advice = check.advice if check.state == OK else f"to do: {check.advice}"
                click.echo(" " * INDENT + wrapped(advice, INDENT))
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=1, ensure_ascii=False))
    else:
        click.echo("\n" + wrapped(_verdict([check.state for check in checks]), 0))
    if any(check.state == ERROR for check in checks):
        raise click.exceptions.Exit(1)


def _verdict(states: Sequence[str]) -> str:
    """Return whether the installation works, by the states of all checks."""
    from ser_pipeline.doctor import ERROR, WARNING

    errors, warnings = states.count(ERROR), states.count(WARNING)
    if errors:
        return f"something keeps commands from working: {plural(errors, 'error')} above"
    if warnings:
        return f"the installation works; {plural(warnings, 'warning')} above"
    return "the installation works"
