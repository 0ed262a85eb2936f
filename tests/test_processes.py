"""Workers of a queue: results in order of completion, unique numbers, and no worker that outlives its command."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from ser_pipeline.processes import spread, worker
from support.places import TESTS
from support.workers import die, first_or_wait, number, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for the processes in /proc")

SCRIPT = """
import signal
import sys
from pathlib import Path

signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as in a job script with a trap
sys.path.insert(0, {tests!r})
from support.workers import wait
from ser_pipeline.processes import spread

Path("started").open("a").write("x")  # no guard: a worker that ran this file again would write another one
for _ in spread(wait, [Path("a"), Path("b")], 2):
    pass
"""


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def until_gone(pids: list[int]) -> None:
    until(lambda: not any(map(alive, pids)))


def servers(command: int) -> list[str]:
    """Return the processes from which a command's workers are forked."""
    children = Path(f"/proc/{command}/task/{command}/children").read_text().split()
    return [pid for pid in children if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def pids(folder: Path) -> list[int]:
    """Return the two workers of `wait` once both have started."""
    until(lambda: all((folder / name).exists() and (folder / name).read_text() for name in "ab"))
    return [int((folder / name).read_text()) for name in "ab"]


APART = """
import sys
from ser_pipeline.errors import PipelineError
from ser_pipeline.processes import apart

def loads(name):
    import torch
    if name == "wrong":
        raise PipelineError("a mistake")
    return name + torch.__name__

print(apart(loads, "a "), "torch" in sys.modules)
try:
    apart(loads, "wrong")
except PipelineError as error:
    print(error)
import torch
print(apart(loads, "a "))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked only on Linux")
def test_what_is_done_apart_leaves_nothing_loaded_and_fails_as_it_would_here() -> None:
    said = subprocess.run([sys.executable, "-c", APART], capture_output=True, text=True, check=True).stdout
    assert said == "a torch False\na mistake\na torch\n"


def test_every_item_has_its_result_and_every_worker_a_number(tmp_path: Path) -> None:
    items = [tmp_path / name for name in "abcd"]
    found = list(spread(number, items, 2))
    assert sorted(item for item, _ in found) == items
    assert {result for _, result in found} == {0, 1}
    assert worker() == 0


def test_a_worker_that_is_killed_is_told_of() -> None:
    with pytest.raises(BrokenProcessPool):
        list(spread(die, [signal.SIGKILL, signal.SIGKILL], 2))


def test_a_server_that_is_killed_while_workers_begin_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise EOFError

    monkeypatch.setattr(ForkServerProcess, "_Popen", lost)
    with pytest.raises(BrokenProcessPool):
        list(spread(os.getenv, ["HOME"], 1))


def test_workers_have_the_environment_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [found for _, found in spread(os.getenv, ["SER_PIPELINE_TEST"], 1)] == [None]
    monkeypatch.setenv("SER_PIPELINE_TEST", "now")
    assert [found for _, found in spread(os.getenv, ["SER_PIPELINE_TEST"], 1)] == ["now"]


def test_threads_that_start_workers_leave_the_main_module_where_it_was() -> None:
    main = sys.modules["__main__"]
    with ThreadPoolExecutor(3) as threads:
        results = [threads.submit(lambda: list(spread(os.getenv, ["HOME"], 1))) for _ in range(9)]
    assert [result.result() for result in results] == [[("HOME", os.environ["HOME"])]] * 9
    assert sys.modules["__main__"] is main


@pytest.mark.parametrize(("bytes_too_many", "prepared"), [(0, True), (1, False)])
def test_where_no_socket_can_be_made_workers_import_for_themselves(bytes_too_many: int, prepared: bool) -> None:
    code = (
        "from ser_pipeline.processes import prepare, spread; import os\n"
        f"assert prepare('os') == {prepared}\n"
        "assert list(spread(os.getenv, ['HOME'], 1)) == [('HOME', os.environ['HOME'])]\n"
        "os._exit(0)"  # a stopped command cannot clean up
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(f"{short}/".ljust(75 + bytes_too_many, "a"))
        folder.mkdir()
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(folder)}, check=True)
        until(lambda: not prepared or not any(folder.iterdir()))  # the process that forks the workers ends later
        assert not any(folder.iterdir())


def test_ctrl_c_is_not_for_the_process_that_workers_are_forked_from() -> None:
    code = "from ser_pipeline.processes import prepare; import time\nprepare('os')\nprint(flush=True)\n"
    with subprocess.Popen(
        [sys.executable, "-c", code + "time.sleep(60)"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        until(lambda: servers(process.pid) != [])  # its command line appears a moment after it started
        (server,) = servers(process.pid)
        (line,) = re.findall(r"SigBlk:\s+(\w+)", Path(f"/proc/{server}/status").read_text())
        process.kill()
    assert int(line, 16) & 1 << (signal.SIGINT - 1)


def test_workers_end_with_a_loop_that_ends_early(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    results = spread(first_or_wait, [tmp_path / "first", tmp_path / "a", tmp_path / "b"], 3)
    next(results)
    working = pids(tmp_path)
    results.close()
    until_gone(working)
    assert other.is_alive()  # it is not one of the workers
    other.kill()
    other.join()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_command_that_started_them(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(tests=str(TESTS)))
    command = [sys.executable, "script.py"]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        working = pids(tmp_path)
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does on Ctrl-C
        else:
            process.kill()
        said = process.communicate()[1]
    until_gone(working)
    assert said.count("Traceback") == (how == signal.SIGINT)  # the script's own, none of a worker
    assert (tmp_path / "started").read_text() == "x"


def test_a_program_keeps_the_choice_how_its_own_processes_start() -> None:
    code = (
        "import multiprocessing\n"
        "from ser_pipeline.processes import spread\n"
        "print(sorted(result for _, result in spread(len, ['a', 'bb'], 2)))\n"
        "print(multiprocessing.get_start_method(allow_none=True))\n"
        "multiprocessing.set_start_method('spawn')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[1, 2]", "None"]
