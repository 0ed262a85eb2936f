"""Caches with a valid form and unusual content: half-copied, swapped, linked, read-only, or without locks."""

import errno
import fcntl
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from ser_pipeline.cache import manifest, shards
from ser_pipeline.cache.store import Store
from ser_pipeline.data.stream import open_data
from ser_pipeline.errors import PipelineError
from support.results import outputs
from support.sounds import write_emodb
from support.stores import contents
from support.strange import SHAPES, changed, closed, held_to_rights, rekeyed

Run = Callable[..., Result]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shards, "ROWS", 6)
    return write_emodb(tmp_path / "corpus")


@pytest.fixture
def folder(run: Run, corpus: Path) -> Path:
    """The features of a small corpus in ./cache, two features of four shards each."""
    return Path(run("features", "emodb", corpus, "--feature", "mfcc", "--quiet").stdout.strip()).resolve()


def store_of(folder: Path) -> Path:
    (found,) = folder.glob("mfcc-*")
    return found


def mended(run: Run) -> str:
    """Run the command that `cache verify` suggests; returns what `verify` found."""
    said = run("cache", "verify", status=1).stdout
    for command in re.findall(r"repair: ser-pipeline (.*)", said):
        run(*shlex.split(command), "--quiet")
    assert run("cache", "verify").stdout == "everything is as written\n"
    return said


POINTERS = {
    **SHAPES,
    "another folder": '{"folder": "../../elsewhere", "root": "/corpus"}',
    "another corpus": '{"folder": "nemo-0123456789ab", "root": "/corpus"}',
    "a number for a folder": '{"folder": 3, "root": "/corpus"}',
    "a NUL in the path": '{"folder": "emodb-0123456789ab", "root": "a\\u0000b"}',
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("case", POINTERS)
def test_one_bad_pointer_is_passed_over_in_a_line_and_features_mends_it(run: Run, corpus: Path, case: str) -> None:
    features = ("features", "emodb", corpus, "--feature", "mfcc")
    table = Path("other.csv")
    table.write_text(
        "".join(f"{line}\n" for line in ["file,emotion,speaker", "corpus/wav/03a01Na.wav,n,03"]), encoding="utf-8"
    )
    run("features", "table", table, "--feature", "mfcc", "--quiet")
    before = contents(Path("cache"))
    pointer = Path("cache/features/emodb.json")
    good = pointer.read_text()
    pointer.write_text(POINTERS[case])
    said = run("cache", "ls").stderr
    assert len(said.splitlines()) == 1
    assert "emodb.json" in said
    assert "`ser-pipeline features emodb ROOT` writes it again" in said
    assert "no features of 'emodb'" in run("train", "--corpus", "emodb", "--dry-run", status=1).stderr
    assert run("audit", "other", status=1).stdout.startswith("other in "), "its one utterance is an error"
    assert "emodb.json" in run("cache", "verify", status=1).stdout
    assert outputs(run("cache", "prune", "--yes")) == ("", "nothing to remove\n")
    run(*features, "--quiet")
    assert pointer.read_text() == good
    assert contents(Path("cache")) == before


def test_a_pipe_in_place_of_a_pointer_is_not_waited_for(run: Run, folder: Path) -> None:
    pointer = folder.parent / "emodb.json"
    pointer.unlink()
    os.mkfifo(pointer)
    assert "emodb.json is damaged (it is not a file)" in run("cache", "ls").stderr


SHARD_NAMES: dict[str, Callable[[list[str], Path], list[str]]] = {
    "reordered": lambda names, store: names[::-1],
    "an absolute path": lambda names, store: [str(store / name) for name in names],
    "a path that leads out": lambda names, store: [f"../{store.name}/{name}" for name in names],
    "one named twice": lambda names, store: [*names[:-1], names[0]],
    "one left out": lambda names, store: names[:-1],
    "none": lambda names, store: [],
    "a text": lambda names, store: "000.h5",  # type: ignore[dict-item]
}


@pytest.mark.parametrize("case", SHARD_NAMES)
def test_an_index_that_names_other_shards_is_refused_found_and_mended(run: Run, folder: Path, case: str) -> None:
    before, store = contents(folder), store_of(folder)
    names = json.loads((store / "index.json").read_text())["shards"]
    changed(store / "index.json", shards=SHARD_NAMES[case](names, store))
    with pytest.raises(PipelineError, match=r"damaged .*`ser-pipeline cache verify`"):
        open_data(manifest.read(folder), {"mfcc": [store]})
    assert "index.json" in mended(run)
    assert contents(folder) == before


def test_stores_of_other_settings_that_change_places_are_refused_found_and_mended(
    run: Run, folder: Path, corpus: Path
) -> None:
    run("features", "emodb", corpus, "--feature", "mfcc", "--set", "features.mfcc.n_mfcc=20", "--quiet")
    before = contents(folder)
    one, other = sorted(folder.glob("mfcc-*"))
    aside = one.rename(folder / "aside")
    other.rename(one)
    aside.rename(other)
    for store in (one, other):
        with pytest.raises(PipelineError, match="the key of its inputs differs from that of its folder"):
            Store(store)
    run("cache", "verify", status=1)
    for more in ((), ("--set", "features.mfcc.n_mfcc=20")):
        run("features", "emodb", corpus, "--feature", "mfcc", *more, "--quiet")
    run("cache", "verify")
    assert contents(folder) == before


def test_shards_of_other_settings_under_a_right_index_are_refused_and_found(
    run: Run, folder: Path, corpus: Path
) -> None:
    first = store_of(folder)
    run("features", "emodb", corpus, "--feature", "mfcc", "--set", "features.mfcc.n_mfcc=20", "--quiet")
    (other,) = set(folder.glob("mfcc-*")) - {first}
    before = contents(folder)
    shutil.copy(other / "001.h5", first / "001.h5")
    with pytest.raises(PipelineError, match=r"001\.h5 is damaged \(its settings are not those of its store"):
        Store(first)
    assert "001.h5" in mended(run)
    assert contents(folder) == before


def test_a_store_of_another_feature_is_refused(run: Run, folder: Path, corpus: Path) -> None:
    run("features", "emodb", corpus, "--feature", "waveform", "--quiet")
    (waveform,) = folder.glob("waveform-*")
    with pytest.raises(PipelineError, match="it contains waveform, not mfcc"):
        open_data(manifest.read(folder), {"mfcc": [waveform]})


def test_stores_of_two_corpora_that_change_places_are_refused_found_and_mended(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    other = write_emodb(tmp_path / "other", speakers=2, takes=5)
    second = Path(run("features", "emodb", other, "--feature", "mfcc", "--quiet").stdout.strip()).resolve()
    one, two = store_of(folder), store_of(second)
    aside = one.rename(folder / "aside")
    two.rename(one)
    aside.rename(two)
    with pytest.raises(PipelineError, match="its utterances are not those of the manifest"):
        open_data(manifest.read(second), {"mfcc": [two]})
    said = run("cache", "verify", status=1).stdout
    assert said.count("its utterances are not those of the manifest") > 4


def flip_class(folder: Path) -> None:
    """Flip a bit in a class name of the index."""
    file = folder / "index.json"
    text = file.read_text(encoding="utf-8")
    assert text.count('"anger"') > 1
    file.write_text(text.replace('"anger"', '"amger"', 1), encoding="utf-8")


def flip_label(folder: Path) -> None:
    labels = json.loads((folder / "index.json").read_text())["labels"]
    changed(folder / "index.json", labels=["amger", *labels[1:]])


@pytest.mark.parametrize("damage", [flip_class, flip_label])
def test_a_flipped_bit_in_a_class_name_is_found_and_mended(
    run: Run, folder: Path, damage: Callable[[Path], None]
) -> None:
    before = contents(folder)
    damage(folder)
    assert "is damaged" in run("train", "--accept", "counts", "--dry-run", status=1).stderr
    assert folder.name in mended(run)
    assert contents(folder).items() >= before.items()


INPUTS: dict[str, dict[str, object]] = {
    "classes as a list": {"classes": ["anger"]},
    "a class that is a number": {"classes": {"anger": 3}},
    "no audio settings": {"audio": None},
    "audio of another shape": {"audio": {"rate": "fast"}},
    "an unknown audio setting": {"audio": {"wings": 2}},
    "a digest that is a list": {"utterances": []},
    "a corpus that is a number": {"corpus": 7},
}


@pytest.mark.parametrize("case", INPUTS)
def test_an_index_of_another_shape_under_its_right_key_is_one_line(run: Run, folder: Path, case: str) -> None:
    strange = rekeyed(folder, **INPUTS[case])
    changed(folder.parent / "emodb.json", folder=strange.name)
    said = run("train", "--accept", "counts", "--dry-run", status=1).stderr
    assert re.fullmatch(r"Error: \S+ is damaged .*\n", said)


LINES = {
    "no key": {"key": None},
    "a key that is no key": {"key": "../../x"},
    "samples that are a text": {"samples": "9"},
    "no samples": {"samples": 0},
    "samples without end": {"samples": 10**30},
    "an unknown class": {"emotion": "wings"},
    "a speaker that is a list": {"speaker": ["03"]},
    "an unknown field": {"wings": 2},
    "half of a character": {"speaker": "\ud800"},
}


@pytest.mark.parametrize("case", LINES)
def test_a_line_of_the_manifest_of_another_shape_is_one_line(folder: Path, case: str) -> None:
    import hashlib

    file = folder / "manifest.jsonl"
    first, *others = file.read_text(encoding="utf-8").split("\n")
    text = "\n".join([json.dumps(json.loads(first) | LINES[case]), *others])
    file.write_text(text, encoding="utf-8")
    strange = rekeyed(folder, utterances=hashlib.sha256(text.encode()).hexdigest())
    with pytest.raises(PipelineError, match=r"manifest\.jsonl is damaged \(.*\); `ser-pipeline cache verify`"):
        manifest.read(strange)


def test_prune_removes_a_link_and_not_what_it_leads_to(run: Run, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(folder, outside)
    link = folder.with_name("emodb-0123456789ab")
    link.symlink_to(outside)
    (outside / "mfcc-0123456789ab.partial").mkdir()
    before = sorted(outside.rglob("*"))
    assert "removed" in run("cache", "prune", "--yes").stdout
    assert not link.is_symlink()
    assert sorted(outside.rglob("*")) == before
    assert outputs(run("cache", "prune")) == ("", "nothing to remove\n")


@pytest.mark.parametrize("linked", ["corpus", "store", "shard"])
def test_verify_deletes_nothing_outside_the_cache(run: Run, folder: Path, tmp_path: Path, linked: str) -> None:
    path = {"corpus": folder, "store": store_of(folder), "shard": store_of(folder) / "000.h5"}[linked]
    outside = path.rename(tmp_path / path.name)
    path.symlink_to(outside)
    (shard,) = [outside] if linked == "shard" else outside.rglob("000.h5")
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    before = {
        file: file.read_bytes() for file in sorted(tmp_path.rglob("*")) if file.is_file() and "cache" not in str(file)
    }
    said = run("cache", "verify", status=1).stdout
    assert "000.h5" in said
    assert {file: file.read_bytes() for file in before} == before
    if linked != "shard":
        assert "is a link" in said


def test_a_complete_cache_that_nobody_may_write_is_read(run: Run, tmp_path: Path) -> None:
    corpus = write_emodb(tmp_path / "corpus")
    run("features", "emodb", corpus, "--feature", "mfcc", "--quiet")
    with closed(Path("cache")) as cache:
        for args in (
            ("features", "emodb", corpus, "--feature", "mfcc", "--quiet"),
            ("cache", "ls"),
            ("cache", "verify"),
            (
                "train",
                "--accept",
                "counts",
                "--set",
                'model.inputs=["mfcc"]',
                "--set",
                "model.co_attention=false",
                "--dry-run",
            ),
        ):
            done = held_to_rights(*args, "--cache", cache)
            assert done.returncode == 0, done.stderr


def test_a_closed_folder_is_named_with_what_to_do(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "cache" / "features").mkdir(parents=True)
    with closed(tmp_path / "cache") as cache, closed(corpus) as audio:
        done = held_to_rights("features", "emodb", audio, "--feature", "mfcc", "--quiet", "--cache", cache)
    assert done.returncode == 1
    assert done.stderr == f"Error: cannot write to {cache}/features: Permission denied; choose another folder\n"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_once_and_worked_on(
    run: Run, corpus: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    from ser_pipeline import locks

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    locks._say.cache_clear()
    run("features", "emodb", corpus, "--feature", "mfcc")
    run("cache", "verify")
    said: list[str] = []
    monkeypatch.setattr(locks.log, "warning", lambda line, *_: said.append(line))
    for name in ("one", "other"):
        with locks.hold(Path("cache") / name):
            assert locks.is_held(Path("cache") / name)
    assert len(said) == 1 and "without locks" in said[0]
    assert not list(Path("cache").rglob(f"*{locks.MARK}"))
    assert outputs(run("cache", "prune", "--yes")) == ("", "nothing to remove\n")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EACCES, errno.EMFILE])
def test_a_shard_that_the_system_will_not_open_is_named_and_not_taken_for_damaged(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    before = contents(folder)

    def refuse(*args: object, **options: object) -> None:
        raise OSError(code, "Unable to open file")

    monkeypatch.setattr(shards.h5py, "File", refuse)
    said = run("cache", "verify", status=1).stderr
    assert said == f"Error: cannot read {store_of(Path('cache/features') / folder.name)}/000.h5: {os.strerror(code)}\n"
    monkeypatch.undo()
    assert contents(folder) == before
