"""No test may depend on how fast the machine is: tests read no clock, but for what is told here."""

import ast

from support.places import TESTS

CLOCKS = ("time", "monotonic", "perf_counter", "process_time", "thread_time")
WHY = {
    "support/browser.py": "ends waiting for a browser that does not answer",
    "support/workers.py": "ends waiting for what never happens",
    "cli/test_kill.py": "picks moments to kill a command while it runs",
    "cache/test_housekeeping.py": "dates files",
    "kill.py": "picks moments to kill commands, by hand",
    "fuzz/__main__.py": "ends after the seconds that were asked for, by hand",
}
"""Files that read a clock, and what for: none compares a duration with a bar."""


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
