"""Findings of leaks at their thresholds (dialogues, speakers, scripts and copies), with their messages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.splits.folds import Fold
from ser_pipeline.splits.leaks import leaks, other_labels, same_audio
from support import trees

FIRST, LAST = np.arange(3), np.arange(3, 6)


def turns(wrong: int, right: int, letters: str = "FM") -> list[Utterance]:
    """Return dialogues of two turns: in the `wrong` first ones both speakers share a name, in `right` others not."""
    return [
        trees.utterance(
            2 * dialogue + side,
            file=f"Ses{dialogue:02}_impro01_{letter}000.wav",
            speaker=f"d{dialogue}" if dialogue < wrong else f"d{dialogue}{letter}",
        )
        for dialogue in range(wrong + right)
        for side, letter in enumerate(letters)
    ]


@pytest.mark.parametrize("letters", ["FM", "AB"])
@pytest.mark.parametrize(("wrong", "right"), [(2, 0), (2, 2), (3, 3)])
def test_half_of_the_dialogues_with_one_name_for_both_sides_are_an_error(letters: str, wrong: int, right: int) -> None:
    (finding,) = leaks(turns(wrong, right, letters))
    assert (finding.severity, finding.name) == ("error", "speaker-from-dialogue")
    assert finding.message == (
        f"{wrong} of {wrong + right} dialogues have one speaker for both letters of their turns (such as u000): "
        "the column is the file's prefix, not the turn's own letter"
    )
    assert finding.rows == tuple(f"u{2 * dialogue + 1:03}" for dialogue in range(wrong))


@pytest.mark.parametrize(("wrong", "right"), [(1, 0), (1, 1), (2, 3), (3, 4), (0, 4)])
def test_fewer_than_half_of_the_dialogues_or_a_single_one_are_no_error(wrong: int, right: int) -> None:
    assert not leaks(turns(wrong, right))


def test_letters_of_two_kinds_are_no_pair() -> None:
    assert not leaks(turns(4, 0, "FA"))


def named(speakers: list[str], dialogues: list[str]) -> list[Utterance]:
    return [
        trees.utterance(number, speaker=speaker, dialogue=dialogue)
        for number, (speaker, dialogue) in enumerate(zip(speakers, dialogues, strict=True))
    ]


def test_two_speakers_who_are_prefixes_of_their_dialogues_are_a_warning_that_names_the_first() -> None:
    (finding,) = leaks(named(["ann", "ann", "bob"], ["ann_1", "ann_2", "bob_1"]))
    assert (finding.severity, finding.name) == ("warning", "speaker-from-dialogue")
    assert finding.message == "every dialogue has one speaker, whose name is the dialogue's prefix (such as ann_1)"


@pytest.mark.parametrize(
    ("speakers", "dialogues"),
    [
        (["ann", "ann"], ["ann_1", "ann_2"]),
        (["ann"], ["ann_1"]),
        (["ann", "bob"], ["ann_1", "x_bob"]),
        (["ann", "bob"], ["ann", "bob"]),
        (["ann", "bob", "cy", "dee"], ["ann_1", "bob_1", "cy_1", "cy_1"]),
        (["ann", "bob"], ["", ""]),
    ],
    ids=["one speaker", "one dialogue", "one not a prefix", "the whole name", "one of two speakers", "no dialogue"],
)
def test_other_names_of_dialogues_are_not_taken_for_the_speakers(speakers: list[str], dialogues: list[str]) -> None:
    assert not leaks(named(speakers, dialogues))


def told(scripts: list[str]) -> list[Utterance]:
    people = trees.people(2, turns=3)
    return [replace(one, emotion="a", script=script) for one, script in zip(people, scripts, strict=True)]


@pytest.mark.parametrize(
    ("scripts", "text"),
    [
        ("x__x__", "the same sentence or script is in train and in test of 2 of 2 folds (x)"),
        ("xy_yx_", "the same 2 sentences or scripts are in train and in test of 2 of 2 folds (x, y)"),
    ],
)
def test_scripts_that_every_fold_shares_are_a_note(scripts: str, text: str) -> None:
    folds = [Fold("p1", LAST, LAST[:0], FIRST), Fold("p2", FIRST, FIRST[:0], LAST)]
    (finding,) = leaks(told(unlike(scripts)), folds)
    assert (finding.severity, finding.name, finding.message) == ("note", "text-dependent", text)


def unlike(scripts: str) -> list[str]:
    """Return one script per letter; each `_` is a script of its own."""
    return [letter if letter != "_" else f"own {place}" for place, letter in enumerate(scripts)]


def test_scripts_that_some_folds_share_are_counted_of_all() -> None:
    rows = np.arange(6)
    folds = [
        Fold("one", rows[:1], rows[:0], rows[3:4]),
        Fold("two", rows[1:2], rows[:0], rows[4:5]),
        Fold("none", rows[2:3], rows[:0], rows[5:]),
    ]
    (finding,) = leaks(told(unlike("xy_xy_")), folds)
    assert finding.message == "2 of 4 sentences or scripts are in train and in test of 2 of 3 folds (x, y)"
    (alone,) = leaks(told(unlike("xy_xy_")), [*folds[:1], folds[2]])
    assert alone.message == "the same sentence or script is in train and in test of 1 of 2 folds (x)"


def test_one_script_of_several_that_folds_share_is_counted_in_the_singular() -> None:
    folds = [Fold("one", FIRST, FIRST[:0], LAST)]
    (finding,) = leaks(told(unlike("x__x__")), folds)
    assert finding.message == "the same sentence or script is in train and in test of 1 of 1 folds (x)"


def test_a_class_without_a_row_in_train_is_named_with_its_fold() -> None:
    people = [replace(one, emotion=emotion) for one, emotion in zip(trees.people(2, turns=3), "aabacd", strict=True)]
    (finding,) = leaks(people, [Fold("x", FIRST, FIRST[:0], LAST)])
    assert (finding.severity, finding.message) == ("error", "fold x: no c or d in train")


def test_folds_that_choose_on_the_test_rows_are_counted() -> None:
    people = [replace(one, emotion="a") for one in trees.people(2, turns=3)]
    (finding,) = leaks(people, [Fold("x", FIRST, LAST, LAST), Fold("y", LAST, LAST[:0], FIRST)])
    assert finding.message == "the epoch is chosen on the test rows in 1 of 2 folds, by request"


def test_copies_name_the_first_three_of_the_first_group_and_count_other_labels() -> None:
    people = [replace(one, emotion="b" if one.id == "p1_5" else "a") for one in trees.people(1, turns=7)]
    (finding,) = same_audio(people, ["k", "k", "k", "k", "m", "m", ""], [])
    assert (finding.severity, finding.name) == ("warning", "copy")
    assert finding.message == (
        "2 recordings occur more than once (such as p1_0 = p1_1 = p1_2); 1 with different labels"
    )
    assert finding.rows == ("p1_0", "p1_1", "p1_2", "p1_3", "p1_4", "p1_5")


def test_copies_with_one_label_say_nothing_of_labels() -> None:
    people = [replace(one, emotion="a") for one in trees.people(1, turns=4)]
    assert other_labels(people, [[0, 1], [2, 3]]) == ""


def test_copies_are_known_by_who_speaks_and_by_the_sides_of_the_folds() -> None:
    people = trees.people(2, turns=3)
    folds = [Fold("x", np.array([0]), np.array([1]), np.array([2]))]

    def kinds(keys: str, folds: list[Fold]) -> list[tuple[str, str]]:
        return [(one.name, one.severity) for one in same_audio(people, [key.strip("_") for key in keys], folds)]

    assert kinds("k__k__", folds) == [("copy-across-speakers", "error")]
    assert kinds("k_k___", folds) == [("copy-across-folds", "error")]
    assert kinds("_kk___", folds) == [("copy-across-folds", "error")]
    assert kinds("kk____", folds) == [("copy", "warning")]
    assert kinds("___kk_", folds) == [("copy", "warning")]
    assert kinds("k_k___", []) == [("copy", "warning")]
    shared = [replace(folds[0], shared=True)]
    assert kinds("k_k___", shared) == [("copy-across-folds", "warning")]
    assert kinds("k_k___", [*shared, *folds]) == [("copy-across-folds", "error")]
    assert kinds("______", folds) == []
