"""`ser-pipeline doctor`: check the installation and the machine, and say how to fix problems."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from . import options
from .columns import wrapped
from .terminal import start_log

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

    checks = list(examine(cache, runs_root))
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=1, ensure_ascii=False))
    else:
        for check in checks:
            click.echo(f"{check.state:9}{check.name:11}{wrapped(check.found, INDENT)}")
            if check.advice:
                click.echo(" " * INDENT + wrapped(f"to do: {check.advice}", INDENT))
        amiss = sum(check.state != OK for check in checks)
        click.echo(f"\n{amiss} of {len(checks)} checks need attention" if amiss else "\nall checks passed")
    if any(check.state == ERROR for check in checks):
        raise click.exceptions.Exit(1)
