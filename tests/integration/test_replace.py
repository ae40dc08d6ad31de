"""Proof 5: a file replaced on the master while 200 readers read it: each sees wholly old or wholly new."""

import errno
import hashlib
import json
import os
import sys
import threading

from harness import case, check, equal, main, wait_until

READERS, PROCESSES = 200, 4
SIZE = 3_000_000

# READERS / PROCESSES threads; each opens, reads in odd steps and hashes the file until the stop file is there.
READER = r'''
import hashlib, json, os, random, sys, threading
path, stop, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
seen, errors, reads = set(), [], [0] * threads
def one(index):
    rng = random.Random(index)
    while not (os.path.exists(stop) and reads[index] > 0):
        try:
            digest = hashlib.md5()
            with open(path, "rb", buffering=0) as f:
                while data := f.read(rng.randrange(1000, 400_000)):
                    digest.update(data)
            seen.add(digest.hexdigest())
        except OSError as error:
            errors.append(str(error))
        reads[index] += 1
running = [threading.Thread(target=one, args=(i,)) for i in range(threads)]
for t in running: t.start()
print("reading", flush=True)
for t in running: t.join()
print(json.dumps({"seen": sorted(seen), "errors": errors[:5], "least": min(reads)}), flush=True)
'''


def content(version):
    """Every block names its version: a mixture of two has another hash than either."""
    return (f"version {version:06d} " * (SIZE // 15 + 1)).encode()[:SIZE + version % 2 * 1000]


def replace(path, version):
    temporary = path.with_name(".new")
    temporary.write_bytes(content(version))
    temporary.rename(path)


def readers_of(w, path):
    stop = w.path("stop")
    readers = [w.spawn([sys.executable, "-c", READER, path, stop, str(READERS // PROCESSES)], f"reader{i}.log")
               for i in range(PROCESSES)]
    for reader in readers:
        reader.wait_output("^reading$")
    return stop, readers


def verdict(readers, versions):
    known = {hashlib.md5(content(v)).hexdigest(): v for v in versions}
    seen = set()
    for reader in readers:
        equal(reader.wait(180), 0, "a reader's exit code")
        report = json.loads(reader.output().splitlines()[-1])
        equal(report["errors"], [], "errors that readers met")
        equal([h for h in report["seen"] if h not in known], [], "contents seen that no version ever had")
        check(report["least"] > 0, "each reader read at least once")
        seen |= {known[h] for h in report["seen"]}
    return seen


@case("replaced by rename during 200 readers, each version refreshed")
def replaced(w):
    w.tree.mkdir(parents=True)
    path = w.tree / "file"
    replace(path, 0)
    m = w.mount(w.server())
    stop, readers = readers_of(w, m.point / "file")
    for version in range(1, 6):
        replace(path, version)
        m.refresh()
        equal((m.point / "file").read_bytes() == content(version), True, f"a new open sees version {version}")
    stop.touch()
    check(len(verdict(readers, range(6))) > 1, "the readers lived through a change")


@case("replaced during 200 readers and nobody refreshes: a stale answer brings the new version")
def stale(w):
    w.tree.mkdir(parents=True)
    replace(w.tree / "file", 0)
    m = w.mount(w.server())
    replace(w.tree / "file", 1)  # the worker's catalog still names version 0, which nobody has any more
    stop, readers = readers_of(w, m.point / "file")
    wait_until(lambda: (m.point / "file").stat().st_size == len(content(1)), "version 1 in the mount")
    stop.touch()
    verdict(readers, [1])


@case("an open file keeps the content it was opened with")
def open_file(w):
    w.tree.mkdir(parents=True)
    replace(w.tree / "file", 0)
    m = w.mount(w.server())
    with open(m.point / "file", "rb", buffering=0) as old:
        equal(old.read(1000), content(0)[:1000], "the first bytes")
        wait_until(lambda: m.status()["cached_files"] == 1, "all of it is here")
        replace(w.tree / "file", 1)
        m.refresh()
        equal((m.point / "file").read_bytes() == content(1), True, "a new open sees the new content")
        equal(os.pread(old.fileno(), SIZE, 0) == content(0), True, "the old descriptor sees the old content")
    (w.tree / "file").unlink()
    with open(m.point / "file", "rb") as still:
        m.refresh()
        equal(still.read() == content(1), True, "an open file that is gone")
    equal(os.listdir(m.point), [], "the listing")


@case("an open file that was replaced before anybody read it takes the new content on, and its attributes say so")
def bound(w):
    w.tree.mkdir(parents=True)
    replace(w.tree / "file", 0)
    m = w.mount(w.server(), options=["xattr", "refresh=off", "prefetch=off"])
    with open(m.point / "file", "rb", buffering=0) as opened:
        before = os.getxattr(opened.fileno(), "user.fsyncfs.hash")
        replace(w.tree / "file", 1)
        equal(os.pread(opened.fileno(), 1000, 0), content(1)[:1000], "the first bytes")
        after = os.getxattr(opened.fileno(), "user.fsyncfs.hash")
        check(after != before, "it says that it is what it was")
        equal(after, os.getxattr(m.point / "file", "user.fsyncfs.hash"), "what it is, open and by its name")


@case("a listing under way and lookups see one version while versions change")
def versions_are_whole(w):
    """Two files are always changed together: whoever reads both within one version must see a pair."""
    w.tree.mkdir(parents=True)

    def write(version):
        for name in ("a", "b"):
            (w.tree / f".{name}").write_text(str(version) * 100)
            (w.tree / f".{name}").rename(w.tree / name)
    write(0)
    m = w.mount(w.server())
    torn, over = [], threading.Event()

    def look():
        while not over.is_set():
            first = m.version()
            try:
                pair = [(m.point / name).read_text() for name in ("a", "b")]
            except OSError as error:
                if error.errno != errno.ESTALE:  # the master replaced it before it was ever read: an error, but no mixture
                    torn.append(error)
                continue
            if m.version() == first and pair[0] != pair[1]:
                torn.append(pair)
    reader = threading.Thread(target=look)
    reader.start()
    try:
        for version in range(1, 10):
            write(version)
            m.refresh()
    finally:
        over.set()
        reader.join()
    equal(torn, [], "pairs of different versions")


main()
