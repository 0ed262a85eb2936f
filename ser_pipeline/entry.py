"""Folders on disk that are either complete or absent.

Work happens in `NAME.partial/`. Every file is written under a temporary name, flushed to disk and renamed. `index.json`
is written last, and then the folder gets its final name. A folder with its final name is therefore complete, and a
killed stage leaves a `.partial` folder from which it resumes. No database is needed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from xxhash import xxh3_128

from ser_pipeline import locks
from ser_pipeline.errors import PipelineError, is_full, no_space, unwritable
from ser_pipeline.file_names import PARTIAL as PARTIAL
from ser_pipeline.file_names import path_name
from ser_pipeline.provenance import here, versions
from ser_pipeline.shape import ShapeError, shaped

FORMAT = 1
"""Version of everything that this package writes; part of every key."""

REMAKE = "delete the folder that it is in and run again"
"""Advice on a damaged file of a run or report."""

PARTIAL_NAME = re.compile(rf"(.+?)(?:\.~(\d+))?{re.escape(PARTIAL)}", re.DOTALL)
"""Matches the name of a working folder: the entry's name, and the number of the claim on the work."""

VERIFY = "`ser-pipeline cache verify` removes it, and prints how to extract it again"
"""Advice on a damaged file of the cache."""

T = TypeVar("T")


def key(inputs: Mapping[str, Any]) -> str:
    """Return a key of twelve hex digits that depends on everything in `inputs` (dataclasses and JSON values).

    >>> key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})
    True
    """
    text = json.dumps({"format": FORMAT, **inputs}, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Entry:
    """A folder and the inputs that its contents depend on."""

    path: Path
    inputs: Mapping[str, Any]
    claim: Path | None = None  # the file of this process's claim on it

    @classmethod
    def keyed(cls, root: Path, name: str, inputs: Mapping[str, Any]) -> Entry:
        """Return the entry `root/NAME-KEY` of `inputs`.

        Args:
            root: parent folder of the entry.
            name: name of the entry, before its key.
            inputs: everything that its contents depend on.

        Raises:
            PipelineError: the name is not a valid folder name.
        """
        path_name(name, "the result")
        return cls(root / f"{name}-{key(inputs)}", inputs)

    @property
    def partial(self) -> Path:
        """The working folder of an unfinished entry; each claim after the first has a folder of its own."""
        later = f".~{self.claim.name}" if self.claim and self.claim.name != "1" else ""
        return self.path.with_name(self.path.name + later + PARTIAL)

    @property
    def latest(self) -> Path:
        """The latest working folder, of any claim."""
        return partials(self.path.parent).get(self.path.name) or self.path.with_name(self.path.name + PARTIAL)

    @property
    def lost(self) -> bool:
        """Whether another process has taken over the work, or published the entry that contains it."""
        return self.claim is not None and (self._next.exists() or not self.claim.exists())

    @property
    def _next(self) -> Path:
        """The file of the claim that would take over this one."""
        assert self.claim
        return self.claim.with_name(str(int(self.claim.name) + 1))

    def begin(self) -> None:
        """Create the working folder, or take over that of an earlier holder, who finds it gone if it continues.

        Raises:
            FileNotFoundError: another process has taken over the work, or published the entry that contains it.
            PipelineError: the folder is not writable.
        """
        if self.claim is None:
            try:
                self.partial.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise PipelineError(unwritable(self.path.parent, error)) from None
            if self.done:  # another process was faster
                shutil.rmtree(self.partial, ignore_errors=True)
        elif self._next.exists():
            raise FileNotFoundError(errno.ENOENT, "taken over", str(self.partial))
        elif self.latest.is_dir():
            self.latest.rename(self.partial)
        else:
            self.partial.mkdir(exist_ok=True)

    @property
    def done(self) -> bool:
        """Whether the entry is complete."""
        return (self.path / "index.json").is_file()

    @contextmanager
    def lock(self, *, reading: bool = False) -> Iterator[None]:
        """Lock this entry; a second process waits, and logs for whom. A killed process releases its lock.

        Args:
            reading: whether the entry is only read; no lock is then needed in a folder that is not writable.

        Raises:
            PipelineError: the folder is not writable.
        """
        with locks.hold(self.path, needed=not reading):
            yield

    def publish(self, discard: Iterable[str] = (), *, digests: bool = False, **results: Any) -> Path:
        """Write `index.json`, delete the files in `discard`, and give the folder its final name; return its path.

        It is safe to repeat this after a kill, or if another process does it too.

        Args:
            discard: names of files that are no longer needed.
            digests: whether to add a digest of every other file to the index.
            results: further contents of the index.
        """
        index = {"format": FORMAT, "inputs": self.inputs, "versions": versions(), "made": here(), **results}
        try:
            if digests:
                index["files"] = dict(_digests(self.partial, {"index.json", *discard}))
            write_json(self.partial / "index.json", index)
            for name in (*discard, *(file.name for file in self.partial.glob("*.tmp"))):  # of a killed process
                (self.partial / name).unlink(missing_ok=True)
            self.partial.rename(self.path)
        except OSError:
            if not self.done:
                raise
            shutil.rmtree(self.partial, ignore_errors=True)  # another process was faster
        _flush_folder(self.path.parent)
        return self.path

    def reopen(self) -> None:
        """Make a complete entry partial again, so that its stage adds what is missing."""
        (self.path / "index.json").unlink(missing_ok=True)
        self.path.rename(self.partial)


def partials(folder: Path) -> dict[str, Path]:
    """Return the latest working folder of each entry in `folder`, by the entry's name; {} if there is no folder."""
    found: dict[str, tuple[int, Path]] = {}
    with suppress(OSError):
        for path in folder.iterdir():
            if (match := PARTIAL_NAME.fullmatch(path.name)) and (number := int(match[2] or 1)) > found.get(
                match[1], (0, path)
            )[0]:
                found[match[1]] = number, path
    return {name: path for name, (_, path) in found.items()}


def read_index(folder: Path) -> dict[str, Any]:
    """Read the `index.json` of a folder of the cache, and check its format and the key of its inputs.

    Raises:
        PipelineError: it is missing, damaged, or belongs to another folder.
    """
    file = folder / "index.json"
    said = read_as(file, dict[str, Any], VERIFY)
    if said.get("format") != FORMAT:
        raise PipelineError(
            f"{file} has format {said.get('format')!r:.20}, but this version reads format {FORMAT}; {VERIFY}"
        )
    if not isinstance(said.get("inputs"), dict):
        raise PipelineError(f"{file} is damaged (it has no inputs); {VERIFY}")
    if key(said["inputs"]) != folder.name.removesuffix(PARTIAL).rpartition("-")[2]:
        raise PipelineError(f"{file} is damaged (the key of its inputs differs from that of its folder); {VERIFY}")
    return said


def read_as(file: Path, wanted: type[T], advice: str = REMAKE) -> T:
    """Read a JSON file of this package as the type `wanted`, with `shape.shaped`.

    Args:
        file: the file.
        wanted: type of its contents.
        advice: advice on a damaged file; "" if the caller adds it.

    Raises:
        PipelineError: the file is missing, is not JSON, or has other contents.
    """
    try:
        if file.exists() and not file.is_file():  # reading from a pipe would block
            raise ShapeError("it is not a file")
        return shaped(json.loads(file.read_text(encoding="utf-8")), wanted)
    except OSError as error:
        raise PipelineError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{file} is damaged ({error})" + (f"; {advice}" if advice else "")) from None


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object of this package; raise a `PipelineError` if it is missing or damaged."""
    return read_as(file, dict[str, Any])


def file_digest(file: Path) -> str:
    """Return the XXH3 (128 bits) of a file's bytes, 32 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, xxh3_128).hexdigest()


def require_digest(file: Path, digests: Mapping[str, str]) -> None:
    """Check a file by the digests of its folder's index; a file without a digest passes.

    Raises:
        PipelineError: the file is missing or has changed.
    """
    if file.name in digests:
        try:
            intact = file_digest(file) == digests[file.name]
        except OSError as error:
            raise PipelineError(f"cannot read {file.parent.name}/{file.name}: {error.strerror}") from None
        if not intact:
            raise PipelineError(f"{file.parent.name}/{file.name} is damaged: its checksum differs")


def _digests(folder: Path, but: Container[str]) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.name not in but and file.suffix != ".tmp":
            yield file.name, file_digest(file)


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Write `value` (dataclasses and JSON values) as JSON, atomically."""
    write_text(file, json.dumps(value, indent=1, sort_keys=True, default=_plain) + "\n")


def write_text(file: Path, text: str, *, flush: bool = True) -> None:
    """Write `text` atomically.

    Args:
        file: the file to write.
        text: the contents, written in UTF-8.
        flush: whether to wait until they are on the disk.
    """
    with writing(file, flush=flush) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def writing(file: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path that becomes `file`, flushed to disk, if the block succeeds.

    The parent folder is created, except for a working folder: if that is missing, it was taken over or published.
    Files that are written often and whose contents are stored elsewhere too can use `flush=False`, which may lose them
    in a power cut.

    Args:
        file: the file to write.
        flush: whether to wait until it is on the disk.

    Raises:
        PipelineError: the disk is full; the temporary file is removed.
    """
    _make_folder(file.parent)
    writer = f"{os.getpid()}-{threading.get_ident()}"  # two threads may write one file
    temporary = file.with_name(f"{file.name}.{writer}.tmp")
    try:
        yield temporary
        if flush:
            _flush(temporary)
        temporary.replace(file)
        if flush:
            _flush_folder(file.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if is_full(error):
            raise PipelineError(no_space(file.parent)) from None
        raise


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents, except for a working folder and its subfolders."""
    if not folder.is_dir() and not folder.name.endswith(PARTIAL):
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    with suppress(OSError):  # some file systems refuse to flush a folder
        _flush(folder)
