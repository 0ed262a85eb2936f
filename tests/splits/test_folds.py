from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import Audio
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.errors import PipelineError
from ser_pipeline.settings import ON_TEST, SELECTIONS
from ser_pipeline.splits.folds import PARTS, Fold, folds_json, folds_of, read_folds
from ser_pipeline.splits.protocols import PROTOCOLS, Columns
from support import trees

GOLDEN = ["Session2d2", "Session3d5", "Session4d9", "Session5d4"]
"""Dialogues that validate the first session of ten speakers, recorded once."""


def speakers(utterances: list[Utterance], rows: np.ndarray) -> set[str]:
    return {utterances[row].speaker for row in rows}


def manifest(corpus: str, utterances: list[Utterance]) -> Manifest:
    labels = sorted({utterance.emotion for utterance in utterances})
    keys = tuple(f"{corpus}{utterance.id}" for utterance in utterances)
    samples = np.arange(len(utterances)) + 16_000
    return Manifest(corpus, {label: (label,) for label in labels}, Audio(), tuple(utterances), keys, samples)


def test_the_session_partner_validates_a_held_out_speaker() -> None:
    utterances = trees.people(6, dialogues=2, sessions=True)
    folds = folds_of(utterances, "speaker")
    assert [fold.name for fold in folds] == ["p1", "p2", "p3", "p4", "p5", "p6"]
    for fold, partner in zip(folds, ("p2", "p1", "p4", "p3", "p6", "p5"), strict=True):
        assert speakers(utterances, fold.test) == {fold.name}
        assert speakers(utterances, fold.validation) == {partner}


def test_without_sessions_the_next_speaker_validates_and_the_last_is_followed_by_the_first() -> None:
    utterances = trees.people(3)
    folds = folds_of(utterances, "speaker")
    assert [speakers(utterances, fold.validation) for fold in folds] == [{"p2"}, {"p3"}, {"p1"}]


def test_speakers_come_in_the_order_of_their_numbers() -> None:
    assert [fold.name for fold in folds_of(trees.people(11), "speaker")][-2:] == ["p10", "p11"]


def test_a_speaker_whose_dialogues_go_on_in_training_does_not_validate_whole() -> None:
    utterances = [
        trees.utterance(turn, id=f"{name}{turn}", speaker=name, dialogue=f"d{turn % 20}")
        for name in ("a", "b", "c")
        for turn in range(40)
    ]
    for fold in folds_of(utterances, "speaker"):
        training = {utterances[row].dialogue for row in fold.train}
        assert not training & {utterances[row].dialogue for row in fold.validation}
        assert len(fold.validation) == 8  # two of twenty dialogues, four turns each


def test_with_two_speakers_a_tenth_of_the_other_ones_texts_validates() -> None:
    utterances = [
        trees.utterance(turn, id=f"{name}{turn}", speaker=name, script=f"t{turn % 20}")
        for name in ("a", "b")
        for turn in range(40)
    ]
    for fold in folds_of(utterances, "speaker"):
        assert len(fold.validation) == 4
        training = {utterances[row].script for row in fold.train}
        assert not training & {utterances[row].script for row in fold.validation}


def test_a_session_is_left_out_and_a_tenth_of_the_other_dialogues_validates() -> None:
    utterances = trees.people(10, turns=40, dialogues=10, sessions=True)
    folds = folds_of(utterances, "session")
    assert [fold.name for fold in folds] == [f"Session{number}" for number in range(1, 6)]
    for fold in folds:
        assert len(fold.validation) == 32  # 4 of 40 dialogues, 8 turns each
        validating = {utterances[row].dialogue for row in fold.validation}
        assert not validating & {utterances[row].dialogue for row in fold.train}


def test_the_held_out_tenth_has_the_classes_of_the_whole() -> None:
    utterances = [
        trees.utterance(0, id=f"{s}{d}{t}", session=s, speaker=s, dialogue=f"{s}d{d}", emotion="abc"[d % 3])
        for s in ("x", "y", "z")
        for d in range(30)
        for t in range(3)
    ]
    for fold in folds_of(utterances, "session"):
        counts = {label: sum(utterances[row].emotion == label for row in fold.validation) for label in "abc"}
        assert all(3 <= count <= 9 for count in counts.values()), counts


def test_sessions_without_dialogues_are_validated_by_whole_speakers() -> None:
    utterances = trees.people(8, sessions=True)
    for fold in folds_of(utterances, "session"):
        assert len(speakers(utterances, fold.validation)) == 1
        assert not speakers(utterances, fold.validation) & speakers(utterances, fold.train)


def test_groups_are_whole_speakers_of_balanced_size() -> None:
    sizes = (30, 20, 20, 10, 10, 10, 10, 5, 5)
    utterances = [
        trees.utterance(turn, id=f"p{place}_{turn}", speaker=f"p{place}")
        for place, size in enumerate(sizes)
        for turn in range(size)
    ]
    folds = folds_of(utterances, "group-4")
    assert [fold.name for fold in folds] == ["group-1", "group-2", "group-3", "group-4"]
    assert sorted(len(fold.test) for fold in folds) == [30, 30, 30, 30]
    for fold, following in zip(folds, (*folds[1:], folds[0]), strict=True):
        assert np.array_equal(fold.validation, following.test)


def test_groups_keep_the_two_speakers_of_a_session_together() -> None:
    utterances = trees.people(10, dialogues=2, sessions=True)
    for fold in folds_of(utterances, "group-5"):
        assert len({utterances[row].session for row in fold.test}) == 1


def test_the_official_split_is_taken_and_a_missing_validation_part_is_held_out() -> None:
    split = {"p1": "train", "p2": "train", "p3": "validation", "p4": "test"}
    utterances = [trees.utterance(0, id=u.id, speaker=u.speaker, split=split[u.speaker]) for u in trees.people(4)]
    (fold,) = folds_of(utterances, "official")
    assert fold.name == "official"
    assert [speakers(utterances, getattr(fold, part)) for part in PARTS] == [{"p1", "p2"}, {"p3"}, {"p4"}]
    (fold,) = folds_of([utterance for utterance in utterances if utterance.speaker != "p3"], "official")
    assert len(fold.validation) == len(fold.train) == 6


def test_an_official_split_that_shares_speakers_has_to_be_asked_for_by_name() -> None:
    utterances = [
        trees.utterance(turn, id=f"{name}{turn}", speaker=name, split=("train", "validation", "test")[turn % 3])
        for name in ("Ross", "Joey")
        for turn in range(6)
    ]
    with pytest.raises(PipelineError, match=r"speaker Joey and 1 more is in train and in test.*official-shared"):
        folds_of(utterances, "official")
    (fold,) = folds_of(utterances, "official-shared")
    assert [len(getattr(fold, part)) for part in PARTS] == [4, 4, 4]


@pytest.mark.parametrize("protocol", ["speaker", "session", "group-2", "official"])
def test_selection_on_test_changes_what_validates_and_nothing_else(protocol: str) -> None:
    splits = dict(zip(("p1", "p2", "p3", "p4"), ("train", "train", "train", "test"), strict=True))
    utterances = [
        replace(one, split=splits[one.speaker]) for one in trees.people(4, turns=12, dialogues=6, sessions=True)
    ]
    honest, test, reference = (folds_of(utterances, protocol, selection) for selection in SELECTIONS)
    for plain, chosen, published in zip(honest, test, reference, strict=True):
        assert np.array_equal(chosen.train, plain.train)
        assert np.array_equal(chosen.validation, chosen.test)
        assert np.array_equal(published.validation, published.test)
        assert sorted(published.train) == sorted([*plain.train, *plain.validation])


@settings(max_examples=40, deadline=None)
@given(
    columns=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 8)), min_size=8, max_size=60),
    protocol=st.sampled_from(["speaker", "session", "group-2", "group-3"]),
    selection=st.sampled_from(SELECTIONS),
)
def test_folds_of_any_corpus_are_refused_or_disjoint_and_cover_it(
    columns: list[tuple[int, int, int]], protocol: str, selection: str
) -> None:
    utterances = [
        trees.utterance(
            number, speaker=f"s{speaker}", session=f"x{session}", dialogue=f"d{dialogue}" if dialogue else ""
        )
        for number, (speaker, session, dialogue) in enumerate(columns)
    ]
    try:
        folds = folds_of(utterances, protocol, selection)
    except PipelineError:
        return
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(utterances)))
    for fold in folds:
        train, validation, test = (set(getattr(fold, part).tolist()) for part in PARTS)
        assert selection == "test" or train | validation | test == set(range(len(utterances)))
        assert not train & test
        assert not speakers(utterances, fold.test) & speakers(utterances, fold.train)
        if selection in ON_TEST:
            assert validation == test
            continue
        assert not (train | test) & validation
        assert not speakers(utterances, fold.test) & speakers(utterances, fold.validation)
        dialogues = [{utterances[row].dialogue for row in part} - {""} for part in (fold.train, fold.validation)]
        assert not dialogues[0] & dialogues[1]


def test_a_held_out_tenth_is_the_same_on_every_machine_and_in_every_version() -> None:
    utterances = trees.people(10, turns=20, dialogues=10, sessions=True)
    held = [sorted({utterances[row].dialogue for row in fold.validation}) for fold in folds_of(utterances, "session")]
    assert held[0] == GOLDEN


def test_a_fold_that_leaks_cannot_be_made() -> None:
    columns = Columns(tuple(trees.people(4, dialogues=2, sessions=True)))
    rows = np.arange(24)
    with pytest.raises(PipelineError, match="speaker p1 is in train and in test"):
        Fold.checked("x", columns, {"train": rows[3:18], "validation": rows[18:], "test": rows[:3]})
    with pytest.raises(PipelineError, match="speaker p2 is in validation and in test"):
        Fold.checked("x", columns, {"train": rows[12:], "validation": rows[9:12], "test": rows[:9]})
    with pytest.raises(PipelineError, match=r"dialogue Session2d0 and 1 more is in train and in validation"):
        Fold.checked("x", columns, {"train": rows[12:18], "validation": rows[18:], "test": rows[:12]})
    with pytest.raises(PipelineError, match="id p1_0 is in train and in validation"):
        Fold.checked("x", columns, {"train": rows[:12], "validation": rows[:1], "test": rows[12:]})
    with pytest.raises(PipelineError, match="no validation utterances"):
        Fold.checked("x", columns, {"train": rows[:12], "validation": rows[:0], "test": rows[12:]})
    with pytest.raises(PipelineError, match="selected on test"):
        Fold.checked("x", columns, {"train": rows[:6], "validation": rows[6:12], "test": rows[12:]}, "test")


@pytest.mark.parametrize(
    ("made", "protocol", "message"),
    [
        (
            trees.people(1),
            "speaker",
            "needs several speakers, and there is one, p1; name the speakers .*official-shared",
        ),
        (trees.people(1), "group-5", "needs 5 speakers, and there is 1; name the speakers .* train --final"),
        (trees.people(1), "session", "names no sessions; name the speakers .* train --final"),
        (trees.people(1), "official", "no official split; name the speakers .* train --final"),
        (trees.people(4), "session", "names no sessions; choose --protocol speaker or group-4"),
        (trees.people(2, sessions=True), "session", "needs several sessions"),
        (trees.people(4), "group-5", "needs 5 speakers, and there are 4; choose --protocol speaker or group-4"),
        (trees.people(4), "official", "no official split"),
        (trees.people(4), "leave-one-out", "unknown protocol 'leave-one-out'; known: speaker"),
        (trees.people(4), "group-1", "unknown protocol"),
        (trees.people(2, turns=1), "speaker", "too few utterances"),
        ([*trees.people(3), trees.utterance(0, id="x", speaker="")], "speaker", "utterance x has no speaker"),
    ],
)
def test_a_protocol_that_a_corpus_does_not_allow_is_one_line(
    made: list[Utterance], protocol: str, message: str
) -> None:
    with pytest.raises(PipelineError, match=message) as caught:
        folds_of(made, protocol)
    assert "\n" not in str(caught.value)


def test_what_is_suggested_for_one_speaker_makes_folds() -> None:
    one = trees.people(1, turns=12)
    (final,) = folds_of(one, "final")
    assert not len(final.test) and len(final.train) and len(final.validation)
    split = [replace(turn, split="test" if number < 4 else "train") for number, turn in enumerate(one)]
    (shared,) = folds_of(split, "official-shared")
    assert shared.test.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("speakers", "suggested"), [(2, "group-2"), (4, "group-4"), (9, "group-5")])
def test_what_is_suggested_for_several_speakers_makes_folds(speakers: int, suggested: str) -> None:
    utterances = trees.people(speakers)
    with pytest.raises(PipelineError, match=f"choose --protocol speaker or {suggested}$"):
        folds_of(utterances, "session")
    assert len(folds_of(utterances, "speaker")) == speakers
    assert len(folds_of(utterances, suggested)) == int(suggested[-1])


def test_a_speaker_in_two_sessions_cannot_be_left_out_by_session() -> None:
    utterances = [
        trees.utterance(turn, id=f"{name}{turn}", speaker=name, session=f"x{turn % 2}")
        for name in "abc"
        for turn in range(4)
    ]
    with pytest.raises(
        PipelineError,
        match=r"x0 leaks: speaker \w and 1 more is in train and in test; .*or choose --protocol speaker or group-3",
    ):
        folds_of(utterances, "session")


@pytest.mark.parametrize("selection", SELECTIONS)
def test_utterances_of_no_class_train_but_neither_choose_the_epoch_nor_are_tested(selection: str) -> None:
    utterances = [
        replace(one, emotion="" if number % 4 == 0 else one.emotion) for number, one in enumerate(trees.people(4))
    ]
    for fold in folds_of(utterances, "speaker", selection):
        own = [row for row, one in enumerate(utterances) if one.speaker == fold.name]
        assert fold.test.tolist() == [row for row in own if utterances[row].emotion]
        assert fold.undecided.tolist() == [row for row in own if not utterances[row].emotion]
        assert all(utterances[row].emotion for row in fold.validation)
        assert not all(utterances[row].emotion for row in fold.train)
        assert not {*fold.train} & {*own, *fold.validation}


def test_a_fold_that_tests_nothing_still_trains_and_validates() -> None:
    columns, rows = Columns(tuple(trees.people(4))), np.arange(24)
    parts = {"train": rows[:12], "validation": rows[12:], "test": rows[:0]}
    assert not len(Fold.checked("x", columns, parts, tested=False).test)
    with pytest.raises(PipelineError, match="no test utterances"):
        Fold.checked("x", columns, parts)
    for part in ("train", "validation"):
        with pytest.raises(PipelineError, match=f"no {part} utterances"):
            Fold.checked("x", columns, parts | {part: rows[:0]}, tested=False)


def test_fold_names_can_be_folders() -> None:
    names = ["a/b", "a b", "A_B", "..", "ö"]
    utterances = [trees.utterance(turn, id=f"{name}{turn}", speaker=name) for name in names for turn in range(2)]
    made = [fold.name for fold in folds_of(utterances, "speaker")]
    assert sorted(made) == ["A_B_3", "_", "a_b", "a_b_2", "ö"] or len({name.lower() for name in made}) == len(names)
    assert all("/" not in name and name.strip(".") for name in made)


@pytest.mark.parametrize("protocol", ["speaker", "session", "group-2"])
@pytest.mark.parametrize("selection", SELECTIONS)
def test_folds_are_the_same_when_written_and_read_back(tmp_path: Path, protocol: str, selection: str) -> None:
    utterances = trees.people(6, dialogues=3, sessions=True)
    folds = folds_of(utterances, protocol, selection)
    file = tmp_path / "folds.json"
    file.write_text(json.dumps(folds_json(folds, utterances, protocol, selection)))
    again, read_protocol, read_selection = read_folds(file, utterances)
    assert (read_protocol, read_selection) == (protocol, selection)
    for one, other in zip(folds, again, strict=True):
        assert one.name == other.name
        assert not one.shared and not other.shared
        assert all(np.array_equal(getattr(one, part), getattr(other, part)) for part in PARTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda value: value["folds"][0]["train"].append("nobody"),
            "1 train ids are not in the corpus, such as nobody",
        ),
        (lambda value: value["folds"][0]["test"].append(value["folds"][0]["test"][0]), "is in test twice"),
        (
            lambda value: value["folds"][0]["train"].append(value["folds"][0]["test"][0]),
            "id p1_0 is in train and in test",
        ),
        (
            lambda value: value["folds"][0].pop("validation"),
            r"damaged \(folds\[0\] has no validation\); `ser-",
        ),
        (lambda value: value.update(folds={"train": []}), "folds is an object, not a list"),
        (lambda value: value["folds"][0]["train"].append(["p1_0"]), r"folds\[0\]\.train\[\d+\] is a list, not text"),
        (lambda value: value["folds"][1].update(name="p1"), "each of its folds once"),
        (lambda value: value["folds"][1].update(name="../p1"), "not a valid folder name"),
        (lambda value: value.update(folds=[]), "must name each of its folds"),
        (lambda value: value.update(selection="train"), "unknown selection 'train'"),
    ],
)
def test_a_file_of_folds_that_does_not_fit_is_one_line(tmp_path: Path, change: object, message: str) -> None:
    utterances = trees.people(3)
    value = folds_json(folds_of(utterances, "speaker"), utterances, "speaker")
    change(value)  # type: ignore[operator]
    file = tmp_path / "folds.json"
    file.write_text(json.dumps(value))
    with pytest.raises(PipelineError, match=message):
        read_folds(file, utterances)


def test_every_protocol_of_the_table_is_reached_by_its_name() -> None:
    assert set(PROTOCOLS) == {"speaker", "session", "group", "official", "official-shared", "corpus", "cross", "final"}


def test_a_final_model_learns_from_all_but_a_tenth_in_whole_speakers_and_tests_nothing() -> None:
    utterances = trees.people(10)
    (fold,) = folds_of(utterances, "final")
    assert fold.name == "final"
    assert not len(fold.test)
    assert sorted([*fold.train, *fold.validation]) == list(range(len(utterances)))
    held = {utterances[row].speaker for row in fold.validation}
    assert len(held) == 1
    assert held.isdisjoint(utterances[row].speaker for row in fold.train)


def test_one_speaker_alone_is_no_reason_against_a_final_model() -> None:
    (fold,) = folds_of(trees.people(1), "final")
    assert len(fold.train) > len(fold.validation) > 0


@pytest.mark.parametrize("selection", ["test", "reference"])
def test_the_epoch_of_a_final_model_is_not_chosen_on_test_rows_which_it_has_not(selection: str) -> None:
    with pytest.raises(PipelineError, match="add --selection validation"):
        folds_of(trees.people(3), "final", selection)


def test_a_file_without_test_rows_is_refused_whatever_it_says_of_itself(tmp_path: Path) -> None:
    utterances = trees.people(3)
    made = folds_json(folds_of(utterances, "final"), utterances, "final")
    with pytest.raises(PipelineError, match="no test utterances"):
        read_folds(written(tmp_path, made), utterances)


def written(tmp_path: Path, value: dict[str, object]) -> Path:
    file = tmp_path / "folds.json"
    file.write_text(json.dumps(value))
    return file


@pytest.mark.parametrize("protocol", ["speaker", "official", "official-shared", "cross", "own", "../../x", ""])
@pytest.mark.parametrize("name", ["official-shared", "own", "p1"])
def test_nothing_that_a_file_says_of_itself_lets_a_fold_leak(tmp_path: Path, protocol: str, name: str) -> None:
    utterances = trees.people(3)
    rows = [utterance.id for utterance in utterances]
    fold = {"name": name, "train": rows[3:12], "validation": rows[12:], "test": rows[:3]}
    file = written(tmp_path, {"protocol": protocol, "selection": "validation", "folds": [fold]})
    with pytest.raises(PipelineError, match="speaker p1 is in train and in test"):
        read_folds(file, utterances)


def test_a_file_of_the_shared_official_split_is_read_where_the_corpus_has_that_split(tmp_path: Path) -> None:
    utterances = [
        replace(one, split=("train", "validation", "test")[number % 3]) for number, one in enumerate(trees.people(3))
    ]
    made = folds_of(utterances, "official-shared")
    file = written(tmp_path, folds_json(made, utterances, "official-shared"))
    (fold,), protocol, _ = read_folds(file, utterances)
    assert protocol == "official-shared"
    assert fold.shared and speakers(utterances, fold.train) & speakers(utterances, fold.test)


@pytest.mark.parametrize("change", ["fold left out", "row moved", "named otherwise", "path", "nothing"])
def test_the_protocol_of_a_file_is_the_one_that_makes_its_folds(tmp_path: Path, change: str) -> None:
    utterances = trees.people(4)
    value = folds_json(folds_of(utterances, "speaker"), utterances, "speaker")
    if change == "fold left out":
        del value["folds"][0]
    elif change == "row moved":
        value["folds"][0]["train"].pop()
    elif change == "named otherwise":
        value["folds"][0]["name"] = "first"
    elif change == "path":
        value["protocol"] = "../../x"
    folds, protocol, _ = read_folds(written(tmp_path, value), utterances)
    assert protocol == ("speaker" if change in ("nothing", "named otherwise") else "own")
    assert not any(fold.shared for fold in folds)


def test_an_utterance_is_tested_once(tmp_path: Path) -> None:
    utterances = trees.people(4)
    value = folds_json(folds_of(utterances, "speaker"), utterances, "speaker")
    value["folds"][1] |= {part: value["folds"][0][part] for part in PARTS}
    with pytest.raises(PipelineError, match="p1_0 and 5 more is tested by two folds"):
        read_folds(written(tmp_path, value), utterances)
