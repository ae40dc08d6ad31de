"""What tiny files cost when their bytes come with their entries, and when they are asked for. Started by `tiny`."""

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "integration"))

SIZES = (16, 32, 64, 96, 128, 192, 256, 384, 512, 1024)
BOUNDS = {"ask": 1, "have": max(SIZES)}  # ENTRY_TINY_MAX of the two builds
CORPORA = ("/usr/share", "/usr/lib", "/usr/include")
FEWEST = 200  # files of a size: with fewer it is left out
SHARES = (64, 128, 256, 512, 1024)


def build(folder, name):
    """Both programs, with another bound."""
    where = Path(folder) / name
    log = open(f"{where}.log", "wb")
    subprocess.run(["meson", "setup", where, SOURCE, "--buildtype=release", f"-Dc_args=-DENTRY_TINY_MAX={BOUNDS[name]}"],
                   check=True, stdout=log, stderr=log)
    subprocess.run(["ninja", "-C", where, "cli/fsyncfs", "server/fsyncfs-server"], check=True, stdout=log, stderr=log)
    return where


def regular_files(roots):
    """(path, size) of all of them."""
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    if not os.path.islink(path) and os.path.isfile(path):
                        yield path, os.path.getsize(path)


def sort_by_size(files):
    """{size of SIZES: [(path, content), ...]}: those of at most that size and at least three quarters of it, each content once."""
    sorted_files, seen = {size: [] for size in SIZES}, set()
    for path, length in files:
        for size in SIZES:
            if size * 3 / 4 <= length <= size:
                with contextlib.suppress(OSError):
                    content = Path(path).read_bytes()
                    if content not in seen:
                        seen.add(content)
                        sorted_files[size].append((path, content))
                break
    return sorted_files


def write_tree(root, files):
    """Some twenty in a folder, by names as they had."""
    for i, (path, content) in enumerate(files):
        folder = root / f"packages/module{i // 20:04d}"
        if i % 20 == 0:
            folder.mkdir(parents=True)
        (folder / f"{i % 20:02d}{os.path.basename(path)}").write_bytes(content)


def own_cgroup():
    return next(line.split(":", 2)[2].strip() for line in open("/proc/self/cgroup") if line.startswith("0::"))


@contextlib.contextmanager
def in_group(group):
    """What is started meanwhile belongs to GROUP."""
    points = group.folder.parent
    (group.folder / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (points / own_home.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))


own_home = own_cgroup()


def disk_bytes(folder):
    return int(subprocess.run(["du", "-s", "-B1", folder], check=True, capture_output=True, text=True).stdout.split()[0])


def one_round(work, server, groups, cache):
    """(bytes on the wire, seconds of CPU, bytes on disk) of the listing, and of it and all contents."""
    import gauge
    from harness import program, run_ok

    def now():
        return gauge.wire_bytes(), sum(group.seconds() for group in groups)
    wire, cpu = now()
    with in_group(groups[1]):
        mount = work.mount(server, cache=cache, options=["prefetch=off"])
    status = mount.status()
    listed = now()
    listed_disk = disk_bytes(mount.cache)
    run_ok([program("fsyncfs"), "prefetch", mount.point])
    status = mount.status()  # waits until all that came is written
    whole = now()
    assert status["cached_files"] == status["files"], status
    result = [(a - wire, b - cpu, disk) for (a, b), disk in ((listed, listed_disk), (whole, disk_bytes(mount.cache)))]
    mount.unmount()
    return result


def measure(name, folder, files, rounds):
    """Medians of the rounds: {"listing": (wire, cpu, disk), "whole": ...}."""
    import gauge
    import harness
    harness.BUILD = folder
    with gauge.CpuGroup(f"server-{name}") as served, gauge.CpuGroup(f"worker-{name}") as worked, harness.Work("tiny") as work:
        write_tree(work.tree, files)
        server = work.server(prefix=served.prefix)
        work.mount(server, cache="first").unmount()  # everything is hashed
        samples = [one_round(work, server, (served, worked), f"cache{i}") for i in range(rounds)]
        return [[statistics.median(s[part][what] for s in samples) for what in range(3)] for part in range(2)]


def row(size, files, builds, rounds):
    """What one file costs, either way."""
    got = {name: measure(name, folder, files, rounds) for name, folder in builds.items()}
    n = len(files)
    listing, whole = got["ask"]
    having = got["have"][1]
    return {"size": size, "files": n, "mean": sum(len(content) for _, content in files) / n,
            "ask": [(b - a) / n for a, b in zip(listing, whole)], "have": [(b - a) / n for a, b in zip(listing, having)]}


def shares(tree):
    sizes = [size for _, size in regular_files([tree])]
    return {"tree": str(tree), "files": len(sizes), "shares": {s: sum(size <= s for size in sizes) / max(len(sizes), 1) for s in SHARES}}


def print_rows(rows):
    print(f"{'size':>6} {'files':>6} {'mean':>6} | {'wire, bytes':^17} | {'CPU, us':^15} | {'disk, bytes':^15} | have/ask")
    print(f"{'':20} | {'ask':>8} {'have':>8} | {'ask':>7} {'have':>7} | {'ask':>7} {'have':>7} | {'wire':>5} {'CPU':>5}")
    for r in rows:
        (aw, ac, ad), (hw, hc, hd) = r["ask"], r["have"]
        print(f"{r['size']:6} {r['files']:6} {r['mean']:6.0f} | {aw:8.0f} {hw:8.0f} | {ac * 1e6:7.1f} {hc * 1e6:7.1f} | {ad:7.0f} {hd:7.0f} |"
              f" {hw / aw:5.2f} {hc / ac:5.2f}")


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/tiny", description=__doc__)
    parser.add_argument("--files", type=int, default=3000, help="files of each size, at most")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the table shows their medians")
    parser.add_argument("--json", metavar="FILE", help="writes all figures to FILE, too")
    parser.add_argument("tree", nargs="*", help="says how many files of it are tiny")
    args = parser.parse_args()
    os.environ["FSYNCFS_TEST_STRATEGY"] = "snapshot"  # packs, whatever the number of files
    from disk import disk

    counted = [shares(tree) for tree in args.tree]
    corpus = sort_by_size(regular_files(CORPORA))
    with tempfile.TemporaryDirectory(prefix="fsyncfs-tiny-") as folder:
        builds = {name: build(folder, name) for name in BOUNDS}
        rows = []
        with disk():
            for size, files in corpus.items():
                if len(files) < FEWEST:
                    continue
                random.Random(size).shuffle(files)
                rows.append(row(size, files[:args.files], builds, args.rounds))
                print(f"{size} bytes: done", file=sys.stderr, flush=True)
    print_rows(rows)
    for c in counted:
        print(f"{c['tree']}: {c['files']} files; " + ", ".join(f"{100 * share:.1f} % up to {s}" for s, share in c["shares"].items()))
    if args.json:
        Path(args.json).write_text(json.dumps({"rows": rows, "trees": counted}, indent=1))


main()
