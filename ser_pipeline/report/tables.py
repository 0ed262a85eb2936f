"""Tables as records, for any output format: page, Markdown, LaTeX, terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, isnan

from ser_pipeline.evaluation.intervals import Difference, Interval

MINUS = "−"
DASH = "–"

FOLDS = "Mean over folds, with the deviation over folds; each fold is the mean over seeds."
POOLED = "Over all test utterances together, the mean over seeds."
INTERVAL = "Of the pooled UA: leave-one-out jackknife over the test sets of single models, Student's t, on the logit."
DIFFERENCE = "Leave-one-out jackknife over the test sets of single models, Student's t."
TEST = "Two-sided, by the same jackknife."
CORRECTED = "Holm's correction for all tests of this table."
DETECTABLE = (
    "Smallest true difference, in points, that a single such test at 5 % detects in four of five cases; with the "
    "correction for several tests, it must be larger."
)


@dataclass(frozen=True)
class Cell:
    """Text or a number in a table, and how it is shown."""

    text: str = ""
    sort: float | str = ""  # key for sorting; "" goes last
    tone: str = ""  # "test", "strong", "muted", "good", "bad"
    hint: str = ""  # shown on hovering
    share: float | None = None  # 0 to 1, drawn as a bar
    span: tuple[float, float, float] | None = None  # low, value, high, drawn on the column's scale


ABSENT = Cell(DASH, tone="muted")
"""The cell of a missing value."""


@dataclass(frozen=True)
class Column:
    """A column's head and kind."""

    title: str
    number: bool = True
    hint: str = ""
    group: str = ""  # head above several columns
    scale: tuple[float, float, float] | None = None  # low, high and mark of a column of spans, drawn but not printed


@dataclass(frozen=True)
class Table:
    """Rows under columns; the first column names the row."""

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    tones: tuple[str, ...] = ()  # of each row: "test", "gap", "incomplete", "main" or ""
    note: str = ""
    same: str = ""  # part of the note about columns that are the same in all rows

    def tone(self, row: int) -> str:
        """Tone of the row with this index."""
        return self.tones[row] if self.tones else ""

    @property
    def printed(self) -> tuple[int, ...]:
        """Indices of the columns with text or numbers instead of drawings."""
        return tuple(place for place, column in enumerate(self.columns) if column.scale is None)


def text(value: str, tone: str = "", hint: str = "") -> Cell:
    """A cell with text.

    Args:
        value: the text.
        tone: as of `Cell`.
        hint: shown on hovering.
    """
    return Cell(value, value.lower(), tone, hint)


def count(value: int, hint: str = "") -> Cell:
    """A cell with an integer.

    >>> count(5531).text
    '5,531'
    """
    return Cell(f"{value:,}", value, hint=hint)


def percent(value: float | None, digits: int = 1, tone: str = "", bar: bool = False) -> Cell:
    """A share from 0 to 1 in percent, without the percent sign.

    Args:
        value: 0 to 1; None or NaN: missing.
        digits: decimals.
        tone: as of `Cell`.
        bar: whether a bar shows it too.

    >>> percent(0.7164, 2).text
    '71.64'
    """
    if value is None or isnan(value):
        return ABSENT
    return Cell(f"{100 * value:.{digits}f}", value, tone, share=value if bar else None)


def deviating(value: float, deviation: float | None, tone: str = "") -> Cell:
    """A share and its deviation in percent.

    Args:
        value: 0 to 1; NaN: missing.
        deviation: 0 to 1; None: unknown.
        tone: as of `Cell`.

    >>> deviating(0.7, 0.012).text
    '70.0 ± 1.2'
    """
    if isnan(value):
        return ABSENT
    return Cell(f"{100 * value:.1f}" + (f" ± {100 * deviation:.1f}" if deviation is not None else ""), value, tone)


def signed(value: float, tone: str = "") -> Cell:
    """A difference of shares in percentage points.

    >>> signed(-0.012).text
    '−1.2'
    """
    points = round(100 * value, 1) + 0.0
    return Cell(f"{points:+.1f}".replace("-", MINUS) if points else "0.0", value, tone)


def between(interval: Interval, sign: bool = False) -> Cell:
    """An interval of shares in percent, or with `sign` of differences in points."""
    if isnan(interval.low):
        return replace(ABSENT, hint=f"No interval: {interval.why}.")
    ends = [signed(end).text if sign else f"{100 * end:.1f}" for end in (interval.low, interval.high)]
    return Cell(f"{ends[0]} to {ends[1]}", interval.low)


def chance(p: float | None) -> Cell:
    """A p-value as a cell.

    >>> chance(0.0004).text, chance(0.0312).text, chance(0.25).text
    ('< 0.001', '0.031', '0.25')
    """
    if p is None:
        return ABSENT
    return Cell("< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}", p)


def tests(p_values: Sequence[float | None], detectable: bool = True) -> str:
    """How many tests a table has, for its note.

    Args:
        p_values: of the table, not corrected; None: no test.
        detectable: whether the table has a column of detectable differences.

    >>> tests([0.1, None, 0.2])
    'p corrected for 2 tests (Holm); detectable holds for a single test.'
    """
    number = sum(p is not None for p in p_values)
    if not number:
        return "No test is possible."
    alone = "; detectable holds for a single test" if number > 1 and detectable else ""
    corrected = f"p corrected for {number} tests (Holm)" if number > 1 else "One test"
    return f"{corrected}{alone}."


def told(found: Difference) -> str:
    """A difference of UA as text: its size, its interval, and the smallest detectable one.

    >>> told(Difference(0.004, Interval(-0.01, 0.018), p=0.5, detectable=0.021))
    '0.4 points of UA (−1.0 to +1.8; 2.1 could be detected)'
    """
    said = f"{percent(found.value).text.replace('-', MINUS)} points of UA"
    if found.interval.why:
        return f"{said} (no interval: {found.interval.why})"
    said += f" ({between(found.interval, sign=True).text}"
    return f"{said})" if found.detectable is None else f"{said}; {percent(found.detectable).text} could be detected)"


def luck(intervals: Sequence[Interval]) -> str:
    """End of a note, if some of the intervals do not cover the randomness of training; otherwise ""."""
    if all(interval.training for interval in intervals):
        return ""
    return (
        " If one model of one seed is tested on everyone, the interval does not cover the randomness of its training, "
        "and there is no test; train more seeds."
    )


def theirs(value: float | None) -> Cell:
    """A published score, in percent."""
    return ABSENT if value is None else Cell(f"{value:.2f}", value / 100)


def spanned(value: float, interval: Interval) -> Cell:
    """A drawing of a value and its interval; of only the value if it has none."""
    ends = (value, value) if isnan(interval.low) else (interval.low, interval.high)
    return Cell(sort=value, span=(ends[0], value, ends[1]))


def scale(cells: Sequence[Cell], mark: float, least: float = 0.1, far: bool = False) -> tuple[float, float, float]:
    """Low, high and mark of an axis for all spans, in steps of five points.

    Args:
        cells: their spans are drawn.
        mark: value to be marked.
        least: minimum width of the axis.
        far: whether the mark may lie beyond the axis, if it is farther away than the spans are wide.

    >>> scale([Cell(span=(0.72, 0.8, 0.86))], 0.14), scale([Cell(span=(0.72, 0.8, 0.86))], 0.14, far=True)
    ((0.1, 0.9, 0.14), (0.7, 0.9, 0.14))
    """
    spans = [end for cell in cells if cell.span for end in cell.span]
    near = not (far and spans) or min(abs(mark - end) for end in spans) <= max(spans) - min(spans)
    ends = spans + [mark] * near
    missing = max(0.0, least - (max(ends) - min(ends))) / 2
    return floor((min(ends) - missing) * 20) / 20, ceil((max(ends) + missing) * 20) / 20, mark


def once(table: Table, titles: Sequence[str]) -> Table:
    """The table without those of the columns `titles` that are the same in all rows; they move to the note.

    Columns that mark test selection stay.

    Args:
        table: with rows.
        titles: of columns.
    """
    said, gone = [], []
    for place, column in enumerate(table.columns):
        texts = {row[place].text for row in table.rows}
        marked = any(row[place].tone == "test" for row in table.rows)
        if column.title in titles and len(texts) == 1 and not marked:
            gone.append(column)
            group = f" ({_inner(column.group)})" if column.group else ""
            said += [f"{_inner(column.title)}{group} {text}" for text in texts - {"", DASH}]
    same = f"In all rows: {'; '.join(said)}." if said else ""
    return replace(select(table, lambda column: column not in gone), same=same, note=f"{same} {table.note}".strip())


def _inner(name: str) -> str:
    """A column's name within a sentence: in lower case, except for abbreviations."""
    return " ".join(word if word.isupper() else word.lower() for word in name.split(" "))


def select(table: Table, keep: Callable[[Column], bool]) -> Table:
    """The table with the columns for which `keep` is true."""
    places = [place for place, column in enumerate(table.columns) if keep(column)]
    columns = tuple(table.columns[place] for place in places)
    return replace(table, columns=columns, rows=tuple(tuple(row[place] for place in places) for row in table.rows))
