"""Counts every single TAP test point of several test runs; the last line is `N passed, M failed[, K skipped]`.

    summary.py FILE...      meson's testlog.json, or a file of TAP itself (*.tap)

A program counts by its points. One that crashes, is killed, leaves its plan unfulfilled or reports nothing has failed,
whatever its points say: each missing point counts, and a bad end without a failed point counts once.
"""

import json
import re
import sys
from pathlib import Path

POINT = re.compile(r"^(?P<result>ok|not ok)\b\s*(?P<number>\d+)?\s*(?:-\s*)?(?P<name>.*?)(?:\s*#\s*(?P<directive>\S+)\s*(?P<reason>.*))?$")
PLAN = re.compile(r"^1\.\.(?P<count>\d+)(?:\s*#\s*SKIP\s*(?P<reason>.*))?$", re.I)


class Tally:
    def __init__(self):
        self.passed = self.failed = 0
        self.skipped = []  # "program: point: reason"
        self.failures = []  # (what, the program's output)

    def fail(self, what, output, count=1):
        self.failed += count
        self.failures.append((what, output))

    def program(self, name, output, ended_well):
        """Counts one program's TAP."""
        planned, points, failed_before = None, 0, self.failed
        for line in output.splitlines():
            plan, point = PLAN.match(line), POINT.match(line)
            if plan:
                planned = (planned or 0) + int(plan["count"])
                if planned == 0:
                    self.skipped.append(f"{name}: {plan['reason'] or 'no reason given'}")
            elif point:
                points += 1
                self._point(name, point, output)
        if planned is None and points == 0:
            self.fail(f"{name}: reported nothing", output)
        elif planned is None or planned != points:
            self.fail(f"{name}: planned {planned} points, reported {points}", output, max((planned or 0) - points, 1))
        elif not ended_well and self.failed == failed_before:
            self.fail(f"{name}: ended badly", output)

    def _point(self, name, point, output):
        text = f"{name}: {point['name']}"
        if (point["directive"] or "").upper().startswith("SKIP"):  # cmocka 1.1 says "not ok" of a skipped test
            self.skipped.append(f"{text}: {point['reason'] or 'no reason given'}")
        elif point["result"] == "ok":
            self.passed += 1
        else:
            self.fail(text, output)


def read(tally, path):
    if path.suffix == ".tap":
        return tally.program(path.parent.name, path.read_text(), True)
    if not path.exists():
        return tally.fail(f"{path}: the tests did not run", "")
    where = path.parts[0] if path.parts[0] != "build" else path.stem.partition("-")[2]  # a wrapper, as valgrind
    for line in path.read_text().splitlines():
        test = json.loads(line)
        output = "\n".join(filter(None, [test.get("stdout", ""), test.get("stderr", "")]))
        name = f"{where}: {test['name']}" if where else test["name"]
        tally.program(name, output, test.get("returncode") == 0 and test["result"] not in ("TIMEOUT", "INTERRUPT"))
    return None


def main(paths):
    tally = Tally()
    for path in paths:
        read(tally, Path(path))
    shown = set()
    for what, output in tally.failures:
        print(f"\nFAILED {what}")
        if output not in shown:
            print(output.rstrip())
            shown.add(output)
    for reason in tally.skipped:
        print(f"skipped {reason}")
    skipped = f", {len(tally.skipped)} skipped" if tally.skipped else ""
    print(f"{tally.passed} passed, {tally.failed} failed{skipped}")
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
