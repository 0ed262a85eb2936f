"""Checks of the installation and the machine: versions, devices, weights, cache, disk and locks, each with advice."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from ser_pipeline import config
from ser_pipeline.cache import housekeeping
from ser_pipeline.cache.sharing import shared_parts
from ser_pipeline.claims import FAILED, HELD, at_work
from ser_pipeline.entry import PARTIAL
from ser_pipeline.errors import PipelineError
from ser_pipeline.locks import FOLDER, is_held
from ser_pipeline.processes import cores
from ser_pipeline.provenance import versions
from ser_pipeline.text import few, plural

PACKAGE = "ser-pipeline"
OK, WARNING, ERROR = "ok", "warning", "error"

DOWNLOADED = "nothing if there is a network at the first use, which downloads it"
"""Advice on missing weights."""

LITTLE, FULL = 5e9, 1e9
"""Free bytes of a disk below which there is a warning, and an error."""


@dataclass(frozen=True)
class Diagnosis:
    """The result of one check."""

    name: str
    state: str  # OK, WARNING (something is not possible) or ERROR (commands fail)
    found: str
    advice: str = ""


def examine(cache: Path, runs: Path) -> Iterator[Diagnosis]:
    """Run all checks; a check that fails itself is an error.

    Args:
        cache: folder of the features.
        runs: folder of the runs.
    """
    parts: tuple[tuple[str, Callable[[], Iterator[Diagnosis]]], ...] = (
        ("versions", _versions),
        ("devices", _devices),
        ("weights", _weights),
        ("ffmpeg", _ffmpeg),
        ("cache", lambda: _cache(cache)),
        ("disk", lambda: _disks(cache, runs)),
        ("locks", lambda: _locks(cache, runs)),
    )
    for name, part in parts:
        try:
            yield from part()
        except (OSError, RuntimeError, PipelineError) as error:
            yield Diagnosis(name, ERROR, str(error))


def _versions() -> Iterator[Diagnosis]:
    told = ", ".join(f"{name} {number}" for name, number in versions().items())
    wrong, extras = unmet()
    if wrong:
        yield Diagnosis("versions", ERROR, f"{told}; not met: {', '.join(wrong)}", f"pip install {_quoted(wrong)}")
    else:
        yield Diagnosis("versions", OK, told)
    missing = [name for name, names in extras.items() if names]
    there = ", ".join(name for name in extras if name not in missing) or "none"
    advice = f"if you need them: pip install '{PACKAGE}[{','.join(missing)}]'" if missing else ""
    yield Diagnosis("extras", OK, f"installed: {there}; not: {', '.join(missing) or 'none'}", advice)


def unmet(listed: list[str] | None = None) -> tuple[list[str], dict[str, list[str]]]:
    """Return the requirements that the installed packages do not meet, and those of each extra.

    Args:
        listed: requirements in the form of package metadata; None for those of this package.
    """
    from packaging.requirements import Requirement

    wrong, extras = list[str](), defaultdict[str, list[str]](list)
    for text in (requires(PACKAGE) or []) if listed is None else listed:
        requirement = Requirement(text)
        extra = text.rpartition("extra == ")[2].strip("\"' ") if "extra ==" in text else ""
        if extra == "dev":
            continue
        try:
            met = requirement.specifier.contains(version(requirement.name), prereleases=True)
        except PackageNotFoundError:
            met = False
        plain = f"{requirement.name}{requirement.specifier}"
        if extra:
            extras[extra] += [] if met else [plain]
        elif not met:
            wrong.append(plain)
    return wrong, dict(extras)


def _quoted(names: list[str]) -> str:
    return " ".join(f"'{name}'" for name in names)


def _devices() -> Iterator[Diagnosis]:
    import torch

    yield Diagnosis("processor", OK, f"{plural(cores(), 'core')}, {torch.backends.cpu.get_cpu_capability()}")
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        yield Diagnosis("GPU", OK, f"cuda:{number}, {about.name}, {about.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        yield Diagnosis("GPU", OK, "mps")
    elif not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            built = (
                f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
            )
            advice = "install torch for the CUDA of your driver: https://pytorch.org/get-started/locally"
            yield Diagnosis("GPU", WARNING, f"torch cannot use the GPU; {built}", advice)
        else:
            yield Diagnosis(
                "GPU",
                OK,
                "none",
                "nothing for the presets frozen, scratch and demo, which need no GPU; the presets paper, reference and "
                "finetune need one",
            )


def _weights() -> Iterator[Diagnosis]:
    """Check the pre-trained weights of the presets."""
    from ser_pipeline.model.paper import imagenet_file
    from ser_pipeline.model.speech.hub import is_here

    users, images = defaultdict[str, list[str]](list), list[str]()
    for preset in config.presets():
        made = config.load(preset)
        if "statistics" in made.model.reads:
            users[made.features.statistics.encoder].append(preset)
        elif made.model.speech_encoder != "small":
            users[made.model.speech_encoder].append(preset)
        if made.model.spectrogram_weights == "imagenet" and "spectrogram" in made.model.reads:
            images.append(preset)
    for encoder, presets in users.items():
        said = f"{encoder} ({_named(presets)})"
        advice = f"{DOWNLOADED}; to use it later without a network, run now: hf download {encoder}"
        there = is_here(encoder)
        yield Diagnosis(
            "weights", OK if there else WARNING, f"{said}: {'found' if there else 'missing'}", "" if there else advice
        )
    file = imagenet_file()
    there = file.is_file()
    said = f"AlexNet ({_named(images)}): {'found' if there else 'missing'}"
    advice = f"{DOWNLOADED}; otherwise copy {file.name} to {file.parent}"
    yield Diagnosis("weights", OK if there else WARNING, said, "" if there else advice)


def _named(presets: list[str]) -> str:
    return f"{'preset' if len(presets) == 1 else 'presets'} {', '.join(presets)}"


def _ffmpeg() -> Iterator[Diagnosis]:
    there = shutil.which("ffmpeg")
    yield Diagnosis(
        "ffmpeg", OK, there or "none", "" if there else "only needed for M4A and video: install it for these"
    )


def _cache(cache: Path) -> Iterator[Diagnosis]:
    place = _nearest(cache)
    if not os.access(place, os.W_OK):
        yield Diagnosis(
            "cache", ERROR, f"{cache}: {place} is not writable", "choose another with --cache or SER_PIPELINE_CACHE"
        )
        return
    items = housekeeping.contents(cache)
    corpora = [item.path.name for item in items if item.kind == "corpus"]
    unfinished = [item.path.name for item in items if item.kind == "unfinished"]
    total = sum(item.bytes for item in items if item.path.parent.name == "features")
    found = f"{cache.resolve()}: {plural(len(corpora), 'set')} of features, {total / 1e9:.2f} GB"
    if unfinished:
        yield Diagnosis(
            "cache",
            WARNING,
            f"{found}; not finished: {few(unfinished)}",
            "resume with the same `features` command, or remove it with `ser-pipeline cache prune`",
        )
    else:
        yield Diagnosis("cache", OK, found, "" if corpora else "fill it with `ser-pipeline features`")


def _disks(cache: Path, runs: Path) -> Iterator[Diagnosis]:
    for what, place in {"cache": cache, "runs": runs}.items():
        free = shutil.disk_usage(_nearest(place)).free
        state = ERROR if free < FULL else WARNING if free < LITTLE else OK
        advice = "" if state == OK else "free some space: ser-pipeline cache prune"
        yield Diagnosis("disk", state, f"{free / 1e9:.0f} GB free for {what} in {_nearest(place).resolve()}", advice)


def _locks(cache: Path, runs: Path) -> Iterator[Diagnosis]:
    """List the processes at work, failed parts, and runs that stopped processes left unfinished."""
    held = list[str]()
    for place in (cache / "features", runs):
        for file in sorted((place / FOLDER).glob("*")):
            if is_held(place / file.name):
                held.append(f"{place / file.name} ({file.read_text(encoding='utf-8', errors='replace').strip()})")
    parts = [*shared_parts(cache / "features"), *shared_parts(runs)]
    held += [f"{part.folder} {part.part} ({part.who})" for part in parts if part.state == HELD]
    failed = [f"{part.folder} {part.part}: {part.why}" for part in parts if part.state == FAILED]
    left = [
        path.name
        for path in sorted(runs.glob(f"*{PARTIAL}"))
        if not (is_held(final := path.with_name(path.name[: -len(PARTIAL)])) or at_work(final))
    ]
    yield Diagnosis("locks", OK, f"at work: {few(held)}" if held else "no process is at work")
    if failed:
        yield Diagnosis(
            "locks", WARNING, f"failed: {few(failed)}", "see ser-pipeline cache status, and run `features` again"
        )
    if left:
        yield Diagnosis("runs", WARNING, f"stopped: {few(left)}", "resume with the same `train` command")


def _nearest(path: Path) -> Path:
    """Return the folder, or its nearest existing parent."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
