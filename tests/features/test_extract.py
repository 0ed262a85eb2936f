import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import Result
from threadpoolctl import threadpool_limits

from ser_pipeline import audio
from ser_pipeline.cache import manifest
from ser_pipeline.cache.store import Store
from ser_pipeline.config import Audio, load
from ser_pipeline.corpora import read_corpus
from ser_pipeline.corpora.emodb import EMODB
from ser_pipeline.errors import PipelineError
from ser_pipeline.features import extract
from ser_pipeline.features import measure as measuring
from ser_pipeline.features.acoustic import FEATURES
from support.sounds import tone, write_emodb, write_wav
from support.stores import CONFIG, contents, make, measure


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ser_pipeline.cache.shards.ROWS", 4)


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files whose audio is decoded for extraction."""
    names: list[str] = []
    samples = audio.Recording.samples

    def spy(recording: audio.Recording, *rest: object) -> object:
        names.append(recording.name)
        return samples(recording, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(audio.Recording, "samples", spy)
    return names


@pytest.mark.usefixtures("small_shards")
def test_stores_hold_the_features_of_every_utterance_in_manifest_order(small_emodb: Path, tmp_path: Path) -> None:
    folder = make(small_emodb, tmp_path / "cache")
    data = manifest.read(folder)
    assert list(data.utterances) == sorted(data.utterances, key=lambda one: (one.speaker, one.id))
    for name in ("mfcc", "spectrogram", "waveform"):
        store = Store(extract.store_entry(folder, name, CONFIG).path)
        assert len(store.shards) > 2
        assert store.keys == data.keys
        for row, utterance in enumerate(data.utterances):
            samples = audio.decode((small_emodb / utterance.file).read_bytes(), utterance.file, 16_000)
            with threadpool_limits(1):
                expected = FEATURES[name].rows(samples, CONFIG.audio, getattr(CONFIG.features, name, None))
            np.testing.assert_array_equal(store.read(data.rows(np.array([row]))), expected)


@pytest.mark.usefixtures("small_shards")
def test_the_number_of_processes_does_not_change_a_byte(small_emodb: Path, tmp_path: Path) -> None:
    one = make(small_emodb, tmp_path / "one")
    assert contents(one) == contents(make(small_emodb, tmp_path / "two", jobs=2))


@pytest.mark.usefixtures("small_shards")
def test_a_second_call_does_nothing(small_emodb: Path, tmp_path: Path, extracted: list[str]) -> None:
    make(small_emodb, tmp_path / "cache")
    before = len(extracted)
    make(small_emodb, tmp_path / "cache")
    assert len(extracted) == before


@pytest.mark.usefixtures("small_shards")
def test_a_changed_file_costs_its_own_extraction_alone(small_emodb: Path, tmp_path: Path, extracted: list[str]) -> None:
    first = make(small_emodb, tmp_path / "cache")
    extracted.clear()
    changed = small_emodb / "wav" / "04a01Na.wav"
    write_wav(changed, tone(99, 1.3, 180))
    second = make(small_emodb, tmp_path / "cache")
    assert second != first
    assert extracted == ["wav/04a01Na.wav"]
    assert contents(second) == contents(make(small_emodb, tmp_path / "fresh"))


@pytest.mark.usefixtures("small_shards")
def test_a_renamed_folder_costs_nothing(small_emodb: Path, tmp_path: Path, extracted: list[str]) -> None:
    first = make(small_emodb, tmp_path / "cache")
    extracted.clear()
    assert make(small_emodb.rename(tmp_path / "moved"), tmp_path / "cache") == first
    (tmp_path / "moved" / "wav").rename(tmp_path / "moved" / "sounds")
    make(tmp_path / "moved", tmp_path / "cache")
    assert extracted == []


@pytest.mark.usefixtures("small_shards")
def test_a_changed_setting_touches_its_own_store_alone(small_emodb: Path, tmp_path: Path) -> None:
    folder = make(small_emodb, tmp_path / "cache")
    before = contents(folder)
    make(small_emodb, tmp_path / "cache", load("paper", None, ["features.mfcc.n_mfcc=20"]))
    after = contents(folder)
    assert {name.split("-")[0] for name in after.keys() - before.keys()} == {"mfcc"}
    assert {name: after[name] for name in before} == before


@pytest.mark.usefixtures("small_shards")
def test_an_added_feature_leaves_the_others_alone(small_emodb: Path, tmp_path: Path, extracted: list[str]) -> None:
    make(small_emodb, tmp_path / "cache", names=["mfcc"])
    count = len(extracted)
    folder = make(small_emodb, tmp_path / "cache")
    assert len(extracted) == 2 * count == 2 * len(set(extracted))
    assert contents(folder) == contents(make(small_emodb, tmp_path / "fresh"))


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_donor_is_extracted_again(small_emodb: Path, tmp_path: Path) -> None:
    first = make(small_emodb, tmp_path / "cache")
    for file in first.rglob("000.h5"):
        file.write_bytes(file.read_bytes()[:-1000])
    write_wav(small_emodb / "wav" / "04a01Na.wav", tone(99, 1.3, 180))
    second = make(small_emodb, tmp_path / "cache")
    assert contents(second) == contents(make(small_emodb, tmp_path / "fresh"))


def test_audio_that_changes_after_it_was_measured_is_refused(small_emodb: Path, tmp_path: Path) -> None:
    data = measure(small_emodb)
    write_wav(small_emodb / "wav" / "04a01Na.wav", tone(99, 1.3, 180))
    with pytest.raises(PipelineError, match=r"04a01Na\.wav changed while it was read"):
        extract.extract(data, small_emodb, CONFIG, tmp_path / "cache", jobs=1)


def test_a_manifest_survives_the_disk(small_emodb: Path, tmp_path: Path) -> None:
    folder = make(small_emodb, tmp_path / "cache", names=["mfcc"])
    data, again = measure(small_emodb), manifest.read(folder)
    assert again.utterances == data.utterances
    assert again.inputs == data.inputs
    np.testing.assert_array_equal(again.segments, data.segments)


def test_a_damaged_manifest_is_named(small_emodb: Path, tmp_path: Path) -> None:
    folder = make(small_emodb, tmp_path / "cache", names=["mfcc"])
    file = folder / "manifest.jsonl"
    file.write_text(file.read_text().replace("anger", "neutral", 1))
    with pytest.raises(PipelineError, match=r"manifest\.jsonl is damaged"):
        manifest.read(folder)


def spoil(root: Path, case: str) -> None:
    file = root / "wav" / "03a01Wa.wav"
    if case == "missing folder":
        shutil.rmtree(root)
    elif case == "empty folder":
        shutil.rmtree(root)
        root.mkdir()
    elif case == "another corpus":
        for wav in (root / "wav").iterdir():
            wav.rename(root / f"03-01-05-01-01-01-{wav.stem[:2]}.wav")
    else:
        file.write_bytes({"empty": b"", "text": b"hello" * 99, "truncated": file.read_bytes()[:9000]}[case])


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("missing folder", "does not exist"),
        ("empty folder", "is empty"),
        ("another corpus", "is not EMO-DB"),
        ("empty", "wav/03a01Wa.wav is an empty file"),
        ("text", "wav/03a01Wa.wav is not readable audio"),
        ("truncated", "wav/03a01Wa.wav is truncated"),
    ],
)
def test_bad_input_is_one_line(run: Callable[..., Result], small_emodb: Path, case: str, said: str) -> None:
    spoil(small_emodb, case)
    result = run("features", "emodb", small_emodb, "--preset", "scratch", status=1)
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def test_skip_bad_decodes_what_may_be_broken_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_emodb(tmp_path, speakers=2, takes=1)
    utterances = read_corpus("emodb", root)
    first = root / utterances[0].file
    samples, rate = soundfile.read(first)
    soundfile.write(first, samples, rate, subtype="FLOAT")
    heard: list[str] = []
    blocks = audio.Recording.blocks
    monkeypatch.setattr(audio.Recording, "blocks", lambda self, *span: heard.append(self.name) or blocks(self, *span))
    measuring.measure("emodb", EMODB.classes, utterances, root, load("paper").audio, skip_bad=True)
    assert heard == [utterances[0].file]


def test_skip_bad_goes_on_and_lists_what_it_left_out(run: Callable[..., Result], tmp_path: Path) -> None:
    root = write_emodb(tmp_path / "corpus")
    spoil(root, "truncated")
    flac = root / "wav" / "04a01Wa.wav"
    flac.write_bytes(b"fLaC broken")
    result = run("features", "emodb", root, "--skip-bad")
    assert "left out: wav/03a01Wa.wav is truncated" in result.stderr
    assert "left out: wav/04a01Wa.wav" in result.stderr
    assert "2 recordings left out, 30 kept\n" in result.stderr
    assert "--skip-bad" not in result.stderr, "they were just left out"
    assert len(manifest.read(Path(result.stdout.strip())).utterances) == 30


def test_the_labels_are_the_corpus_class_order(small_emodb: Path) -> None:
    data = measure(small_emodb)
    assert set(data.labels) <= set(EMODB.labels)
    assert [data.labels[target] for target in data.target] == [one.emotion for one in data.utterances]


def test_an_odd_file_and_an_utterance_beyond_its_file_are_said(
    small_emodb: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = small_emodb / "wav" / "03a01Wa.wav"
    data = file.read_bytes()
    file.write_bytes(data[:40] + b"\0\xf0\xff\x7f" + data[44:])
    rows = ["03a01Wa.wav,a,s,0,99", "03a01Na.wav,b,s,,"]
    (file.parent / "my.csv").write_text("\n".join(["file,emotion,speaker,start,end", *rows]) + "\n")
    utterances = read_corpus("table", file.parent / "my.csv")
    data = measuring.measure("my", {"a": ("a",), "b": ("b",)}, utterances, file.parent, Audio())
    assert len(data.utterances) == 2
    assert "03a01Wa.wav has a header that does not declare its length" in caplog.text
    assert "1 utterance ends past the end of the file and is read to it: 03a01Wa@0-99 ends at 99 s" in caplog.text
