"""Mutation testing of what scores, folds and files rest on: how many small faults the tests see.

    pip install cosmic-ray
    python tests/mutate.py [--sample 80] [--seed 0] [--jobs 2] [--only metrics]

Cosmic Ray changes one operator, comparison, number, keyword or branch at a time. Of all such changes of a module a
sample is drawn; each is put into a copy of the sources, and the tests named here run on it until one fails. Changes of
annotations and docstrings alone do nothing and are not drawn. A run that takes ten minutes counts as seen.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from queue import Queue
from typing import Any

ROOT = Path(__file__).parents[1]
TARGETS = {
    "evaluation/metrics.py": ["evaluation"],
    "evaluation/intervals.py": ["evaluation/test_intervals.py"],
    "evaluation/jackknife.py": ["evaluation/test_intervals.py"],
    "evaluation/significance.py": ["evaluation/test_significance.py", "evaluation/test_metrics.py"],
    "splits/folds.py": ["splits"],
    "splits/leaks.py": ["audit/test_audit.py", "splits"],
    "entry.py": ["test_entry.py", "report/test_strange_runs.py", "cache/test_strange_caches.py"],
    "cache/shards.py": ["cache/test_shards.py", "cache/test_strange_caches.py"],
    "shape.py": ["test_shape.py", "report/test_strange_runs.py"],
    "runs/shapes.py": ["report/test_strange_runs.py", "test_shape.py"],
}
"""Modules of the package, and the tests that answer for each."""
LONGEST = 600
"""Seconds after which a changed module's tests are given up."""


@dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    module: str
    operator: str
    line: int
    text: str


def mutants(module: str) -> Iterator[Mutant]:
    """Every change of a module that changes what it does."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    source = (ROOT / "ser_pipeline" / module).read_text()
    plain = _meaning(source)
    for name in operator_names():
        operator = get_operator(name)
        numbers = count() if not operator.arguments() else []  # the others want names to be told
        for text in takewhile(bool, (mutate_code(source, operator(), number) for number in numbers)):
            if _meaning(text) not in ("", plain):
                yield Mutant(module, name.split("/")[1], _line(source, text), text)


def _meaning(source: str) -> str:
    """The syntax tree without annotations and docstrings; nothing of what is not Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if getattr(node, field, None) is not None:
                setattr(node, field, None if field == "returns" else ast.Constant(0))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(0)
    return ast.dump(tree)


def _line(before: str, after: str) -> int:
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    return next((number for number, (one, other) in enumerate(pairs, 1) if one != other), 0)


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether all tests pass on a copy of the sources with the change."""
    file = folder / "ser_pipeline" / mutant.module
    kept = file.read_text()
    file.write_text(mutant.text)
    try:
        return passes(mutant.module, folder)
    finally:
        file.write_text(kept)


def passes(module: str, folder: Path) -> bool:
    """Whether the tests of a module pass in a copy of the sources."""
    words = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *(f"tests/{test}" for test in TARGETS[module])]
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment, capture_output=True, timeout=LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def copies(jobs: int, room: Path) -> Queue[Path]:
    """Folders with a copy of the sources and tests each."""
    folders: Queue[Path] = Queue()
    for number in range(jobs):
        folder = room / str(number)
        for name in ("ser_pipeline", "cli", "tests", "benchmarks"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(folder / "cli", folder / "ser_pipeline" / "cli", dirs_exist_ok=True)
        for name in ("setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        folders.put(folder)
    return folders


def report(drawn: list[Mutant], jobs: int) -> None:
    """Run the tests on every change, and print survivors and a line a module."""
    with tempfile.TemporaryDirectory() as room, ThreadPoolExecutor(jobs) as pool:
        folders = copies(jobs, Path(room))

        def within(run: Callable[[Any, Path], bool], what: object) -> bool:
            folder = folders.get()
            try:
                return run(what, folder)
            finally:
                folders.put(folder)

        modules = list(dict.fromkeys(mutant.module for mutant in drawn))
        whole = dict(zip(modules, pool.map(partial(within, passes), modules), strict=True))
        drawn = [mutant for mutant in drawn if whole[mutant.module]]
        left = []
        for mutant, stays in zip(drawn, pool.map(partial(within, survives), drawn), strict=True):
            if stays:
                left.append(mutant)
                print(f"survived: {mutant.module}:{mutant.line} {mutant.operator}: {changed_line(mutant)}", flush=True)
    for module in modules:
        if not whole[module]:
            print(f"{module:28} its tests fail without a change")
            continue
        made, lived = (sum(m.module == module for m in some) for some in (drawn, left))
        print(f"{module:28} {made - lived:4} of {made:4} seen, {100 * (made - lived) / made:5.1f} %")


def changed_line(mutant: Mutant) -> str:
    """The line as it is after the change."""
    return mutant.text.splitlines()[mutant.line - 1].strip() if mutant.line else ""


def main() -> None:
    """Draw, or read, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=80, help="changes of a module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="modules with this in their name")
    parser.add_argument("--draw", type=Path, help="write the sample to this file and run nothing")
    parser.add_argument("--drawn", type=Path, help="read the sample from this file")
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    modules = [module for module in TARGETS if asked.only in module]
    if asked.drawn:
        drawn = [Mutant(**line) for line in json.loads(asked.drawn.read_text()) if line["module"] in modules]
    else:
        every = {module: list(mutants(module)) for module in modules}
        drawn = [m for found in every.values() for m in rng.sample(found, min(asked.sample, len(found)))]
        print({module: len(found) for module, found in every.items()}, "changes in all", file=sys.stderr)
    if asked.draw:
        asked.draw.write_text(json.dumps([asdict(mutant) for mutant in drawn]))
    else:
        report(drawn, asked.jobs)


if __name__ == "__main__":
    main()
