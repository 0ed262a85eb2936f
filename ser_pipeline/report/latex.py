r"""results.tex, which a paper includes with `\input`, and a document that does so."""

from __future__ import annotations

from ser_pipeline.report import summary_tables as overview
from ser_pipeline.report.contents import Report
from ser_pipeline.report.tables import MINUS, Table

PACKAGES = ("booktabs", "graphicx")
"""LaTeX packages that the tables need."""


def to_latex(report: Report) -> str:
    r"""results.tex: every table as a float with a label, to be included with `\input`."""
    loads = " ".join(rf"\usepackage{{{name}}}" for name in PACKAGES)
    parts = [f"% Tables of {latex(report.title)}. The preamble needs: {loads}"]
    for title, tables in overview.sections(report):
        parts += [f"% {latex(title)}", *(latex_table(table, _remark(report)) for table in tables)]
    return "\n\n".join(parts) + "\n"


def to_document(report: Report) -> str:
    """document.tex: includes results.tex and is ready to compile."""
    loads = "\n".join(rf"\usepackage{{{name}}}" for name in PACKAGES)
    return DOCUMENT.replace("PACKAGES", loads).replace("TITLE", latex(report.title))


def latex_table(table: Table, remark: str = "") -> str:
    """A table as a float, at most as wide as the line, with its note below.

    Args:
        table: the table.
        remark: text after its note.
    """
    align = "".join("r" if table.columns[place].number else "l" for place in table.printed)
    lines = [r"\begin{table}[htbp]\centering\small", rf"\caption{{{latex(table.caption)}}}\label{{tab:{table.id}}}"]
    lines += [FITTED, rf"\begin{{tabular}}{{{align}}}", r"\toprule", *_groups(table)]
    lines += [" & ".join(latex(table.columns[place].title) for place in table.printed) + r" \\", r"\midrule"]
    for row in table.rows:
        lines.append(" & ".join(latex(row[place].text) for place in table.printed) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    note = f"{table.note} {remark}".strip()
    lines += [rf"\par\smallskip\footnotesize {latex(note)}"] if note else []
    return "\n".join([*lines, r"\end{table}"])


def latex(words: str) -> str:
    r"""Text with LaTeX's special characters escaped.

    >>> latex("95 % of a_b − c")
    '95 \\% of a\\_b $-$ c'
    """
    return "".join(LATEX_CHARACTERS.get(character, character) for character in words)


def _remark(report: Report) -> str:
    """Remark below every table: accepted errors of the audit, and whether the speech is synthetic."""
    return f"{report.accepted} {SYNTHETIC if report.synthetic else ''}".strip()


def _groups(table: Table) -> list[str]:
    """The line of heads that span several columns, with its rules; empty if there are none."""
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
    "’": "'",
}

FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""Shrinks a table that is wider than the line."""

SYNTHETIC = "Synthetic speech, made by a program: these scores say nothing about people."

DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
PACKAGES
\usepackage[margin=2cm]{geometry}
\extrafloats{100}
\begin{document}
\section*{TITLE}
\input{results}
\end{document}
"""
