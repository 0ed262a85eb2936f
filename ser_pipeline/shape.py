"""Validation of JSON values against a dataclass or any other type that JSON can represent.

A file from another person, an incomplete copy or an older version may be valid JSON with other contents. A reader
declares the expected contents once as types, and gets them or a `ShapeError` that names the place.
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
    """An unexpected value; the message has its place, and the expected type."""


@dataclass(frozen=True)
class Spelled:
    """A constraint on a text, as an annotation: `Annotated[str, Spelled(pattern.fullmatch, "a date")]`."""

    allows: Callable[[str], object]  # whether a text is valid
    words: str  # what a valid text is


PathText = Annotated[str, Spelled(re.compile(r"[^\x00]*").fullmatch, "a path")]
"""A text that can be a path."""

LARGEST = (1 << 63) - 1
"""Largest whole number with 64 bits."""

KINDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    types.NoneType: "null",
}
"""Names of the types of JSON in messages."""


def shaped(value: object, wanted: type[T], at: str = "") -> T:
    """Validate a value from JSON, and return it as the type `wanted`.

    Objects become dataclasses: fields without a default are required, and unknown keys are ignored. Lists become lists
    or tuples. Whole numbers have at most 64 bits, and are accepted as numbers, which must be finite. Booleans are not
    accepted as anything else. Texts must be encodable in UTF-8.

    Args:
        value: a value from JSON.
        wanted: a dataclass, a type of JSON, `list`, `tuple` or `dict` of one, a union, a `Literal`, or a text that is
            `Spelled`.
        at: name of the value in messages; "" for "it".

    Raises:
        ShapeError: the value has another type; the message has its place, and the expected type.

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
            return origin(value)  # without a call per item, since there may be 100,000s
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
    """Return the type of each field, and whether it is required."""
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
    """Return a text without lone surrogates, which JSON can represent but UTF-8 cannot."""
    if not _whole(value):
        raise ShapeError(f"{at or 'it'} contains half of a character")
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
    """Return the name of a type in messages."""
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
    """Format a value for a message: printable, and at most 40 characters."""
    text = repr(value) if quoted or not str(value).isprintable() else str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
