"""The count at the end of scripts/test: no failure may get lost in it."""

import contextlib
import io
import json
import sys
from pathlib import Path

from lintlib import case, equal, planted, run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import summary  # noqa: E402


def count(*tests, tap=None):
    """(exit code, last line) of a summary over TESTS (stdout, return code, result)."""
    lines = [json.dumps({"name": "t", "stdout": out, "returncode": code, "result": result}) for out, code, result in tests]
    with planted({"testlog.json": "\n".join(lines), "x.tap": tap or ""}) as folder, \
            contextlib.redirect_stdout(io.StringIO()) as printed:
        code = summary.main([folder / "testlog.json", *([folder / "x.tap"] if tap else [])])
    return code, printed.getvalue().splitlines()[-1]


@case("points are counted, not programs")
def points():
    equal(count(("1..2\nok 1 - a\nok 2 - b\n", 0, "OK"), ("ok 1 a\n1..1\n", 0, "OK")), (0, "3 passed, 0 failed"), "count")
    equal(count(("1..2\nok 1 - a\nnot ok 2 - b\n", 1, "FAIL")), (1, "1 passed, 1 failed"), "count")
    equal(count(("1..1\nok 1 - a\n", 0, "OK"), tap="1..1\nnot ok 1 - x\n"), (1, "1 passed, 1 failed"), "count")


@case("skips are counted apart")
def skips():
    equal(count(("1..2\nok 1 - a # SKIP no tool\nok 2 - b\n", 0, "OK")), (0, "1 passed, 0 failed, 1 skipped"), "count")
    equal(count(("1..2\nnot ok 1 # SKIP test_a\nok 2 - b\n", 0, "OK")), (0, "1 passed, 0 failed, 1 skipped"), "cmocka's way")
    equal(count(("1..0 # SKIP nothing here\n", 0, "SKIP"), ("1..1\nok 1\n", 0, "OK")),
          (0, "1 passed, 0 failed, 1 skipped"), "count")


@case("a crash, a time-out, missing points and silence are failures")
def bad_ends():
    equal(count(("1..3\nok 1 - a\n", -11, "FAIL")), (1, "1 passed, 2 failed"), "a crash")
    equal(count(("1..1\nok 1 - a\n", 1, "FAIL")), (1, "1 passed, 1 failed"), "a bad end after all points")
    equal(count(("1..1\nok 1 - a\n", 0, "TIMEOUT")), (1, "1 passed, 1 failed"), "a time-out")
    equal(count(("1..1\nok 1 - a\nok 2 - b\n", 0, "OK")), (1, "2 passed, 1 failed"), "more points than planned")
    equal(count(("ok 1 - a\n", 0, "OK")), (1, "1 passed, 1 failed"), "no plan")
    equal(count(("", 0, "OK")), (1, "0 passed, 1 failed"), "silence")
    equal(count(("garbage\n", 1, "ERROR")), (1, "0 passed, 1 failed"), "no TAP")


@case("nothing run is a failure")
def nothing():
    equal(count(), (1, "0 passed, 0 failed"), "no program")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        equal(summary.main(["/nonexistent/testlog.json"]), 1, "the exit code")
    equal(printed.getvalue().splitlines()[-1], "0 passed, 1 failed", "the last line")


run()
