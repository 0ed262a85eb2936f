"""Corpora and caches at URLs: complete or absent on either side, and a one-line error for every failure."""

import re
import shutil
import uuid
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner
from ser_pipeline.cli import main

import ser_pipeline
from ser_pipeline.cache import catalogue, housekeeping, transfer
from ser_pipeline.errors import PipelineError
from ser_pipeline.remote import RemoteFolder, copied, open_folder
from support.places import S3_KEYS
from support.sounds import write_emodb


def contents(cache: Path) -> dict[str, bytes]:
    root = catalogue.features_root(cache)
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(root).parts)
    }


def test_a_copy_of_what_is_there_says_that_there_is_nothing_to_copy(made: Path, url: str, tmp_path: Path) -> None:
    def copied_names(verb: str, cache: Path) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["cache", verb, url, "--cache", str(cache)])
        assert result.exit_code == 0
        return len(result.stdout.splitlines()), result.stderr

    for verb, cache in (("push", made), ("pull", tmp_path / "other")):
        assert copied_names(verb, cache) == (4, "")
        assert copied_names(verb, cache) == (0, "nothing to copy: everything is there\n")


def test_a_cache_goes_there_and_comes_back_as_it_was(url: str, made: Path, tmp_path: Path) -> None:
    sent, got, steps = list[str](), list[str](), list[tuple[int, int]]()
    transfer.push(made, url, told=sent.append, progress=lambda *step: steps.append(step))
    transfer.push(made, url, told=sent.append, progress=lambda *step: steps.append(step))  # nothing is left to copy
    other = tmp_path / "other"
    (source,) = transfer.pull(other, url, ("emodb",), got.append, lambda *step: steps.append(step))
    transfer.pull(other, url, told=got.append)
    assert steps == 2 * [(done, 4) for done in range(1, 5)], "the manifest and three shards, there and back"
    assert (
        sent
        == got
        == [source.folder.name, *(f"{source.folder.name}/{one.name}" for one in sorted(source.folder.glob("*-*")))]
    )
    assert contents(other) == contents(made)
    assert housekeeping.verify(other) == []
    assert catalogue.find(other, "emodb").folder == source.folder


def test_a_corpus_behind_a_url_gives_the_features_of_its_copy(url: str, tmp_path: Path) -> None:
    root = write_emodb(tmp_path / "corpus", speakers=2, takes=1)
    far = open_folder(url)
    for file in root.rglob("*.wav"):
        far.send(file, f"EMO/{file.relative_to(root).as_posix()}")
    found = ser_pipeline.extract("emodb", f"{url}/EMO", preset="paper", jobs=1, cache=tmp_path / "far-cache")
    wanted = ser_pipeline.extract("emodb", root, preset="paper", jobs=1, cache=tmp_path / "cache")
    assert found.folder.name == wanted.folder.name
    assert {name: data for name, data in contents(tmp_path / "far-cache").items() if name.endswith(".h5")} == {
        name: data for name, data in contents(tmp_path / "cache").items() if name.endswith(".h5")
    }


@pytest.mark.parametrize("stop", [1, 3, 6, 8])
def test_a_pull_that_is_stopped_leaves_nothing_that_looks_whole(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    url, fetch, count = f"memory://{uuid.uuid4().hex}", RemoteFolder.fetch, 0
    transfer.push(made, url)

    def stopping(self: RemoteFolder, name: str, file: Path) -> None:
        nonlocal count
        count += 1
        if count > stop:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_name(f"{file.name}.1-1.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        fetch(self, name, file)

    monkeypatch.setattr(RemoteFolder, "fetch", stopping)
    with pytest.raises(KeyboardInterrupt):
        transfer.pull(tmp_path, url)
    whole, wanted = contents(tmp_path), contents(made)
    for name in {name for name in whole if ".partial" not in name and name.count("/")}:
        folder = name.rpartition("/")[0]
        assert {one: whole.get(one) for one in wanted if one.rpartition("/")[0] == folder} == {
            one: wanted[one] for one in wanted if one.rpartition("/")[0] == folder
        }, "a folder that has its final name is complete"
    assert catalogue.sources(tmp_path) == [], "nothing points to it yet"
    monkeypatch.setattr(RemoteFolder, "fetch", fetch)
    transfer.pull(tmp_path, url)
    assert {name: data for name, data in contents(tmp_path).items() if not name.endswith(".tmp")} == wanted


def test_a_pull_that_is_stopped_at_a_pointer_leaves_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer.push(made, address := f"file://{tmp_path / 'far'}")

    def stopped(remote: RemoteFolder, name: str, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".tmp").write_bytes(b"{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RemoteFolder, "fetch", stopped)
        with pytest.raises(KeyboardInterrupt):
            transfer.pull(tmp_path / "here", address)
    assert not list((tmp_path / "here").rglob("*"))
    transfer.pull(tmp_path / "here", address)
    assert contents(tmp_path / "here") == contents(made)


def test_what_was_pushed_by_half_or_is_damaged_is_not_taken(made: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    transfer.push(made, f"file://{far}")
    shard = next(far.rglob("mfcc-*/000.h5"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(PipelineError, match=r"mfcc-\w+ at file:.* is damaged: .*its checksum differs.*; push it again"):
        transfer.pull(tmp_path / "here", f"file://{far}")
    assert not list(tmp_path.glob("here/features/*/mfcc-*/")) or all(
        path.name.endswith(".partial") for path in tmp_path.glob("here/features/*/mfcc-*")
    )
    shard.write_bytes(whole)
    (shard.parent / "index.json").unlink()
    transfer.pull(tmp_path / "here", f"file://{far}")
    assert not list(tmp_path.glob("here/features/*/mfcc-*/index.json"))


def test_files_that_have_not_changed_are_not_copied_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far, names, fetch = tmp_path / "far", list[str](), RemoteFolder.fetch
    far.mkdir()
    for name in "abc":
        (far / f"{name}.txt").write_text(name)

    def counted(self: RemoteFolder, name: str, file: Path) -> None:
        names.append(name)
        fetch(self, name, file)

    monkeypatch.setattr(RemoteFolder, "fetch", counted)
    place = copied(f"file://{far}", tmp_path / "here")
    (far / "b.txt").write_text("other")
    (far / "c.txt").unlink()
    assert copied(f"file://{far}", tmp_path / "here") == place
    assert sorted(names) == ["a.txt", "b.txt", "b.txt", "c.txt"]
    assert sorted(file.name for file in place.glob("*.txt")) == ["a.txt", "b.txt"]
    assert (place / "b.txt").read_text() == "other"
    assert copied(f"file://{far}/a.txt", tmp_path / "there").read_text() == "a", "for a table, its folder is copied"


def test_what_is_larger_than_the_disk_is_refused_before_it_is_copied(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    transfer.push(made, url)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(1, 1, 1000))
    with pytest.raises(PipelineError, match=r"GB to copy, but .* has only 0\.0 GB free; choose a larger disk"):
        transfer.pull(tmp_path, url)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nowhere://x/y", "cannot be reached .*nowhere"),
        ("memory://nothing-here", "there are no features at memory://nothing-here; `ser-pipeline cache push`"),
    ],
)
def test_what_cannot_be_had_is_one_line(address: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=said) as caught:
        transfer.pull(tmp_path, address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("Install s3fs", name="s3fs"), r"needs a package .*\(s3fs\): pip install 'ser-pipeline\[remote\]'"),
        (PermissionError("Access Denied"), r"no permission for .* \(Access Denied\); check your credentials"),
        (type("NoCredentialsError", (Exception,), {})("none found"), r"no permission for .* \(none found\)"),
        (ConnectionRefusedError("refused"), r"cannot be reached \(ConnectionRefusedError: refused\)"),
    ],
)
def test_what_a_store_says_is_one_line(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "find", refused)
    result = CliRunner().invoke(main, ["cache", "pull", "memory://x", "--cache", str(tmp_path)])
    assert result.exit_code == 1
    assert re.search(said, result.output)


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    for key, value in {**S3_KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(key, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(PipelineError, match=r"s3://bucket/x cannot be reached") as caught:
        copied("s3://bucket/x", tmp_path)
    assert "\n" not in str(caught.value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = open_folder("memory://x")
    listed = {f"{far.path}/../up.txt": {"type": "file", "size": 1}}
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "find", lambda self, path, detail: listed)
    with pytest.raises(PipelineError, match="with an unsafe path"):
        copied("memory://x", tmp_path)
