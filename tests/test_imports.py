"""Boundaries between the package's layers, checked by its imports; public classes have unique names."""

import ast
import functools
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator

import pytest

from support.places import ROOT

FLOORS = (
    {"cli", "__main__"},
    {"predict", "export", "doctor"},
    {"training"},
    {"features", "report"},
    {"model", "audit"},
    {"data", "splits", "runs"},
    {"device", "cache"},
    {"corpora", "evaluation"},
    {
        "arrays",
        "config",
        "agreement",
        "settings",
        "feature_settings",
        "limits",
        "inputs",
        "targets",
        "presets",
        "entry",
        "file_names",
        "locks",
        "names",
        "sockets",
        "claims",
        "parts",
        "elsewhere",
        "shape",
        "audio",
        "containers",
        "processes",
        "provenance",
        "remote",
        "cost",
        "findings",
        "text",
        "errors",
    },
)
"""Layers from the top: a sub-package or module imports only from its own layer or lower ones."""

HEAVY = ("torch", "librosa", "h5py", "matplotlib", "sklearn", "transformers", "scipy")


def room(module: str) -> str:
    """Return the sub-package of a dotted module, or the module itself."""
    parts = module.split(".")
    if parts[:2] == ["ser_pipeline", "cli"]:
        return "cli"
    return parts[1] if parts[0] == "ser_pipeline" and len(parts) > 1 else parts[0]


@functools.cache
def imports() -> dict[str, set[tuple[str, bool]]]:
    """Return module -> its imports of the project and of torch, and whether each runs when the module is loaded."""
    found: dict[str, set[tuple[str, bool]]] = {}
    for folder in ("ser_pipeline", "cli", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            if parts[0] == "cli":
                name = f"ser_pipeline.{name}"
            found[name] = set(_imports(ast.parse(file.read_text(encoding="utf-8")), loaded=True))
    return found


def _imports(tree: ast.AST, *, loaded: bool) -> Iterator[tuple[str, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if _is_module(whole) else node.module), loaded
        elif isinstance(node, ast.Import):
            yield from ((alias.name, loaded) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        else:
            yield from _imports(node, loaded=loaded and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.removeprefix("ser_pipeline.cli").split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_a_room_imports_from_its_own_floor_or_lower_ones() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    up = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other, _ in others
        if module.startswith("ser_pipeline.") and other.startswith("ser_pipeline.")
        if floor[room(module)] > floor[room(other)]
    ]
    assert up == []


def test_every_room_has_a_floor() -> None:
    known = set().union(*FLOORS)
    assert {room(module) for module in imports() if module.startswith("ser_pipeline.")} == known


@pytest.mark.parametrize("name", ["corpora", "splits", "evaluation", "runs", "cache", "report", "audit"])
def test_rooms_without_torch_stay_without(name: str) -> None:
    torch = [
        f"{module} imports {other}"
        for module, others in imports().items()
        if room(module) == name
        for other, _ in others
        if other.split(".")[0] in ("torch", "transformers", "torchvision")
        or (room(other) in ("model", "data", "device", "training", "features") and other.startswith("ser_pipeline."))
    ]
    assert torch == []


def test_extraction_imports_torch_for_frozen_encoders_and_what_a_device_makes_alone() -> None:
    with_torch = {
        module
        for module, others in imports().items()
        if room(module) == "features" and any(other.split(".")[0] == "torch" for other, _ in others)
    }
    expected = ("embeddings", "frozen", "hours", "on_device", "rendering", "statistics", "utterances")
    assert with_torch == {f"ser_pipeline.features.{name}" for name in expected}


def test_report_and_training_meet_in_runs_alone() -> None:
    for module, others in imports().items():
        rooms = {room(other) for other, _ in others if other.startswith("ser_pipeline.")}
        if room(module) == "report":
            assert not rooms & {"training", "features", "model", "data"}, module
        if room(module) == "training":
            assert "report" not in rooms, module


def test_the_library_does_not_import_the_command() -> None:
    inside = [
        module
        for module, others in imports().items()
        if room(module) not in ("cli", "benchmarks") and any(room(other) == "cli" for other, _ in others)
    ]
    assert inside == []


def test_triton_stands_behind_the_kernels() -> None:
    users = {m for m, others in imports().items() if any(other.split(".")[0] == "triton" for other, _ in others)}
    behind = "ser_pipeline.model.fast.triton_"
    in_package = {user for user in users if user.startswith("ser_pipeline.")}
    assert in_package and all(user.startswith(behind) for user in in_package)
    openers = {m for m, others in imports().items() if any(other.startswith(behind) for other, _ in others)}
    openers -= {user for user in openers if user.startswith((behind, "benchmarks."))}
    assert openers == {"ser_pipeline.model.fast.kernels"}


def test_no_module_imports_itself_in_a_circle() -> None:
    known = {module: {other for other, _ in others} & set(imports()) for module, others in imports().items()}
    left = dict(known)
    while free := [module for module, others in left.items() if not others & set(left) - {module}]:
        for module in free:
            del left[module]
    assert {module: sorted(others & set(left)) for module, others in left.items()} == {}


def test_public_classes_have_names_of_their_own() -> None:
    where: dict[str, list[str]] = defaultdict(list)
    for folder in ("ser_pipeline", "cli"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    where[node.name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in where.items() if len(files) > 1} == {}


@pytest.mark.parametrize("module", ["ser_pipeline", "ser_pipeline.cli"])
def test_importing_the_command_or_the_package_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_asking_a_graph_loads_nothing_that_its_answers_do_not_need() -> None:
    unneeded = (*HEAVY, "joblib", "filelock", "asyncio", "tqdm", "psutil", "ser_pipeline.runs.reading")
    asked = "ser_pipeline.cli.predict, ser_pipeline.cli.answers, ser_pipeline.export.session"
    code = f"import sys, {asked}; print([name for name in {unneeded} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
