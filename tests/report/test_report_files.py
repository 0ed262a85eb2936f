import csv
import io
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest

from ser_pipeline.report import build, comma_files, latex
from ser_pipeline.report import exports as files
from ser_pipeline.report import summary_tables as overview
from ser_pipeline.report.contents import Choice, make_report
from support.places import ROOT
from support.run_folders import SPEAKERS, Planted, people, write_run

WHO = people(each=20)
SMALL = people(each=12, speakers=SPEAKERS[:4])
PLANS = (
    *(Planted(seed=seed, probes={"mfcc": 1.0}) for seed in (0, 1)),
    *(Planted(seed=seed, ablation="full-mean", skill=0.8) for seed in (0, 1)),
    Planted(seed=0, ablation="mfcc", skill=0.3),
    Planted(seed=1, ablation="mfcc", finished=4),
    *(Planted(seed=seed, selection="test", skill=1.5) for seed in (0, 1)),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for plan in PLANS:
        write_run(root, WHO, plan)
    return root


@pytest.fixture(scope="module")
def report(runs):
    return make_report(runs, Choice(compare=("full", "full-mean")))


def test_json_holds_every_number_and_is_strict(report):
    value = json.loads(files.to_json(report), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert value["schema"] == files.SCHEMA
    first = value["experiments"][0]
    assert [row["ablation"] for row in first["rows"]] == ["full", "full-mean", "mfcc"]
    full, mean, mfcc = first["rows"]
    assert np.sum(full["result"]["counts"]) == 2 * len(WHO.ids)
    assert full["versus_full"] is None
    assert mean["versus_full"]["ua"]["value"] < 0
    assert (mfcc["whole"], mfcc["folds_done"], mfcc["folds_wanted"]) == (False, 14, 20)
    assert value["leakage_gaps"][0]["difference"]["ua"]["value"] > 0
    assert len(value["comparison"]["mcnemar"]) == 2


def test_json_of_the_same_runs_is_the_same_bytes(runs, report):
    assert files.to_json(make_report(runs, Choice(compare=("full", "full-mean")))) == files.to_json(report)


def names(value, found):
    """Return every key below `value` that is a field, not data."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("versions", "parts"):
                names(item, found)
            found.add(key)
    elif isinstance(value, list):
        for item in value:
            names(item, found)
    return found


def test_every_field_of_the_json_is_documented(report):
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z_0-9]+)`", text))
    missing = names(json.loads(files.to_json(report)), set()) - documented
    assert not missing
    assert f"Schema {files.SCHEMA}" in text


def test_csv_has_a_line_a_model_with_the_numbers_of_the_json(report):
    lines = list(csv.DictReader(io.StringIO(comma_files.to_csv(report))))
    rows = [row for one in json.loads(files.to_json(report))["experiments"] for row in one["rows"]]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert float(line["ua_pooled"]) == pytest.approx(row["result"]["scores"]["ua"]["pooled"], abs=1e-6)
        assert line["selection"] == row["selection"]
    assert (lines[2]["folds_done"], lines[2]["folds_wanted"]) == ("14", "20")


def test_csv_of_classes_and_of_speakers_have_the_numbers_of_the_json(report):
    rows = [row for one in json.loads(files.to_json(report))["experiments"] for row in one["rows"] if row["result"]]
    classes = [one for row in rows for one in row["result"]["classes"]]
    for line, one in zip(csv.DictReader(io.StringIO(comma_files.classes_csv(report))), classes, strict=True):
        assert (line["class"], line["support"]) == (one["name"], str(one["support"]))
        numbers = (one["recall"], one["interval"]["low"], one["interval"]["high"], one["precision"], one["f1"])
        names = ("recall", "recall_low", "recall_high", "precision", "f1")
        assert [float(line[name]) for name in names] == pytest.approx(numbers, abs=1e-6)
    speakers = [part for row in rows for part in row["result"]["parts"]["speaker"]]
    for line, part in zip(csv.DictReader(io.StringIO(comma_files.speakers_csv(report))), speakers, strict=True):
        assert (line["speaker"], line["utterances"]) == (part["name"], str(part["utterances"]))
        assert [float(line[name]) for name in ("wa", "ua")] == pytest.approx([part["wa"], part["ua"]], abs=1e-6)
    for line, row in zip(csv.DictReader(io.StringIO(comma_files.to_csv(report))), rows, strict=True):
        for name, error in row["result"]["calibration"]["errors"].items():
            assert float(line[f"{name}_low"]) == pytest.approx(error["interval"]["low"], abs=1e-6)
        seed = row["result"]["sources"]["seed"]
        assert line["ua_deviation_seed"] == ("" if seed is None else f"{seed:.6f}")


def test_markdown_tables_have_as_many_cells_in_every_line(report):
    text = files.to_markdown(report)
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert len(blocks) == sum(len(tables) for _, tables in overview.sections(report))
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "leakage gap of full" in text
    assert "test fold" in text


def test_latex_tables_use_booktabs_and_balance(report):
    text = latex.to_latex(report)
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") > 0
    for table in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        align, body = table
        assert all(rule in body for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
        plain = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {line.replace(r"\&", "").count("&") + 1 for line in plain} == {len(align)}
    assert not re.search(r"(?<!\\)#|[^\x00-\x7f]", text)


def test_a_paper_can_take_the_tables_in(report):
    text = latex.to_latex(report)
    assert not re.search(
        r"\\(documentclass|begin\{document\}|section|clearpage|usepackage)", re.sub("(?m)^%.*", "", text)
    )
    labels = re.findall(r"\\label\{([^}]+)\}", text)
    assert len(set(labels)) == len(labels) == text.count(r"\begin{table}")
    assert all(rf"\usepackage{{{name}}}" in text.splitlines()[0] for name in latex.PACKAGES)
    assert r"\input{results}" in latex.to_document(report)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles_as_it_is(report, tmp_path):
    (tmp_path / "results.tex").write_text(latex.to_latex(report), encoding="utf-8")
    (tmp_path / "document.tex").write_text(latex.to_document(report), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_synthetic_speech_is_named_as_such_in_every_form(tmp_path):
    write_run(tmp_path / "runs", SMALL, Planted(corpus="demo", preset="demo"))
    page = build(tmp_path / "runs", tmp_path / "reports")
    for name in ("index.html", "results.md", "results.tex"):
        assert "ynthetic" in (page.parent / name).read_text(encoding="utf-8"), name
    assert json.loads((page.parent / "results.json").read_text())["synthetic"] is True


def test_a_second_report_of_the_same_runs_writes_nothing_and_one_of_changed_runs_does(tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "reports"
    write_run(runs, SMALL)
    page = build(runs, out)
    before = page.stat().st_mtime_ns
    assert build(runs, out).stat().st_mtime_ns == before
    write_run(runs, SMALL, Planted(seed=1))
    assert build(runs, out).stat().st_mtime_ns > before


def test_an_epoch_that_was_chosen_on_the_test_fold_is_marked_in_the_summary(tmp_path):
    write_run(tmp_path / "runs", SMALL, Planted(selection="test"))
    text = build(tmp_path / "runs", tmp_path / "reports").read_text(encoding="utf-8")
    assert '<dt>Epoch</dt><dd><span class="tag">best on the test fold</span></dd>' in text


def test_the_page_says_what_its_interval_is_made_of_and_how_many_tests_it_holds(tmp_path):
    for ablation in ("full", "mfcc", "w2e"):
        write_run(tmp_path / "runs", SMALL, Planted(ablation=ablation))
    text = build(tmp_path / "runs", tmp_path / "reports").read_text(encoding="utf-8")
    assert not re.search(r"\d %", text), "a line could break before the percent sign"
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r'<p class="interval">95 % interval \d+\.\d to \d+\.\d %, from 4 speakers</p>', text)
    assert re.search(
        r"\(5 % level after Holm&#39;s correction for 2 tests; a single test could detect "
        r"\d+\.\d( to \d+\.\d)? points\)\.",
        text,
    )
    assert "<dt>Largest class, WA</dt>" in text


def test_a_page_without_an_interval_says_why(tmp_path):
    write_run(tmp_path / "runs", people(each=12, speakers=SPEAKERS[:2]))
    text = build(tmp_path / "runs", tmp_path / "reports").read_text(encoding="utf-8")
    assert '<p class="interval">No interval: 2 clusters; an interval needs 3</p>' in text
    assert "nan" not in re.sub(r"<script.*?</script>|data:[^\"]*", "", text, flags=re.S)


def test_a_report_without_a_whole_run_is_still_a_page(tmp_path):
    write_run(tmp_path / "runs", SMALL, Planted(finished=3))
    text = build(tmp_path / "runs", tmp_path / "reports").read_text(encoding="utf-8")
    assert "No run is finished yet" in text
    assert "3 of 4" in text


def test_the_command_prints_the_table_and_the_path_of_the_page(run, tmp_path):
    write_run(tmp_path / "runs", SMALL)
    result = run("report", "--quiet")
    assert result.stdout.splitlines()[-1] == str(Path("reports/iemocap/index.html"))
    assert "Pooled UA" in result.stdout
    assert Path("reports/iemocap/results.json").is_file()
    assert result.stderr == ""


def test_the_command_makes_a_page_a_corpus_and_says_what_it_left_out(run, tmp_path):
    write_run(tmp_path / "runs", SMALL)
    write_run(tmp_path / "runs", SMALL, Planted(corpus="demo"))
    (tmp_path / "runs" / "notes").mkdir()
    result = run("report")
    pages = [line for line in result.stdout.splitlines() if line.endswith(".html")]
    assert pages == [str(Path(f"reports/{name}/index.html")) for name in ("demo", "iemocap")]
    assert "left out: notes: it has no run.json, so it is not a run" in result.stderr
    assert "of demo" not in result.stderr, "a run of another corpus is not left out"


def test_the_command_without_runs_says_what_to_run_in_one_line(run):
    result = run("report", status=1)
    assert "ser-pipeline train" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_command_compares_where_it_can(run, tmp_path):
    for ablation in ("full", "full-mean"):
        write_run(tmp_path / "runs", SMALL, Planted(ablation=ablation))
    write_run(tmp_path / "runs", SMALL, Planted(corpus="demo"))
    result = run("report", "--compare", "full", "full-mean")
    assert "Only the first correct" in result.stdout
    assert "no page: no finished run of demo matches 'full-mean'" in result.stderr


def test_an_unfinished_run_cannot_be_compared_and_is_called_so(run, tmp_path):
    write_run(tmp_path / "runs", SMALL, Planted(corpus="demo"))
    write_run(tmp_path / "runs", SMALL, Planted(corpus="demo", ablation="full-mean", finished=1))
    said = run("report", "--compare", "full", "full-mean", status=1).stderr
    folds = len(set(SMALL.speaker))
    assert f"'full-mean' of demo is unfinished (1 of {folds} folds); the same train command continues it" in said
    said = run("report", "--compare", "full", "ful-mean", status=1).stderr
    assert "no finished run of demo matches 'ful-mean'; did you mean" not in said
    assert said.endswith("known: full\n")


def test_what_no_run_matches_is_named(run, tmp_path):
    for ablation in ("full", "mfcc"):
        write_run(tmp_path / "runs", SMALL, Planted(corpus="demo", ablation=ablation))
    write_run(tmp_path / "runs", SMALL, Planted(corpus="demo", protocol="session"))
    said = run("report", "--protocol", "sesion", status=1).stderr
    assert said == "Error: no run of demo has the protocol 'sesion'; did you mean 'session'? known: session, speaker\n"
    said = run("report", "--runs", "fulll", status=1).stderr
    assert said == "Error: no run of demo matches 'fulll'; did you mean 'full'? known: full, mfcc\n"
    said = run("report", "--runs", "mfcc", "--runs", "x", "--protocol", "session", status=1).stderr
    assert said == "Error: no run of demo by the protocol 'session' matches 'mfcc' or 'x'; known: full\n"


def test_a_folder_that_cannot_be_written_is_one_line(run, tmp_path):
    write_run(tmp_path / "runs", SMALL)
    (tmp_path / "file").write_text("")
    said = run("report", "--reports", "file/below", "--quiet", status=1).stderr
    assert said == "Error: cannot write to file/below/iemocap: Not a directory; choose another folder\n"


def test_settings_on_the_page_are_those_of_the_run(tmp_path):
    write_run(tmp_path / "runs", SMALL, Planted(overrides=("train.lr=0.00031",)))
    text = build(tmp_path / "runs", tmp_path / "reports").read_text(encoding="utf-8")
    settings = text.split("Settings of full</summary>")[1].split("<code>")[1].split("</code>")[0]
    assert tomllib.loads(settings.replace("&#34;", '"'))["train"]["lr"] == 0.00031
