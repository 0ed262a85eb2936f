"""The command itself, `ser-pipeline` or `python -m ser_pipeline`: ready for Ctrl-C before anything is imported."""

from __future__ import annotations

import os
import signal
from importlib import import_module
from types import FrameType


def main() -> None:
    """Run the command."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    import_module("ser_pipeline.cli").main(prog_name="ser-pipeline")


def _stop(number: int, frame: FrameType | None) -> None:
    os.write(2, b"\nStopped.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
