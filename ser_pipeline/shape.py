"""The shape of a JSON value, checked where it enters: against a dataclass, or any type that JSON can have.

A file that another person, a half-copied disk or an older version wrote may be valid JSON of another shape. Whoever
reads one says once what it should hold, as types, and gets that or a `ShapeError` that names the place.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class ShapeError(ValueError):
    """A value of another shape: where it stands, and what should stand there."""


@dataclass(frozen=True)
class Spelled:
    """How a text is spelled, as a mark of its type: `Annotated[str, Spelled(pattern.fullmatch, "a date")]`."""

    allows: Callable[[str], object]  # whether a text is such a one
    words: str  # what such a text is


PathText = Annotated[str, Spelled(re.compile(r"[^\x00]*").fullmatch, "a path")]
"""What a path may be made of."""

LARGEST = (1 << 63) - 1
"""Largest whole number of 64 bits."""

KINDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    types.NoneType: "null",
}
"""What messages call the types of JSON."""


def shaped(value: object, wanted: type[T], at: str = "") -> T:
    """`value`, which JSON gave, as the type `wanted`.

    Objects become dataclasses, whose fields of no default must be there and whose unknown keys are passed over; lists
    become lists or tuples. Whole numbers, of 64 bits at most, pass as numbers, which are finite; truth values pass as
    nothing else; a text holds whole characters only.

    Args:
        value: of JSON.
        wanted: a dataclass, a type of JSON, `list`, `tuple` or `dict` of one, a union, a `Literal`, or a text that is
            `Spelled`.
        at: what messages call the value; "": it.

    Raises:
        ShapeError: says what stands where, and what should.

    >>> shaped({"a": [1, 2]}, dict[str, list[float]])
    {'a': [1.0, 2.0]}
    >>> shaped({"a": [1, "2"]}, dict[str, list[float]])
    Traceback (most recent call last):
    ser_pipeline.shape.ShapeError: a[1] is text, not a number
    """
    found: T = _shaped(value, wanted, at)
    return found


def _shaped(value: Any, wanted: Any, at: str) -> Any:
    origin, args = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return _spelled(_shaped(value, args[0], at), args[1:], at)
    if wanted in (Any, object):
        return value
    if is_dataclass(wanted):
        return _object(value, wanted, at)
    if origin in (Union, types.UnionType):
        return _one_of(value, args, at)
    if origin is Literal:
        return value if value in args and type(value) in map(type, args) else _refuse(value, _words(wanted), at)
    if origin in (list, tuple):
        if not isinstance(value, list):
            _refuse(value, "a list", at)
        if args[0] is str and set(map(type, value)) <= {str} and _whole("".join(value)):
            return origin(value)  # at once, as there may be 100,000s
        return origin(_shaped(item, args[0], f"{at}[{number}]") for number, item in enumerate(value))
    if origin in (dict, Mapping) or wanted in (dict, Mapping):
        inner = args[1] if args else Any
        items = value.items() if isinstance(value, dict) else _refuse(value, "an object", at)
        return {_text(name, at): _shaped(item, inner, _below(at, name)) for name, item in items}
    return _plain(value, wanted, at)


def _object(value: Any, wanted: Any, at: str) -> Any:
    if not isinstance(value, dict):
        _refuse(value, "an object", at)
    found = {}
    for name, (hint, needed) in _fields(wanted).items():
        if name in value:
            found[name] = _shaped(value[name], hint, _below(at, name))
        elif needed:
            raise ShapeError(f"{at or 'it'} has no {name}")
    return wanted(**found)


@cache
def _fields(wanted: Any) -> dict[str, tuple[Any, bool]]:
    """Field -> its type, and whether it must be there."""
    hints = get_type_hints(wanted, include_extras=True)
    return {
        item.name: (hints[item.name], item.default is MISSING and item.default_factory is MISSING)
        for item in fields(wanted)
        if item.init
    }


def _one_of(value: Any, choices: tuple[Any, ...], at: str) -> Any:
    for wanted in choices:
        with suppress(ShapeError):
            return _shaped(value, wanted, at)
    return _refuse(value, " or ".join(map(_words, choices)), at)


def _plain(value: Any, wanted: Any, at: str) -> Any:
    if type(value) is not wanted and not (wanted is float and type(value) is int):
        _refuse(value, _words(wanted), at)
    if wanted is types.NoneType:
        return None
    if type(value) is int and abs(value) > LARGEST:
        raise ShapeError(f"{at or 'it'} is too large a number")
    if wanted is float and not math.isfinite(value):
        raise ShapeError(f"{at or 'it'} is {value}, not a finite number")
    return _text(value, at) if wanted is str else wanted(value)


def _text(value: str, at: str) -> str:
    """A text without halves of characters, which JSON can spell and no file or terminal can hold."""
    if not _whole(value):
        raise ShapeError(f"{at or 'it'} holds half of a character")
    return value


def _whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _spelled(value: str, marks: tuple[Spelled, ...], at: str) -> str:
    for mark in marks:
        if not mark.allows(value):
            raise ShapeError(f"{at or 'it'} is {_short(value)}, not {mark.words}")
    return value


def _refuse(value: Any, words: str, at: str) -> Any:
    kind = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else KINDS[type(value)]
    told = _short(value) if kind in words.split(" or ") or words.startswith("one of") else kind
    raise ShapeError(f"{at or 'it'} is {told}, not {words}")


def _words(wanted: Any) -> str:
    """What messages call a type."""
    if get_origin(wanted) is Annotated:
        return _words(get_args(wanted)[0])
    if get_origin(wanted) is Literal:
        return f"one of {', '.join(map(str, get_args(wanted)))}"
    if is_dataclass(wanted) or get_origin(wanted) in (dict, Mapping):
        return "an object"
    return KINDS.get(wanted, "a list")


def _below(at: str, name: str) -> str:
    return f"{at}.{_short(name, quoted=False)}" if at else _short(name, quoted=False)


def _short(value: object, *, quoted: bool = True) -> str:
    """A value as a message shows it: printable, and no longer than a few words."""
    text = repr(value) if quoted or not str(value).isprintable() else str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
