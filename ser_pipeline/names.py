"""Suggestions and messages for unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CUTOFF = 0.75
"""Smallest similarity of a suggested name, by difflib's ratio."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to `name`; None if none is similar.

    Only letters and digits count, in any case. A name without its table or owner is matched by its last part, and an
    incomplete name by its beginning.

    Args:
        name: the user's name.
        known: the known names.

    >>> closest("emo-db", ["emodb", "nemo"]), closest("epochs", ["train.epochs", "train.lr"])
    ('emodb', 'train.epochs')
    >>> closest("scr", ["scratch", "frozen"]), closest("best", ["scratch", "frozen"])
    ('scratch', None)
    """
    there = list(known)
    whole = {_letters(one): one for one in reversed(there)}
    parts = {_letters(_last(one)): one for one in reversed(there)}
    asked, last = _letters(name), _letters(_last(name))
    if found := whole.get(asked) or parts.get(last):
        return found
    begun = [one for key, one in whole.items() if len(asked) > 2 and key.startswith(asked)]
    if len(begun) == 1:
        return begun[0]
    for wanted, names in ((asked, whole), (last, parts)):
        if near := difflib.get_close_matches(wanted, names, 1, CUTOFF):
            return names[near[0]]
    return None


def guess(name: str, known: Iterable[str]) -> str:
    """Return the question `did you mean 'X'?` with a space after it; "" if no name is similar.

    >>> guess("papr", ["paper", "scratch"])
    "did you mean 'paper'? "
    """
    found = closest(name, known)
    return f"did you mean '{found}'? " if found and found != name else ""


def unknown(kind: str, name: str, known: Iterable[str], listed: str = "") -> str:
    """Return the message about an unknown name.

    Args:
        kind: the kind of thing that it should name.
        name: the user's name.
        known: the known names.
        listed: text that replaces the list of known names.

    >>> unknown("preset", "papr", ["paper", "scratch"])
    "unknown preset 'papr'; did you mean 'paper'? known: paper, scratch"
    """
    there = list(known)
    return f"unknown {kind} '{name}'; {guess(name, there)}known: {listed or ', '.join(there)}"


def _last(name: str) -> str:
    """Return the part of a name after the last slash, or without one after the last dot."""
    return name.rpartition("/")[2] if "/" in name else name.rpartition(".")[2]


def _letters(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
