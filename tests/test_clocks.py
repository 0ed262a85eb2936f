"""No test may depend on the machine's speed: only tests listed here read a clock."""

import ast

from support.places import TESTS

CLOCKS = ("time", "monotonic", "perf_counter", "process_time", "thread_time")
WHY = {
    "support/browser.py": "stops waiting for a browser that does not answer",
    "support/workers.py": "stops waiting for conditions that never become true",
    "cli/test_kill.py": "chooses moments at which running commands are killed",
    "cache/test_housekeeping.py": "sets files' times",
    "kill.py": "chooses moments at which commands are killed, in manual tests",
    "fuzz/__main__.py": "stops inputs after a time limit, in manual tests",
}
"""Files that read a clock, and the reason: none compares a duration with a limit."""


def reads_clock(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "timeit"):
            return True
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            clock = node.value.id == "time" and node.attr.removesuffix("_ns") in CLOCKS
            if clock or node.value.id == "timeit":
                return True
    return False


def test_tests_read_no_clock() -> None:
    found = [file for file in TESTS.rglob("*.py") if reads_clock(ast.parse(file.read_text(encoding="utf-8")))]
    assert {file.relative_to(TESTS).as_posix() for file in found} == set(WHY)


def test_a_clock_is_seen() -> None:
    for code in ("import time\nbegan = time.perf_counter()", "from time import monotonic", "timeit.timeit(work)"):
        assert reads_clock(ast.parse(code))
    assert not reads_clock(ast.parse("import time\ntime.sleep(1)"))
