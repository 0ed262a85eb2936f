"""Checks of options by the command line alone: a mistake in them is wrong usage, with exit status 2."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from ser_pipeline.errors import PipelineError
from ser_pipeline.names import unknown

Callback = Callable[[click.Context, click.Parameter, Any], Any]

DEVICE = re.compile(r"auto|(cpu|cuda|mps|xpu)(:[0-9]+)?")
"""Matches the name of a device; whether it is available depends on the machine."""


@contextmanager
def judged() -> Iterator[None]:
    """Report an error in the block as wrong usage."""
    try:
        yield
    except PipelineError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None


def checked(check: Callable[[str], object]) -> Callback:
    """Return an option's callback that applies `check`, which raises a `PipelineError`, to each of its values."""

    def callback(context: click.Context, option: click.Parameter, value: Any) -> Any:
        if value and not context.resilient_parsing:
            with judged():
                for one in value if isinstance(value, tuple) else (value,):
                    check(one)
        return value

    return callback


def device(name: str) -> None:
    """Check the name of a device."""
    if not DEVICE.fullmatch(name):
        raise PipelineError(unknown("device", name, ("auto", "cuda", "mps", "cpu"), "auto, cuda, cuda:1, mps, cpu"))


def protocol(name: str) -> None:
    """Check the name of a protocol, or that of the cross-corpus matrix."""
    from ser_pipeline.splits.matrix import MATRIX
    from ser_pipeline.splits.protocols import find_protocol

    if name != MATRIX:
        find_protocol(name)


def folds_protocol(name: str) -> None:
    """Check the name of a protocol, without the matrix, which is several of them."""
    from ser_pipeline.splits.protocols import find_protocol

    find_protocol(name)


def preset(name: str) -> None:
    """Check the name of a preset."""
    from ser_pipeline.config import presets

    if name not in presets():
        raise PipelineError(unknown("preset", name, presets()))


def pair(text: str) -> None:
    """Check `KEY=VALUE`: the name of the setting, and the type and limits of its value."""
    from ser_pipeline.config import Config, changed

    changed(Config(), text)


def feature(name: str) -> None:
    """Check the name of a feature."""
    from ser_pipeline.config import INPUTS

    if name not in INPUTS:
        raise PipelineError(unknown("feature", name, INPUTS))


def classes(text: str) -> None:
    """Check the form of a list of classes."""
    from ser_pipeline.corpora.classes import parse_classes

    parse_classes(text)


def trackers(text: str) -> None:
    """Check the names of trackers; whether their libraries are installed depends on the machine."""
    from ser_pipeline.training.trackers import named

    named(text)
