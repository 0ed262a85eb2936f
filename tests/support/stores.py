"""Features of small corpora in a cache."""

from pathlib import Path

from ser_pipeline.cache.catalogue import FeatureSet, register
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import Config, load
from ser_pipeline.corpora import read_corpus
from ser_pipeline.features import extract
from ser_pipeline.features.measure import measure as measure_corpus
from support.sounds import write_emodb

CONFIG = load("paper")


def measure(root: Path) -> Manifest:
    classes = {"anger": ("anger",), "neutral": ("neutral",), "sadness": ("sadness",), "happiness": ("happiness",)}
    return measure_corpus("emodb", classes, read_corpus("emodb", root, classes), root, CONFIG.audio)


def make(root: Path, cache: Path, config: Config = CONFIG, jobs: int = 1, **options: object) -> Path:
    return extract.extract(measure(root), root, config, cache, jobs=jobs, **options)  # type: ignore[arg-type]


def registered(folder: Path, speakers: int, takes: int) -> Path:
    """Write a small corpus and a cache with its features below `folder`; returns the cache."""
    root = write_emodb(folder / "corpus", speakers=speakers, takes=takes)
    register(folder / "cache", FeatureSet("emodb", make(root, folder / "cache" / "features"), root))
    return folder / "cache"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.h5"))}
