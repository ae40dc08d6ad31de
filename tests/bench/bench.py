"""Measures fsyncfs against a local folder, rsync and sshfs, as ratios within one run. Started by `run`."""

import contextlib
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import call

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))


def arguments():
    parser = call.parser("run", __doc__)
    call.add_quick(parser, "5,000 files instead of 30,000")
    return call.parse(parser)


def run_tree(title, files, total_bytes, args):
    """All rounds over one tree; the order of contenders turns with each round, so that a drift of the machine meets all."""
    import gauge
    from contenders import Bench, Fsyncfs, Native, Rsync, Sshfs
    from daemons import privilege_separation
    from harness import Work
    from report import Results
    from trees import make_tree

    results = Results(title)
    kinds = [Native, Fsyncfs, Rsync] + ([] if Sshfs.missing() else [Sshfs])
    with contextlib.ExitStack() as stack:
        if Sshfs in kinds:
            stack.enter_context(privilege_separation())
        cpu = {kind.name: stack.enter_context(gauge.CpuGroup(kind.name)) for kind in kinds}
        work = stack.enter_context(Work("bench"))
        make_tree(work.tree, files, total_bytes)
        bench = Bench(work, gauge.compile_openloop(work.dir), cpu)
        contenders = [kind(bench) for kind in kinds]
        for number in range(args.rounds):
            turn = number % len(contenders)
            for contender in contenders[turn:] + contenders[:turn]:
                print(f"{title}: round {number + 1} of {args.rounds}, {contender.name}", file=sys.stderr, flush=True)
                contender.round(results.recorder(contender.name))
    return results


def main():
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("tests/bench/run: ended by a signal"))
    from contenders import Sshfs
    from disk import disk
    from report import write_json
    from tap import Failure

    large = (5_000, 20_000_000) if args.quick else (30_000, 120_000_000)
    trees = [(f"{n:,} files, {size // 1_000_000} MB", n, size) for n, size in ((1_000, 50_000_000), large)]
    facts = {"machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}, ext4", "rounds": args.rounds,
             "left_out": {"sshfs": Sshfs.missing()} if Sshfs.missing() else {}}
    try:
        with disk():
            results = [run_tree(*tree, args) for tree in trees]
    except (Failure, subprocess.CalledProcessError) as error:
        sys.exit(f"tests/bench/run: {error}")
    print(f"{facts['machine']}; medians of {args.rounds} interleaved rounds; ratios to the column named under '1.00 is'")
    for name, reason in facts["left_out"].items():
        print(f"{name} left out: {reason}")
    for result in results:
        print(f"\n{result.table()}")
    if args.json:
        write_json(args.json, facts, results)


if __name__ == "__main__":
    main()
