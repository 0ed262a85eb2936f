"""`docs/settings.md` lists every setting as it is declared.

`python tests/test_settings_page.py` writes the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from ser_pipeline.config import Config
from ser_pipeline.limits import declaration
from support.places import ROOT

PAGE = ROOT / "docs" / "settings.md"

HEAD = """# Settings

This page lists every setting with its default, allowed values, meaning, and the source of the default. `--set
KEY=VALUE` changes one setting, a TOML file that is passed with `--config` changes several, and a
[preset](experiments.md#presets) is a named set of them. A value outside its limits is rejected with the nearest allowed
value, and incompatible settings are rejected as well. "Paper" is Zou et al., ICASSP 2022; "reference code" is its
authors' published code.
"""


def rows(table: Any, prefix: str = "") -> Iterator[str]:
    """The tables of the page, a section each."""
    declared = [(item, found) for item in fields(table) if (found := declaration(item))]
    if declared:
        yield f"\n## {prefix.removesuffix('.') or 'General'}\n"
        yield f"{(type(table).__doc__ or '').strip()}\n" if prefix else ""
        yield "| setting | default | allowed | meaning | source |"
        yield "|---|---|---|---|---|"
    for item, found in declared:
        value = json.dumps(getattr(table, item.name), ensure_ascii=False)
        allowed = found.allowed or {"bool": "true or false", "str": "text"}.get(str(item.type), "a list")
        yield f"| `{prefix}{item.name}` | `{value}` | {allowed} | {found.about} | {found.source} |"
    for item in fields(table):
        if is_dataclass(getattr(table, item.name)):
            yield from rows(getattr(table, item.name), f"{prefix}{item.name}.")


def page() -> str:
    return HEAD + "\n".join(filter(None, rows(Config()))) + "\n"


def test_the_page_holds_every_setting_as_it_is_declared() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/test_settings_page.py"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
