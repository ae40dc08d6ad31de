"""What a large tree costs: first scan, restart, first mount, remount, refresh, find, memory, many workers at once, push.

Every figure that has a peer is a ratio to that peer in the same run. Started by `scale`.
"""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import call

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

ROWS = ("scan", "restart", "mount", "refresh", "find", "fleet", "push")
DISK_BYTES = 48 << 30  # sparse; the caches of 50 mounts are the most of it


def arguments():
    parser = call.parser("scale", __doc__)
    call.add_rows(parser, ROWS, rounds=3)
    parser.add_argument("--entries", type=int, default=1_000_000, metavar="N", help="of each tree (default: 1,000,000)")
    parser.add_argument("--shape", choices=("wide", "deep"), action="append", help="1,000 folders side by side, or 100,000 "
                        "within each other (default: both)")
    parser.add_argument("--fleet", type=int, default=50, metavar="N", help="mounts at once (default: 50)")
    parser.add_argument("--light", action="store_true", help="clients that only ask for the listing instead of first mounts at "
                        "once; push to mounts of the small tree")
    args = call.parse(parser)
    args.shape = args.shape or ["wide", "deep"]
    return args


def measure_mounts(lab, report):
    """The rows of one worker, all on one master that has seen the tree."""
    import scale_rows
    server = lab.server()
    lab.say("first mounts and remounts")
    cache = scale_rows.mounts(lab, report, server)
    if "find" in lab.args.only:
        lab.say("find")
        scale_rows.finds(lab, report, server, cache)
    if "refresh" in lab.args.only:
        lab.say("refresh")
        scale_rows.refresh(lab, report, server, cache)
    server.stop()
    lab.remove(cache)


def measure_fleet(lab, report):
    import scale_fleet
    fleet = scale_fleet.Fleet(lab, report)
    lab.say(f"{lab.args.fleet} at once")
    scale_fleet.first_mounts(lab, report, fleet)
    if "push" in lab.args.only:
        lab.say("push")
        scale_fleet.push(lab, report, fleet)
    fleet.unmount()


def measure(kind, args):
    """All rows of one shape, on a disk of its own."""
    import scale_rows
    from disk import disk
    from harness import Work
    from scale_lab import Lab, shape_of
    from scale_report import Report

    with disk(DISK_BYTES), Work("scale") as work:
        print(f"making a {kind} tree of {args.entries:,} entries", file=sys.stderr, flush=True)
        lab = Lab(work, shape_of(kind, args.entries), args)
        report = Report(f"{kind}: {lab.entries:,} entries, {lab.files:,} of them files of 512 bytes")
        for name, row in (("scan", scale_rows.first_scan), ("restart", scale_rows.restart)):
            if name in args.only:
                lab.say(name)
                row(lab, report)
        if {"mount", "refresh", "find"} & set(args.only):
            measure_mounts(lab, report)
        if {"fleet", "push"} & set(args.only):
            measure_fleet(lab, report)
    print(f"\n{report.table()}\n", flush=True)
    return report


def main():
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("tests/bench/scale: ended by a signal"))
    from scale_report import write_json
    from harness import Failure

    facts = {"machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}, ext4", "rounds": args.rounds,
             "load_before": os.getloadavg()[0]}
    print(f"{facts['machine']}; medians of {args.rounds} rounds; goals are for 1,000,000 entries; load before: "
          f"{facts['load_before']:.2f}", flush=True)
    try:
        reports = [measure(kind, args) for kind in args.shape]
    except (Failure, subprocess.CalledProcessError) as error:
        sys.exit(f"tests/bench/scale: {error}")
    if args.json:
        write_json(args.json, facts, reports)


if __name__ == "__main__":
    main()
