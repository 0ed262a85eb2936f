"""Printed answers: a table that fits the terminal, and every format in any encoding."""

import csv
import io
import os
import shutil
import sys
from collections.abc import Callable

import pytest
from ser_pipeline.cli.answers import CsvWriter, JsonLinesWriter, JsonWriter, TableWriter, Writer
from ser_pipeline.cli.encodings import write_anything

from ser_pipeline.predict.answers import Answer, Unanswered

SHARES = {"anger": 0.7, "happiness": 0.15, "neutral": 0.1, "sadness": 0.05}
EVERYTHING = {"channel": True, "speaker": True, "time": True, "spread": True}
LONG = "recordings/of calls/2024-06-11/" + 5 * "very long " + "name.wav"
NOTE = "has samples up to 3 times full scale, which are clipped, seen in training, except by fold 03"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(name: str, note: str = "") -> Answer:
    return Answer(name, 3.0, 6.0, "anger", SHARES, 0.02, 1, "customer", note)


def printed(out: io.StringIO, shown: dict[str, bool], *answers: Answer | Unanswered) -> list[str]:
    table = TableWriter(out, tuple(SHARES), [answer.file for answer in answers], shown)
    for answer in answers:
        table.write(answer)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("shown", [{}, EVERYTHING, dict.fromkeys(EVERYTHING, False)])
def test_no_line_is_wider_than_the_terminal(
    width: int, shown: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((width, 24)))
    answers = [said("a.wav"), said(LONG, NOTE), Unanswered(LONG, f"{LONG} is not readable audio; give another file")]
    lines = printed(Terminal(), shown, *answers)
    assert max(map(len, lines)) <= width
    header, first = lines[:2]
    for name in ("emotion", "probability"):
        end = header.index(name) + len(name)
        assert first[:end].split()[-1] == ("anger" if name == "emotion" else "0.7000")
    text = " ".join(" ".join(lines).split())
    assert NOTE in text and "is not readable audio; give another file" in text
    assert lines[2].startswith("…") == (width < 200)


def test_the_header_comes_with_the_first_answer_or_at_the_end() -> None:
    out = io.StringIO()
    table = TableWriter(out, tuple(SHARES), ["a.wav"], {})
    assert out.getvalue() == "", "a progress bar would split the table"
    table.write(said("a.wav"))
    table.close()
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["file", "a.wav"]
    empty = io.StringIO()
    TableWriter(empty, tuple(SHARES), ["a.wav"], {}).close()
    assert empty.getvalue().startswith("file")


def test_elsewhere_names_are_whole_and_columns_aligned() -> None:
    lines = printed(io.StringIO(), EVERYTHING, said("a.wav"), said(LONG, NOTE))
    assert lines[2].startswith(LONG) and lines[2].endswith(NOTE)
    assert len({line.index(word) for line, word in zip(lines, ("emotion", "anger", "anger"), strict=True)}) == 1


WRITERS: dict[str, Callable[[], Writer]] = {
    "table": lambda: TableWriter(sys.stdout, tuple(SHARES), ["last.wav"], {}),
    "csv": lambda: CsvWriter(sys.stdout, tuple(SHARES)),
    "json": lambda: JsonWriter(sys.stdout),
    "jsonl": lambda: JsonLinesWriter(sys.stdout),
}


@pytest.mark.parametrize("form", WRITERS)
def test_a_name_that_the_terminal_cannot_show_is_escaped_and_what_follows_is_printed(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "cp1252"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), "cp1252"))
    write_anything()
    writer = WRITERS[form]()
    for answer in (said("żé.wav"), Unanswered("Ж.wav", "is no audio"), said("last.wav")):
        writer.write(answer)
    writer.close()
    sys.stdout.flush()
    text = shown.getvalue().decode("cp1252")
    assert all(name in text for name in ("\\u017cé.wav", "\\u0416.wav", "last.wav"))


def test_names_that_a_spreadsheet_would_run_are_guarded() -> None:
    out = io.StringIO()
    writer = CsvWriter(out, tuple(SHARES))
    for answer in (said("=cmd.wav", "@note"), Unanswered("+cmd.wav", "-1+2")):
        writer.write(answer)
    answered, unanswered = csv.reader(out.getvalue().splitlines()[1:])
    assert (answered[0], answered[-2]) == ("'=cmd.wav", "'@note")
    assert (unanswered[0], unanswered[-1]) == ("'+cmd.wav", "'-1+2")
