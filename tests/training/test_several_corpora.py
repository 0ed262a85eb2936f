"""Several corpora in one run: from the command line to the scores of each, and refused input."""

import csv
import json
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
from click.testing import Result

from ser_pipeline.config import load
from ser_pipeline.corpora import demo
from ser_pipeline.corpora.demo import EMOTIONS, cast
from ser_pipeline.corpora.ratings import DIMENSIONS
from ser_pipeline.corpora.voice import speak
from ser_pipeline.evaluation.metrics import Confusion
from ser_pipeline.training.fold import epoch_rows
from support import rescored
from support.killed import begun, run_until_finish
from support.reducing import TINY
from support.sounds import write_emodb

RATE = 16_000
ARGS = ["train", "--preset", "demo", "--jobs", "1", *(word for setting in TINY for word in ("--set", setting))]


def say(person: int, sentence: int, emotion: str) -> np.ndarray:
    voice = cast(0, person // 2 + 1, "FM"[person % 2])
    spoken = speak(voice, EMOTIONS[emotion], 1.2, np.random.default_rng(sentence))
    return (spoken / 32768).astype(np.float32)


def write_table(
    root: Path,
    name: str,
    people: dict[str, int],
    labels: dict[str, str],
    clips: dict[str, np.ndarray] | None = None,
    top: int = 0,
) -> Path:
    """Write a table of two clips of each label by each speaker.

    Args:
        root: folder to write to.
        name: name of the table.
        people: speaker's name -> number of a voice.
        labels: label of the table -> emotion of the demo.
        clips: file -> other samples for it.
        top: upper end of a scale from 1 on which all clips are rated; each speaker's last clip then has no class. 0: no
            ratings.
    """
    votes = [f"votes:{label}" for label in labels]
    lines = [",".join(["file,emotion,speaker", *([*votes, *DIMENSIONS, "scale_low,scale_high"] if top else [])])]
    for speaker, person in people.items():
        for place, (label, emotion) in enumerate(labels.items()):
            for take in range(2):
                file = f"{name}/{speaker}_{label}_{take}.wav"
                samples = (clips or {}).get(file, say(person, 100 * person + 10 * place + take, emotion))
                (root / name).mkdir(parents=True, exist_ok=True)
                soundfile.write(root / file, samples, RATE)
                last = bool(top) and place == len(labels) - 1 and take == 1
                counts = [1 if last else 3 * (other == label) for other in labels]
                mean = 1 + (top - 1) * (place + take / 2) / len(labels)
                rated = [*counts, mean, mean / 2 + 0.5, mean, 1, top] if top else []
                lines.append(",".join(map(str, [file, "" if last else label, speaker, *rated])))
    (root / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return root / f"{name}.csv"


GERMAN = {"anger": "ang", "sadness": "sad", "boredom": "neu"}
ENGLISH = {"sad": "sad", "angry": "ang"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Write two corpora in which speakers with the same name are different people."""
    root = tmp_path_factory.mktemp("tables")
    return (
        write_table(root, "german", {"03": 0, "08": 1}, GERMAN),
        write_table(root, "english", {"03": 2, "04": 3, "05": 4}, ENGLISH),
    )


@pytest.fixture
def cache(
    tables: tuple[Path, ...], run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(tmp_path / "cache"))
    for table in tables:
        run("features", "table", table, "--preset", "demo", "--jobs", "1")
    return tmp_path / "cache"


def lines_of(folder: Path) -> list[dict[str, str]]:
    return [row for file in sorted(folder.glob("*/predictions.csv")) for row in csv.DictReader(file.open())]


def test_two_corpora_are_trained_together_and_scored_apart(
    run: Callable[..., Result], cache: Path, tmp_path: Path
) -> None:
    before = {file: file.read_bytes() for file in cache.rglob("*") if file.is_file() and ".locks" not in file.parts}
    args = [*ARGS, "--corpus", "german+english"]
    said = run(*args)
    assert "class anger = german:anger (4) + english:angry (6)" in said.stderr
    assert "left out: german:boredom (4)" in said.stderr
    assert "german+english, 2 classes" in said.stderr
    folder = tmp_path / said.stdout.strip()
    assert folder.name.startswith("german+english-speaker-full-s0-")
    assert {file: file.read_bytes() for file in before} == before, "the stores do not change"
    about = json.loads((folder / "run.json").read_text())
    assert (about["corpus"], about["test_corpus"], about["title"]) == ("german+english", "", "german + english")
    assert about["folds"] == ["english_03", "english_04", "english_05", "german_03", "german_08"]
    rows = lines_of(folder)
    assert len(rows) == 8 + 12 and Counter(row["label"] for row in rows) == {"anger": 10, "sadness": 10}
    assert {row["file"].partition("/")[0] for row in rows} == {"german", "english"}
    assert "5 of them done before" in run(*args).stderr, "a finished run is not trained again"

    run("report")
    experiment = json.loads((tmp_path / "reports" / "german+english" / "results.json").read_text())["experiments"][0]
    parts = {part["name"]: part for part in experiment["rows"][0]["result"]["parts"]["corpus"]}
    for name in ("german", "english"):
        own = [row for row in rows if row["id"].startswith(f"{name}:")]
        target, prediction = (
            np.array([("anger", "sadness").index(row[column]) for row in own]) for column in ("label", "prediction")
        )
        assert parts[name]["utterances"] == len(own)
        assert parts[name]["ua"] == pytest.approx(Confusion.of(target, prediction, 2).ua, abs=1e-9)
    page = (tmp_path / "reports" / "german+english" / "index.html").read_text()
    assert "ser-pipeline report --corpus german+english" in re.sub("</?i>", "", page)
    sounds = re.findall(r'data-audio="([^"]+)"', page)
    assert sounds and all((tmp_path / "reports" / "german+english" / sound).is_file() for sound in sounds)


def test_a_corpus_is_left_out_and_another_is_tested_by_several(
    run: Callable[..., Result], cache: Path, tables: tuple[Path, ...], tmp_path: Path
) -> None:
    folder = tmp_path / run(*ARGS, "--corpus", "english+german", "--protocol", "corpus").stdout.strip()
    assert json.loads((folder / "run.json").read_text())["folds"] == ["english", "german"]
    third = write_table(tmp_path, "danish", {"1": 5}, {"sorrow": "sad", "anger": "ang", "sadness": "sad"})
    run("features", "table", third, "--preset", "demo", "--jobs", "1")
    folder = tmp_path / run(*ARGS, "--corpus", "german+english", "--test-corpus", "danish").stdout.strip()
    assert {row["id"].partition(":")[0] for row in lines_of(folder)} == {"danish"}
    run("report", "--corpus", "german+english+danish")
    page = (tmp_path / "reports" / "german+english+danish" / "index.html").read_text()
    assert "ser-pipeline report --corpus german+english+danish" in re.sub("</?i>", "", page)


def test_chosen_classes_make_another_run(run: Callable[..., Result], cache: Path) -> None:
    args = [*ARGS, "--corpus", "german+english", "--dry-run"]
    said = run(*args, "--classes", "anger,low=sad+boredom")
    assert "class low = german:boredom (4) + german:sadness (4) + english:sad (6)" in said.stderr
    names = {run(*args, *more).stdout.split("\t")[0] for more in ([], ["--classes", "anger,sad"])}
    assert len({*names, said.stdout.split("\t")[0]}) == 3, "the key depends on them"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--corpus", "german", "--corpus", "english"], 2, "join corpora: --corpus german+english"),
        (["--test-corpus", "german", "--test-corpus", "english"], 2, "--test-corpus is given 2 times; name one"),
        (["--corpus", "german+german"], 1, "--corpus names german twice"),
        (["--corpus", "german+"], 1, "has a + without a corpus"),
        (["--corpus", "german+savee"], 1, "no features of 'savee'"),
        (["--corpus", "german", "--protocol", "corpus"], 1, "needs several corpora: --corpus A+B"),
        (["--corpus", "german", "--classes", "anger,sad"], 1, "needs several corpora"),
        (["--corpus", "german", "--set", "train.corpus_weights=equal"], 1, "needs several corpora to train on"),
        (
            ["--corpus", "german", "--test-corpus", "english", "--set", "train.corpus_weights=equal"],
            1,
            "to train on",
        ),
        (["--corpus", "german", "--protocol", "matrix"], 1, "--protocol matrix needs several corpora"),
        (["--corpus", "german+english", "--protocol", "only-dutch"], 1, "needs dutch and others (known: english"),
        (["--corpus", "german", "--test-corpus", "english", "--protocol", "matrix"], 1, "leave out --folds and"),
        (["--corpus", "german+english", "--classes", "anger,joy"], 1, "no corpus has 'joy'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    run: Callable[..., Result], cache: Path, words: list[str], status: int, said: str
) -> None:
    result = run(*ARGS, *words, status=status)
    assert said in " ".join(result.stderr.split())


def test_one_voice_under_two_names_is_found(run: Callable[..., Result], cache: Path, tmp_path: Path) -> None:
    quieter = soxr.resample(say(0, 0, "ang"), RATE, 2 * RATE)[::2] * np.float32(0.5)
    clips = {"planted/7_ang_0.wav": quieter}
    table = write_table(tmp_path, "planted", {"7": 6, "8": 7}, {"ang": "ang", "sad": "sad"}, clips)
    run("features", "table", table, "--preset", "demo", "--jobs", "1")
    said = run(*ARGS, "--corpus", "german+planted", status=1).stderr
    assert "near-copy-across-speakers" in said
    (folder,) = tmp_path.glob("runs/german+planted-*")
    found = {one["name"]: one for one in json.loads((folder / "audit.json").read_text())["findings"]}
    told = found["near-copy-across-speakers"]
    assert set(told["rows"]) == {"german:german/03_anger_0", "planted:planted/7_ang_0"}
    beside = json.loads(run("audit", "german+planted", "--json", status=1).stdout)["findings"]
    assert told["rows"] in [one["rows"] for one in beside]
    said = run(*ARGS, "--corpus", "german", "--test-corpus", "planted", status=1).stderr
    assert "near-copy-across-speakers" in said, "a test utterance was used for training"


def test_folds_of_several_corpora_are_printed_and_taken_again(
    run: Callable[..., Result], cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "folds.json").write_text(run("folds", "german+english", "--protocol", "corpus", "--json").stdout)
    said = run(*ARGS, "--corpus", "german+english", "--folds", tmp_path / "folds.json", "--dry-run")
    assert [line.split("\t")[1:] for line in said.stdout.splitlines()] == [["english", "to do"], ["german", "to do"]]
    assert said.stdout.startswith("german+english-corpus-")


def killed_and_finished(run: Callable[..., Result], place: Path, args: list[str], finished: int) -> None:
    """Train into `other`: killed after some folds, then resumed with two processes, streamed, one fold at a time.

    Args:
        run: the command.
        place: its working folder.
        args: arguments of `train`.
        finished: number of complete folds when it is killed.
    """
    process = begun(run_until_finish, place, [*args, "--one-by-one", "--runs-root", "other"], finished)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    states = list((place / "other").rglob("last.pt"))
    whole = len(list((place / "other").glob("*/*/predictions.csv")))
    assert (whole, len(states)) == (finished, 1)
    run(*args, "--jobs", "2", "--data", "stream", "--one-by-one", "--runs-root", "other")


def same_bytes(place: Path, folders: list[Path]) -> int:
    """Check that the predictions in `folders` and `other` are identical; returns the number of files."""
    files = [file for folder in folders for file in sorted(folder.glob("*/predictions.csv"))]
    for file in files:
        assert file.read_bytes() == (place / "other" / file.relative_to(place / "runs")).read_bytes()
    return len(files)


@pytest.mark.slow(reason="starts three processes")
def test_a_killed_run_of_two_published_corpora_gives_the_same_bytes_on_a_machine_of_another_shape(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(tmp_path / "cache"))
    write_emodb(tmp_path / "emodb", speakers=2, takes=1)
    demo.write(tmp_path / "demo", utterances_per_speaker=4)
    for name in ("emodb", "demo"):
        run("features", name, tmp_path / name, "--preset", "demo", "--jobs", "1")
    args = [*ARGS, "--corpus", "emodb+demo", "--protocol", "speaker"]
    folder = tmp_path / run(*args).stdout.strip()
    killed_and_finished(run, tmp_path, args, 2)
    assert same_bytes(tmp_path, [folder]) == 2 + 10


@pytest.mark.slow(reason="trains four runs, twice")
def test_the_matrix_of_three_corpora_from_one_command(run: Callable[..., Result], cache: Path, tmp_path: Path) -> None:
    third = write_table(tmp_path, "danish", {"1": 5, "2": 6}, {"sadness": "sad", "anger": "ang"})
    run("features", "table", third, "--preset", "demo", "--jobs", "1")
    names = ("german", "english", "danish")
    args = [*ARGS, "--corpus", "+".join(names)]
    run(*args, "--protocol", "only-english")
    said = run(*args, "--protocol", "matrix")
    assert "4 of them done before" in said.stderr, "folds of another command are not trained again"
    folders = [tmp_path / line for line in said.stdout.split()]
    assert [json.loads((folder / "run.json").read_text())["protocol"] for folder in folders] == [
        *(f"only-{name}" for name in names),
        "corpus",
    ]
    stdout = run("report").stdout
    told = json.loads((tmp_path / "reports" / "+".join(names) / "results.json").read_text())
    (matrix,) = told["matrices"]
    assert [row["corpus"] for row in matrix["rows"]] == [*names, ""] and matrix["corpora"] == list(names)
    for folder, row in zip(folders, matrix["rows"], strict=True):
        lines = lines_of(folder)
        assert len({line["id"] for line in lines}) == len(lines) == 8 + 12 + 8, "every utterance is tested once"
        for name in names:
            own = [line for line in lines if line["id"].startswith(f"{name}:")]
            recalls = [
                np.mean([line["prediction"] == label for line in own if line["label"] == label])
                for label in ("anger", "sadness")
            ]
            assert row["places"][name]["ua"] == pytest.approx(np.mean(recalls), abs=1e-9)
            assert row["places"][name]["utterances"] == len(own)
    killed_and_finished(run, tmp_path, [*args, "--protocol", "matrix"], 4)
    assert same_bytes(tmp_path, folders) == (1 + 2) + (1 + 3) + (1 + 2) + 3
    page = (tmp_path / "reports" / "+".join(names) / "index.html").read_text()
    assert "Transfer to other corpora" in page and "all others" in page
    assert (tmp_path / "reports" / "+".join(names) / "figures" / "heat-matrix-1.svg").is_file()
    (head,) = [line.split() for line in stdout.splitlines() if line.startswith("Trained on")]
    assert [head.count(name) for name in names] == [2, 2, 2], "UA and its interval for each"


def test_two_corpora_learn_votes_and_attributes_on_one_scale(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(tmp_path / "cache"))
    write_table(tmp_path, "narrow", {"03": 0, "04": 1}, {"anger": "ang", "sadness": "sad"}, top=5)
    write_table(tmp_path, "wide", {"03": 2, "04": 3}, {"sad": "sad", "angry": "ang"}, top=7)
    for name in ("narrow", "wide"):
        run("features", "table", tmp_path / f"{name}.csv", "--rated", "--preset", "demo", "--jobs", "1")
    args = [*ARGS, "--corpus", "narrow+wide", "--protocol", "corpus"]
    said = run(*args, "--target", "vad")
    assert "attributes: narrow 1 to 5, wide 1 to 7; mapped linearly to 0 to 1" in said.stderr
    folder = tmp_path / said.stdout.strip()
    assert json.loads((folder / "run.json").read_text())["scale"] == [0.0, 1.0]
    rows = rescored.judged(folder)
    assert Counter((row["id"].partition(":")[0], row["label"]) for row in rows) == {
        (name, label): count for name in ("narrow", "wide") for label, count in TESTED[name].items()
    }
    for row in rows:
        corpus, place = row["id"].partition(":")[0], float(row["arousal"])
        assert 0 <= place <= 1 and float(row["valence"]) == pytest.approx(place / 2, abs=2e-6), corpus
    folder = tmp_path / run(*args, "--target", "votes").stdout.strip()
    undecided = [row for row in rescored.judged(folder) if not row["label"]]
    assert [(row["votes:anger"], row["votes:sadness"]) for row in undecided] == [("1.000000", "1.000000")] * 4
    (file,) = {tmp_path / row["file"].partition("/")[2] for row in undecided[:1]}
    (answer,) = json.loads(run("predict", folder, file, "--json", "--quiet").stdout)
    assert answer["probabilities"].keys() == {"anger", "sadness"}
    run("report")
    told = json.loads((tmp_path / "reports" / "narrow+wide" / "results.json").read_text())["rated"]
    assert {(one["kind"], one["rows"][0]["utterances"], one["rows"][0]["undecided"]) for one in told} == {
        ("votes", 16, 4),
        ("vad", 16, 4),
    }


TESTED = {"narrow": {"anger": 4, "sadness": 2, "": 2}, "wide": {"anger": 2, "sadness": 4, "": 2}}
"""Corpus -> class -> number of its utterances."""


def drawn(corpora: list[str], classes: list[int], *overrides: str) -> Counter[tuple[str, int]]:
    """Count an epoch's utterances, of one segment each, by corpus and class."""
    data = SimpleNamespace(
        target=np.array(classes),
        labels=("a", "b"),
        utterances=[SimpleNamespace(corpus=name) for name in corpora],
        rows=lambda utterances: utterances,
    )
    context = SimpleNamespace(
        data=SimpleNamespace(manifest=data),
        fold=SimpleNamespace(train=np.arange(len(corpora))),
        config=load("paper", None, list(overrides)),
        seed=3,
    )
    return Counter((corpora[row], classes[row]) for row in epoch_rows(context, 0).tolist())  # type: ignore[arg-type]


def test_an_epoch_draws_as_many_of_every_corpus() -> None:
    corpora, classes = ["x"] * 9 + ["y"] * 3, [0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1]
    sizes = drawn(corpora, classes)
    assert sizes == {("x", 0): 6, ("x", 1): 3, ("y", 0): 1, ("y", 1): 2}
    equal = drawn(corpora, classes, "train.corpus_weights=equal")
    assert sum(count for (name, _), count in equal.items() if name == "y") == 9
    assert {key: equal[key] for key in [("x", 0), ("x", 1)]} == {("x", 0): 6, ("x", 1): 3}, "all of the largest, once"
    both = drawn(corpora, classes, "train.corpus_weights=equal", "train.balanced=true")
    assert set(both.values()) == {6} and len(both) == 4
