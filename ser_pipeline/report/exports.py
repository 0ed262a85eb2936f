"""A report for other programs: results.json and results.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any

import numpy as np

from ser_pipeline.provenance import versions
from ser_pipeline.report import summary_tables as overview
from ser_pipeline.report import words
from ser_pipeline.report.compare import Comparison, Gap, Row
from ser_pipeline.report.contents import WORST, Experiment, Report
from ser_pipeline.report.groups import Group
from ser_pipeline.report.matrix import matrices
from ser_pipeline.report.origins import origins
from ser_pipeline.report.rated import RatedPanel
from ser_pipeline.report.tables import Table

SCHEMA = 3
"""Version of results.json; docs/results.md describes its fields."""


def to_json(report: Report) -> str:
    """results.json: every number at full precision, shares from 0 to 1, missing ones null."""
    value = {
        "schema": SCHEMA,
        "corpus": report.choice.corpus,
        "title": report.title,
        "synthetic": report.synthetic,
        "selection": {"protocol": report.choice.protocol, "runs": report.choice.patterns},
        "experiments": [_experiment(experiment) for experiment in report.experiments],
        "matrices": matrices(report),
        "rated": [_rated(one) for one in report.rated],
        "leakage_gaps": [_gap(gap) for gap in report.gaps],
        "comparison": _comparison(report.comparison) if report.comparison else None,
        "worst": report.worst[:WORST],
        "findings": report.findings,
        "left_out": [{"name": one.name, "reason": one.reason} for one in report.left_out],
        "origins": origins(report),
        "versions": versions(),
    }
    return json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_markdown(report: Report) -> str:
    """The tables as Markdown, for `results.md`."""
    lines = [f"# {report.title}", ""]
    if report.synthetic:
        lines += ["**Synthetic speech, made by a program: these scores say nothing about people.**", ""]
    for title, tables in overview.sections(report):
        lines += [f"## {title}", ""]
        for table in tables:
            lines += [f"### {table.caption}", ""] if len(tables) > 1 else []
            note = f"{table.note} {report.accepted}".strip()
            lines += [*_markdown_rows(table), "", *([note, ""] if note else [])]
    if report.findings:
        lines += ["## Findings", "", *(f"- {one.severity}: {one.message}" for one in report.findings), ""]
    if report.left_out:
        lines += ["## Left out", "", *(f"- `{one.name}`: {one.reason}" for one in report.left_out), ""]
    return "\n".join(lines)


def _experiment(experiment: Experiment) -> dict[str, Any]:
    header = experiment.panel.header
    names = ("protocol", "selection", "preset", "test_corpus", "labels")
    return {
        "id": experiment.id,
        "title": words.experiment(header),
        **{name: getattr(header, name) for name in names},
        "folds": header.fold_names,
        "corpus_utterances": header.utterances or None,
        "accepted": header.accepted,
        "chance_ua": experiment.chance,
        "rows": [_row(row, experiment) for row in experiment.rows],
    }


def _rated(one: RatedPanel) -> dict[str, Any]:
    header = one.panel.header
    names = ("protocol", "selection", "preset", "test_corpus", "labels")
    about = {name: getattr(header, name) for name in names}
    return {"id": one.id, "title": one.title, "target": header.target.name, "kind": one.kind, **about, "rows": one.rows}


def _row(row: Row, experiment: Experiment) -> dict[str, Any]:
    group = row.group
    result = experiment.results.get(group.name)
    return {
        **_model(group),
        "runs": [run.header.path.name for run in group.runs],
        "unfinished": [run.header.path.name for run in group.unfinished],
        "folds_done": row.done,
        "folds_wanted": row.wanted,
        "whole": row.whole,
        "cost": group.cost,
        "published": row.published,
        "versus_full": row.versus,
        "result": result,
    }


def _model(group: Group) -> dict[str, Any]:
    return {
        "ablation": group.header.ablation,
        "variant": group.variant,
        "selection": group.header.selection,
        "inputs": group.inputs,
        "utterance_score": group.utterance_score,
        "co_attention": group.co_attention,
        "seeds": group.seeds,
    }


def _gap(gap: Gap) -> dict[str, Any]:
    header = gap.honest.header
    return {
        "protocol": header.protocol,
        "preset": header.preset,
        **_model(gap.honest),
        "against": gap.leaked.header.selection,
        "selection_alone": gap.alone,
        "difference": gap.versus,
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "one": _model(found.one),
        "other": _model(found.other),
        "difference": found.versus,
        "mcnemar": found.pairs,
    }


def plain(value: Any) -> Any:
    """`value` as plain JSON types; numbers that are not finite become None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def _markdown_rows(table: Table) -> list[str]:
    heads = [_head(table, place) for place in table.printed]
    align = ["---:" if table.columns[place].number else ":---" for place in table.printed]
    rows = [[row[place].text.replace("|", "\\|") for place in table.printed] for row in table.rows]
    return ["| " + " | ".join(cells) + " |" for cells in (heads, align, *rows)]


def _head(table: Table, place: int) -> str:
    column = table.columns[place]
    return f"{column.group}: {column.title}" if column.group else column.title
