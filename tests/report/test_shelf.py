"""The overview page of all reports of a folder."""

import json
import re
from pathlib import Path

import pytest

from ser_pipeline.report import build, shelf
from ser_pipeline.report.contents import Choice, make_report
from ser_pipeline.report.exports import to_json
from support.run_folders import SPEAKERS, Planted, people, write_run

WHO = people(each=12, speakers=SPEAKERS[:4])


def placed(root: Path, corpus: str, *plans: Planted) -> dict:
    """Write a report of planted runs without figures into the folder of reports; returns its JSON."""
    for plan in plans:
        write_run(root / "runs", WHO, plan)
    folder = root / "reports" / corpus
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(to_json(make_report(root / "runs", Choice(corpus))), encoding="utf-8")
    (folder / "index.html").touch()
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_every_report_has_its_score_and_every_run_its_line_the_newest_first(tmp_path: Path) -> None:
    said = placed(tmp_path, "iemocap", Planted(), Planted(seed=1), Planted(ablation="mfcc", finished=2))
    other = placed(tmp_path, "emodb", Planted(corpus="emodb"))
    for place, one in enumerate(said["origins"]):
        one["ended"] = f"2026-0{place + 1}-01T00:00:00+00:00"
    (tmp_path / "reports" / "iemocap" / "results.json").write_text(json.dumps(said))
    shelf.write_shelf(tmp_path / "reports")
    text = (tmp_path / "reports" / "index.html").read_text(encoding="utf-8")
    for report in (said, other):
        score = report["experiments"][0]["rows"][0]["result"]["scores"]["ua"]["pooled"]
        assert f">{100 * score:.1f}</td>" in text
    assert 'href="iemocap/index.html"' in text and 'href="emodb/index.html"' in text
    history = text.split('id="table-history-iemocap"')[1].split("</tbody>")[0]
    runs = re.findall(r">(iemocap-speaker-[\w-]+)<", history)
    assert runs == [one["run"] for one in reversed(said["origins"])]
    assert history.count(">mfcc<") == 1, "including the unfinished one"
    ua = next(one["ua"] for one in said["origins"] if one["ua"] is not None)
    assert f">{100 * ua:.1f}</td>" in history


def test_a_report_of_an_earlier_version_is_left_out_and_a_page_of_ones_own_is_kept(tmp_path: Path) -> None:
    placed(tmp_path, "iemocap", Planted())
    old = tmp_path / "reports" / "old"
    old.mkdir()
    (old / "index.html").touch()
    (old / "results.json").write_text('{"schema": 1}')
    shelf.write_shelf(tmp_path / "reports")
    text = (tmp_path / "reports" / "index.html").read_text(encoding="utf-8")
    assert "old/index.html" not in text
    (tmp_path / "reports" / "index.html").write_text("<p>mine</p>")
    shelf.write_shelf(tmp_path / "reports")
    assert (tmp_path / "reports" / "index.html").read_text() == "<p>mine</p>"


@pytest.mark.slow(reason="draws a whole page")
def test_a_report_puts_itself_on_the_shelf_and_is_signed(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", WHO)
    page = build(tmp_path / "runs", tmp_path / "reports", author="Ada L.")
    assert (page.parents[1] / "index.html").is_file()
    assert "<dt>Author</dt><dd>Ada L.</dd>" in page.read_text(encoding="utf-8")
