"""Measures reads of files that are in the store: by passthrough, through the page cache, and native, in the same run. Started by `kernel`."""

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import call

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

# (title, key, native's key, times the native time that it may take: throughput and IOPS goals as their reciprocals)
ROWS = (
    ("sequential, hot", "sequential.hot", "sequential.hot", 1 / 0.95),
    ("sequential, first read after the mount, blob in the page cache", "sequential.first", "sequential.hot", None),
    ("sequential, page cache dropped", "sequential.dropped", "sequential.dropped", 1 / 0.9),
    ("250,000 random 4 KiB, hot", "random.hot", "random.hot", 1 / 0.9),
    ("mapped, hot", "mapped.hot", "mapped.hot", None),
    ("mapped, first after the mount, blob in the page cache", "mapped.first", "mapped.hot", None),
    ("small files, open+read+close, hot", "small.hot", "small.hot", 1.3),
    ("tar of the small files, hot", "tar.hot", "tar.hot", None),
)
MODES = ("native", "passthrough=on", "passthrough=off")
REPEATS = 3  # of what is hot; the median counts


def arguments():
    parser = call.parser("kernel", __doc__)
    call.add_quick(parser, "256 MiB and 3,000 files instead of 1 GiB and 30,000")
    return call.parse(parser)


class Reads:
    """One contender's reads of the tree, round by round."""

    def __init__(self, bench, mode, samples):
        self.bench, self.mode, self.samples = bench, mode, samples
        self.mounted = None

    def folder(self):
        return self.mounted.point if self.mounted else self.bench.work.tree

    def remount(self):
        """The kernel knows nothing of the tree; the blob of the large file is in the page cache."""
        if self.mounted:
            self.mounted.unmount()
        if self.mode != "native":
            self.mounted = self.bench.mount([self.mode])
        for blob in self.bench.blobs():
            subprocess.run(["cat", blob], stdout=subprocess.DEVNULL, check=True)

    def add(self, key, seconds):
        self.samples.setdefault(self.mode, {}).setdefault(key, []).append(seconds)

    def load(self, kind):
        done = subprocess.run([self.bench.readload, kind, self.folder() / "large"], stdout=subprocess.PIPE, check=True)
        return float(done.stdout)

    def hot(self, key, measure):
        measure()
        self.add(key, statistics.median(measure() for _ in range(REPEATS)))

    def tar(self):
        import gauge
        start = time.monotonic()
        gauge.tar(self.folder() / "small")
        return time.monotonic() - start

    def round(self):
        import gauge
        for kind in ("sequential", "mapped"):
            self.remount()
            if self.mode != "native":
                self.add(f"{kind}.first", self.load(kind))
            self.hot(f"{kind}.hot", lambda kind=kind: self.load(kind))
        self.hot("random.hot", lambda: self.load("random"))
        self.hot("tar.hot", self.tar)
        self.hot("small.hot", lambda: gauge.open_read_close(self.bench.openloop, self.folder(), self.bench.names))
        gauge.drop_caches()
        self.add("sequential.dropped", self.load("sequential"))
        if self.mounted:
            self.mounted.unmount()
            self.mounted = None


class Bench:
    """The tree, its master, and a store that holds all of it."""

    def __init__(self, work, large_bytes, small_files):
        import gauge
        from harness import run_ok
        from trees import make_tree
        self.work = work
        make_tree(work.tree / "small", small_files, small_files * 2500)
        with open(work.tree / "large", "wb") as f:
            for _ in range(large_bytes >> 20):
                f.write(os.urandom(1 << 20))
        os.sync()
        self.names = [str(p.relative_to(work.tree)) for p in sorted((work.tree / "small").rglob("*.bin"))[:10_000]]
        self.openloop = gauge.compile_openloop(work.dir)
        self.readload = work.path("readload")
        run_ok(["cc", "-O2", "-D_GNU_SOURCE", "-o", self.readload, HERE / "readload.c"])
        self.source = work.server().source()
        self.large_bytes = large_bytes
        mount = self.mount(["passthrough=off"])
        subprocess.run(["cmp", mount.point / "large", work.tree / "large"], check=True)
        gauge.tar(mount.point)
        mount.unmount()

    def mount(self, options):
        return self.work.mount(self.source, options=options)

    def blobs(self):
        return [p for p in self.work.path("cache/blobs").rglob("*") if p.is_file() and p.stat().st_size == self.large_bytes]


def table(samples):
    lines = [f"{'time as a multiple of native':<66}{'native':>12}{'goal':>8}" + "".join(f"{mode:>18}" for mode in MODES[1:])]
    for title, key, native_key, goal in ROWS:
        native = statistics.median(samples["native"][native_key])
        cells = [f"{statistics.median(samples[mode][key]) / native:.2f}" for mode in MODES[1:]]
        amount = f"{native * 1e6:.2f} us" if key == "small.hot" else f"{native * 1e3:.1f} ms"
        lines.append(f"{title:<66}{amount:>12}{f'{goal:.2f}' if goal else '':>8}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def main():
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("tests/bench/kernel: ended by a signal"))
    from disk import disk
    from harness import Work
    from tap import Failure

    samples = {}
    size, files = (256 << 20, 3_000) if args.quick else (1 << 30, 30_000)
    try:
        with disk(), Work("kernel") as work:
            bench = Bench(work, size, files)
            contenders = [Reads(bench, mode, samples) for mode in MODES]
            for number in range(args.rounds):
                turn = number % len(contenders)
                for contender in contenders[turn:] + contenders[:turn]:
                    print(f"round {number + 1} of {args.rounds}, {contender.mode}", file=sys.stderr, flush=True)
                    contender.round()
    except (Failure, subprocess.CalledProcessError) as error:
        sys.exit(f"tests/bench/kernel: {error}")
    print(f"{os.cpu_count()} CPUs, Linux {platform.release()}, ext4; a file of {size >> 20} MiB, {files:,} small ones; "
          f"medians of {args.rounds} interleaved rounds\n")
    print(table(samples))
    if args.json:
        Path(args.json).write_text(json.dumps(samples, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
