"""`ser-pipeline verify`: whether a run is as `train` left it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
def verify(run: Path) -> None:
    """Check RUN, the folder of a finished run: its key, the hash of every file, its scores.

    A line a check; exit status 1 where one fails.

    \b
    Example:
      ser-pipeline verify runs/demo-speaker-full-s0-0123456789ab
    """
    from ser_pipeline.runs.verifying import checks

    failed = False
    for name, fault in checks(run.resolve()):
        failed = failed or bool(fault)
        click.echo(f"failed  {name}: {fault}" if fault else f"ok      {name}")
    if failed:
        raise click.exceptions.Exit(1)
