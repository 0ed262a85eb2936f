"""The command `ser-pipeline` or `python -m ser_pipeline`, which handles Ctrl-C before any slow import."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from types import FrameType

STOPPED = (129, 130, 143)
"""Exit status of a command that SIGHUP, SIGINT or SIGTERM stopped."""


def main() -> None:
    """Run the command; exit at once if it was stopped, since threads that still run would abort the process."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    try:
        import_module("ser_pipeline.cli").main(prog_name="ser-pipeline")
    except SystemExit as end:
        if end.code in STOPPED:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(end.code))
        raise


def _stop(number: int, frame: FrameType | None) -> None:
    os.write(2, b"\nStopped.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
