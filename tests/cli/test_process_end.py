import subprocess
import sys
from pathlib import Path

import pytest

ENDING = """
import atexit, sys
import ser_pipeline.__main__ as command, ser_pipeline.cli as cli
class Left:
    def __del__(self): print("taken down")
left = Left()
left.itself = left
atexit.register(print, "last words")
def main(prog_name): print("said", end=""); sys.exit(%s)
cli.main = main
if %s: sys.modules["torch"] = sys
command.main()
"""


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_command_that_has_imported_torch_ends_with_its_status_and_all_that_it_said(status: int) -> None:
    done = subprocess.run([sys.executable, "-c", ENDING % (status, True)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (status, "saidlast words\n", "")


def test_any_other_command_ends_as_python_does() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING % (3, False)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "saidlast words\ntaken down\n")


def test_a_full_disk_is_told_by_the_status_of_a_command_that_has_imported_torch() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", ENDING % (0, True)], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode != 0 and "No space left" in done.stderr
