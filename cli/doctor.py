"""`ser-pipeline doctor`: what commands stand on, and what to do where it is amiss."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from . import options
from .columns import wrapped
from .terminal import start_log

INDENT = 20
"""Width of the two columns before what was found."""


@click.command()
@options.cache
@options.runs
@click.option("--json", "as_json", is_flag=True, help="A JSON array, instead of a table.")
def doctor(cache: Path, runs_root: Path, as_json: bool) -> None:
    """Check versions, devices, weights, the cache, the disk and locks, and say what to do.

    Exit status 1 where something keeps commands from working. Nothing is changed, and nothing fetched.

    \b
    Examples:
      ser-pipeline doctor
      ser-pipeline doctor --cache /scratch/features --json
    """
    start_log(quiet=False)
    from ser_pipeline.doctor import ERROR, OK, examine

    checks = list(examine(cache, runs_root))
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=1, ensure_ascii=False))
    else:
        for check in checks:
            click.echo(f"{check.state:9}{check.name:11}{wrapped(check.found, INDENT)}")
            if check.advice:
                click.echo(" " * INDENT + wrapped(f"to do: {check.advice}", INDENT))
        amiss = sum(check.state != OK for check in checks)
        click.echo(f"\n{amiss} of {len(checks)} want attention" if amiss else "\nall is well")
    if any(check.state == ERROR for check in checks):
        raise click.exceptions.Exit(1)
