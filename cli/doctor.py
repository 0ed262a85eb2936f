"""`ser-pipeline doctor`: what commands stand on, and what to do where it is amiss."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from . import options
from .columns import aligned
from .terminal import start_log


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
        rows = [(check.state, check.name, check.found, check.advice or "-") for check in checks]
        for line in aligned([("state", "check", "found", "what to do"), *rows]):
            click.echo(line)
        amiss = sum(check.state != OK for check in checks)
        click.echo(f"\n{amiss} of {len(checks)} want attention" if amiss else "\nall is well")
    if any(check.state == ERROR for check in checks):
        raise click.exceptions.Exit(1)
