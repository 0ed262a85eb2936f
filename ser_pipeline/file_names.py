"""Validation of names from files or users that become part of a path."""

from __future__ import annotations

from typing import Annotated

from ser_pipeline.errors import PipelineError
from ser_pipeline.shape import Spelled

PARTIAL = ".partial"
"""Suffix of the name of an unfinished folder."""

KEPT = frozenset('/\\:*?"<>|')
"""Characters that separate folders, or that some file systems reserve."""

LONGEST = 150
"""Largest length of a name in bytes, which leaves room for a key and temporary suffixes."""


def is_name(text: str) -> bool:
    """Whether a text is the name of a single file or folder that is valid on any file system.

    >>> is_name("März (1)"), is_name("../x"), is_name("a:b"), is_name("x.partial")
    (True, False, False, False)
    """
    if not text or text[0] in ". " or text[-1] in ". " or text.endswith(PARTIAL):
        return False
    return text.isprintable() and KEPT.isdisjoint(text)


FileName = Annotated[str, Spelled(is_name, "the name of a file or folder, without one above it")]
"""A name in a JSON file that becomes part of a path, and that `is_name` accepts."""


def path_name(name: str, what: str) -> str:
    """Return `name` after checking that it can be the name of a file or folder.

    Every name that becomes part of a path is checked here or read as a `FileName`, since `../x` is another folder.

    Args:
        name: a corpus, protocol, ablation, fold or folder.
        what: what the name belongs to, for the message.

    Raises:
        PipelineError: the name is not valid, or too long for a key after it.
    """
    if not is_name(name) or len(name.encode()) > LONGEST:
        raise PipelineError(
            f"{what} is named {name!r}, which is not a valid folder name; use letters, digits, '-' and '_'"
        )
    return name
