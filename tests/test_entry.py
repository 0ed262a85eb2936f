import errno
import json
import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from xxhash import xxh3_128

from ser_pipeline.claims import Claims
from ser_pipeline.entry import (
    FORMAT,
    Entry,
    file_digest,
    key,
    partials,
    read_as,
    read_index,
    read_json,
    require_digest,
    write_json,
    write_text,
    writing,
)
from ser_pipeline.errors import PipelineError
from ser_pipeline.file_names import LONGEST, FileName, path_name
from ser_pipeline.shape import ShapeError, shaped
from support.workers import until


def test_a_key_depends_on_every_input_and_not_on_their_order() -> None:
    assert key({"a": 1, "b": {"c": 2}}) == key({"b": {"c": 2}, "a": 1})
    assert key({"a": 1, "b": {"c": 2}}) != key({"a": 1, "b": {"c": 3}})


def test_an_entry_is_absent_until_it_is_published(tmp_path: Path) -> None:
    entry = Entry.keyed(tmp_path, "store", {"a": 1})
    entry.begin()
    write_text(entry.partial / "one.txt", "1")
    assert not entry.done
    folder = entry.publish(rows=3)
    assert entry.done
    assert not entry.partial.exists()
    index = json.loads((folder / "index.json").read_text())
    assert index["rows"] == 3
    assert index["inputs"] == {"a": 1}
    assert "numpy" in index["versions"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EACCES, "cannot write to .*: Permission denied; choose another folder"),
        (errno.EROFS, "cannot write to .*: Read-only file system; choose another folder"),
        (errno.ENOSPC, "no space left on the disk of .*: free some space and run again"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    entry = Entry.keyed(tmp_path, "store", {"a": 1})
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(PipelineError, match=said):
        entry.begin()
    with pytest.raises(PipelineError, match=said), entry.lock():
        pass


def test_what_a_killed_process_was_writing_is_no_part_of_a_whole_entry(tmp_path: Path) -> None:
    entry = Entry.keyed(tmp_path, "store", {"a": 1})
    entry.begin()
    write_text(entry.partial / "one.txt", "1")
    (entry.partial / "one.txt.4711.tmp").write_text("half")
    assert sorted(file.name for file in entry.publish().iterdir()) == ["index.json", "one.txt"]


def test_two_that_publish_one_entry_find_it_whole(tmp_path: Path) -> None:
    entry = Entry.keyed(tmp_path, "store", {"a": 1})
    entry.begin()
    entry.publish()
    entry.begin()  # by a process that did not notice
    assert not entry.partial.exists()
    entry.partial.mkdir()
    assert entry.publish() == entry.path
    assert not entry.partial.exists()


def test_who_takes_work_over_takes_its_folder_and_the_other_writes_nothing_more(tmp_path: Path) -> None:
    held = Claims(tmp_path / ".claims").take("run/01")
    assert held
    frozen = Entry(tmp_path / "01", {}, held.file)
    frozen.begin()
    write_text(frozen.partial / "epoch", "1")
    held.file.with_name("2").write_text("")
    second = Entry(tmp_path / "01", {}, held.file.with_name("2"))
    second.begin()
    assert frozen.lost
    assert not second.lost
    assert (second.partial / "epoch").read_text() == "1"
    assert second.latest == frozen.latest == second.partial
    for write in (lambda: write_text(frozen.partial / "epoch", "2"), frozen.begin, frozen.publish):
        with pytest.raises(FileNotFoundError):
            write()
    with pytest.raises(FileNotFoundError):
        write_text(frozen.partial / "logs" / "epoch", "2")
    second.publish()
    assert frozen.publish() == second.path
    assert (second.path / "epoch").read_text() == "1"
    assert sorted(file.name for file in tmp_path.iterdir()) == [".claims", "01"]


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "file.txt") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_that_says_so(tmp_path: Path, code: int) -> None:
    with pytest.raises(PipelineError, match="no space left"), writing(tmp_path / "file.txt"):
        raise OSError(code, "as the system says it")


def save_file(file: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"weights": np.zeros(9_000)}, file)


def save_state(file: Path) -> None:
    import torch

    with file.open("wb") as stream:
        torch.save({"weights": torch.zeros(9_000)}, stream)


@pytest.mark.parametrize("write", [save_file, save_state])
def test_a_library_that_meets_a_full_disk_is_one_line(tmp_path: Path, write: Callable[[Path], None]) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard[1]))
    try:
        with pytest.raises(PipelineError, match="no space left"), writing(tmp_path / "weights") as temporary:
            write(temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, hard)
    assert list(tmp_path.iterdir()) == []


def test_damaged_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("{half")
    with pytest.raises(PipelineError, match=r"index\.json is damaged"):
        read_json(tmp_path / "index.json")


def _hold(entry: Entry, ready: Path, waiting: Path) -> None:
    with entry.lock():
        ready.touch()
        until(waiting.exists)
        write_text(entry.path / "index.json", "{}")


def test_a_second_process_waits_and_says_for_whom(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, ready, waiting = Entry(tmp_path / "entry", {}), tmp_path / "ready", tmp_path / "waiting"
    first = multiprocessing.get_context("fork").Process(target=_hold, args=(entry, ready, waiting))
    first.start()
    until(ready.exists)
    monkeypatch.setattr(
        caplog.handler, "emit", lambda record, emit=caplog.handler.emit: (emit(record), waiting.touch())
    )
    with entry.lock():
        assert entry.done
    first.join()
    assert f"waiting for process {first.pid}" in caplog.text


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\\b", "", ".", "..", ".hidden", "a\0b", "a\nb", "x.partial", "c:d", "é" * 200]
)
def test_what_leads_elsewhere_is_no_name_of_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(PipelineError, match="not a valid folder name"):
        path_name(name, "a fold")
    with pytest.raises(PipelineError, match="not a valid folder name"):
        Entry.keyed(tmp_path, name, {})
    if len(name) < LONGEST:
        with pytest.raises(ShapeError, match="not the name of a file or folder"):
            shaped([name], list[FileName])


@pytest.mark.parametrize("name", ["03", "Ses01F", "emodb+nemo-cross-full-s0", "März 2024", "my table (1)"])
def test_what_names_one_folder_is_taken_as_it_is(name: str) -> None:
    assert path_name(name, "a fold") == name
    assert shaped([name], list[FileName]) == [name]


def test_two_threads_may_write_one_file_at_once(tmp_path: Path) -> None:
    with writing(tmp_path / "one.txt") as first:
        first.write_text("first")
        other = threading.Thread(target=write_text, args=(tmp_path / "one.txt", "second"))
        other.start()
        other.join()
        assert (tmp_path / "one.txt").read_text() == "second"
    assert (tmp_path / "one.txt").read_text() == "first"


def test_a_key_is_the_same_in_every_version() -> None:
    assert key({"a": 1, "folder": Path("x")}) == "0ed3106e6a88"
    with pytest.raises(TypeError, match="set has no JSON form"):
        key({"a": {1}})


def test_a_digest_is_of_all_bytes_and_a_file_with_another_is_refused(tmp_path: Path) -> None:
    file, data = tmp_path / "rows", os.urandom(3 << 20)
    file.write_bytes(data)
    digest = xxh3_128(data).hexdigest()
    assert file_digest(file) == digest
    require_digest(file, {"rows": digest})
    require_digest(file, {"other": "0" * 32})
    for other in ("0" * 32, "f" * 32):
        with pytest.raises(PipelineError, match="rows is damaged: its checksum differs"):
            require_digest(file, {"rows": other})
    file.unlink()
    with pytest.raises(PipelineError, match=r"cannot read .*rows: No such file"):
        require_digest(file, {"rows": digest})


def test_an_index_has_the_digest_of_every_file_that_stays(tmp_path: Path) -> None:
    entry = Entry.keyed(tmp_path, "store", {"a": 1})
    entry.begin()
    for name in ("one", "state", "one.4711.tmp"):
        (entry.partial / name).write_text(name)
    (entry.partial / "folder").mkdir()
    index = read_json(entry.publish(("state", "missing"), digests=True) / "index.json")
    assert index["files"] == {"one": file_digest(entry.path / "one")}
    assert sorted(file.name for file in entry.path.iterdir()) == ["folder", "index.json", "one"]
    entry.reopen()
    assert not entry.done
    assert entry.latest == entry.partial
    entry.begin()
    assert "files" not in read_json(entry.publish() / "index.json")


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1, None, "x"])
def test_an_index_of_another_format_is_refused(tmp_path: Path, number: object) -> None:
    entry = Entry.keyed(tmp_path, "store", {"a": 1})
    write_json(entry.path / "index.json", {"format": number, "inputs": entry.inputs})
    with pytest.raises(PipelineError, match=f"has format {number!r}, but this version reads format {FORMAT}"):
        read_index(entry.path)


@pytest.mark.parametrize("inputs", [None, [], *({"a": number} for number in range(2, 8))])
def test_an_index_of_other_inputs_than_its_folders_is_refused(tmp_path: Path, inputs: object) -> None:
    entry = Entry.keyed(tmp_path, "store", {"a": 1})
    write_json(entry.path / "index.json", {"format": FORMAT, "inputs": {"a": 1}})
    assert read_index(entry.path)["inputs"] == {"a": 1}
    write_json(entry.path / "index.json", {"format": FORMAT, "inputs": inputs})
    with pytest.raises(PipelineError, match=r"it has no inputs|the key of its inputs differs from that of its folder"):
        read_index(entry.path)


def test_work_under_a_later_claim_has_a_folder_of_its_own_and_the_last_counts(tmp_path: Path) -> None:
    names = [Entry(tmp_path / "x", {}, tmp_path / claim).partial.name for claim in ("1", "2", "10")]
    assert names == ["x.partial", "x.~2.partial", "x.~10.partial"]
    assert Entry(tmp_path / "x", {}).latest.name == "x.partial"
    for name in names:
        (tmp_path / name).mkdir()
    assert partials(tmp_path) == {"x": tmp_path / "x.~10.partial"}
    assert partials(tmp_path / "missing") == {}


def test_what_must_last_is_flushed_with_its_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    write_text(tmp_path / "a" / "b" / "often", "1", flush=False)
    assert not flushed
    write_json(tmp_path / "a" / "index.json", {"b": [1], "a": Path("x")})
    assert len(flushed) == 2
    assert (tmp_path / "a" / "index.json").read_text() == '{\n "a": "x",\n "b": [\n  1\n ]\n}\n'


def test_a_pipe_is_not_waited_for_and_advice_is_told_where_there_is_some(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PipelineError, match=r"pipe is damaged \(it is not a file\); mend it$"):
        read_as(tmp_path / "pipe", dict, "mend it")
    with pytest.raises(PipelineError, match=r"pipe is damaged \(it is not a file\)$"):
        read_as(tmp_path / "pipe", dict, "")
    with pytest.raises(PipelineError, match=r"cannot read .*missing: No such file"):
        read_as(tmp_path / "missing", dict)
