"""The rows of `reads` in which nothing is in the store: the peers are a bare socket and rsync from a daemon."""

import os
import time

import gauge
from daemons import RsyncDaemon
from harness import program, run_ok
from reads_lab import MIB, cpu_seconds, peak_bytes
from scale_fleet import mount_all
from scale_lab import unmount_all
from scale_rows import timed

FLEET = 50
QUOTA_BYTES = 1 << 30
CHANGED_BYTES = MIB  # of the new version of a large file


def _timed_cpu(lab, report, key, group, action):
    """ACTION()'s seconds and the CPU time of the server meanwhile."""
    before = lab.cpu[group].seconds()
    report.keep(f"{key}.time", action())
    time.sleep(gauge.SETTLE_SEC)
    report.keep(f"{key}.cpu", lab.cpu[group].seconds() - before)


def _whole(lab, report):
    """The large file through an empty store, as fast as it comes."""
    mount = lab.cold("large")
    daemon = mount.daemon()
    before = cpu_seconds(daemon)
    _timed_cpu(lab, report, "cold.ours", "fsyncfs", lambda: timed([lab.readload, "sequential", mount.point / "file"]))
    report.keep("cold.ours.worker_cpu", cpu_seconds(daemon) - before)
    report.keep("cold.ours.worker_rss", peak_bytes(daemon))
    run_ok(["cmp", lab.tree("large") / "file", mount.point / "file"])
    lab.discard(mount)


def _byte(file, offset):
    """Seconds from open until the byte at OFFSET is there."""
    start = time.monotonic()
    fd = os.open(file, os.O_RDONLY)
    os.pread(fd, 1, offset)
    seconds = time.monotonic() - start
    os.close(fd)
    return seconds


def _first_byte(lab, report):
    for key, offset in (("first", 0), ("middle", lab.large_bytes // 2)):
        mount = lab.cold("large")
        report.keep(f"cold.{key}", _byte(mount.point / "file", offset))
        lab.discard(mount)


def cold(lab, report):
    """A large file's first read against its bytes over a socket into a file."""
    file = lab.tree("large") / "file"
    port, server = lab.raw_server(file)
    for _ in range(lab.args.rounds):
        lab.read("sequential", file)  # hot for both
        os.sync()
        _timed_cpu(lab, report, "cold.raw", "raw", lambda: lab.raw_fetch(port))
        _whole(lab, report)
        _first_byte(lab, report)
    server.stop()
    report.speed(f"{lab.large_bytes >> 20} MiB file, first read", 0.8, "cold.ours.time", "cold.raw.time", "a raw copy", "ms")
    report.absolute("  its first byte", 5, "cold.first", "ms")
    report.absolute("  a byte in its middle", 5, "cold.middle", "ms")
    report.absolute("  CPU time of the worker", None, "cold.ours.worker_cpu", "ms")
    report.ratio("  CPU time of the master", None, "cold.ours.cpu", "cold.raw.cpu", "sendfile", "ms")
    report.absolute("  worker's peak RSS", None, "cold.ours.worker_rss", "MB", max)


def _rsync(lab):
    """The daemon of all trees that were made by now; one for the run."""
    if not hasattr(lab, "rsync"):
        lab.rsync = RsyncDaemon(lab.work, {name: lab.tree(name) for name in ("thousand", "version")}, lab.cpu["rsync"].prefix)
    return lab.rsync


def _copy(lab, name, folder):
    """Seconds that rsync takes for it."""
    start = time.monotonic()
    run_ok(_rsync(lab).copy(name, folder))
    return time.monotonic() - start


def _mount_and_tar(lab, report, mount, tree):
    seconds, _ = mount.mount()
    report.keep("tree.mount", seconds)
    return seconds + lab.tar(mount.point, tree)


def tree(lab, report):
    """mount and tar against rsync -a, both from nothing."""
    tree = lab.tree("thousand")
    _rsync(lab)
    for _ in range(lab.args.rounds):
        folder = lab.fresh("copy")
        os.sync()
        _timed_cpu(lab, report, "tree.rsync", "rsync", lambda: _copy(lab, "thousand", folder))
        lab.remove(folder)
        os.sync()
        lab.forget()
        mount = lab.mount_to_be("thousand", lab.fresh("cache"))
        _timed_cpu(lab, report, "tree.ours", "fsyncfs", lambda: _mount_and_tar(lab, report, mount, tree))
        lab.discard(mount)
    report.ratio("mount and tar of 1,000 files, from nothing", 1, "tree.ours.time", "tree.rsync.time", "rsync -a", "ms")
    report.absolute("  of that the mount", None, "tree.mount", "ms")
    report.ratio("  CPU time of the master", None, "tree.ours.cpu", "tree.rsync.cpu", "rsync's", "ms")


def _mount_and_read(lab, mounts):
    start = time.monotonic()
    mount_all(mounts)
    lab.all_at_once([["sh", "-c", 'tar -C "$0" -cf - . | cat >/dev/null', mount.point] for mount in mounts])
    return time.monotonic() - start


def _copy_all(lab, folders):
    start = time.monotonic()
    lab.all_at_once([_rsync(lab).copy("thousand", folder) for folder in folders])
    return time.monotonic() - start


def fleet(lab, report):
    """Many workers that start at once, and read all of it: what they cost the master."""
    lab.tree("thousand")
    _rsync(lab)
    for _ in range(lab.args.rounds):
        folders = [lab.fresh("copy") for _ in range(FLEET)]
        os.sync()
        _timed_cpu(lab, report, "fleet.rsync", "rsync", lambda: _copy_all(lab, folders))
        for folder in folders:
            lab.remove(folder)
        lab.forget()
        mounts = [lab.mount_to_be("thousand", lab.fresh("cache")) for _ in range(FLEET)]
        os.sync()
        _timed_cpu(lab, report, "fleet.ours", "fsyncfs", lambda: _mount_and_read(lab, mounts))
        unmount_all(mounts)
        for mount in mounts:
            lab.remove(mount.cache)
    report.ratio(f"{FLEET} mounts from nothing at once: master's CPU", 0.5, "fleet.ours.cpu", "fleet.rsync.cpu", "rsync's", "ms")
    report.ratio("  until all have read all", None, "fleet.ours.time", "fleet.rsync.time", "rsync's")


def stream(lab, report):
    """Much more than the store may hold, read once."""
    tree = lab.tree("stream")
    mount = lab.cold("stream", [f"quota={QUOTA_BYTES >> 20}M"])
    daemon, start = mount.daemon(), time.monotonic()
    for name in sorted(os.listdir(tree)):
        lab.read("sequential", mount.point / name)
        report.keep("stream.store", mount.status()["store_bytes"])
    report.keep("stream.time", time.monotonic() - start)
    report.keep("stream.rss", peak_bytes(daemon))
    lab.discard(mount)
    what = f"{lab.stream_bytes / 2**30:.3g} GiB through quota={QUOTA_BYTES >> 30}G"
    report.absolute(f"{what}: worker's peak RSS", 100, "stream.rss", "MB")
    report.absolute("  the store at most", QUOTA_BYTES / 1e6, "stream.store", "MB", max)
    report.absolute("  until all was read", None, "stream.time", "s")


def _change(file, size, seed):
    """Another MiB of it, somewhere."""
    with open(file, "r+b") as f:
        f.seek((seed * 2_654_435_761) % (size - CHANGED_BYTES))
        f.write(os.urandom(CHANGED_BYTES))


def version(lab, report):
    """A new version of a large file that both have the old one of."""
    file, folder = lab.tree("version") / "file", lab.fresh("copy")
    _copy(lab, "version", folder)
    mount = lab.cold("version", ["refresh=off"])
    lab.read("sequential", mount.point / "file")
    for number in range(1, lab.args.rounds + 1):
        time.sleep(1)  # so that the time of its last change differs in the second
        _change(file, lab.version_bytes, number)
        time.sleep(1)  # the master's watcher has seen it
        wire = gauge.wire_bytes()
        report.keep("version.rsync.time", _copy(lab, "version", folder))
        report.keep("version.rsync", gauge.wire_bytes() - wire)
        wire, start = gauge.wire_bytes(), time.monotonic()
        run_ok([program("fsyncfs"), "refresh", mount.point])
        lab.read("sequential", mount.point / "file")
        report.keep("version.ours.time", time.monotonic() - start)
        report.keep("version.ours", gauge.wire_bytes() - wire)
        run_ok(["cmp", file, mount.point / "file"])
    lab.discard(mount)
    lab.remove(folder)
    what = f"1 MiB of {lab.version_bytes >> 20} MiB changed"
    report.ratio(f"{what}: on the wire", None, "version.ours", "version.rsync", "rsync", "KB")
    report.ratio("  until it is read", None, "version.ours.time", "version.rsync.time", "rsync", "ms")
