"""An error of the audit stops `train` unless it is accepted by name; the report then says so."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from ser_pipeline.report.comma_files import classes_csv, speakers_csv, to_csv
from ser_pipeline.report.contents import Choice, make_report
from ser_pipeline.report.exports import to_markdown
from ser_pipeline.report.latex import to_latex
from ser_pipeline.report.page import to_html
from ser_pipeline.report.summary_tables import sections
from support.reducing import TINY
from support.run_folders import Planted, people, write_run
from support.sounds import write_emodb, write_wav
from support.stores import registered

ARGS = ["train", "--preset", "demo", "--jobs", "1", *(word for setting in TINY for word in ("--set", setting))]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the features of a small corpus."""
    made = registered(tmp_path, speakers=3, takes=2)
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(made))
    return made


def runs(root: Path) -> list[Path]:
    return [folder for folder in sorted(root.glob("runs/*")) if not folder.name.startswith(".")]


def test_an_error_in_the_labels_stops_before_training_unless_it_is_accepted(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(tmp_path / "cache"))
    run("features", "emodb", write_emodb(tmp_path / "corpus", speakers=3, takes=2))
    said = run(*ARGS, "--accept", "silent", status=1).stderr
    assert "counts: 24 utterances instead of the published 535" in said and "--accept counts" in said
    assert not runs(tmp_path)
    assert "to do" in run(*ARGS, "--accept", "counts", "--dry-run").stdout


def test_an_error_in_a_file_of_folds_stops_before_training_unless_it_is_accepted(
    run: Callable[..., Result], cache: Path, tmp_path: Path
) -> None:
    value = json.loads(run("folds", "emodb", "--json").stdout)
    fold = value["folds"][0]
    fold["train"] += fold["test"][4:]
    fold["test"] = fold["test"][:4]
    fold["name"] = "official-shared"
    (tmp_path / "folds.json").write_text(json.dumps(value | {"folds": [fold]}))
    args = [*ARGS, "--folds", str(tmp_path / "folds.json")]
    assert "speaker 03 is in train and in test" in run(*args, status=1).stderr
    said = run(*args, "--accept", "dialogue-split", status=1).stderr
    assert "--accept speaker-in-two-parts" in said
    assert not runs(tmp_path)
    folder = (
        tmp_path / run(*args, "--accept", "speaker-in-two-parts", "--accept", "near-copy-across-folds").stdout.strip()
    )
    assert folder.name.startswith("emodb-own-full"), "a file's own statement does not make an official protocol"
    told = run("report").stdout
    assert "With accepted errors of the audit: near-copy-across-folds, speaker-in-two-parts." in told
    assert "error: Fold official-shared: 1 speaker (03) in train and in test. It was accepted." in told
    assert "own" in told
    made = json.loads(next(tmp_path.glob("reports/*/results.json")).read_text())["experiments"][0]
    assert (made["corpus_utterances"], made["rows"][0]["result"]["utterances"]) == (24, 4)
    assert "4 of 24 utterances" in next(tmp_path.glob("reports/*/index.html")).read_text()


@pytest.fixture
def one_class(run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of three speakers whose utterances are all neutral."""
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(tmp_path / "cache"))
    table = run("corpora", "--init", "emodb", write_emodb(tmp_path / "corpus", speakers=3, takes=2)).stdout
    head, *rows = table.splitlines(keepends=True)
    (tmp_path / "calm.csv").write_text(head + "".join(row for row in rows if ",neutral," in row))
    return tmp_path / "calm.csv"


@pytest.mark.parametrize("option", [(), ("--final",), ("--protocol", "group-3"), ("--target", "class")])
def test_one_class_alone_is_not_trained_even_if_the_audits_error_is_accepted(
    run: Callable[..., Result], one_class: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    said = run("audit", "table", str(one_class), status=1).stdout
    assert "error    one-class " in said
    assert "all utterances have one class, neutral; at least two are needed" in said
    run("features", "table", str(one_class), "--preset", "demo", "--feature", "mfcc")
    for accept in ((), ("--accept", "one-class")):
        said = run(*ARGS, *option, *accept, status=1).stderr
        assert "Error: calm has one class only, neutral; at least two are needed\n" in said
    assert not runs(tmp_path)


def test_a_fold_that_trains_on_one_class_is_refused_even_if_the_audits_error_is_accepted(
    run: Callable[..., Result], cache: Path, tmp_path: Path
) -> None:
    value = json.loads(run("folds", "emodb", "--json").stdout)
    label = {row["id"]: row["emotion"] for row in csv.DictReader(io.StringIO(_table(run, tmp_path)))}
    fold = value["folds"][1]
    fold["train"] = [one for one in fold["train"] if label[one] == "neutral"]
    (tmp_path / "folds.json").write_text(json.dumps(value))
    said = run(*ARGS, "--folds", "folds.json", "--accept", "class-untrained", status=1).stderr
    assert f"fold {fold['name']} trains on one class only, neutral; at least two are needed" in said
    assert not runs(tmp_path)


def _table(run: Callable[..., Result], tmp_path: Path) -> str:
    return run("corpora", "--init", "emodb", tmp_path / "corpus").stdout


def test_an_error_in_the_audio_ends_training_with_status_1_and_keeps_the_run(
    run: Callable[..., Result], cache: Path, tmp_path: Path
) -> None:
    write_wav(tmp_path / "corpus" / "wav" / "03a01Wa.wav", np.zeros(16_000, np.float32))
    ended = run(*ARGS, status=1)
    (folder,) = runs(tmp_path)
    assert folder.name in ended.stdout and folder.suffix != ".partial"
    assert "the audit found an error, silent" in ended.stderr and "--accept silent" in ended.stderr
    assert "--accept silent" in run(*ARGS, status=1).stderr, "a finished run does not make it right"
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*/*")}
    assert "error: 1 utterance is constant" in run("report").stdout
    assert run(*ARGS, "--accept", "silent").stdout.strip() == str(folder.relative_to(tmp_path))
    assert {file: file.stat().st_mtime_ns for file in folder.glob("*/*")} == before, "nothing is trained again"
    run(*ARGS)
    assert re.search(r"error: 1 utterance .*\. It was accepted\.", run("report").stdout)


def test_every_table_in_every_form_says_what_was_accepted(tmp_path: Path) -> None:
    error = {"severity": "error", "name": "silent", "message": "3 utterances are silent", "cost": "", "rows": []}
    for ablation in ("full", "mfcc"):
        folder = write_run(tmp_path / "runs", people(6), Planted(ablation=ablation))
        (folder / "audit.json").write_text(json.dumps({"findings": [error], "accepted": ["silent"]}))
    report = make_report(tmp_path / "runs", Choice())
    tables = sum(len(found) for _, found in sections(report))
    assert tables > 4
    said = "With accepted errors of the audit: silent."
    assert to_markdown(report).count(said) == to_latex(report).count(said) == tables
    page = to_html(report, {}, tmp_path)
    copies = re.findall('<template class="latex">.*?</template>', page, flags=re.S)
    assert copies and all(said in copy for copy in copies)
    assert page.count(said) - len(copies) == page.count("<table")
    for write in (to_csv, classes_csv, speakers_csv):
        assert {line["accepted"] for line in csv.DictReader(io.StringIO(write(report)))} == {"silent"}
