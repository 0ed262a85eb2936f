"""A folder on disk that is whole or absent.

Work happens in `NAME.partial/`; every file is written beside its place, flushed to disk and renamed; `index.json`
comes last, and then the folder takes its final name. So a folder with its final name is whole, a killed stage
leaves a `.partial` folder to go on from, and nothing needs a database.
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
"""Version of everything this package writes; part of every key."""

REMAKE = "delete the folder that it is in and run again"
"""What mends a damaged file of a run or report."""

PARTIAL_NAME = re.compile(rf"(.+?)(?:\.~(\d+))?{re.escape(PARTIAL)}", re.DOTALL)
"""The name of a folder of work: its entry's, and the number of the claim under which it is done."""

VERIFY = "`ser-pipeline cache verify` takes it out, and says how it is made again"
"""What mends a damaged file of the cache."""

T = TypeVar("T")


def key(inputs: Mapping[str, Any]) -> str:
    """Twelve hex digits that change with anything in `inputs` (dataclasses and JSON values).

    >>> key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})
    True
    """
    text = json.dumps({"format": FORMAT, **inputs}, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Entry:
    """A folder and the inputs that it was made from."""

    path: Path
    inputs: Mapping[str, Any]
    claim: Path | None = None  # the file of the claim under which this process works on it

    @classmethod
    def keyed(cls, root: Path, name: str, inputs: Mapping[str, Any]) -> Entry:
        """The entry `root/NAME-KEY` of `inputs`.

        Args:
            root: folder of the entry.
            name: of the entry, before its key.
            inputs: what its contents depend on.

        Raises:
            PipelineError: no folder can have this name.
        """
        path_name(name, "what this makes")
        return cls(root / f"{name}-{key(inputs)}", inputs)

    @property
    def partial(self) -> Path:
        """Where the work happens until the entry is whole; under a later claim than the first, a folder of its own."""
        later = f".~{self.claim.name}" if self.claim and self.claim.name != "1" else ""
        return self.path.with_name(self.path.name + later + PARTIAL)

    @property
    def latest(self) -> Path:
        """Where the work was last, under whatever claim."""
        return partials(self.path.parent).get(self.path.name) or self.path.with_name(self.path.name + PARTIAL)

    @property
    def lost(self) -> bool:
        """Whether another process has taken the work over, or published what it is a part of."""
        return self.claim is not None and (self._next.exists() or not self.claim.exists())

    @property
    def _next(self) -> Path:
        """The claim that takes this one over."""
        assert self.claim
        return self.claim.with_name(str(int(self.claim.name) + 1))

    def begin(self) -> None:
        """Make the folder of the work; one that an earlier holder of it left is taken, who finds it gone if it wakes.

        Raises:
            FileNotFoundError: another process has taken the work over, or published what it is a part of.
            PipelineError: the folder cannot be written in.
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
        """Whether the folder is whole."""
        return (self.path / "index.json").is_file()

    @contextmanager
    def lock(self, *, reading: bool = False) -> Iterator[None]:
        """Hold this entry alone; a second process waits, and says for whom. A killed holder lets go.

        Args:
            reading: whether nothing need be written, so that a place where nothing can be needs no lock.

        Raises:
            PipelineError: nothing can be written there.
        """
        with locks.hold(self.path, needed=not reading):
            yield

    def publish(self, discard: Iterable[str] = (), *, digests: bool = False, **results: Any) -> Path:
        """Write `index.json` with `results`, drop the files `discard`, give the folder its final name; returns it.

        Safe to repeat after a kill in between, and where another process does it.

        Args:
            discard: names of files that are of no use any more.
            digests: whether the index holds a digest of every file beside it.
            results: what else the index says.
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
        """Make a whole folder partial again, so that its stage mends what is missing."""
        (self.path / "index.json").unlink(missing_ok=True)
        self.path.rename(self.partial)


def partials(folder: Path) -> dict[str, Path]:
    """Where the work on each entry in `folder` was last, by the entry's name; none where there is no folder."""
    found: dict[str, tuple[int, Path]] = {}
    with suppress(OSError):
        for path in folder.iterdir():
            if (match := PARTIAL_NAME.fullmatch(path.name)) and (number := int(match[2] or 1)) > found.get(
                match[1], (0, path)
            )[0]:
                found[match[1]] = number, path
    return {name: path for name, (_, path) in found.items()}


def read_index(folder: Path) -> dict[str, Any]:
    """The `index.json` of a folder of the cache: of this format, and of the inputs that give the folder's key.

    Raises:
        PipelineError: there is none, it is damaged, or it is another folder's.
    """
    file = folder / "index.json"
    said = read_as(file, dict[str, Any], VERIFY)
    if said.get("format") != FORMAT:
        raise PipelineError(
            f"{file} is of format {said.get('format')!r:.20}, and this version reads {FORMAT}; {VERIFY}"
        )
    if not isinstance(said.get("inputs"), dict):
        raise PipelineError(f"{file} is damaged (it has no inputs); {VERIFY}")
    if key(said["inputs"]) != folder.name.removesuffix(PARTIAL).rpartition("-")[2]:
        raise PipelineError(f"{file} is damaged (the key of its inputs is not that of its folder); {VERIFY}")
    return said


def read_as(file: Path, wanted: type[T], advice: str = REMAKE) -> T:
    """A JSON file of this package as the type `wanted`, as `shape.shaped` makes it.

    Args:
        file: to read.
        wanted: what it must hold.
        advice: what mends a damaged one; "": the caller says.

    Raises:
        PipelineError: it is missing, no JSON, or of another shape.
    """
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise ShapeError("it is no file")
        return shaped(json.loads(file.read_text(encoding="utf-8")), wanted)
    except OSError as error:
        raise PipelineError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{file} is damaged ({error})" + (f"; {advice}" if advice else "")) from None


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object of this package; a missing or damaged one is a `PipelineError`."""
    return read_as(file, dict[str, Any])


def file_digest(file: Path) -> str:
    """32 hex digits: XXH3 (128 bits) of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, xxh3_128).hexdigest()


def require_digest(file: Path, digests: Mapping[str, str]) -> None:
    """Refuse a file that is not what was written, by the digests of its folder's index; one that has none passes.

    Raises:
        PipelineError: it is missing or has changed.
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
    """Write `value` (dataclasses and JSON values) whole or not at all."""
    write_text(file, json.dumps(value, indent=1, sort_keys=True, default=_plain) + "\n")


def write_text(file: Path, text: str, *, flush: bool = True) -> None:
    """Write `text` whole or not at all.

    Args:
        file: to write.
        text: the contents, in UTF-8.
        flush: whether to wait until the disk has them.
    """
    with writing(file, flush=flush) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def writing(file: Path, *, flush: bool = True) -> Iterator[Path]:
    """A temporary path that becomes `file`, flushed to disk, when the block ends well.

    Its folder is made, but not one of unfinished work: that may have been renamed, and was taken over or is whole.
    What another file holds too, and is written often, passes `flush=False`: a power cut may take it.

    Args:
        file: to write.
        flush: whether to wait until the disk has it.

    Raises:
        PipelineError: the disk is full or refuses; nothing is left behind.
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
    """Make a folder and those above it, but for one of unfinished work, in which nothing is made either."""
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
