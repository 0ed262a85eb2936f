"""Declaration of settings: default, meaning, unit, source of the default, and limits.

All of this is metadata of the dataclass field, and is defined only there. Reading settings checks it, and
`docs/settings.md` is generated from it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

from ser_pipeline.errors import PipelineError

KEY = "setting"
"""Key of the declaration in a field's metadata."""

ADDED = {"added": True}
"""Metadata of settings that were added after the first release; at their default they are not part of a run's key."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Declaration:
    """Description of a setting, in addition to its name, type and default."""

    about: str  # meaning
    unit: str = ""  # unit of a number
    source: str = ""  # source of the default
    least: float | None = None  # smallest number; None if the value is not a number
    most: float | None = None  # largest number; None if the value is not a number
    choices: tuple[Any, ...] = ()  # allowed values; () for any

    @property
    def allowed(self) -> str:
        """The limits in words; "" if there are none.

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
    """Return a dataclass field with its declaration.

    Args:
        default: the default value.
        about: its meaning, as a phrase.
        unit: unit of a number; "" for a count.
        source: source of the default.
        least: smallest allowed number; required for numbers.
        most: largest allowed number.
        choices: allowed values of a setting with a list of them.
        added: whether it was added after the first release; at its default it is then not part of a run's key.
    """
    declared = Declaration(about, unit, source, least, most, choices)
    return dataclasses.field(default=default, metadata={KEY: declared, **(ADDED if added else {})})


def declaration(item: dataclasses.Field[Any]) -> Declaration | None:
    """Return the declaration of a field; None for a table of settings."""
    found: Declaration | None = item.metadata.get(KEY)
    return found


def require_allowed(name: str, item: dataclasses.Field[Any], value: Any) -> None:
    """Check a value against the field's declaration.

    Args:
        name: name of the setting, with its table.
        item: the field that declares it.
        value: the value to check.

    Raises:
        PipelineError: names the setting and its limits.
    """
    declared = declaration(item)
    if declared is None:
        return
    if declared.choices and value not in declared.choices:
        raise PipelineError(f"setting '{name}' must be {declared.allowed}, not '{value}'")
    if declared.least is None or declared.most is None or declared.least <= value <= declared.most:
        return
    raise PipelineError(f"setting '{name}' must be {declared.allowed}, not {number(value)}")


MOST = {"jobs": 1_024, "jobs_per_gpu": 1_024, "seeds": 1_000, "micro_batch": 65_536}
"""Largest values of options that are not settings, because results do not depend on them."""


def require_counts(**counts: int | None) -> None:
    """Check that options are between 1 and their largest value; None stands for no choice.

    Raises:
        PipelineError: names the option and its limits.
    """
    for name, value in counts.items():
        if value is not None and not 1 <= value <= MOST[name]:
            raise PipelineError(f"{name} must be 1 to {MOST[name]}, not {number(value)}")


def number(value: float) -> str:
    """Format a number as in TOML; of a very large integer, only the number of digits.

    >>> number(48_000), number(1e-5), number(float("inf")), number(10**400)
    ('48000', '1e-05', 'inf', 'a number of 401 digits')
    """
    if not isinstance(value, int):
        return f"{value:.12g}"
    digits = len(f"{value:d}") if value.bit_length() < 10_000 else 3_000
    return str(value) if digits <= 20 else f"a number of {'over ' if digits == 3_000 else ''}{digits} digits"
