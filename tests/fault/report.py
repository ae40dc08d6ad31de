#!/usr/bin/env python3
"""Puts what the tests of faults have found into the table of docs/reliability.md.

    tests/fault/report.py FILE...       FILE: meson's testlog.json, or the output of a test

A test says a row by harness.report: a comment line of TAP, "# RELIABILITY fault | how injected | promised | what happened". Rows of a fault that is
not in the files stay as they are; those that are replace the ones of that name.
"""

import json
import re
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
HEAD = "| fault | how injected | promised | what happened |\n|---|---|---|---|\n"
MARK = "# RELIABILITY "


def outputs(path):
    """What tests wrote, of either kind of file."""
    text = Path(path).read_text(errors="replace")
    if not text.startswith("{"):
        return [text]
    return [json.loads(line).get("stdout", "") for line in text.splitlines() if line.strip()]


def rows_of(text):
    """The rows in TEXT, as lists of four."""
    found = [line[len(MARK):].split(" | ") for line in text.splitlines() if line.startswith(MARK)]
    for row in found:
        if len(row) != 4:
            sys.exit(f"not a row: {row}")
    return found


def rows_of_table(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def merge(old, new):
    """NEW's rows in the place of OLD's of the same fault, others at the end."""
    told = {row[0] for row in new}
    merged = []
    for row in old:
        if row[0] not in told:
            merged.append(row)
        elif row[0] not in {m[0] for m in merged}:
            merged += [n for n in new if n[0] == row[0]]
    return merged + [n for n in new if n[0] not in {m[0] for m in merged}]


def main():
    new = [row for path in sys.argv[1:] for text in outputs(path) for row in rows_of(text)]
    if not new:
        sys.exit("no rows; " + __doc__)
    page = PAGE.read_text()
    before, head, rest = page.partition(HEAD)
    if not head:
        sys.exit(f"{PAGE} has no table")
    table = re.match(r"(\|.*\|\n)*", rest)[0]
    rows = merge(rows_of_table(table), new)
    text = "".join("| " + " | ".join(row) + " |\n" for row in rows)
    PAGE.write_text(before + HEAD + text + rest[len(table):])
    print(f"{len(new)} rows of {len(rows)}")
    for row in rows:
        if row not in new:
            print(f"as it was: {row[0]}")


main()
