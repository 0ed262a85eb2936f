"""Several corpora as one: classes, names, folds, and leaks between them."""

from dataclasses import replace

import numpy as np
import pytest

from ser_pipeline.audit.corpus import leaks
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import Audio
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.errors import PipelineError
from ser_pipeline.splits.folds import folds_of, make_folds
from ser_pipeline.splits.joining import join, told
from support import trees


def manifest(corpus: str, utterances: list[Utterance]) -> Manifest:
    labels = sorted({utterance.emotion for utterance in utterances})
    keys = tuple(f"{corpus}{utterance.id}" for utterance in utterances)
    samples = np.arange(len(utterances)) + 16_000
    return Manifest(corpus, {label: (label,) for label in labels}, Audio(), tuple(utterances), keys, samples)


def corpus(name: str, speakers: tuple[str, ...], emotions: tuple[str, ...], **values: str) -> Manifest:
    return manifest(
        name,
        [
            trees.utterance(n, id=f"{s}_{n}", speaker=s, emotion=emotions[n % len(emotions)], script=f"t{n}", **values)
            for s in speakers
            for n in range(6)
        ],
    )


GERMAN = corpus("german", ("03", "08", "09"), ("anger", "happiness", "boredom"))
ENGLISH = corpus("english", ("03", "04"), ("angry", "happy"))
DANISH = corpus("danish", ("1", "2"), ("anger", "joy", "calm"), session="s1")


def test_two_corpora_are_joined_in_the_classes_that_both_have() -> None:
    first = [
        trees.utterance(n, id=f"{s}{n}", speaker=s, dialogue=f"d{n % 20}", emotion=("angry", "happy", "fru")[n % 3])
        for s in ("01", "02")
        for n in range(60)
    ]
    second = [
        trees.utterance(n, id=f"{s}{n}", speaker=s, emotion=("anger", "boredom", "happiness")[n % 3])
        for s in ("01", "03")
        for n in range(6)
    ]
    joined = join([manifest("left", first), manifest("right", second)], tested=True)
    assert joined.labels == ("angry", "happy")
    assert len(joined.utterances) == 80 + 8
    assert joined.utterances[-1].id == "right:035"
    assert joined.utterances[-1].emotion == "happy"
    assert joined.utterances[-1].file == second[-1].file, "below the folder of the test corpus"
    assert joined.keys[-1] == "right035"
    assert joined.samples[-1] == 16_011
    (fold,) = make_folds(joined, "cross")
    assert fold.name == "right"
    assert fold.test.tolist() == list(range(80, 88))
    assert sorted([*fold.train, *fold.validation]) == list(range(80))
    assert len(fold.validation) == 8


def test_corpora_without_shared_classes_cannot_be_joined() -> None:
    people = manifest("left", trees.people(2))
    other = manifest("right", [trees.utterance(n, emotion="cd"[n % 2]) for n in range(4)])
    with pytest.raises(PipelineError, match="share 0 classes"):
        join([people, other])
    with pytest.raises(PipelineError, match="is the training corpus"):
        join([people, people], tested=True)


def test_features_of_other_audio_cannot_be_joined() -> None:
    with pytest.raises(PipelineError, match="of english and german have different audio settings"):
        join([GERMAN, replace(ENGLISH, audio=Audio(rate=8_000, segment=24_000, hop=80))])


def test_speakers_of_one_name_stay_two_people() -> None:
    joined = join([GERMAN, ENGLISH, DANISH])
    folds = make_folds(joined, "speaker")
    assert [fold.name for fold in folds][:2] == ["danish_1", "danish_2"] and len(folds) == 7
    tested = {joined.utterances[row].speaker for fold in folds if fold.name == "german_03" for row in fold.test}
    assert tested == {"german:03"}
    assert {one.session for one in joined.utterances} == {"", "danish:s1"}, "empty sessions stay empty"
    assert {one.script.partition(":")[0] for one in joined.utterances} == {"german", "english", "danish"}
    assert joined.utterances[0].file == f"german/{GERMAN.utterances[0].file}"
    assert joined.corpus == "german+english+danish"


def test_each_corpus_is_left_out_once() -> None:
    joined = join([GERMAN, ENGLISH, DANISH])
    folds = make_folds(joined, "corpus")
    assert [fold.name for fold in folds] == ["danish", "english", "german"]
    for fold in folds:
        corpora = [{joined.utterances[row].corpus for row in rows} for rows in (fold.test, fold.train, fold.validation)]
        assert corpora[0] == {fold.name}
        assert fold.name not in corpora[1] | corpora[2]
        train, held = ({joined.utterances[row].speaker for row in rows} for rows in (fold.train, fold.validation))
        assert train.isdisjoint(held), "whole speakers validate"
    assert sorted(row for fold in folds for row in fold.test) == list(range(len(joined.utterances)))


def test_corpora_with_and_without_dialogues_both_validate() -> None:
    talk = [
        trees.utterance(n, id=f"{s}{n}", speaker=s, dialogue=f"{s}d{n % 10}", emotion=("anger", "joy")[n // 2 % 2])
        for s in ("a", "b")
        for n in range(40)
    ]
    acted = corpus("acted", tuple(f"s{n}" for n in range(20)), ("anger", "joy"))
    joined = join([manifest("talk", talk), acted, ENGLISH])
    fold = next(one for one in make_folds(joined, "corpus") if one.name == "english")
    held = {(joined.utterances[row].dialogue or joined.utterances[row].speaker) for row in fold.validation}
    train = {(joined.utterances[row].dialogue or joined.utterances[row].speaker) for row in fold.train}
    assert held.isdisjoint(train)
    assert {joined.utterances[row].corpus for row in fold.validation} == {"talk", "acted"}


def test_one_corpus_trains_and_every_utterance_is_tested_once() -> None:
    joined = join([GERMAN, ENGLISH, DANISH])
    folds = make_folds(joined, "only-german")
    assert [fold.name for fold in folds] == ["others", "group-1", "group-2", "group-3"]
    for fold in folds:
        assert {joined.utterances[row].corpus for row in (*fold.train, *fold.validation)} == {"german"}
    assert {joined.utterances[row].corpus for row in folds[0].test} == {"english", "danish"}
    assert sorted(row for fold in folds for row in fold.test) == list(range(len(joined.utterances)))


def test_a_corpus_of_one_speaker_is_tested_on_others_alone() -> None:
    single = corpus("single", ("1",), ("anger", "joy"))
    assert [fold.name for fold in make_folds(join([single, ENGLISH]), "only-single")] == ["others"]
    with pytest.raises(PipelineError, match="needs dutch and others"):
        make_folds(join([single, ENGLISH]), "only-dutch")
    with pytest.raises(PipelineError, match="no joined corpora"):
        make_folds(GERMAN, "only-german")


def test_one_corpus_alone_cannot_be_left_out() -> None:
    with pytest.raises(PipelineError, match=r"needs several corpora: --corpus A\+B"):
        folds_of(GERMAN.utterances, "corpus")


def test_an_official_split_must_be_of_every_corpus() -> None:
    split = replace(
        ENGLISH,
        utterances=tuple(replace(u, split="test" if u.speaker == "03" else "train") for u in ENGLISH.utterances),
    )
    with pytest.raises(PipelineError, match="german has no official split"):
        make_folds(join([split, GERMAN]), "official")


def test_what_becomes_of_labels_is_told() -> None:
    assert told([GERMAN, DANISH]) == [
        "class anger = german:anger (6) + danish:anger (4)",
        "class happiness = german:happiness (6) + danish:joy (4)",
        "left out: german:boredom (6), danish:calm (4); --classes chooses others",
    ]
    classes = {"up": ("happy", "anger"), "low": ("bored", "calm")}
    assert told([GERMAN, DANISH], classes) == [
        "class up = german:anger (6) + german:happiness (6) + danish:anger (4) + danish:joy (4)",
        "class low = german:boredom (6) + danish:calm (4)",
    ]
    joined = join([GERMAN, DANISH], classes)
    assert joined.labels == ("up", "low") and len(joined.utterances) == 18 + 12


def test_a_recording_of_two_corpora_is_a_copy_across_speakers() -> None:
    copied = replace(ENGLISH, keys=(GERMAN.keys[0], *ENGLISH.keys[1:]))
    joined = join([GERMAN, copied])
    (found,) = [one for one in leaks(joined, make_folds(joined, "speaker")) if one.name == "copy-across-speakers"]
    assert found.severity == "error" and "german:03_0 = english:03_0" in found.message
