"""Reports of models of votes and attributes: every form has the numbers of an independent script."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from ser_pipeline.corpora.ratings import DIMENSIONS
from ser_pipeline.errors import PipelineError
from ser_pipeline.evaluation.intervals import Interval
from ser_pipeline.evaluation.rated import RATED
from ser_pipeline.report import rated_tables
from ser_pipeline.runs.reading import read_predictions
from ser_pipeline.targets import TARGETS
from ser_pipeline.training.stage import prepare
from support import rescored
from support.rated import SAME, write_rated


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train runs of every target on ridge heads: votes twice, with two strengths."""
    place = tmp_path_factory.mktemp("rated")
    pairs = write_rated(place, "frozen", 8)
    for target, more in (("votes", ()), ("votes", ("train.ridge=9",)), ("vad", ()), ("vad+class", ()), ("class", ())):
        options = {"preset": "frozen", "overrides": [*pairs, *more], "target": target, **SAME}
        prepare("demo", cache=place / "cache", runs=place / "runs", **options).train()  # type: ignore[arg-type]
    return place


def folders(made: Path, target: str) -> list[Path]:
    """Return the runs of a target."""
    every = (made / "runs").glob("demo-*")
    return [one for one in every if f'target = "{target}"' in (one / "config.toml").read_text(encoding="utf-8")]


def results(made: Path, run: Callable[..., Result], *more: str) -> tuple[dict, Path]:
    page = Path(
        run("report", "--runs-root", made / "runs", "--reports", made / "reports", *more).stdout.splitlines()[-1]
    )
    return json.loads((page.parent / "results.json").read_text(encoding="utf-8")), page


def test_every_pooled_score_is_what_an_independent_script_finds(made: Path, run: Callable[..., Result]) -> None:
    value, _ = results(made, run)
    rated = {(one["target"], one["kind"]): one for one in value["rated"]}
    assert rated.keys() == {("votes", "votes"), ("vad", "vad"), ("vad+class", "vad")}
    for (target, kind), one in rated.items():
        found = []
        for folder in folders(made, target):
            rows = rescored.judged(folder)
            found.append({"votes": rescored.votes(rows)} if kind == "votes" else rescored.attributes(rows))
        for row in one["rows"]:
            pooled = {name: measure["pooled"] for name, measure in row["measures"].items()}
            assert any(pooled == pytest.approx(mine[row["what"]], abs=1e-6) for mine in found)
            assert row["utterances"] == len(rows)
            assert row["undecided"] == sum(not line["label"] for line in rows) > 0
        assert len(one["rows"]) == len(found) * (1 if kind == "votes" else 3)


def test_rows_have_intervals_constants_and_a_test_against_the_main_model(
    made: Path, run: Callable[..., Result]
) -> None:
    value, _ = results(made, run)
    by_kind = {one["target"]: one["rows"] for one in value["rated"]}
    for row in by_kind["vad"]:
        ccc = row["measures"]["ccc"]
        assert ccc["interval"]["low"] < ccc["pooled"] < ccc["interval"]["high"]
        assert ccc["interval"]["clusters"] == 10
        assert ccc["constant"] == pytest.approx(0, abs=1e-9)
        (vad,) = folders(made, "vad")
        lines = rescored.judged(vad)
        said, true = ([float(line[column]) for line in lines] for column in (f"predicted:{row['what']}", row["what"]))
        assert row["slope"] == pytest.approx(np.polyfit(said, true, 1)[0])
    main, other = by_kind["votes"]
    assert main["versus"] is None
    assert other["versus"]["difference"]["value"] == pytest.approx(
        other["measures"]["js"]["pooled"] - main["measures"]["js"]["pooled"]
    )
    assert other["versus"]["corrected"] == other["versus"]["difference"]["p"]


def test_all_forms_have_the_tables_and_figures_of_raters(made: Path, run: Callable[..., Result]) -> None:
    _, page = results(made, run)
    names = ("index.html", "results.md", "results.tex")
    html, text, latex = (page.with_name(name).read_text(encoding="utf-8") for name in names)
    assert 'id="raters"' in html
    assert "Predicted and rated" in html
    assert "Residuals" in html
    assert "<dt>Target</dt>" in html
    assert "ser-pipeline features demo --rated --preset frozen" in re.sub(r"</?i>", "", html)
    for form in (html, text):
        (note,) = set(re.findall(r"Constant is the score[^<\n]*One test[^<\n]*", form))
        assert note.endswith("One test.")
    assert re.search(r"[0-9]+ turns of [0-9]+ have no class and count for all scores but the accuracy\.", html)
    for name in DIMENSIONS:
        assert name in text
        assert name in latex
    assert "Jensen-Shannon" in text
    assert "Jensen-Shannon" in latex
    assert re.search(r"target votes", html)
    assert list((page.parent / "figures").glob("scatter-*.svg"))
    assert list((page.parent / "figures").glob("residual-*.svg"))


def test_other_scores_against_votes_say_once_what_all_rows_share() -> None:
    score = SimpleNamespace(fold_mean=0.3, fold_deviation=0.1, pooled=0.3, interval=Interval(0.2, 0.4), constant=1.25)
    row = SimpleNamespace(model="full", what="votes", seeds=(0,), measures=dict.fromkeys(RATED["votes"], score))
    row.slope, row.versus, row.undecided = None, None, 0
    panel: Any = SimpleNamespace(id="rated", kind="votes", title="Votes", rows=[row, row])
    own, others = rated_tables.tables(panel)
    assert [column.title for column in others.columns] == ["Model", *3 * ["folds", "pooled", "95 % interval"]]
    assert others.note.startswith("In all rows: output votes; constant (KL, bits) 1.250; constant (accuracy")
    assert {"Output", "constant"} <= {column.title for column in own.columns}


def test_models_of_classes_and_of_attributes_are_apart(made: Path, run: Callable[..., Result]) -> None:
    value, _ = results(made, run)
    assert len(value["experiments"]) == 3  # class, votes, vad+class
    assert all(len(one["rows"]) == (2 if "votes" in one["title"] else 1) for one in value["experiments"])


def test_a_report_of_attributes_alone_has_no_scores_of_classes(
    made: Path, tmp_path: Path, run: Callable[..., Result]
) -> None:
    (folder,) = folders(made, "vad")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / folder.name).symlink_to(folder)
    shown = run("report", "--runs-root", tmp_path / "runs", "--reports", tmp_path / "reports").stdout
    assert "arousal" in shown
    assert "UA" not in shown
    html = next((tmp_path / "reports").glob("*/index.html")).read_text(encoding="utf-8")
    assert "No finished run predicts classes" in html


def test_scores_of_classes_do_not_count_turns_of_no_class(made: Path, run: Callable[..., Result]) -> None:
    value, _ = results(made, run)
    for one in value["experiments"]:
        (folder, *_) = (
            folders(made, one["title"].split("target ")[1]) if "target" in one["title"] else folders(made, "class")
        )
        assert one["rows"][0]["result"]["utterances"] == len(rescored.lines(folder))


@pytest.mark.parametrize("target", ["votes", "vad"])
def test_a_tested_utterance_without_a_class_is_no_line_of_predictions(made: Path, tmp_path: Path, target: str) -> None:
    file = sorted(folders(made, target)[0].glob("*/predictions.csv"))[0]
    header, first, *others = file.read_text(encoding="utf-8").splitlines()
    cells = first.split(",")
    cells[header.split(",").index("label")] = ""
    changed = tmp_path / "predictions.csv"
    changed.write_text("\n".join([header, ",".join(cells), *others]), encoding="utf-8")
    labels = ("angry", "happy", "neutral", "sad")
    assert len(read_predictions(file, labels, TARGETS[target]).ids) == len(others) + 1
    with pytest.raises(PipelineError, match="has an unknown class"):
        read_predictions(changed, labels, TARGETS[target])
