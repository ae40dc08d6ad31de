"""The measurements of `scale`, each with its peer, in rounds that alternate. They leave their samples in the report."""

import os
import subprocess
import time
from pathlib import Path

import gauge
from harness import equal, program, run_ok
from scale_lab import LONG_SEC, SMALL, memory

XXHSUM = 'find "$0" -type f -print0 | xargs -0 -P2 xxhsum -H2 >/dev/null 2>&1'
CHANGES = 100  # of a refresh
PARTIAL = "this master looks only at the folder that is asked for"


def timed(argv):
    """Seconds that a command takes whose output is not wanted."""
    start = time.monotonic()
    subprocess.run([os.fspath(a) for a in argv], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)
    return time.monotonic() - start


def drop_dentries():
    """The kernel forgets names and attributes; the pages of files and of the disk's tables stay."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("2\n")


def ask(lab, server, cache):
    """Has the master answer for a folder of few entries, which takes a look at the whole workspace. Seconds."""
    mount = lab.mount(server, cache, path="/" + lab.leaf, point=lab.work.path("leaf"))
    seconds, _ = mount.mount()
    mount.unmount()
    return seconds


def first_scan(lab, report):
    """A master without an index: everything is read and hashed. The page cache is warm for both."""
    timed(["sh", "-c", XXHSUM, lab.tree])
    for _ in range(lab.args.rounds):
        report.keep("scan.peer", timed(["sh", "-c", XXHSUM, lab.tree]))
        index = lab.fresh("index")
        server = lab.server(index.name)
        seconds = ask(lab, server, lab.fresh("cache"))
        report.keep("scan.hashed", server.counter("fsyncfs_files_hashed_total"))
        report.keep("scan.master_rss", memory(server.pid)["VmHWM"])
        server.stop()
        lab.remove(index)
        if report.get("scan.hashed")[-1] < lab.files:
            report.missing("master's first scan", PARTIAL)
            return
        report.keep("scan.time", seconds)
    report.ratio("master's first scan", 1.5, "scan.time", "scan.peer", "xxhsum")
    report.absolute("  its peak RSS", None, "scan.master_rss", "MB")


def restart(lab, report):
    """A master that was away and knows nothing of the meantime; nobody remembers names and attributes."""
    server = lab.server()
    cache = lab.fresh("cache")
    ask(lab, server, cache)
    hashed = server.counter("fsyncfs_files_hashed_total")
    server.stop()
    if hashed < lab.files:
        report.missing("restart until it can answer", PARTIAL)
        return
    for _ in range(lab.args.rounds):
        drop_dentries()
        report.keep("restart.peer", timed(["find", lab.tree, "-printf", "%s %T@ %i\\n"]))
        drop_dentries()
        start = time.monotonic()
        server = lab.server()
        listening = time.monotonic() - start
        report.keep("restart.time", listening + ask(lab, server, cache))
        report.keep("restart.hashed", server.counter("fsyncfs_files_hashed_total"))
        report.keep("restart.passes", server.counter("fsyncfs_stat_passes_total"))
        server.stop()
    report.ratio("restart until it can answer, cold dentries", 0.5, "restart.time", "restart.peer", "find -printf")
    report.absolute("  files hashed by that", 0, "restart.hashed", "", max)


def _first_mount(lab, report, mount):
    wire, start = gauge.wire_bytes(), time.monotonic()
    seconds, _ = mount.mount()
    report.keep("mount.ls", seconds)
    mount.wait_complete(lab.entries)
    report.keep("mount.time", time.monotonic() - start)
    report.keep("mount.wire", gauge.wire_bytes() - wire)


def _keep_memory(report, key, pid):
    for name, value in memory(pid).items():
        report.keep(f"{key}.{name}", value)


def mounts(lab, report, server):
    """First mounts with an empty cache, the worker's memory, then remounts of the large tree and of the small one in turn."""
    ask(lab, server, lab.fresh("cache"))  # the master has seen the tree
    for number in range(lab.args.rounds):
        cache = lab.fresh("cache")
        mount = lab.mount(server, cache)
        _first_mount(lab, report, mount)
        _keep_memory(report, "rss.mounted", mount.daemon())
        gauge.find(mount.point)
        _keep_memory(report, "rss.found", mount.daemon())
        mount.unmount()
        if number + 1 < lab.args.rounds:
            lab.remove(cache)
    report.absolute("first mount, until all is there", 3, "mount.time", "s")
    report.absolute("  until ls answers", None, "mount.ls", "s")
    report.absolute("  on the wire", 30, "mount.wire", "MB")
    _remounts(lab, report, server, cache)
    for key, title, goal in (("mounted", "worker's RSS after mount", 40), ("found", "worker's RSS after a full find", 120)):
        report.absolute(title, goal, f"rss.{key}.VmRSS", "MB", max)
        report.absolute("  of that its own (Pss_Anon)", None, f"rss.{key}.Pss_Anon", "MB", max)
    return cache


def _remounts(lab, report, server, cache):
    small_cache = lab.fresh("cache")
    pairs = {"large": lab.mount(server, cache), "small": lab.mount(server, small_cache, spider=SMALL)}
    for mount in pairs.values():
        mount.mount()
        mount.unmount()
    for _ in range(3 * lab.args.rounds):
        for name, mount in pairs.items():
            seconds, wire = mount.mount()
            report.keep(f"remount.{name}", seconds)
            report.keep(f"remount.{name}.wire", wire)
            mount.unmount()
    report.absolute("remount, nothing changed", 0.3, "remount.large", "s")
    report.absolute("  on the wire", 10, "remount.large.wire", "KB")
    report.ratio(f"  against one of {lab.small_entries:,} entries", 1.5, "remount.large", "remount.small", "the small one", "ms")


def refresh(lab, report, server, cache):
    """100 files changed all over the tree, nobody told the worker; then it asks."""
    mount = lab.mount(server, cache, options=["refresh=off"] if lab.has_push else [])
    mount.mount()
    passes = server.counter("fsyncfs_stat_passes_total")
    for _ in range(lab.args.rounds):
        changed = lab.change(CHANGES)
        time.sleep(1)  # the clock that stamps files moves on; the master's watcher has seen it all
        wire, start = gauge.wire_bytes(), time.monotonic()
        run_ok([program("fsyncfs"), "refresh", mount.point], timeout=LONG_SEC)
        report.keep("refresh.time", time.monotonic() - start)
        report.keep("refresh.wire", gauge.wire_bytes() - wire)
        path = changed[0]
        shown = (mount.point / path.relative_to(lab.tree)).stat()
        equal((shown.st_size, shown.st_mtime_ns), (path.stat().st_size, path.stat().st_mtime_ns), f"what is shown of {path}")
    report.keep("refresh.passes", server.counter("fsyncfs_stat_passes_total") - passes)
    mount.unmount()
    report.absolute(f"refresh after {CHANGES} changes", 0.3, "refresh.time", "s")
    report.absolute("  on the wire", 100, "refresh.wire", "KB")
    report.absolute("  walks over the tree by the master for that", 0, "refresh.passes", "")


def finds(lab, report, server, cache):
    """find in a fresh mount, and again; against libfuse alone and the folder itself."""
    for _ in range(lab.args.rounds):
        for load in ("find", "size"):
            process, point = lab.memfs()
            _find_in(report, "memfs", load, point)
            run_ok(["umount", point])
            process.wait(LONG_SEC)
            mount = lab.mount(server, cache)
            mount.mount()
            mount.wait_complete(lab.entries)
            _find_in(report, "ours", load, mount.point)
            mount.unmount()
        gauge.find(lab.tree)
        report.keep("find.second.native", timed(["find", lab.tree]))
        report.keep("size.second.native", timed(["find", lab.tree, "-size", "+1M"]))
    for load, words in (("find", "find"), ("size", "find -size +1M")):
        report.ratio(f"{words}, first pass", 1.5, f"{load}.first.ours", f"{load}.first.memfs", "bare libfuse")
        report.ratio(f"{words}, second pass", 1.2, f"{load}.second.ours", f"{load}.second.native", "native")
        report.ratio("  bare libfuse", None, f"{load}.second.memfs", f"{load}.second.native", "native")


def _find_in(report, who, load, folder):
    argv = ["find", folder] + (["-size", "+1M"] if load == "size" else [])
    for when in ("first", "second"):
        report.keep(f"{load}.{when}.{who}", timed(argv))
