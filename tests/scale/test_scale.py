"""A large tree: what moves, what is read and what is held follows change, not size; a transfer that breaks off goes on.

100,000 entries; 1,000,000 with FSYNCFS_TEST_FULL=1. No times are asserted: tests/bench/scale measures them.
"""

import atexit
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from scalelib import is_complete, make_tree, nothing_to_sync, root_digest, rss_bytes, wait_complete
from counting_proxy import CountingProxy
from harness import FULL, SPIDER, WAIT_SEC, case, check, equal, fails_with, main, say, wait_until

FOLDERS, FILES = (1000, 999) if FULL else (100, 999)
ENTRIES = 1 + FOLDERS * (1 + FILES)
CHANGES = 100
REMOUNT_BYTES = 10_000    # metadata that a remount without a change may move
REFRESH_BYTES = 100_000   # and a refresh after CHANGES changes
PACKED_BYTES = 30         # an entry on the wire in a first mount, at most, 16 of them its hash
RSS_MOUNTED, RSS_FOUND = 40_000_000, 120_000_000
MOUNTS = 8
LOST_BYTES = 1_000_000 if FULL else 400_000  # that may be sent twice after a break: a pack or so, and what was on its way
TRANSFER_SEC = 20 if FULL else 4  # of a slow line: a worker that has no processor to itself still keeps up, so that little is on its way
LAZY = ["lazy=1"]         # a mount is there after a second, if not all of it
SENT = "fsyncfs_metadata_bytes_sent_total"


class Shared:
    """The tree, made and hashed once for all cases; none but the first changes it."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="fsyncfs-test-"))
        atexit.register(shutil.rmtree, self.dir, ignore_errors=True)
        self.root = self.dir / "master"
        self.tree = self.root / SPIDER
        make_tree(self.tree, "wide", FOLDERS, FILES)
        self.index = self.dir / "index"
        self.known = {}
        self.changed([])

    def changed(self, folders):
        """There are other files in FOLDERS now: the digest is another one."""
        self.whole = None
        for folder in ("", *folders):
            self.known.pop(os.fsencode(self.tree / folder), None)
        self.digest, entries = root_digest(self.tree, self.known)
        equal(entries, ENTRIES, "entries of the tree")

    def server(self, w, **options):
        return w.server(root=self.root, **{"index": self.index, **options})


_shared = []


def shared():
    if not _shared:
        _shared.append(Shared())
    return _shared[0]


def shows_all(mount, tree):
    """The mount has the tree's version, its names and attributes, and (a sample of) its contents."""
    wait_complete(mount, ENTRIES)
    equal(mount.version(), tree.digest, "the root digest")
    for folder in ("", "dir0000", f"dir{FOLDERS // 2:04d}", f"dir{FOLDERS - 1:04d}"):
        names = sorted(os.listdir(tree.tree / folder))
        equal(sorted(os.listdir(mount.point / folder)), names, f"names in '{folder}'")
    nothing_to_sync(tree.tree / f"dir{FOLDERS - 1:04d}", mount.point / f"dir{FOLDERS - 1:04d}")


def sent_by(server, act):
    """(what ACT returned, bytes of metadata that it made the server send)."""
    before = server.counter(SENT)
    result = act()
    return result, server.counter(SENT) - before


def change(tree, number):
    """Writes to NUMBER files in twenty folders."""
    folders = [f"dir{i % 20 * 7 % FOLDERS:04d}" for i in range(number)]
    for i, folder in enumerate(folders):
        (tree.tree / folder / f"file_{i:04d}.py").write_bytes(b"changed %d\n" % time.monotonic_ns())
    tree.changed(folders)


@case(f"{ENTRIES} entries: mounted, remounted, refreshed, pushed: what moves follows what changed")
def follows_change(w):
    tree = shared()
    server = tree.server(w)
    m, sent = sent_by(server, lambda: w.mount(server, point="mnt"))
    shows_all(m, tree)
    status = m.status()
    equal((status["files"], status["directories"], status["symlinks"]), (FOLDERS * FILES, FOLDERS + 1, 0), "counts")
    sent = max(sent, server.counter(SENT))
    check(sent <= PACKED_BYTES * ENTRIES, f"the first mount: {sent} bytes of metadata")
    passes, hashed = (server.counter(f"fsyncfs_{n}_total") for n in ("stat_passes", "files_hashed"))
    equal(hashed, FOLDERS * FILES, "files hashed")
    m.unmount()

    m, sent = sent_by(server, lambda: w.mount(server, point="mnt"))
    check(sent <= REMOUNT_BYTES, f"a remount: {sent} bytes of metadata")
    shows_all(m, tree)

    change(tree, CHANGES)
    _, sent = sent_by(server, m.refresh)
    check(sent <= REFRESH_BYTES, f"a refresh after {CHANGES} changes: {sent} bytes of metadata")
    shows_all(m, tree)
    check(server.counter("fsyncfs_files_hashed_total") - hashed <= 3 * CHANGES, "files hashed for that")
    equal(server.counter("fsyncfs_stat_passes_total"), passes, "walks over the tree: the watcher knows")
    m.unmount()

    m = w.mount(server, point="mnt", options=["refresh=push"])
    change(tree, CHANGES)
    wait_until(lambda: m.version() == tree.digest, "the new version by push")
    shows_all(m, tree)
    equal(m.status()["full_scans"], 0, "differences that did not lead to the version they were of")
    equal(server.counter("fsyncfs_stat_passes_total"), passes, "walks over the tree: the watcher knows")


@case("a master that was away: one walk, nothing hashed but what changed, and the worker is sent the difference")
def restart(w):
    tree = shared()
    server = tree.server(w)
    m = w.mount(server, point="mnt")
    wait_complete(m, ENTRIES)
    equal(server.stop(), 0, "exit code")
    change(tree, CHANGES)
    server = tree.server(w, port=server.port)
    _, sent = sent_by(server, m.refresh)
    shows_all(m, tree)
    check(sent <= REFRESH_BYTES, f"{sent} bytes of metadata")
    equal(server.counter("fsyncfs_stat_passes_total"), 1, "walks over the tree")
    hashed = server.counter("fsyncfs_files_hashed_total")
    check(hashed <= 3 * CHANGES, f"{hashed} files hashed")


@case(f"{MOUNTS} first mounts at once: one scan, one snapshot; memory within bounds, also after a full find")
def at_once(w):
    tree = shared()
    server = tree.server(w, index=w.path("index"))
    mounts = []

    def mount(i):
        mounts.append(w.mount(server, cache=f"cache{i}", point=f"mnt{i}"))
    threads = [threading.Thread(target=mount, args=(i,)) for i in range(MOUNTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(len(mounts), MOUNTS, "mounts that came up")
    for m in mounts:
        wait_complete(m, ENTRIES)
        equal(m.version(), tree.digest, "the root digest")
    for name in ("scans", "snapshots_built", "stat_passes"):
        equal(server.counter(f"fsyncfs_{name}_total"), 1, name)
    mounted = rss_bytes(mounts[0].serving_pid())
    found = sum(1 + len(files) for _, _, files in os.walk(mounts[0].point))
    equal(found, ENTRIES, "entries found")
    after = rss_bytes(mounts[0].serving_pid())
    say(f"RSS: {mounted >> 20} MiB mounted, {after >> 20} MiB after find; the master's {rss_bytes(server.pid) >> 20} MiB")
    check(mounted <= RSS_MOUNTED, f"RSS after mount: {mounted}")
    check(after <= RSS_FOUND, f"RSS after find: {after}")


def whole_transfer(w, tree, server):
    """Bytes from the server that an undisturbed first mount takes, counted by the proxy."""
    if tree.whole is None:
        with CountingProxy(server.port) as proxy:
            m = w.mount(source(proxy), cache="cache-whole", point="mnt-whole")
            wait_complete(m, ENTRIES)
            m.unmount()
            tree.whole = proxy.down
    return tree.whole


def source(proxy):
    return f"127.0.0.1:{proxy.port}:/{SPIDER}"


def goes_on(mount, tree, proxy, whole, losses, what):
    """In the end all is there, and little of it came twice."""
    wait_complete(mount, ENTRIES)
    came = proxy.down
    proxy.rate = None
    say(f"{what}: {came} bytes came, {whole} without")
    check(came <= whole + losses * LOST_BYTES, f"{what}: {came} bytes came, {whole} would have done")
    shows_all(mount, tree)


def throttled(whole):
    """Bytes a second at which all takes TRANSFER_SEC."""
    return whole / TRANSFER_SEC


@case("a transfer that is cut in the middle goes on where it was")
def cut(w):
    tree = shared()
    server = tree.server(w)
    whole = whole_transfer(w, tree, server)
    for part in (0.2, 0.5, 0.9):
        with CountingProxy(server.port, rate=throttled(whole)) as proxy:
            proxy.cut_after(int(whole * part))
            m = w.mount(source(proxy), cache=f"cache{part}", point=f"mnt{part}")
            goes_on(m, tree, proxy, whole, 1, f"cut after {part}")
            equal(proxy.cuts, 1, "cuts")
            m.unmount()
    equal(server.counter("fsyncfs_snapshots_built_total"), 1, "snapshots")


@case("kill -9 of the worker in the middle of it: the next mount goes on where it was")
def killed(w):
    tree = shared()
    server = tree.server(w)
    whole = whole_transfer(w, tree, server)
    with CountingProxy(server.port, rate=throttled(whole)) as proxy:
        for part in (0.3, 0.6):
            m = w.mount(source(proxy), point="mnt", options=LAZY)
            wait_until(lambda p=part: proxy.down >= whole * p, f"{part} of the transfer")
            check(not is_complete(m, ENTRIES), "all was there before the kill: nothing is tested")
            m.kill()
        proxy.rate = None
        m = w.mount(source(proxy), point="mnt")
        goes_on(m, tree, proxy, whole, 2, "two kills")


@case("a master that is restarted in the middle of it: the transfer goes on")
def master_restarted(w):
    tree = shared()
    server = tree.server(w)
    whole = whole_transfer(w, tree, server)
    with CountingProxy(server.port, rate=throttled(whole)) as proxy:
        m = w.mount(source(proxy), point="mnt", options=LAZY)
        wait_until(lambda: proxy.down >= whole / 2, "half of the transfer")
        proxy.drop()
        server.kill()
        server = tree.server(w, port=server.port)
        proxy.rate = None
        goes_on(m, tree, proxy, whole, 1, "a restart")


@case("over a slow link ls answers before all is there; a folder is shown whole or not yet; in the end all is right")
def before_all(w):
    tree = shared()
    server = tree.server(w)
    whole = whole_transfer(w, tree, server)
    with CountingProxy(server.port, rate=throttled(whole)) as proxy:
        m = w.mount(source(proxy), point="mnt", options=LAZY)
        last = f"dir{FOLDERS - 1:04d}"
        names = sorted(os.listdir(m.point))
        came = proxy.down
        equal(names, sorted(os.listdir(tree.tree)), "names in the root")
        equal(len(os.listdir(m.point / last)), FILES, "names in the last folder, asked for out of turn")
        asked = proxy.down
        complete = is_complete(m, ENTRIES)
        say(f"ls answered after {came} of {whole} bytes, that of the last folder after {asked}")
        check(not complete, "all was there already: nothing is tested")
        check(came < whole / 2, f"ls answered after {came} of {whole} bytes")
        equal((m.point / last / "file_0000.py").read_bytes(), (tree.tree / last / "file_0000.py").read_bytes(), "its first file")
        equal(m.version(), tree.digest, "the version, from the beginning")
        proxy.rate = None
        shows_all(m, tree)


@case("a master that goes away in the middle of it: what is there stays, what is not says so in time")
def left_alone(w):
    tree = shared()
    server = tree.server(w)
    whole = whole_transfer(w, tree, server)
    with CountingProxy(server.port, rate=throttled(whole)) as proxy:
        m = w.mount(source(proxy), point="mnt", options=[*LAZY, "timeout=3"])
        wait_until(lambda: proxy.down >= whole / 2, "half of the transfer")
        proxy.drop()
        server.kill()
        equal(len(os.listdir(m.point)), FOLDERS, "names in the root")
        equal(len(os.listdir(m.point / "dir0000")), FILES, "names in the first folder")
        start = time.monotonic()
        fails_with({5, 110, 113, 107, 11}, os.listdir, m.point / f"dir{FOLDERS - 1:04d}")
        check(time.monotonic() - start < WAIT_SEC, "the answer took too long")
        server = tree.server(w, port=server.port)
        proxy.rate = None
        shows_all(m, tree)


main()
