"""Mutation testing of scores, folds and stored files: how many small faults the tests detect.

    pip install cosmic-ray
    python tests/mutate.py [--sample 80] [--seed 0] [--jobs 2] [--only metrics]

Cosmic Ray changes one operator, comparison, number, keyword or branch at a time. For each module, a sample of these
changes is drawn. Each change is applied to a copy of the sources, and the tests listed here run on it until one fails,
in a fork of this process, which has already loaded the large packages. A run of ten minutes counts as detected.

Changes that cannot be detected are not drawn. General rules exclude them, never single lines:

- annotations, docstrings, and imports for annotations only;
- `==` to `is` and back, and other changes that differ from a drawn one only by identity;
- `&` of truth values to `*` or `//`, and `|` to `+`, which are equivalent;
- an order (`<`, `>=`) in comparisons with a text constant, which is one of a few names.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import count, takewhile
from pathlib import Path
from py_compile import PycInvalidationMode

ROOT = Path(__file__).parents[1]
TARGETS = {
    "evaluation/metrics.py": ["evaluation/test_metrics.py"],
    "evaluation/intervals.py": ["evaluation/test_intervals.py"],
    "evaluation/jackknife.py": ["evaluation/test_intervals.py"],
    "evaluation/significance.py": ["evaluation/test_significance.py"],
    "splits/folds.py": ["splits"],
    "splits/leaks.py": ["splits/test_leaks.py", "audit/test_audit.py"],
    "entry.py": ["test_entry.py", "test_golden.py", "cache/test_strange_caches.py", "report/test_strange_runs.py"],
    "cache/shards.py": ["cache/test_shards.py", "test_golden.py", "cache/test_strange_caches.py"],
    "shape.py": ["test_shape.py", "report/test_strange_runs.py"],
    "runs/shapes.py": ["test_shape.py", "report/test_strange_runs.py"],
}
"""Modules of the package, and the tests of each in addition to its doctests, the fastest first."""
LARGE = (
    "numpy",
    "scipy.stats",
    "sklearn.metrics",
    "torch",
    "librosa",
    "matplotlib.pyplot",
    "transformers",
    "hypothesis",
)
"""Packages that are loaded once, if installed."""
SAME = {"BitAnd_Mul", "BitAnd_FloorDiv", "BitOr_Add"}
"""Changes of an operator that have no effect on truth values."""
LONGEST = 600
"""Seconds after which the tests of a changed module are stopped."""


@dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    module: str
    operator: str
    line: int
    text: str


def mutants(module: str) -> Iterator[Mutant]:
    """Yield every change of a module that affects its behaviour."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    source = (ROOT / "ser_pipeline" / module).read_text()
    plain = _meaning(source)
    for name in filter(_seen, operator_names()):
        operator = get_operator(name)
        numbers = count() if not operator.arguments() else []  # the others need names as arguments
        for text in takewhile(bool, (mutate_code(source, operator(), number) for number in numbers)):
            if _meaning(text) not in ("", plain) and not _orders_texts(text):
                yield Mutant(module, name.split("/")[1], _line(source, text), text)


def _seen(operator: str) -> bool:
    """Return whether the changes of an operator can be detected."""
    before, after = operator.split("_")[-2:] if operator.count("_") > 1 else ("", "")
    return f"{before}_{after}" not in SAME and before.startswith("Is") == after.startswith("Is")


def _orders_texts(text: str) -> bool:
    """Return whether a text constant is compared by alphabetical order."""
    return any(
        isinstance(node, ast.Compare)
        and any(isinstance(sign, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for sign in node.ops)
        and any(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in (node.left, *node.comparators))
        for node in ast.walk(ast.parse(text))
    )


def _meaning(source: str) -> str:
    """Return the syntax tree without annotations, docstrings and `TYPE_CHECKING`; empty if the text is not Python."""
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
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.test = ast.Constant(0)
    return ast.dump(tree)


def _line(before: str, after: str) -> int:
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    return next((number for number, (one, other) in enumerate(pairs, 1) if one != other), 0)


def outcomes(changes: list[Mutant], jobs: int, room: Path) -> Iterator[tuple[Mutant, bool]]:
    """Yield each change and whether all tests pass on a copy of the sources with it, in the order of completion."""
    waiting, free = changes[::-1], copies(jobs, room)
    running: dict[int, tuple[Mutant, Path]] = {}
    while waiting or running:
        while waiting and free:
            mutant, folder = waiting.pop(), free.pop()
            (folder / "ser_pipeline" / mutant.module).write_text(mutant.text)
            running[started(mutant.module, folder)] = mutant, folder
        process, status = os.wait()
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)  # processes that it started and left behind
        mutant, folder = running.pop(process)
        shutil.copy(ROOT / "ser_pipeline" / mutant.module, folder / "ser_pipeline" / mutant.module)
        free.append(folder)
        yield mutant, status == 0


def started(module: str, folder: Path) -> int:
    """Start a process that runs the tests of a module in a copy of the sources; it ends with 0 if all pass."""
    if process := os.fork():
        return process
    status = 1
    try:
        os.setsid()
        signal.alarm(LONGEST)
        os.chdir(folder)
        sys.path[:0] = [str(folder)]
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        tests = [f"ser_pipeline/{module}", *(f"tests/{test}" for test in TARGETS[module])]
        status = int(import_module("pytest").main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    finally:
        os._exit(status)


def copies(jobs: int, room: Path) -> list[Path]:
    """Create folders with a copy of the sources and tests; compiled files are matched by content, not by age."""
    folders = [room / str(number) for number in range(jobs)]
    for folder in folders:
        for name in ("ser_pipeline", "cli", "tests", "benchmarks"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(folder / "cli", folder / "ser_pipeline" / "cli", dirs_exist_ok=True)
        for name in ("setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        compileall.compile_dir(folder / "ser_pipeline", quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    return folders


def report(drawn: list[Mutant], jobs: int) -> None:
    """Run the tests on every change, and print the survivors and a line for each module."""
    for package in (*LARGE, "pytest"):
        with suppress(ImportError):
            import_module(package)
    modules = list(dict.fromkeys(mutant.module for mutant in drawn))
    unchanged = [Mutant(module, "", 0, (ROOT / "ser_pipeline" / module).read_text()) for module in modules]
    left = []
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as room:
        sound = [mutant.module for mutant, stays in outcomes(unchanged, jobs, Path(whole)) if stays]
        drawn = [mutant for mutant in drawn if mutant.module in sound]
        for mutant, stays in outcomes(drawn, jobs, Path(room)):
            if stays:
                left.append(mutant)
                print(f"survived: {mutant.module}:{mutant.line} {mutant.operator}: {changed_line(mutant)}", flush=True)
    for module in modules:
        if module not in sound:
            print(f"{module:28} its tests fail without a change")
            continue
        made, lived = (sum(m.module == module for m in some) for some in (drawn, left))
        print(f"{module:28} {made - lived:4} of {made:4} seen, {100 * (made - lived) / made:5.1f} %")


def changed_line(mutant: Mutant) -> str:
    """Return the changed line."""
    return mutant.text.splitlines()[mutant.line - 1].strip() if mutant.line else ""


def main() -> None:
    """Draw or read the sample, and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=80, help="number of changes for each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="only modules with this text in their name")
    parser.add_argument("--draw", type=Path, help="write the sample to this file and exit")
    parser.add_argument("--drawn", type=Path, help="read the sample from this file instead of drawing it")
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
