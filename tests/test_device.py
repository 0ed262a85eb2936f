import subprocess
import sys

import pytest
import torch

from ser_pipeline.config import load
from ser_pipeline.device import autocasting, precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("known", "expected"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True, "avx512_bf16": False}, "fp32")],
)
def test_a_processor_trains_in_bf16_where_it_multiplies_in_it(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert precision("auto", CPU) == expected
    assert precision("fp32", CPU) == "fp32"
    with autocasting(load("paper"), CPU)():
        assert torch.is_autocast_enabled("cpu") == (expected == "bf16")


def test_a_torch_that_does_not_know_its_processor_stays_with_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert precision("auto", CPU) == "fp32"


@pytest.mark.slow(reason="two processes load torch")
@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has mallopt")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    code = """
import resource, sys, torch
from ser_pipeline.device import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(1 << 23)
before = faults()
for _ in range(30):
    torch.ones(1 << 23)
print(faults() - before)
"""
    plain, kept = (
        int(subprocess.run([sys.executable, "-c", code, way], capture_output=True, text=True, check=True).stdout)
        for way in ("plain", "kept")
    )
    assert kept < plain / 10
