"""Quota, eviction and pins: the cache stays within its limits while tasks read, and not one byte is wrong for it."""

import json
import os
import random
import sys
import time

from harness import PEERS, case, check, equal, main, one_line, program, run, run_ok, say, wait_until
from trees import make_tree, same_snapshot, snapshot

MIB = 1 << 20
SLACK = 16 * MIB  # what is written within the moment in which nothing new is evicted, and what is open

# Reads files of a tree in an order of its own, SECONDS long and a hundred at least; all it reads must be what the master has.
READER = r'''
import os, random, sys, time
point, tree, seed, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
names = sorted(os.path.relpath(os.path.join(d, n), tree) for d, _, ns in os.walk(tree) for n in ns)
rng, end, reads, drop = random.Random(seed), time.monotonic() + seconds, 0, getattr(os, "POSIX_FADV_DONTNEED")
while time.monotonic() < end or reads < 100:
    name = rng.choice(names)
    with open(os.path.join(point, name), "rb") as f, open(os.path.join(tree, name), "rb") as g:
        while True:
            got = f.read(1 << 20)
            if got != g.read(1 << 20):
                sys.exit(f"wrong bytes in {name}")
            if not got:
                break
        os.posix_fadvise(f.fileno(), 0, 0, drop)
    reads += 1
print("reads", reads, flush=True)
'''


def fsyncfs(*words, **options):
    return run_ok([program("fsyncfs"), *words], **options)


def cache(m, *words):
    return json.loads(fsyncfs("cache", *words, "--cache", m.cache, "--json").stdout)


def disk_bytes(m):
    """What the contents take, by a walk of our own: blobs in steps of 4 KiB, of what is not whole the blocks that are written."""
    total = 0
    for folder, _, names in os.walk(m.cache / "blobs"):
        for name in names:
            try:
                st = os.stat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            total += st.st_blocks * 512 if name.endswith(".part") else (st.st_size + 4095) // 4096 * 4096
    return total


def accounted(m):
    """The accounting is what is there."""
    def agrees():
        return m.status()["store_bytes"] == disk_bytes(m)
    wait_until(agrees, "accounting and disk agree")


def rss(m):
    return m.status()["rss_bytes"]


def forget_pages(path):
    with open(path, "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path):
    with open(path, "rb") as f:
        data = f.read()
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return data


@case("eviction under load: eight readers compare every byte")
def _(w):
    make_tree(w.tree, 400, 60 * MIB)
    m = w.mount(w.server(), options=["quota=20M"])
    equal(m.status()["quota_bytes"], 20 * MIB, "quota in status")
    readers = [w.spawn(["/usr/bin/python3", "-c", READER, m.point, w.tree, str(i), "6"], f"reader{i}.log")
               for i in range(8)]
    taken = []
    while any(r.running() for r in readers):
        taken.append(disk_bytes(m))
        time.sleep(0.05)
    for r in readers:
        equal(r.wait(), 0, f"exit code of a reader ({r.output()[-300:]})")
    usual = sorted(taken)[len(taken) // 2]
    print(f"# {usual / MIB:.1f} MiB, at most {max(taken) / MIB:.1f}, of a quota of 20; "
          f"fetched {m.status()['fetched_bytes'] / MIB:.0f} MiB")
    check(m.status()["fetched_bytes"] > 60 * MIB, "contents were evicted and fetched again")
    check(usual <= 20 * MIB + SLACK, f"{usual} bytes in a cache of 20 MiB")
    wait_until(lambda: disk_bytes(m) <= 20 * MIB, "back within the quota")
    accounted(m)
    equal(os.listdir(m.cache / "quarantine"), [], "blobs in quarantine")
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree at the end")


def make_large(tree, sizes, seed=3):
    rng = random.Random(seed)
    tree.mkdir(parents=True, exist_ok=True)
    for i, size in enumerate(sizes):
        (tree / f"f{i:02}").write_bytes(rng.randbytes(size))


@case("large contents evicted under load: eight readers read ranges of them, mapped and not, and compare every byte")
def _(w):
    make_large(w.tree, [2 * MIB + i * 300_001 for i in range(14)])
    for path in w.tree.iterdir():  # as tests/peers/random_reader.py wants to know them
        size = path.stat().st_size
        w.path("versions", path.name).mkdir(parents=True)
        os.link(path, w.path("versions", path.name, f"1-{size}-{size}"))
    m = w.mount(w.server(), options=["quota=20M"])
    stop = w.path("stop")
    readers = [w.spawn([sys.executable, PEERS / "random_reader.py", m.point, w.path("versions"), str(i), stop], f"reader{i}.log")
               for i in range(8)]
    taken, until = [], time.monotonic() + 5
    while time.monotonic() < until and all(r.running() for r in readers):
        forget_pages(m.point / f"f{len(taken) % 14:02}")
        taken.append(disk_bytes(m))
        time.sleep(0.05)
    stop.touch()
    counts = {}
    for r in readers:
        equal(r.wait(), 0, f"exit code of a reader ({r.output()[-500:]})")
        for what, number in json.loads(r.output().splitlines()[-1]).items():
            counts[what] = counts.get(what, 0) + number
    status = m.status()
    say(f"at most {max(taken) / MIB:.1f} MiB, of a quota of 20; fetched {status['fetched_bytes'] / MIB:.0f} MiB; {counts}")
    equal([what for what in counts if what.startswith("E")], [], "errors of the readers")
    check(status["fetched_bytes"] > 60 * MIB, "contents were evicted and fetched again")
    wait_until(lambda: disk_bytes(m) <= 20 * MIB, "back within the quota")
    accounted(m)
    m.unmount()
    equal(cache(m, "verify")["damaged"], 0, "damaged contents")
    equal(os.listdir(m.cache / "quarantine"), [], "blobs in quarantine")


@case("much data through a small quota: memory and cache stay small")
def _(w):
    rng = random.Random(1)
    w.tree.mkdir(parents=True)
    block = rng.randbytes(16 * MIB)
    for i in range(40):
        (w.tree / f"f{i:02d}").write_bytes(i.to_bytes(8, "little") + block)
    m = w.mount(w.server(), options=["quota=64M"])
    most_rss, most_disk = 0, 0
    for i in range(40):
        check(read(m.point / f"f{i:02d}") == i.to_bytes(8, "little") + block, f"bytes of f{i:02d}")
        most_rss, most_disk = max(most_rss, rss(m)), max(most_disk, disk_bytes(m))
    print(f"# 640 MiB through 64: at most {most_rss / MIB:.0f} MiB resident, {most_disk / MIB:.0f} MiB in the cache")
    check(most_rss < 100 * MIB, f"{most_rss} bytes resident")
    check(most_disk < 256 * MIB, f"{most_disk} bytes in the cache")
    wait_until(lambda: disk_bytes(m) <= 64 * MIB, "back within the quota")
    accounted(m)


@case("a file larger than the quota can be read, and others at the same time")
def _(w):
    make_tree(w.tree / "small", 100, 4 * MIB)
    big = random.Random(2).randbytes(24 * MIB)
    (w.tree / "big").write_bytes(big)
    m = w.mount(w.server(), options=["quota=8M"])
    reader = w.spawn(["/usr/bin/python3", "-c", READER, m.point / "small", w.tree / "small", "1", "4"], "reader.log")
    for _ in range(3):
        check(read(m.point / "big") == big, "bytes of the big file")
    equal(reader.wait(), 0, f"exit code of the reader ({reader.output()[-300:]})")
    check(read(m.point / "big") == big, "bytes of the big file")
    accounted(m)
    check("quota" in m.daemon.output(), "the log says that the quota cannot be kept")
    read(m.point / "small" / "d0000" / "f000000.bin")
    (w.tree / "late").write_bytes(b"late" * 1000)
    m.refresh()
    read(m.point / "late")
    wait_until(lambda: disk_bytes(m) <= 8 * MIB, "back within the quota, once it is closed and something else is fetched")
    check(rss(m) < 100 * MIB, f"{rss(m)} bytes resident")
    accounted(m)


@case("kill -9 of one of two mounts: the other's accounting is right, and the next mount's")
def _(w):
    make_tree(w.tree, 300, 30 * MIB)
    server = w.server()
    one, two = w.mount(server, options=["quota=12M"]), w.mount(server, options=["quota=16M"])
    for number in range(6):
        reader = w.spawn(["/usr/bin/python3", "-c", READER, two.point, w.tree, str(number), "30"], f"r{number}.log")
        other = w.spawn(["/usr/bin/python3", "-c", READER, one.point, w.tree, str(99 + number), "1"], f"o{number}.log")
        time.sleep(0.4 + number * 0.05)
        two.kill()
        reader.wait()
        equal(other.wait(), 0, f"exit code of the other mount's reader ({other.output()[-300:]})")
        read(one.point / "d0000" / "f000000.bin")
        cached = one.status()
        check(cached["quota_bytes"] == 12 * MIB, "the quota of the dead one is gone")
        wait_until(lambda: disk_bytes(one) <= 12 * MIB, "within the quota of who is left")
        accounted(one)
        two = w.mount(server, options=["quota=16M"])
        accounted(two)
    equal(cache(one, "verify")["damaged"], 0, "damaged blobs")


@case("pins stay; evict, unpin and gc do what they say")
def _(w):
    make_tree(w.tree, 50, 2 * MIB)
    (w.tree / "kept").write_bytes(b"k" * 100_000)
    m = w.mount(w.server(), options=["quota=1M"])
    done = json.loads(fsyncfs("cache", "pin", m.point / "kept", "--json").stdout)
    equal([(d["pinned"], d["cached"]) for d in done], [(True, False)], "pinned before it is here")
    equal(done[0]["cache_dir"], str(m.cache), "the cache of the mount")
    for _ in range(2):
        same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
    equal([p["hash"] for p in cache(m, "pins")], [done[0]["hash"]], "pins")
    stat = cache(m, "stat")
    equal((stat["pinned"], stat["pinned_bytes"], stat["quota_bytes"]), (1, 100_000, MIB), "stat")
    m.unmount()
    evicted = cache(m, "evict", "--to", "512K")
    check(evicted["store_bytes"] <= MIB // 2, f"{evicted}")
    cache(m, "evict")
    stat = cache(m, "stat")
    equal((stat["blobs"], stat["pinned"], stat["store_bytes"]), (1, 1, 102_400), "only the pinned one is left")
    (m.cache / "quarantine" / "xxh3-00").write_bytes(b"12345")
    equal(cache(m, "gc")["removed"], 1, "gc removes what is in quarantine")
    catalog = next(m.cache.glob("catalogs/*/slot0.db"))
    equal((cache(m, "gc")["catalogs"], catalog.exists()), (0, True), "a catalog that was just in use stays")
    for path in catalog.parent.glob("slot0.*"):
        os.utime(path, (0, 0))
    equal((cache(m, "gc")["catalogs"], catalog.exists()), (1, False), "one that nobody has used for long goes")
    fsyncfs("cache", "unpin", done[0]["hash"], "--cache", m.cache)
    equal(cache(m, "evict")["evicted"], 1, "unpinned: it goes")
    equal(cache(m, "stat")["blobs"], 0, "empty")
    one_line(run([program("fsyncfs"), "cache", "pin", w.tree / "kept", "--cache", m.cache]), 1, "kept")
    one_line(run([program("fsyncfs"), "mount", "h:/s", w.path(), "-o", "quota=lots"]), 1, "quota")
    equal(run([program("fsyncfs"), "cache", "evict", "--to", "x", "--cache", m.cache]).returncode, 2, "wrong size")
    equal(run([program("fsyncfs"), "cache", "pin", "--cache", m.cache]).returncode, 2, "no file")


main()
