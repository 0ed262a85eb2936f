"""Shell completion of corpora, runs, presets, protocols, ablations and settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completer(names: Callable[[click.Context], Iterable[str]], *, paths: bool = False) -> Completer:
    """Return a completion of the names that a function returns; an error in it offers nothing.

    Args:
        names: returns all names.
        paths: whether to offer files and folders if no name matches.
    """

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        try:
            found = [CompletionItem(name) for name in names(context) if name.startswith(begun)]
        except Exception:  # a traceback would land in the command line
            found = []
        return found or ([CompletionItem(begun, type="file")] if paths else [])

    return complete


def _corpora(context: click.Context) -> list[str]:
    from ser_pipeline.corpora import CORPORA

    return [*CORPORA]


def _featured(context: click.Context) -> list[str]:
    """Return the corpora that have features in the cache of the command line, or else in the default cache."""
    from ser_pipeline.cache.catalogue import sources

    place = context.params.get("cache") or os.environ.get("SER_PIPELINE_CACHE") or "cache"
    return [source.corpus for source in sources(Path(place))]


def _reported(context: click.Context) -> list[str]:
    """Return the corpora that have runs."""
    from ser_pipeline.report import corpora

    return corpora(Path(context.params.get("runs_root") or "runs"))


def _runs(context: click.Context) -> list[str]:
    root = Path(context.params.get("runs_root") or "runs")
    return sorted(str(folder.parent) for folder in root.glob("*/run.json"))


def _ablations(context: click.Context) -> list[str]:
    from ser_pipeline.training.ablations import ABLATIONS

    return [*ABLATIONS, "all"]


def _presets(context: click.Context) -> Iterable[str]:
    from ser_pipeline.config import presets

    return presets()


def _protocols(context: click.Context) -> list[str]:
    from ser_pipeline.splits.protocols import PROTOCOLS

    return [name for name in PROTOCOLS if name != "group"]


def _settings(context: click.Context) -> list[str]:
    from ser_pipeline.config import Config, names

    return [f"{name}=" for name in names(Config())]


def _features(context: click.Context) -> list[str]:
    from ser_pipeline.inputs import INPUTS

    return [*INPUTS]


CORPORA, FEATURED, REPORTED = completer(_corpora), completer(_featured), completer(_reported)
RUNS, RUNS_OR_FILES = completer(_runs), completer(_runs, paths=True)
ABLATIONS, PRESETS, PROTOCOLS = completer(_ablations), completer(_presets), completer(_protocols)
SETTINGS, FEATURES = completer(_settings), completer(_features)
