"""Text to terminals and pipes of any encoding."""

from __future__ import annotations

import codecs
import io
import os
import sys

ESCAPED = "ser-pipeline-escaped"
"""The error handler that writes `\\u00e9` where an encoding has no é, as JSON has it."""


def write_anything() -> None:
    """Have stdout and stderr take any text: files and pipes in UTF-8, terminals escaped where they cannot show it.

    An encoding that the user has named by PYTHONIOENCODING stays.
    """
    codecs.register_error(ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            chosen = stream.isatty() or "PYTHONIOENCODING" in os.environ
            stream.reconfigure(encoding=None if chosen else "utf-8", errors=ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end
