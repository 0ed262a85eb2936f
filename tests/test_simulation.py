"""The simulation of claims: all parts are computed, even if processes die or freeze or clocks are wrong."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.places import ROOT


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    """Import the benchmark as a module."""
    spec = importlib.util.spec_from_file_location("simulation", ROOT / "benchmarks" / "simulation.py")
    assert spec and spec.loader
    made = sys.modules["simulation"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize(("deaths", "freezes"), [(0.0, 0.0), (1.5, 0.0), (0.5, 1.0)])
def test_every_part_is_made_and_none_twice_while_its_holder_lives(
    simulation: ModuleType, tmp_path: Path, deaths: float, freezes: float
) -> None:
    found = simulation.World(tmp_path, 120, 6, seconds=30.0, deaths=deaths, freezes=freezes, seed=1).run()
    assert len(found.made) == 120
    assert (found.died > 0) == (deaths > 0)
    if not freezes:
        assert set(found.made.values()) == {1}, "no live process loses a part, whatever its clock says"
    if not deaths + freezes:
        assert found.busy > 0.9
