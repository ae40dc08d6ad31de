"""How fast contents are read: warm ones against the folder itself, cold ones against a bare socket, rsync, sshfs and rclone.

Every figure that has a peer is a ratio to that peer in the same run. Started by `reads`.
"""

import contextlib
import os
import platform
import signal
import sys
from pathlib import Path

import call

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

ROWS = ("hot", "open", "dropped", "large", "cold", "tree", "start", "fleet", "stream", "version")
SERVERS = ("fsyncfs", "rsync", "raw")  # whose CPU time is counted
DISK_BYTES = 48 << 30  # sparse; copies and caches of 50 workers are the most of it


def arguments():
    parser = call.parser("reads", __doc__)
    call.add_rows(parser, ROWS, rounds=5)
    parser.add_argument("--light", action="store_true", help="a tenth of the bytes and of the small files")
    parser.add_argument("--hash", choices=("xxh3", "sha256"), default="xxh3", help="by what the master names contents")
    return call.parse(parser)


def measure(args, report):
    """All rows, on disks of its own."""
    import gauge
    import reads_cold
    import reads_start
    import reads_warm
    from disk import disk, other_disk
    from harness import Work
    from reads_lab import Lab

    functions = {"hot": reads_warm.hot, "open": reads_warm.open_read_close, "dropped": reads_warm.dropped,
                 "large": reads_warm.large, "cold": reads_cold.cold, "tree": reads_cold.tree, "start": reads_start.start,
                 "fleet": reads_cold.fleet, "stream": reads_cold.stream, "version": reads_cold.version}
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(other_disk(DISK_BYTES))
        stack.enter_context(disk(DISK_BYTES))
        cpu = {name: stack.enter_context(gauge.CpuGroup(name)) for name in SERVERS}
        lab = Lab(stack.enter_context(Work("reads")), root, args, cpu)
        for name in args.only:
            lab.say(name)
            functions[name](lab, report)


def chain(error):
    """What went wrong, and before that: the end of a run may fail because of what ended it."""
    return f"{error}" if error.__context__ is None else f"{chain(error.__context__)}; then: {error}"


def main():
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("tests/bench/reads: ended by a signal"))
    from scale_report import Report, write_json

    facts = {"machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}, ext4", "rounds": args.rounds,
             "load_before": os.getloadavg()[0]}
    print(f"{facts['machine']}; medians of {args.rounds} rounds; load before: {facts['load_before']:.2f}", flush=True)
    report, failed = Report("reads" + (", a tenth of everything" if args.light else "")), None
    try:
        measure(args, report)
    except Exception as error:  # what was measured by then is shown all the same
        failed = error
    facts["load_after"] = os.getloadavg()[0]
    print(f"\n{report.table()}\n", flush=True)
    if args.json:
        write_json(args.json, facts, [report])
    if failed:
        sys.exit(f"tests/bench/reads: {chain(failed)}")


if __name__ == "__main__":
    main()
