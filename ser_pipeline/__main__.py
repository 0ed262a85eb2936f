"""The command itself, `ser-pipeline` or `python -m ser_pipeline`: ready for Ctrl-C before anything is imported."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from types import FrameType

STOPPED = (129, 130, 143)
"""Exit status of a command that SIGHUP, SIGINT or SIGTERM stopped."""


def main() -> None:
    """Run the command. One that was stopped ends at once: threads that are still at work would abort it."""
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
