"""A report of a stranger's run: its files link to no file outside of the corpus, and its cells run nowhere."""

import shlex
from types import SimpleNamespace

import pytest

from ser_pipeline.report import page
from ser_pipeline.text import guarded, unguarded


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
    header = SimpleNamespace(audio_root=str(place))
    experiment = SimpleNamespace(panel=SimpleNamespace(main=SimpleNamespace(header=header)))
    report = SimpleNamespace(experiments=[experiment], worst=[SimpleNamespace(file=file)])
    (link,) = page._players(report, tmp_path)
    assert bool(link) == linked


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
    )
    words = shlex.split(page._train([header]))
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
