"""Names that a user gave and nothing has: which known one was meant, and the line that says so."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CUTOFF = 0.75
"""How alike two names are at least, as difflib counts it, for one to be taken for the other."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` is most likely meant to be; None where none is alike.

    Letters and digits alone count, in any case. A name without its table or owner is found by its last part, and one
    that breaks off by its beginning.

    Args:
        name: what the user gave.
        known: the names that there are.

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
    """The question after a semicolon, `did you mean 'X'?` with a blank behind; "" where nothing is alike.

    >>> guess("papr", ["paper", "scratch"])
    "did you mean 'paper'? "
    """
    found = closest(name, known)
    return f"did you mean '{found}'? " if found and found != name else ""


def unknown(kind: str, name: str, known: Iterable[str], listed: str = "") -> str:
    """What is said of a name that nothing has.

    Args:
        kind: what it should be the name of.
        name: what the user gave.
        known: the names that there are.
        listed: these as they are told, where it is not one after the other.

    >>> unknown("preset", "papr", ["paper", "scratch"])
    "unknown preset 'papr'; did you mean 'paper'? there are paper, scratch"
    """
    there = list(known)
    return f"unknown {kind} '{name}'; {guess(name, there)}there are {listed or ', '.join(there)}"


def _last(name: str) -> str:
    """The part of a name behind the last slash or dot; of `owner/name-1.en`, what is behind the slash."""
    return name.rpartition("/")[2] if "/" in name else name.rpartition(".")[2]


def _letters(name: str) -> str:
    """A name in small letters and digits alone."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
