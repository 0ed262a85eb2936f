"""Settings from presets, TOML files and single overrides.

There are four layers, each of which overrides the previous one: the defaults of `settings`, a preset, a TOML file, and
`KEY=VALUE` pairs. An unknown key, and a value of the wrong type, outside its limits, or in conflict with another
setting, give an error of one line that says what is valid.
"""

from __future__ import annotations

import json
import math
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import tomli_w

from ser_pipeline.agreement import require_agreement
from ser_pipeline.errors import PipelineError
from ser_pipeline.feature_settings import Audio, Embedding, Features, LogMel, Mfcc, Spectrogram, Statistics
from ser_pipeline.limits import number, require_allowed
from ser_pipeline.names import unknown
from ser_pipeline.settings import ACOUSTIC, INPUTS, SPEECH, Augment, Config, Model, Train

__all__ = [
    "ACOUSTIC",
    "INPUTS",
    "SPEECH",
    "Audio",
    "Augment",
    "Config",
    "Embedding",
    "Features",
    "LogMel",
    "Mfcc",
    "Model",
    "Spectrogram",
    "Statistics",
    "Train",
    "differences",
    "dumps",
    "given",
    "keyed",
    "load",
    "loads",
    "merge",
    "pairs",
    "parse",
    "presets",
    "require_valid",
    "tables",
]

T = TypeVar("T")


def presets() -> tuple[str, ...]:
    """Return the names of the presets, sorted.

    >>> "paper" in presets()
    True
    """
    folder = resources.files("ser_pipeline.presets")
    return tuple(sorted(Path(str(file)).stem for file in folder.iterdir() if str(file).endswith(".toml")))


def load(preset: str = "paper", file: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Load settings from the layers: defaults, `preset`, `file`, and `KEY=VALUE` pairs.

    Args:
        preset: name of a preset.
        file: TOML file that overrides the preset.
        overrides: `KEY=VALUE` pairs that override both, such as `train.lr=1e-4`.

    Raises:
        PipelineError: a preset or key is unknown, a value has the wrong type or is outside its limits, settings
            contradict each other, or the TOML cannot be read.
    """
    if preset not in presets():
        raise PipelineError(unknown("preset", preset, presets()))
    text = (resources.files("ser_pipeline.presets") / f"{preset}.toml").read_text(encoding="utf-8")
    config = merge(Config(), parse(text, f"preset {preset}"))
    config = merge(config, {name: table for name, table in tables(file).items() if name != "ablations"})
    for pair in overrides:
        config = changed(config, pair)
    require_agreement(config)
    return config


def changed(config: Config, pair: str) -> Config:
    """Return a config with the change of a `KEY=VALUE` pair; raise a `PipelineError` if it is not one."""
    return merge(config, _pair(pair))


def tables(file: Path | None) -> dict[str, Any]:
    """Read the tables of a TOML file of settings; {} without a file.

    Raises:
        PipelineError: it cannot be read.
    """
    return parse(_read(file), str(file)) if file is not None else {}


def given(file: Path | None, overrides: Iterable[str]) -> list[str]:
    """Return the names of the settings in a TOML file and `KEY=VALUE` pairs, without tables of ablations.

    >>> given(None, ["train.lr=1e-4", "seed=3"])
    ['train.lr', 'seed']
    """
    tree = {name: table for name, table in tables(file).items() if name != "ablations"}
    return [*_leaves(tree), *(pair.partition("=")[0].strip() for pair in overrides)]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names of all values that are not tables."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def loads(text: str, source: str) -> Config:
    """Load settings from the TOML text of `dumps`; missing keys keep their defaults."""
    config = merge(Config(), parse(text, source))
    require_agreement(config)
    return config


def require_valid(config: Config) -> None:
    """Check a config that was created in code as `load` does.

    Raises:
        PipelineError: a value has the wrong type or is outside its limits, or settings contradict each other.
    """
    merge(Config(), asdict(config))
    require_agreement(config)


def dumps(config: Config) -> str:
    """Return all settings as TOML."""
    return tomli_w.dumps(asdict(config))


def parse(text: str, source: str) -> dict[str, Any]:
    """Parse TOML `text`; errors name `source`."""
    try:
        return tomllib.loads(text)
    except ValueError as error:  # invalid TOML, or a number with thousands of digits
        raise PipelineError(f"{source} is not valid TOML: {error}") from None


def merge(config: T, changes: Mapping[str, Any], prefix: str = "") -> T:
    """Return a copy of the dataclass `config` with the nested `changes`, checked by name, type and limits.

    Args:
        config: a `Config`, or a table of one.
        changes: new values, with tables as mappings.
        prefix: prefix of the names in `config`, such as "train.".

    Raises:
        PipelineError: a name is unknown, or a value has the wrong type or is outside its limits.
    """
    hints, items = get_type_hints(type(config)), {item.name: item for item in fields(config)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in changes.items():
        name = f"{prefix}{key}"
        if key not in items:
            listed = ", ".join(sorted(f"{prefix}{one}" for one in items))
            raise PipelineError(unknown("setting", name, [*names(Config()), *_tables()], listed))
        current = getattr(config, key)
        if is_dataclass(current) and not isinstance(current, type):
            if not isinstance(value, Mapping):
                raise PipelineError(
                    f"setting '{name}' is a table; set one of its keys, such as '{name}.{_first(current)}'"
                )
            values[key] = merge(current, value, f"{name}.")
        else:
            values[key] = _convert(name, hints[key], value)
            require_allowed(name, items[key], values[key])
    return replace(config, **values)  # type: ignore[type-var]


def _tables() -> list[str]:
    """Return the names of the tables of settings, such as "train"."""
    parts = [name.split(".") for name in names(Config())]
    return list(dict.fromkeys(".".join(part[:end]) for part in parts for end in range(1, len(part))))


def keyed(config: Any) -> dict[str, Any]:
    """Return the settings that are part of a run's key, as nested tables.

    Settings that were added after the first release are included only if they differ from their default, so that
    earlier runs keep their keys.

    >>> "statistics" in keyed(Config())["features"]
    False
    """
    usual = type(config)()
    found = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if not (item.metadata.get("added") and value == getattr(usual, item.name)):
            found[item.name] = keyed(value) if is_dataclass(value) else value
    return found


def differences(old: Any, new: Any) -> list[str]:
    """Return the names of the settings in which two configs of one type differ, with both values.

    >>> differences(Config(), Config(seed=3))
    ['seed: 0 -> 3']
    """
    return [f"{name}: {before} -> {after}" for name, before, after in _differing(old, new)]


def pairs(config: Any, other: Any) -> list[str]:
    """Return the `KEY=VALUE` pairs that turn `other` into `config`.

    >>> pairs(Config(model=Model(layer_mix=True)), Config())
    ['model.layer_mix=true']
    """
    # JSON and TOML have the same syntax for strings, numbers, booleans and lists of them.
    return [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value, _ in _differing(config, other)]


def _differing(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the name and both values of every setting in which two configs differ."""
    for item in fields(old):
        before, after = getattr(old, item.name), getattr(new, item.name)
        if is_dataclass(before):
            yield from _differing(before, after, f"{prefix}{item.name}.")
        elif before != after:
            yield f"{prefix}{item.name}", before, after


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"cannot read the settings in {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PipelineError(f"cannot read the settings in {file}: it is not UTF-8 text") from None


def _pair(pair: str) -> dict[str, Any]:
    """Parse `a.b=1` to nested tables; a value that is not TOML is a string."""
    name, equals, text = pair.partition("=")
    if not equals or not name.strip():
        raise PipelineError(f"'{pair}' is not KEY=VALUE, such as train.lr=1e-4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:  # not TOML, or a number with thousands of digits
        value = text.strip()
    for part in reversed(name.strip().split(".")):
        value = {part: value}
    return dict(value)


def _convert(name: str, wanted: Any, value: Any) -> Any:
    """Convert `value` to the annotated type: integers to floats and lists to tuples, but no booleans to numbers."""
    if get_origin(wanted) is tuple:
        inner = get_args(wanted)[0]
        if isinstance(value, list | tuple) and all(_is(item, inner) for item in value):
            return tuple(value)
    elif isinstance(wanted, types.UnionType):
        if isinstance(value, get_args(wanted)):
            return value
    elif wanted is float and _is(value, int):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    elif _is(value, wanted):
        return value
    kind = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}.get(wanted, "a list")
    told = number(value) if _is(value, int) else repr(value)
    raise PipelineError(f"setting '{name}' must be {kind}, not {_short(told)}")


def _is(value: Any, kind: type) -> bool:
    """Whether `value` has the type `kind`; booleans are not integers."""
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _short(text: str) -> str:
    """Shorten a long text."""
    return text if len(text) <= 80 else f"{text[:80]}…"


def names(config: Any, prefix: str = "") -> Iterator[str]:
    """Yield the names of all settings, with their tables."""
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from names(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}"


def _first(table: Any) -> str:
    return fields(table)[0].name
