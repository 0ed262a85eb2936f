"""The exception whose message a user sees, and messages about folders that are not writable."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class PipelineError(Exception):
    """An error that the user can fix; the message is one line that says what is wrong and what to do."""

    def __str__(self) -> str:
        r"""Return the message, with line breaks and other control characters of names and cells escaped.

        >>> str(PipelineError("no column 'a\nb'"))
        "no column 'a\\nb'"
        """
        text = super().__str__()
        if text.isprintable():
            return text
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def is_full(error: BaseException) -> bool:
    """Whether `error` was caused by a full disk, a quota or a file-size limit.

    HDF5 and safetensors report this only in the message, and torch only in the error's context.
    """
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if getattr(error, "errno", None) in full or any(os.strerror(code) in str(error) for code in full):
        return True
    return error.__context__ is not None and is_full(error.__context__)


def no_space(place: Path | str) -> str:
    """Return the message about a full disk."""
    return f"no space left on the disk of {place}; finished work is kept: free some space and run again"


def unwritable(place: Path, error: OSError) -> str:
    """Return the message about a folder `place` that is not writable."""
    return no_space(place) if is_full(error) else f"cannot write to {place}: {error.strerror}; choose another folder"
