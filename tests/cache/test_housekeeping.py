import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from ser_pipeline import entry
from ser_pipeline.cache import catalogue, housekeeping, manifest, shards
from ser_pipeline.cache import file_index as seen
from ser_pipeline.cache.store import Store
from ser_pipeline.entry import Entry
from ser_pipeline.features import extract
from support.places import ROOT
from support.results import outputs
from support.sounds import write_emodb
from support.stores import CONFIG, contents, make

README = ROOT / "cache" / "README.md"
Run = Callable[..., Result]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shards, "ROWS", 6)
    return write_emodb(tmp_path / "corpus")


@pytest.fixture
def folder(run: Run, corpus: Path) -> Path:
    """The features of the small corpus in ./cache."""
    return Path(run("features", "emodb", corpus, "--quiet").stdout.strip()).resolve()


def store_of(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"{name}-*")
    return found


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 8
    file.write_bytes(bytes(data))


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    return str(code)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", ["mfcc", "spectrogram", "waveform"])
def test_the_example_of_the_format_page_reads_a_store(corpus: Path, tmp_path: Path, name: str, compress: bool) -> None:
    folder = make(corpus, tmp_path / "cache", names=[name], compress=compress)
    data, store = manifest.read(folder), extract.store_entry(folder, name, CONFIG).path
    found: dict[str, object] = {"store": str(store)}
    exec(example(), found)
    features = found["features"]
    assert isinstance(features, dict)
    assert list(features) == [utterance.id for utterance in data.utterances]
    np.testing.assert_array_equal(np.concatenate(list(features.values())), Store(store).read(np.arange(36)))


def test_the_format_page_names_every_field_that_is_written(folder: Path) -> None:
    page = README.read_text()
    line = json.loads((folder / "manifest.jsonl").read_text().splitlines()[0])
    indexes = [json.loads(file.read_text()) for file in folder.rglob("index.json")]
    fields = {*line, *shards.TABLES, *(name for index in indexes for name in index)}
    assert {name for name in fields if f"`{name}`" not in page} == set()
    assert f"Format {entry.FORMAT}, shards in format {shards.FORMAT}." in page
    assert f"| `format` | {shards.FORMAT} |" in page


@pytest.mark.usefixtures("folder")
def test_ls_shows_what_there_is_and_what_it_was_made_from(run: Run, corpus: Path) -> None:
    lines = run("cache", "ls").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["what", "corpus", "mfcc", "spectrogram", "waveform"]
    assert str(corpus) in lines[1]
    assert "n_mfcc=40" in lines[2]
    assert "MB" in lines[3]


def test_ls_of_nothing_says_what_to_do(run: Run) -> None:
    assert "ser-pipeline features" in run("cache", "ls").stderr


@pytest.mark.usefixtures("folder")
def test_verify_of_a_whole_cache_is_content(run: Run) -> None:
    assert "everything is as written" in run("cache", "verify").stdout


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "a truncated shard": lambda file: file.write_bytes(file.read_bytes()[:5000]),
    "a missing shard": lambda file: file.unlink(),
    "another's shard": lambda file: shutil.copy(file.with_name("000.h5"), file),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_verify_names_what_is_damaged_and_its_command_mends_that_alone(
    run: Run, folder: Path, corpus: Path, case: str
) -> None:
    before = contents(folder)
    shard = store_of(folder, "mfcc") / "002.h5"
    DAMAGES[case](shard)
    result = run("cache", "verify", status=1)
    assert re.findall(r"damaged: .*/(\S+):", result.stdout) == ["002.h5"]
    (command,) = re.findall(r"repair: ser-pipeline (.*)", result.stdout)
    assert command.split() == ["features", "emodb", str(corpus), "--feature", "mfcc"]
    others = {file: file.stat().st_mtime_ns for file in folder.rglob("*.h5")}
    run(*command.split(), "--quiet")
    assert contents(folder) == before
    untouched = {file: file.stat().st_mtime_ns for file in folder.rglob("*.h5") if file != shard}
    assert set(untouched.values()) == set(others.values())
    run("cache", "verify")


def test_verify_says_in_which_cache_and_what_is_still_to_be_mended(run: Run, folder: Path, corpus: Path) -> None:
    folder.parent.parent.rename("elsewhere")
    there = Path("elsewhere") / "features" / folder.name
    flip(store_of(there, "mfcc") / "002.h5")
    (command,) = re.findall(
        r"repair: ser-pipeline (.*)", run("cache", "verify", "--cache", "elsewhere", status=1).stdout
    )
    assert command == f"features emodb {corpus} --feature mfcc --cache elsewhere"
    said = run("cache", "verify", "--cache", "elsewhere").stdout
    assert re.match(r"finished features are as written; mfcc-\w+.partial is unfinished", said)
    run(*command.split(), "--quiet")
    assert run("cache", "verify", "--cache", "elsewhere").stdout == "everything is as written\n"
    assert outputs(run("cache", "verify", "--cache", "nowhere")) == ("", "nothing in nowhere\n")


def test_each_verified_shard_is_told(folder: Path) -> None:
    cache, steps = folder.parent.parent, list[tuple[int, int]]()
    housekeeping.verify(cache, lambda *step: steps.append(step))
    shards = len(list(cache.rglob("*.h5")))
    assert steps == [(number, shards) for number in range(1, shards + 1)]


def test_features_of_another_folder_that_take_the_place_of_others_say_so(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    other = write_emodb(tmp_path / "other", speakers=2)
    said = run("features", "emodb", other).stderr
    assert re.search(rf"emodb now refers to emodb-\w+; before it was {folder.name}, from ", said)
    assert "now refers to" not in run("features", "emodb", other).stderr


def test_verify_mends_a_store_whose_index_is_lost(run: Run, folder: Path, corpus: Path) -> None:
    before = contents(folder)
    (store_of(folder, "waveform") / "index.json").unlink()
    run("cache", "verify", status=1)
    run("features", "emodb", corpus, "--quiet")
    assert contents(folder) == before


def test_verify_mends_a_damaged_manifest(run: Run, folder: Path, corpus: Path) -> None:
    before = contents(folder)
    (folder / "manifest.jsonl").write_text("{}\n")
    run("cache", "verify", status=1)
    run("features", "emodb", corpus, "--quiet")
    assert contents(folder) == before
    run("cache", "verify")


def test_the_command_that_mends_names_settings_that_are_not_the_usual_ones(run: Run, corpus: Path) -> None:
    setting = ["--set", "features.mfcc.n_mfcc=20", "--feature", "mfcc", "--quiet"]
    folder = Path(run("features", "emodb", corpus, *setting).stdout.strip()).resolve()
    flip(store_of(folder, "mfcc") / "000.h5")
    (command,) = re.findall(r"repair: ser-pipeline (.*)", run("cache", "verify", status=1).stdout)
    run(*command.split(), "--quiet")
    assert "n_mfcc=20" in command
    run("cache", "verify")


def test_prune_removes_what_nothing_refers_to_and_asks_first(run: Run, folder: Path, corpus: Path) -> None:
    second = Path(run("features", "emodb", corpus, "--classes", "anger,sadness", "--quiet").stdout.strip()).resolve()
    assert second != folder
    (second / "mfcc-0123456789ab.partial").mkdir()
    (second.with_name("emodb-0123456789ab.partial")).mkdir()
    run("cache", "prune", status=1)
    assert folder.exists()
    lines = run("cache", "prune", "--yes").stdout
    assert "MB" in lines
    assert not folder.exists()
    kept = sorted(path.name.split("-")[0] for path in second.iterdir() if path.name != ".locks")
    assert kept == ["index.json", "manifest.jsonl", "mfcc", "spectrogram", "waveform"]
    assert not list(Path("cache").rglob("*.partial"))
    assert outputs(run("cache", "prune")) == ("", "nothing to remove\n")
    run("cache", "verify")


def test_prune_leaves_alone_what_a_process_is_writing(run: Run, folder: Path) -> None:
    partial = folder.with_name("emodb-0123456789ab.partial")
    partial.mkdir()
    with Entry(folder.with_name("emodb-0123456789ab"), {}).lock():
        assert outputs(run("cache", "prune", "--yes")) == ("", "nothing to remove\n")
    assert [item.path for item in housekeeping.unused(Path("cache").resolve())] == [partial]


def test_path_is_the_folder_itself(run: Run, tmp_path: Path) -> None:
    assert run("cache", "path").stdout.strip() == str(tmp_path / "cache")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the audio files whose bytes are read."""
    names: list[str] = []
    read = Path.read_bytes

    def spy(self: Path) -> bytes:
        names.append(self.name)
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", spy)
    monkeypatch.setattr(seen, "SETTLED", -1.0)
    return names


def test_an_unchanged_corpus_is_not_read_again(run: Run, corpus: Path, opened: list[str]) -> None:
    run("features", "emodb", corpus, "--quiet")
    opened.clear()
    run("features", "emodb", corpus, "--quiet")
    assert opened == []


def test_an_added_feature_reads_each_file_once(run: Run, corpus: Path, opened: list[str]) -> None:
    run("features", "emodb", corpus, "--feature", "mfcc", "--quiet")
    opened.clear()
    run("features", "emodb", corpus, "--jobs", 1, "--quiet")
    assert sorted(opened) == sorted(file.name for file in (corpus / "wav").iterdir())


def test_a_changed_file_alone_is_read_again(run: Run, corpus: Path, opened: list[str]) -> None:
    run("features", "emodb", corpus, "--quiet")
    changed = corpus / "wav" / "04a01Na.wav"
    status = changed.stat()
    data = changed.read_bytes()
    changed.write_bytes(data[:-2] + bytes(2))
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a copy that keeps times would
    opened.clear()
    run("features", "emodb", corpus, "--jobs", 1, "--quiet")
    assert opened == ["04a01Na.wav", "04a01Na.wav"]


def test_a_file_written_a_moment_ago_is_not_trusted_to_be_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(b"x")
    memory = seen.FileIndex(tmp_path, tmp_path)
    known = seen.File("0" * 64, seen.AudioHeader(1, 16_000), False)
    memory.add("a.wav", seen.stamp(file), known)
    assert memory.find("a.wav", seen.stamp(file)) is None
    before = time.time_ns() - 10**10
    memory.add("a.wav", (1, before, before, 1), known)
    memory.save()
    assert seen.FileIndex(tmp_path, tmp_path).find("a.wav", (1, before, before, 1)) == known


def test_a_damaged_memory_of_files_costs_time_alone(run: Run, corpus: Path, opened: list[str]) -> None:
    run("features", "emodb", corpus, "--quiet")
    (memory,) = Path("cache/features/.files").iterdir()
    memory.write_text("[1, 2\n")
    opened.clear()
    run("features", "emodb", corpus, "--quiet")
    assert len(opened) == 32
    assert catalogue.find(Path("cache"), "emodb").corpus == "emodb"
