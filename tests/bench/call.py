"""How the benchmarks are called: what they have in common."""

import argparse
import os
from pathlib import Path


def parser(name, doc):
    """Of tests/bench/NAME; its own options are added to it."""
    made = argparse.ArgumentParser(prog=f"tests/bench/{name}", description=doc)
    made.add_argument("--json", metavar="FILE", help="writes all samples to FILE, too")
    made.add_argument("--build", metavar="DIR", help="where fsyncfs was built (default: build/ of the source tree)")
    return made


def add_quick(made, what):
    """--quick, which is 3 ROUNDS instead of 5, and WHAT."""
    made.add_argument("--quick", action="store_true", help=f"3 rounds instead of 5, and {what}")
    made.add_argument("--rounds", type=int, help="rounds; the table shows their medians")


def add_rows(made, rows, rounds):
    """--only some of ROWS, and --rounds."""
    def chosen(text):
        words = text.split(",")
        unknown = set(words) - set(rows)
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not among {', '.join(rows)}")
        return words
    made.add_argument("--only", type=chosen, default=list(rows), metavar="ROWS", help="some of " + ",".join(rows))
    made.add_argument("--rounds", type=int, default=rounds, help="of each measurement; the table shows their medians")


def parse(made):
    """The arguments; which programs are measured is said to tests/integration/harness.py by the environment, before it is imported."""
    args = made.parse_args()
    if "quick" in args:
        args.rounds = args.rounds or (3 if args.quick else 5)
    if args.build:
        os.environ["FSYNCFS_BUILD"] = str(Path(args.build).resolve())
    return args
