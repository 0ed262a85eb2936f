"""JSON of the right shape is returned unchanged; for others, one line says what is wrong and where."""

import json
from dataclasses import FrozenInstanceError, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_pipeline.errors import PipelineError
from ser_pipeline.file_names import FileName
from ser_pipeline.runs.shapes import FoldMembers, FoldsFile, IndexFile, ResultFile, RunFile, read_run_file
from ser_pipeline.shape import LARGEST, PathText, ShapeError, shaped


@dataclass(frozen=True)
class Part:
    name: FileName
    sizes: tuple[float, ...] = ()


@dataclass(frozen=True)
class Whole:
    file: FileName
    parts: dict[str, list[Part]]
    kind: Literal["a", "b"] = "a"
    note: str | None = None
    ready: bool = False


GOOD: dict[str, Any] = {"file": "x.csv", "parts": {"one": [{"name": "1F", "sizes": [1, 2.5]}]}, "more": 7}


def test_objects_become_dataclasses_and_unknown_keys_are_passed_over() -> None:
    assert shaped(GOOD, Whole) == Whole("x.csv", {"one": [Part("1F", (1.0, 2.5))]})


WRONG: dict[str, tuple[object, str]] = {
    "nothing": ({}, "it has no file"),
    "a list": ([], "it is a list, not an object"),
    "no name": (GOOD | {"parts": {"one": [{}]}}, "parts.one[0] has no name"),
    "a path for a file": (
        GOOD | {"file": "../x"},
        "file is '../x', not the name of a file or folder",
    ),
    "the folder itself": (
        GOOD | {"file": ".."},
        "file is '..', not the name of a file or folder",
    ),
    "a line break in a file": (
        GOOD | {"file": "x\n"},
        "file is 'x\\n', not the name of a file or folder",
    ),
    "a path for a fold": (
        GOOD | {"parts": {"p": [{"name": "../F"}]}},
        "parts.p[0].name is '../F', not the name of a file",
    ),
    "an unknown kind": (GOOD | {"kind": "c"}, "kind is 'c', not one of a, b"),
    "a note that is a number": (GOOD | {"note": 3}, "note is a whole number, not text or null"),
    "a number for a truth": (GOOD | {"ready": 1}, "ready is a whole number, not true or false"),
    "half of a character": (GOOD | {"note": "\ud800"}, "note is '\\ud800', not text or null"),
    "half of a character in a key": (GOOD | {"parts": {"\udfff": []}}, "parts contains half of a character"),
    "a number too large": (
        GOOD | {"parts": {"p": [{"name": "F", "sizes": [10**400]}]}},
        "parts.p[0].sizes[0] is too large a number",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_its_place(case: str) -> None:
    value, words = WRONG[case]
    with pytest.raises(ShapeError) as raised:
        shaped(value, Whole)
    assert str(raised.value).startswith(words)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(JSON, st.sampled_from(["file", "parts", "kind", "note", "ready"]))
def test_any_json_is_taken_or_refused_and_what_is_taken_can_be_written(value: object, name: str) -> None:
    for whole in (value, GOOD | {name: value}):
        try:
            found = shaped(whole, Whole)
        except ShapeError as error:
            assert str(error).isprintable()
        else:
            json.dumps([found.file, found.note], ensure_ascii=False).encode()


TAKEN: list[tuple[object, Any]] = [
    (LARGEST, int),
    (-LARGEST, int),
    (True, Literal[True]),
    (["a", "b"], list[str]),
    ("a" * 99, PathText),
    (None, str | None),
    ({"a": {"b": [None]}}, dict[str, Any]),
    ({"a": [0.5]}, dict),
]


@pytest.mark.parametrize(("value", "wanted"), TAKEN)
def test_what_fits_is_taken_as_it_is(value: object, wanted: Any) -> None:
    assert shaped(value, wanted) == value


REFUSED: list[tuple[object, Any, str]] = [
    (2**63, int, "it is too large a number"),
    (-LARGEST - 1, float, "it is too large a number"),
    (float("inf"), float, "it is inf, not a finite number"),
    (1, Literal[True], "it is 1, not one of True"),
    (1.5, int, "it is a number, not a whole number"),
    (["a", 1], list[str], "[1] is a whole number, not text"),
    (["a", "\ud800"], list[str], "[1] contains half of a character"),
    ("\ud800", str, "it contains half of a character"),
    ("a\0", PathText, "it is 'a\\x00', not a path"),
    ("a" * 38 + "\0", PathText, f"it is 'a{'a' * 37}\\…, not a path"),
    ("a" * 34 + "\0", PathText, f"it is '{'a' * 34}\\x00', not a path"),
    ("a" * 35 + "\0", PathText, f"it is '{'a' * 35}\\x00…, not a path"),
    ({}, list[str], "it is an object, not a list"),
    ([], dict[str, Any], "it is a list, not an object"),
    ({"a b": {"\n": 1}}, dict[str, dict[str, str]], "a b.'\\n' is a whole number, not text"),
    (3, list[str] | dict[str, Any], "it is a whole number, not a list or an object"),
]


@pytest.mark.parametrize(("value", "wanted", "words"), REFUSED)
def test_what_does_not_fit_is_refused_in_these_words(value: object, wanted: Any, words: str) -> None:
    with pytest.raises(ShapeError) as raised:
        shaped(value, wanted)
    assert str(raised.value) == words


def test_whole_numbers_of_64_bits_are_taken() -> None:
    assert LARGEST == 9_223_372_036_854_775_807
    assert shaped([LARGEST, -LARGEST], list[int]) == [LARGEST, -LARGEST]


OLDEST: dict[type, dict[str, Any]] = {
    RunFile: {
        **dict.fromkeys(("corpus", "protocol", "selection", "ablation", "preset", "features"), "x"),
        "labels": ["a"],
        "seed": 3,
        "folds": ["1F"],
        "synthetic": True,
    },
    FoldMembers: {"name": "1F", "train": ["a"], "validation": ["b"], "test": ["c"]},
    FoldsFile: {"protocol": "speaker", "selection": "last", "folds": []},
    ResultFile: {"best_epoch": 2, "epochs": 3, "seconds": 4.0, "counts": [[5]]},
    IndexFile: {},
}
"""The fields that every version has written, by the type that reads them."""


@pytest.mark.parametrize("wanted", OLDEST)
def test_fields_that_an_earlier_version_did_not_write_are_empty(wanted: type) -> None:
    read: Any = shaped(OLDEST[wanted], wanted)
    late = {field.name: getattr(read, field.name) for field in fields(wanted) if field.name not in OLDEST[wanted]}
    assert not any(late.values()), late


@pytest.mark.parametrize("wanted", OLDEST)
def test_what_was_read_cannot_be_changed(wanted: type) -> None:
    read: Any = shaped(OLDEST[wanted], wanted)
    with pytest.raises(FrozenInstanceError):
        setattr(read, fields(wanted)[0].name, "other")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folds": []}, "it must name each fold once, and has none"),
        ({"folds": ["1F", "1F"]}, "it must name each fold once, and has 1F, 1F"),
        ({"labels": ["a", "b", "a"]}, "it must name each class once, and has a, b, a"),
    ],
)
def test_a_run_names_each_of_its_classes_and_folds_once(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    (tmp_path / "run.json").write_text(json.dumps(OLDEST[RunFile] | change))
    with pytest.raises(PipelineError, match=words):
        read_run_file(tmp_path)
