"""Contents so small that they come with the names: nothing is asked for, nothing is in the store, and they are there without the master."""

import json
import os
import sqlite3
import sys

from harness import case, check, equal, main, program, run_ok, wait_until
from trees import TINY_MAX, same_snapshot, settle, snapshot

WAYS = ("changes", "batches", "snapshot")


def write(root, files):
    """FILES: {path: bytes}, below ROOT."""
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    settle()


def some_files(n=300):
    """Files of every size that is tiny, some of them equal, in a few folders."""
    files = {f"d{i % 7}/f{i:04d}": bytes((i * 31 + k) % 251 for k in range(i % (TINY_MAX + 1))) for i in range(n)}
    files.update({f"equal/e{i}": b"the same in all of them\n" for i in range(20)})
    return files


def same(point, files, what):
    for path, data in files.items():
        equal((point / path).read_bytes(), data, f"{what}: {path}")


def blobs(mount):
    return [p for p in (mount.cache / "blobs").glob("*/*/*") if p.is_file()]


def catalog(mount):
    return next(mount.cache.glob("catalogs/*/slot0.db"))


def nothing_was_asked_for(server, mount):
    equal(server.counter("fsyncfs_downloads_total"), 0, "contents that the master was asked for")
    equal(blobs(mount), [], "blobs")
    equal(mount.status()["misses"], 0, "reads that missed")


def cold(way):
    @case(f"cold, sent as {way}: read without a want, and with the master gone")
    def cold_way(w):
        files = some_files()
        write(w.tree, files)
        server = w.server()
        os.environ["FSYNCFS_TEST_STRATEGY"] = way
        try:
            m = w.mount(server, options=["prefetch=off", "timeout=2"])
        finally:
            del os.environ["FSYNCFS_TEST_STRATEGY"]
        half = dict(list(files.items())[::2])
        same(m.point, half, "with the master")
        nothing_was_asked_for(server, m)
        server.kill()
        same(m.point, files, "without it")
        same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
        status = m.status()
        equal((status["cached_files"], status["cached_bytes"]), (status["files"], status["bytes"]), "what is here")
        equal(status["misses"], 0, "reads that missed")
        # A daemon that begins anew has them, too.
        m.unmount()
        again = w.mount(m.source, options=["offline"])
        same(again.point, files, "mounted offline")


for one in WAYS:
    cold(one)


@case("the bound: one byte more is fetched, and lies in the store")
def bound(w):
    write(w.tree, {"most": b"m" * TINY_MAX, "more": b"n" * (TINY_MAX + 1), "empty": b""})
    server = w.server()
    m = w.mount(server, options=["prefetch=off"])
    equal(m.status()["cached_files"], 2, "files that are here at once")
    same(m.point, {"most": b"m" * TINY_MAX, "empty": b""}, "tiny")
    nothing_was_asked_for(server, m)
    equal((m.point / "more").read_bytes(), b"n" * (TINY_MAX + 1), "one byte more")
    equal(server.counter("fsyncfs_downloads_total"), 1, "contents asked for")
    wait_until(lambda: len(blobs(m)) == 1, "it is in the store")
    equal(m.status()["cached_files"], 3, "files that are here then")
    cached = run_ok([program("fsyncfs"), "stat", m.point / "most"]).stdout
    check("100" in cached, f"fsyncfs stat: {cached}")
    pinned = json.loads(run_ok([program("fsyncfs"), "cache", "pin", m.point / "most", "--json"]).stdout)
    equal([p["cached"] for p in pinned], [True], "pinned, and here")


@case("replaced: the new bytes come with the version, open files keep theirs, nothing is asked for")
def replaced(w):
    files = {f"f{i}": b"version 1 of %d" % i for i in range(50)}
    write(w.tree, files)
    server = w.server()
    m = w.mount(server, options=["prefetch=off"])
    with open(m.point / "f1", "rb", buffering=0) as unread, open(m.point / "f2", "rb", buffering=0) as read:
        equal(read.read(4), b"vers", "first bytes")
        after = {name: b"2, longer, " + data for name, data in files.items()}
        after["f3"] = b""
        after["new"] = b"not there before"
        write(w.tree, after)
        (w.tree / "f4").unlink()
        del after["f4"]
        settle()
        m.refresh()
        same(m.point, after, "the new version")
        check(not (m.point / "f4").exists(), "f4 is gone")
        os.lseek(read.fileno(), 0, os.SEEK_SET)
        equal(read.read(), files["f2"], "the old bytes of an open file")
        equal(unread.read(), files["f1"], "those of an open file that nobody had read")
    nothing_was_asked_for(server, m)
    # From tiny to large and back.
    write(w.tree, {"f5": b"x" * 1000})
    m.refresh()
    equal((m.point / "f5").read_bytes(), b"x" * 1000, "grown")
    write(w.tree, {"f5": b"small again"})
    m.refresh()
    equal((m.point / "f5").read_bytes(), b"small again", "shrunk")
    equal(server.counter("fsyncfs_downloads_total"), 1, "contents asked for")


@case("pushed versions bring them, too")
def pushed(w):
    write(w.tree, {"f": b"before"})
    server = w.server()
    m = w.mount(server, options=["prefetch=off", "refresh=push"])
    equal((m.point / "f").read_bytes(), b"before", "before")
    wait_until(lambda: m.status()["watching"], "it listens to the master")
    write(w.tree, {"f": b"after"})
    wait_until(lambda: (m.point / "f").read_bytes() == b"after", "the push")
    nothing_was_asked_for(server, m)


@case("a second mount begins with the first one's, prefetch finds nothing to do, read-ahead reads through")
def others(w):
    files = some_files()
    write(w.tree, files)
    server = w.server()
    first = w.mount(server)
    second = w.mount(server)
    done = run_ok([program("fsyncfs"), "prefetch", second.point, "--json"]).stdout
    check('"fetched_files":0' in done.replace(" ", "") and '"failed":0' in done.replace(" ", ""), f"prefetch: {done}")
    server.kill()
    same(second.point, files, "of the second mount")
    for _ in range(2):
        run_ok(["sh", "-c", 'tar -cf - -C "$0" . | cat > /dev/null; echo 3 > /proc/sys/vm/drop_caches', first.point])
        same(first.point, files, "of the first one")
    equal(first.status()["failed_reads"], 0, "reads that failed")
    equal(blobs(first), [], "blobs")


@case("read-ahead brings them into the page cache, and nothing else has to come")
def ahead(w):
    files = {f"d{i // 100}/f{i % 100:02d}": b"number %d" % i * 10 for i in range(1000)}
    write(w.tree, files)
    server = w.server()
    m = w.mount(server)
    run_ok(["sh", "-c", 'tar -cf - -C "$0" . | cat > /dev/null', m.point])
    status = m.status()
    check(status["prefetched_files"] > 500, f"files pushed: {status['prefetched_files']}")
    check(status["hits"] < 500, f"reads that the daemon saw: {status['hits']}")
    same(m.point, files, "all of them")
    nothing_was_asked_for(server, m)


DAMAGE = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA wal_autocheckpoint = 0")
changed = db.execute("UPDATE entry SET data = x'ff' || substr(data, 2) WHERE name = x'61'").rowcount
db.commit()
os._exit(changed != 1)
"""


@case("bytes that were damaged in the catalog are not shown: the content is fetched, once")
def damaged(w):
    files = {"a": b"some bytes that matter", "b": b"some others"}
    write(w.tree, files)
    server = w.server()
    m = w.mount(server, options=["prefetch=off"])
    m.unmount()
    # Into the log, and no further: pages of the database bear sums.
    run_ok([sys.executable, "-c", DAMAGE, catalog(m)])
    again = w.mount(server, options=["prefetch=off"])
    same(again.point, files, "what is read")
    equal(server.counter("fsyncfs_downloads_total"), 1, "contents asked for")
    check("damaged" in again.daemon.output(), "the log says so")
    run_ok(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"])
    same(again.point, files, "once more")
    equal(server.counter("fsyncfs_downloads_total"), 1, "contents asked for in all")
    server.kill()
    again.unmount()
    offline = w.mount(m.source, options=["offline"])
    same(offline.point, files, "offline, from the store")


@case("a cache as an older version left it is begun anew")
def older(w):
    files = some_files(50)
    write(w.tree, files)
    server = w.server()
    m = w.mount(server, options=["prefetch=off"])
    m.unmount()
    with sqlite3.connect(catalog(m)) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    again = w.mount(server, options=["prefetch=off"])
    same(again.point, files, "what is read")
    nothing_was_asked_for(server, again)


main()
