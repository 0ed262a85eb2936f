"""The forms of a report that other programs read: results.json, .md and .tex."""

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
from ser_pipeline.report.tables import MINUS, Table

SCHEMA = 3
"""Version of results.json; docs/results.md tells its fields."""


def to_json(report: Report) -> str:
    """results.json: every number at full precision, shares of 0 to 1, absent ones null."""
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
        "left_out": report.left_out,
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


def to_latex(report: Report) -> str:
    """results.tex: a document of the tables, with booktabs."""
    parts = []
    for title, tables in overview.sections(report):
        parts += [
            rf"\section*{{{latex(title)}}}",
            *(_latex_table(table, report.accepted) for table in tables),
            r"\clearpage",
        ]
    body = "\n\n".join(parts)
    remark = (
        "Synthetic speech, made by a program: these scores say nothing about people.\n\n" if report.synthetic else ""
    )
    return LATEX.replace("TITLE", latex(report.title)).replace("BODY", remark + body)


def latex(words: str) -> str:
    r"""Words with the characters that LaTeX takes for its own made plain.

    >>> latex("95 % of a_b − c")
    '95 \\% of a\\_b $-$ c'
    """
    return "".join(LATEX_CHARACTERS.get(character, character) for character in words)


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
    """`value` as JSON has it; numbers that are not finite become null."""
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


def _latex_table(table: Table, remark: str) -> str:
    align = "".join("r" if table.columns[place].number else "l" for place in table.printed)
    lines = [r"\begin{table}[htbp]\centering\small", rf"\caption{{{latex(table.caption)}}}"]
    lines += [rf"\begin{{adjustbox}}{{max width=\linewidth}}\begin{{tabular}}{{{align}}}", r"\toprule"]
    lines += _latex_groups(table)
    lines += [" & ".join(latex(table.columns[place].title) for place in table.printed) + r" \\", r"\midrule"]
    for row in table.rows:
        lines.append(" & ".join(latex(row[place].text) for place in table.printed) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}\end{adjustbox}"]
    note = f"{table.note} {remark}".strip()
    lines += [rf"\par\smallskip\footnotesize {latex(note)}"] if note else []
    return "\n".join([*lines, r"\end{table}"])


def _latex_groups(table: Table) -> list[str]:
    """The line of heads over several columns, with its rules; empty where no column has one."""
    spans: list[tuple[str, int, int]] = []
    for number, place in enumerate(table.printed, start=1):
        name = table.columns[place].group
        if spans and spans[-1][0] == name:
            spans[-1] = (name, spans[-1][1], number)
        else:
            spans.append((name, number, number))
    if not any(name for name, _, _ in spans):
        return []
    heads = [rf"\multicolumn{{{last - first + 1}}}{{c}}{{{latex(name)}}}" for name, first, last in spans]
    rules = [rf"\cmidrule(lr){{{first}-{last}}}" for name, first, last in spans if name]
    return [" & ".join(heads) + r" \\", "".join(rules)]


LATEX_CHARACTERS = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": "$<$",
    ">": "$>$",
    MINUS: "$-$",
    "±": r"$\pm$",
    "–": "--",
    "…": r"\dots{}",
}

LATEX = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{booktabs}
\usepackage{adjustbox}
\usepackage[margin=2cm]{geometry}
\begin{document}
\section*{TITLE}

BODY

\end{document}
"""
