"""How a setting is declared: its default, what it means, its unit, where the default comes from, and its limits.

All of it stands on the dataclass field itself, as its metadata, and nowhere else: reading checks it, and
`docs/settings.md` shows it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

from ser_pipeline.errors import PipelineError

KEY = "setting"
"""The key of the declaration in a field's metadata."""

ADDED = {"added": True}
"""Metadata of settings that came after the first release: at their default they are no part of a run's key."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Declaration:
    """What is known of a setting besides its name, type and default."""

    about: str  # what it means
    unit: str = ""  # of a number
    source: str = ""  # of the default
    least: float | None = None  # None: the value is no number
    most: float | None = None  # the same
    choices: tuple[Any, ...] = ()  # words or numbers, one of which it is; (): any

    @property
    def allowed(self) -> str:
        """The limits in words; empty where there are none.

        >>> Declaration("largest change", unit="dB", least=0, most=60).allowed
        '0 to 60 dB'
        """
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.least is None or self.most is None:
            return ""
        return f"{number(self.least)} to {number(self.most)} {self.unit}".strip()


def setting(
    default: Value,
    about: str,
    *,
    unit: str = "",
    source: str = "",
    least: float | None = None,
    most: float | None = None,
    choices: tuple[Any, ...] = (),
    added: bool = False,
) -> Value:
    """A dataclass field with its declaration.

    Args:
        default: the value where nothing else is set.
        about: what it means, as a phrase.
        unit: of a number; empty for a count without one.
        source: where the default comes from.
        least: the smallest number that is taken; every number has one.
        most: the largest.
        choices: the values of a setting that takes one of a list.
        added: whether it came after the first release: at its default it is then no part of a run's key.
    """
    declared = Declaration(about, unit, source, least, most, choices)
    return dataclasses.field(default=default, metadata={KEY: declared, **(ADDED if added else {})})


def declaration(item: dataclasses.Field[Any]) -> Declaration | None:
    """What a field declares; None for a table of settings."""
    found: Declaration | None = item.metadata.get(KEY)
    return found


def require_allowed(name: str, item: dataclasses.Field[Any], value: Any) -> None:
    """Refuse a value that the field's declaration does not allow.

    Args:
        name: of the setting, with its table.
        item: the field that declares it.
        value: to check.

    Raises:
        PipelineError: names the setting, its limits and the nearest value within them.
    """
    declared = declaration(item)
    if declared is None:
        return
    if declared.choices and value not in declared.choices:
        raise PipelineError(f"setting '{name}' is {declared.allowed}, not '{value}'")
    if declared.least is None or declared.most is None or declared.least <= value <= declared.most:
        return
    near = "" if value != value else f"; the nearest is {number(min(max(value, declared.least), declared.most))}"
    raise PipelineError(f"setting '{name}' is {declared.allowed}, not {number(value)}{near}")


MOST = {"jobs": 1_024, "jobs_per_gpu": 1_024, "seeds": 1_000, "micro_batch": 65_536}
"""The most that options of the commands may be that are no settings: results do not depend on them."""


def require_counts(**counts: int | None) -> None:
    """Refuse options that are not from 1 to their most; None stands for no choice.

    Raises:
        PipelineError: names the option and what it may be.
    """
    for name, value in counts.items():
        if value is not None and not 1 <= value <= MOST[name]:
            raise PipelineError(f"{name} is 1 to {MOST[name]}, not {number(value)}")


def number(value: float) -> str:
    """A number as it is written in TOML, and a whole one in full where it is short.

    >>> number(48_000), number(1e-5), number(float("inf")), number(10**400)
    ('48000', '1e-05', 'inf', 'a number of 401 digits')
    """
    if not isinstance(value, int):
        return f"{value:.12g}"
    digits = len(f"{value:d}") if value.bit_length() < 10_000 else 3_000
    return str(value) if digits <= 20 else f"a number of {'over ' if digits == 3_000 else ''}{digits} digits"
