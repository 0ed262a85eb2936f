"""The report of an untrusted run links to no file outside the corpus, and its cells are not executed."""

import os
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from ser_pipeline.report import page
from ser_pipeline.report.commands import train_command
from ser_pipeline.targets import TARGETS
from ser_pipeline.text import guarded, unguarded
from support.run_folders import Planted, people, write_run


@pytest.mark.parametrize(
    ("file", "linked"),
    [
        ("wav/a.wav", True),
        ("wav/a.FLAC", True),
        ("../a.wav", False),
        ("wav/../../a.wav", False),
        ("/etc/passwd", False),
        ("etc/passwd", False),
        ("..\\a.wav", False),
        ("/home/a.wav", False),
    ],
)
def test_links_to_audio_stay_below_the_corpus(tmp_path, file, linked):
    place = tmp_path / "corpus"
    (place / "wav").mkdir(parents=True)
    for name in ("wav/a.wav", "wav/a.FLAC", "../a.wav", "etc/passwd", "..\\a.wav"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).touch()
    for header, name in (
        (SimpleNamespace(audio_root=str(place), audio_roots={}), file),
        (SimpleNamespace(audio_root="", audio_roots={"german": str(place)}), f"german/{file}"),
    ):
        report = SimpleNamespace(main=(SimpleNamespace(header=header), None))
        assert bool(page._sound(report, name, tmp_path)) == linked
        assert not page._sound(report, f"english/{file}", tmp_path)


def test_the_command_that_runs_it_again_is_quoted_word_by_word():
    header = SimpleNamespace(
        corpus="a b",
        protocol="$(touch x)",
        preset=";ls",
        ablation="`id`",
        seed=0,
        selection="x y",
        on_test=True,
        test_corpus="&",
        target=TARGETS["class"],
        settings={},
    )
    words = shlex.split(train_command([header]))
    assert words == [
        *("ser-pipeline", "train", "--corpus", "a b", "--protocol", "$(touch x)", "--preset", ";ls"),
        *("--ablation", "`id`", "--seeds", "1", "--selection", "x y", "--test-corpus", "&"),
    ]


@pytest.mark.parametrize(
    "cell", ["=1+1", "+x", "-x", "@x", "'=1", "''=1", "\t=1", "\r", "-1.5", "'tis", "", "a=b", "-"]
)
def test_a_guarded_cell_is_read_back_and_begins_as_no_formula_does(cell):
    made = guarded(cell)
    assert unguarded(made) == cell
    assert made[:1] not in ("=", "+", "@", "\t", "\r")
    assert made[:1] != "-" or float(made) < 0


def test_links_to_audio_work_from_where_the_page_is_opened(tmp_path):
    """A browser resolves `..` in an address as text, even across symbolic links and after the page was moved."""
    from ser_pipeline.report import Choice, make_report, write

    audio = tmp_path / "my corpus"
    audio.mkdir()
    who = people(3)
    write_run(tmp_path / "runs", who, Planted(audio_root=str(audio)))
    for name, speaker in zip(who.ids, who.speaker, strict=True):
        (audio / f"Session{speaker[0]}").mkdir(exist_ok=True)
        (audio / f"Session{speaker[0]}" / f"{name}.wav").touch()
    (tmp_path / "disk" / "deep" / "reports").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "reports").symlink_to(tmp_path / "disk" / "deep" / "reports")
    for place in (tmp_path / "home" / "reports" / "x", tmp_path / "disk" / "deep" / "reports" / "x", tmp_path / "y"):
        if place == tmp_path / "y":
            (tmp_path / "disk" / "deep" / "reports" / "x").rename(place)
        text = write(make_report(tmp_path / "runs", Choice()), place).read_text(encoding="utf-8")
        links = re.findall('data-audio="([^"]+)"', text)
        assert links
        for link in links:
            assert Path(os.path.normpath(place / unquote(link))).is_file(), (place, link)
