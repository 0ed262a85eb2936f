"""Find a speech encoder's files: in a folder, in the local Hugging Face cache, or on the hub as a last resort.

Every failure has an error message of its own that says what to do.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from xxhash import xxh3_128

from ser_pipeline.errors import PipelineError
from ser_pipeline.names import guess

CONFIG = "config.json"
FRONT = ("preprocessor_config.json", "processor_config.json")
"""Files that describe a feature extractor: its own, or that of a processor which contains one."""
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Weight files as transformers writes them, in order of preference; an index names the parts."""

KNOWN = (
    "facebook/data2vec-audio-base",
    "facebook/data2vec-audio-large",
    "facebook/hubert-base-ls960",
    "facebook/hubert-large-ll60k",
    "facebook/hubert-xlarge-ll60k",
    "facebook/w2v-bert-2.0",
    "facebook/wav2vec2-base",
    "facebook/wav2vec2-base-960h",
    "facebook/wav2vec2-conformer-rel-pos-large",
    "facebook/wav2vec2-conformer-rope-large-960h-ft",
    "facebook/wav2vec2-large",
    "facebook/wav2vec2-large-960h",
    "facebook/wav2vec2-large-lv60",
    "facebook/wav2vec2-large-robust",
    "facebook/wav2vec2-large-xlsr-53",
    "facebook/wav2vec2-xls-r-300m",
    "facebook/wav2vec2-xls-r-1b",
    "microsoft/unispeech-sat-base-plus",
    "microsoft/unispeech-sat-large",
    "microsoft/wavlm-base",
    "microsoft/wavlm-base-plus",
    "microsoft/wavlm-large",
    "openai/whisper-tiny",
    "openai/whisper-tiny.en",
    "openai/whisper-base",
    "openai/whisper-base.en",
    "openai/whisper-small",
    "openai/whisper-small.en",
    "openai/whisper-medium",
    "openai/whisper-medium.en",
    "openai/whisper-large-v2",
    "openai/whisper-large-v3",
    "openai/whisper-large-v3-turbo",
)
"""Speech encoders on the hub, used for suggestions if a name is misspelt."""

WITHOUT = "; --preset scratch needs no pre-trained weights"
"""End of the error message for an encoder that is not available."""

PATIENCE = 3.0
"""Seconds within which the hub has to answer before it is considered unreachable."""

BLOCK = 2**22
"""Bytes of a file that are read at once."""

log = logging.getLogger(__name__)


def locate(name: str, *, weights: bool = True, setting: str = "model.speech_encoder") -> Path:
    """The folder of the speech encoder `name`, which is downloaded if it is neither a folder nor in the local cache.

    Args:
        name: a folder with `config.json` and weights, or a name on the Hugging Face hub: NAME, or "NAME@COMMIT".
        weights: whether the weights are needed besides the configuration.
        setting: the setting that contains the name, for error messages.

    Raises:
        PipelineError: the encoder is not available.
    """
    if is_folder(name):
        return _whole(Path(name).expanduser(), weights)
    cached = _cached(name, weights)
    if cached is not None:
        return cached
    return _download(name, weights, setting)


def is_here(name: str) -> bool:
    """Whether the speech encoder `name` and its weights are available without the network."""
    if is_folder(name):
        folder = Path(name).expanduser()
        return (folder / CONFIG).is_file() and bool(weight_files(folder))
    return _cached(name, weights=True) is not None


def is_folder(name: str) -> bool:
    """Whether `name` refers to a folder, not to a repository of the hub."""
    return Path(name).expanduser().is_dir() or name.startswith((".", "/", "~"))


def identity(name: str, *, weights: bool = True, setting: str = "model.speech_encoder") -> dict[str, str]:
    """Identify the speech encoder `name` independently of its location: `content`, a hash of its files, and `revision`.

    Args:
        name: as in `locate`.
        weights: whether the weights are hashed besides the configuration.
        setting: the setting that contains the name, for error messages.

    Raises:
        PipelineError: the encoder is not available.
    """
    folder = locate(name, weights=weights, setting=setting)
    described = [folder / file for file in (CONFIG, *FRONT) if (folder / file).is_file()]
    return {"content": content([*described, *(weight_files(folder) if weights else [])]), "revision": revision(folder)}


def content(files: Sequence[Path]) -> str:
    """XXH3 hash of the contents of `files` in their order, 32 hex digits."""
    found = xxh3_128()
    for file in files:
        found.update(f"{file.name} {file.stat().st_size}\n".encode())
        with file.open("rb") as data:
            while block := data.read(BLOCK):
                found.update(block)
    return found.hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """Weight files in `folder`, in the preferred format, with all parts that an index names; empty if none exist."""
    for name in WEIGHTS:
        file = folder / name
        if file.is_file():
            return [folder / part for part in _parts(file)] if name.endswith(".json") else [file]
    return []


def revision(folder: Path) -> str:
    """The hub repository's commit in `folder`, if known: from the cache, or from `hf download`."""
    if folder.parent.name == "snapshots":
        return folder.name
    note = folder / ".cache" / "huggingface" / "download" / f"{CONFIG}.metadata"
    first = note.read_text(encoding="utf-8").partition("\n")[0].strip() if note.is_file() else ""
    return first if re.fullmatch(r"[0-9a-f]{40}", first) else ""


def _parts(index: Path) -> list[str]:
    try:
        parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(f"cannot read {index}, which names the parts of the weights; download it again") from error
    if any(Path(part).name != part for part in parts):
        raise PipelineError(f"{index} names files outside its folder; take the speech encoder from another source")
    return parts


def _whole(folder: Path, weights: bool) -> Path:
    """Return `folder` if it contains all needed files."""
    again = f"`hf download NAME --local-dir {shlex.quote(str(folder))}`"
    if not folder.is_dir():
        raise PipelineError(f"no speech encoder in {folder}: there is no such folder; {again} creates it")
    if not (folder / CONFIG).is_file():
        raise PipelineError(
            f"no speech encoder in {folder}: it needs config.json and model.safetensors, as {again} writes them"
        )
    files = weight_files(folder) if weights else [folder / CONFIG]
    if not files:
        raise PipelineError(
            f"no weights in {folder}: besides config.json it needs model.safetensors (or pytorch_model.bin), as "
            f"{again} writes them"
        )
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise PipelineError(
            f"the weights in {folder} are incomplete: {missing[0]} is missing; {again} downloads what is missing"
        )
    return folder


def _cached(name: str, weights: bool) -> Path | None:
    """The folder of `name` in the local cache, if it contains everything needed."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    repository, commit = _at(name)
    try:
        file = huggingface_hub.try_to_load_from_cache(repository, CONFIG, revision=commit)
    except HFValidationError as error:
        raise PipelineError(
            f"'{name}' is neither a folder nor a name on the hub, such as 'openai/whisper-tiny.en'{_meant(name)}"
        ) from error
    if not isinstance(file, str):
        return None
    folder = Path(file).parent
    files = weight_files(folder) if weights else [folder / CONFIG]
    return folder if files and all(part.is_file() for part in files) else None


def _download(name: str, weights: bool, setting: str) -> Path:
    import huggingface_hub

    repository, commit = _at(name)
    try:
        if not _reachable():
            raise ConnectionError("the hub does not answer")
        log.info("speech encoder '%s' is not in the local Hugging Face cache; asking the hub", name)
        there = [
            item.rfilename for item in huggingface_hub.HfApi().model_info(repository, revision=commit).siblings or []
        ]
        wanted = [CONFIG, *FRONT, *(_wanted(there, name) if weights else [])]
        folder = huggingface_hub.snapshot_download(repository, revision=commit, allow_patterns=wanted)
        return _whole(Path(folder), weights)
    except PipelineError:
        raise
    except Exception as error:  # including errors of the network layer below the hub's library
        log.debug("the hub's answer", exc_info=error)
        raise PipelineError(_told(name, error, setting)) from error


def _at(name: str) -> tuple[str, str | None]:
    """Repository and revision of a name on the hub; None stands for the latest revision.

    >>> _at("openai/whisper-tiny.en@87c7102"), _at("openai/whisper-tiny.en")
    (('openai/whisper-tiny.en', '87c7102'), ('openai/whisper-tiny.en', None))
    """
    repository, _, commit = name.partition("@")
    return repository, commit or None


def _wanted(there: list[str], name: str) -> list[str]:
    """The weight files of a repository."""
    for first in WEIGHTS:
        if first in there:
            stem = re.escape(first.partition(".")[0])
            kind = ".safetensors" if ".safetensors" in first else ".bin"
            parts = [file for file in there if re.fullmatch(rf"{stem}-\d+-of-\d+\{kind}", file)]
            return [first, *parts] if first.endswith(".json") else [first]
    raise PipelineError(
        f"the hub's '{name}' has no model.safetensors or pytorch_model.bin; choose a repository with weights for torch"
    )


def _told(name: str, error: Exception, setting: str) -> str:
    """The error message for a failed download of `name`, with what to do."""
    from huggingface_hub import errors

    repository, commit = _at(name)
    page = f"https://huggingface.co/{repository}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"speech encoder '{name}' is gated: accept its terms at {page}, then log in with 'hf auth login' or "
            "set HF_TOKEN to a token that may read it"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub's '{repository}' has no revision '{commit}'; {page}/commits/main lists them"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"the hub has no speech encoder '{name}'{_meant(name)}; a private one needs 'hf auth login' or a token "
            "in HF_TOKEN"
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.HfHubHTTPError) and status is not None:
        return f"the hub answered with HTTP status {status} to '{name}'; try again later, or see {page} in a browser"
    if _of_the_disk(error):
        return f"cannot store speech encoder '{name}': {error}; make room, or move the cache with HF_HOME"
    return (
        f"cannot load speech encoder '{name}': it is not in the local Hugging Face cache and the hub cannot be "
        f"reached{_meant(name)}; download it where there is a network (hf download {repository} --local-dir DIR) and "
        f"pass --set {setting}=DIR{WITHOUT}"
    )


def _of_the_disk(error: Exception) -> bool:
    import errno

    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def _meant(name: str) -> str:
    """`; did you mean 'X'?` if a known name is similar but not equal to `name`."""
    name, _ = _at(name)
    if name in KNOWN:
        return ""
    return f"; {guess(name, KNOWN)}".rstrip(" ;")


def _reachable() -> bool:
    """Whether the hub, or the proxy in front of it, answers soon; its library would try for half a minute.

    A silent name server must not block either, so a thread makes the connection.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    hub = urlsplit(constants.ENDPOINT)
    proxies = getproxies()
    first = urlsplit(proxies.get(hub.scheme) or proxies.get("all") or constants.ENDPOINT)
    answered = threading.Event()

    def ask() -> None:
        port = first.port or {"http": 80}.get(first.scheme, 443)
        with suppress(OSError), socket.create_connection((first.hostname or "", port), PATIENCE):
            answered.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return answered.is_set()
