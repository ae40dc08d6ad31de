"""What an operator types: mount, umount, status, version, refresh, options, offline."""

import errno
import os
import re
import shutil
import signal
import time
from pathlib import Path

from harness import (SOURCE, case, check, equal, fails_with, is_mounted, main, mounts_below, on_terminal, one_line, processes_naming,
                     program, run, run_ok, skip, wait_until)
from peers import delay_proxy, master_digest
from room import Room
from trees import same_snapshot, snapshot

STATUS_KEYS = {"source", "state", "version", "revision", "entries", "files", "directories", "symlinks", "bytes",
               "cached_files", "cached_bytes", "fetched_bytes", "fetched_files", "hits", "misses", "syncs", "full_scans",
               "delta_entries", "last_sync", "cache_dir", "quota_bytes", "rss_bytes", "passthrough"}

# None of them is tiny: those are not asked for (test_tiny.py).
ALPHA = "alpha\n" * 100
SCRIPT = "#!/bin/sh\necho ran\n" + "# and that is all\n" * 20


def small_tree(w):
    (w.tree / "sub/deeper").mkdir(parents=True)
    (w.tree / "a.txt").write_text(ALPHA)
    (w.tree / "sub/b.bin").write_bytes(os.urandom(300_000))
    (w.tree / "sub/deeper/c.sh").write_text(SCRIPT)
    (w.tree / "sub/deeper/c.sh").chmod(0o755)
    (w.tree / "link").symlink_to("a.txt")
    return w.server()


@case("mount in the background: readable on return, gone after umount")
def background(w):
    server = small_tree(w)
    done = w.try_mount(server.source())
    equal((done.returncode, done.stdout, done.stderr), (0, "", ""), "fsyncfs mount")
    same_snapshot(snapshot(w.path("mnt")), snapshot(w.tree), "the mounted tree")
    run_ok(["umount", w.path("mnt")])
    wait_until(lambda: not processes_naming(str(w.path("mnt"))), "the daemon's end after umount")


@case("programs run from the mount")
def execute(w):
    m = w.mount(small_tree(w))
    equal(run_ok([m.point / "sub/deeper/c.sh"]).stdout, "ran\n", "the script's output")


@case("status, version and stat say what is there")
def status(w):
    server = small_tree(w)
    m = w.mount(server)
    status = m.status()
    equal(STATUS_KEYS - set(status), set(), "keys missing in status --json")
    equal({k: status[k] for k in ("state", "entries", "files", "directories", "symlinks", "bytes", "fetched_files")},
          {"state": "online", "entries": 7, "files": 3, "directories": 3, "symlinks": 1,
           "bytes": 300_000 + len(ALPHA) + len(SCRIPT), "fetched_files": 0}, "status of a fresh mount")
    (m.point / "a.txt").read_text()
    after = m.status()
    equal((after["fetched_files"], after["fetched_bytes"], after["cached_files"]), (1, len(ALPHA), 1), "status after one read")
    equal(m.version(), master_digest(server), "version")
    check(str(m.point) in run_ok([program("fsyncfs"), "status"]).stdout, "status without a folder lists the mount")
    hash_line = run_ok([program("fsyncfs"), "stat", m.point / "a.txt"]).stdout
    known = run_ok(["xxhsum", "-q", "-H2", m.point / "a.txt"]).stdout.split()[0]
    check(known in hash_line, f"fsyncfs stat names the hash {known}: {hash_line}")


@case("a read-only file system: writing gives EROFS")
def read_only(w):
    m = w.mount(small_tree(w))
    a = m.point / "a.txt"
    for function, *args in ((os.open, a, os.O_WRONLY), (os.open, m.point / "new", os.O_CREAT | os.O_WRONLY),
                            (os.mkdir, m.point / "new"), (os.unlink, a), (os.rename, a, m.point / "z"),
                            (os.chmod, a, 0o600), (os.truncate, a, 0), (os.symlink, "x", m.point / "new"),
                            (os.link, a, m.point / "new"), (os.rmdir, m.point / "sub"), (os.utime, a)):
        fails_with(errno.EROFS, function, *args)
    equal((w.tree / "a.txt").read_text(), ALPHA, "the master's file")


@case("uid, gid and umask")
def owners(w):
    m = w.mount(small_tree(w), options=["uid=1234", "gid=567", "umask=027"])
    st = os.stat(m.point / "sub/deeper/c.sh")
    equal((st.st_uid, st.st_gid, oct(st.st_mode & 0o7777)), (1234, 567, "0o750"), "owner and mode")


@case("nosuid, nodev and ro are in force; other users may read")
def safe_options(w):
    m = w.mount(small_tree(w))
    line = next(l for l in Path("/proc/self/mountinfo").read_text().splitlines() if f" {m.point} " in l)
    options = set(line.split()[5].split(","))
    check({"ro", "nosuid", "nodev"} <= options, f"mount options are {options}")
    check("fsyncfs" in line.split(" - ")[1].split()[0], f"file system type: {line}")
    w.dir.chmod(0o755)
    nobody = run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", m.point / "a.txt"])
    equal((nobody.returncode, nobody.stdout), (0, ALPHA), "cat as another user")


@case("refresh: a change on the master shows, and nothing else is fetched")
def refresh(w):
    server = small_tree(w)
    m = w.mount(server)
    old = m.version()
    snapshot(m.point)
    (w.tree / "a.txt").write_text("changed\n" * 100)
    (w.tree / "sub/new").write_text("new" * 100)
    (w.tree / "link").unlink()
    before = m.status()["fetched_files"]
    m.refresh()
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree after refresh")
    equal(m.status()["fetched_files"] - before, 2, "contents fetched")
    check(m.version() != old and m.version() == master_digest(server), "the version is the master's new one")


@case("refresh=SECONDS takes changes over by itself")
def periodic(w):
    m = w.mount(small_tree(w), options=["refresh=1"])
    equal((m.point / "a.txt").read_text(), ALPHA, "before")
    (w.tree / "a.txt").write_text("by itself\n")
    wait_until(lambda: (m.point / "a.txt").read_text() == "by itself\n", "the change seen in the mount")


@case("on a terminal a mount and a refresh show how far they are")
def progress(w):
    for i in range(40):
        (w.tree / f"d{i}").mkdir(parents=True)
        for j in range(1000):
            (w.tree / f"d{i}/f{j}").touch()
    source = slow_source(w)
    code, shown = on_terminal([program("fsyncfs"), "mount", source, w.path("mnt"), "-o",
                               f"cache={w.path('cache')},refresh=off,lazy=off"])
    equal(code, 0, "exit code of mount")
    check(re.search(r"\d+ of 40041 entries, .*entries/s", shown), f"the mount shows: {shown[:300]!r}")
    for i in range(20):
        (w.tree / f"d{i}").rename(w.tree / f"moved{i}")
    code, shown = on_terminal([program("fsyncfs"), "refresh", w.path("mnt")])
    equal(code, 0, "exit code of refresh")
    check("the master looks at its files" in shown, f"the refresh shows: {shown[:300]!r}")


def slow_source(w):
    """The tree of W behind a line of 300 KB/s."""
    server = w.server()
    proxy = delay_proxy(w, server.port, "--rate", "300000")
    w.path("mnt").mkdir()
    return f"127.0.0.1:{proxy.port}:/spider"


@case("offline: the last tree and what was read of it, without a master")
def offline(w):
    server = small_tree(w)
    m = w.mount(server)
    tree, source = snapshot(m.point), server.source()
    m.unmount()
    equal(server.stop(), 0, "the server's exit code")
    one_line(w.try_mount(source, ["timeout=2"]), 32, "127.0.0.1")
    m = w.mount(source, options=["offline"])
    same_snapshot(snapshot(m.point), tree, "the tree offline")
    equal(m.status()["state"], "offline", "state")


@case("fallback: without a master the last version, and the next one when it is back; a first mount fails, and so does one that is refused")
def fallback(w):
    server = small_tree(w)
    m = w.mount(server)
    tree, source = snapshot(m.point), server.source()
    m.unmount()
    equal(server.stop(), 0, "the server's exit code")
    options = ["timeout=2", "fallback"]
    one_line(w.try_mount(source, options, cache="empty"), 32, "127.0.0.1")
    one_line(w.try_mount(source, ["timeout=2"]), 32, "127.0.0.1", "fallback")
    m = w.mount(source, options=[*options, "refresh=push"])
    same_snapshot(snapshot(m.point), tree, "the tree without a master")
    equal(m.status()["state"], "offline", "state")
    (w.tree / "new").write_text("new")
    server = w.server(port=server.port)
    wait_until(lambda: (m.point / "new").exists(), "the new version")
    equal((m.point / "sub/b.bin").read_bytes(), (w.tree / "sub/b.bin").read_bytes(), "a file that was not here")
    m.unmount()
    one_line(w.try_mount(f"127.0.0.1:{server.port}:/nobody", options), 32, "nobody")


@case("a master that goes away: cached reads go on, others fail in time with a clear errno")
def master_away(w):
    server = small_tree(w)
    m = w.mount(server, options=["timeout=2"])
    equal((m.point / "a.txt").read_text(), ALPHA, "before")
    server.kill()
    equal((m.point / "a.txt").read_text(), ALPHA, "a cached file")
    equal(len(os.listdir(m.point / "sub")), 2, "a listing")
    fails_with((errno.EIO, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ECONNREFUSED), (m.point / "sub/b.bin").read_bytes)
    done = run([program("fsyncfs"), "refresh", m.point])
    check(done.returncode != 0 and done.stderr.strip(), "refresh without a master fails and says so")
    equal(len(os.listdir(m.point / "sub")), 2, "the tree after a failed refresh")
    w.server(port=server.port)
    wait_until(lambda: run(["cat", m.point / "sub/b.bin"]).returncode == 0, "reads once the master is back")
    equal((m.point / "sub/b.bin").read_bytes(), (w.tree / "sub/b.bin").read_bytes(), "the bytes")


@case("a read that waits for a silent master can be killed")
def interruptible(w):
    server = small_tree(w)
    m = w.mount(server, options=["timeout=600"])
    server.signal(signal.SIGSTOP)
    try:
        reader = w.spawn(["cat", m.point / "sub/b.bin"], "reader.log")
        wait_until(lambda: "fuse" in Path(f"/proc/{reader.pid}/wchan").read_text() or
                   Path(f"/proc/{reader.pid}/stat").read_text().split(")")[1].split()[0] in "DS", "the reader to wait")
        time.sleep(0.3)  # it may sleep for another reason just before; too early a signal proves less, but never fails
        reader.signal(signal.SIGINT)
        equal(reader.wait(), -signal.SIGINT, "the reader's end")
    finally:
        server.signal(signal.SIGCONT)


@case("many reads that wait for a silent master hold up none that need not")
def crowd_of_waiting(w):
    for i in range(40):
        (w.tree / f"large{i}.bin").parent.mkdir(parents=True, exist_ok=True)
        (w.tree / f"large{i}.bin").write_bytes(os.urandom(1_000_000))
    server = w.server()
    m = w.mount(server, options=["timeout=600"])
    want = (m.point / "large0.bin").read_bytes()
    server.signal(signal.SIGSTOP)
    try:
        readers = [w.spawn(["cat", m.point / f"large{i}.bin"], f"reader{i}.log") for i in range(1, 40)]
        wait_until(lambda: m.status()["misses"] >= 40, "every reader to ask")
        run_ok(["dd", f"if={m.point}/large0.bin", "of=/dev/null", "iflag=nocache", "count=0"])  # drop its pages
        equal((m.point / "large0.bin").read_bytes(), want, "a cached file")
        equal(len(os.listdir(m.point)), 40, "a listing")
        for reader in readers:
            reader.signal(signal.SIGKILL)
    finally:
        server.signal(signal.SIGCONT)


@case("a mount whose caller has closed its standard descriptors")
def closed_descriptors(w):
    server = small_tree(w)
    point = w.path("closed")
    point.mkdir()
    command = f'exec "{program("fsyncfs")}" mount {server.source()} {point} -o cache={w.path("cache2")} <&- >&- 2>&-'
    try:
        equal(run(["sh", "-c", command]).returncode, 0, "exit code")
        equal((point / "a.txt").read_text(), ALPHA, "a file")
    finally:
        run(["umount", point])


@case("a folder of the workspace can be mounted alone")
def subfolder(w):
    m = w.mount(small_tree(w).source(path="/sub"))
    same_snapshot(snapshot(m.point), snapshot(w.tree / "sub"), "the mounted folder")


@case("two mounts of one source and one cache at once")
def twice(w):
    server = small_tree(w)
    first, second = w.mount(server), w.mount(server)
    expected = snapshot(w.tree)
    same_snapshot(snapshot(first.point), expected, "the first")
    sent = server.counter("fsyncfs_bytes_sent_total")
    same_snapshot(snapshot(second.point), expected, "the second")
    equal(server.counter("fsyncfs_bytes_sent_total"), sent, "content bytes sent for the second")
    first.unmount()
    same_snapshot(snapshot(second.point), expected, "the second after the first is gone")


@case("a mount over a dead one is cleaned up or explained")
def over_dead(w):
    server = small_tree(w)
    m = w.mount(server)
    m.die()
    fails_with(errno.ENOTCONN, os.listdir, m.point)
    done = w.try_mount(server.source(), point=m.point)
    if done.returncode != 0:
        one_line(done, 32, str(m.point))
        run_ok(["umount", "-l", m.point])
        done = w.try_mount(server.source(), point=m.point)
    equal(done.returncode, 0, done.stderr)
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
    equal(len(mounts_below(m.point)), 1, "mounts left at the mount point")


@case("SIGTERM ends the daemon and the mount")
def sigterm(w):
    m = w.mount(small_tree(w))
    equal(m.daemon.stop(), 0, "exit code")
    check(not is_mounted(m.point), "the mount is gone")


@case("extended attributes with the option xattr, and only then")
def attributes(w):
    server = small_tree(w)
    plain = w.mount(server)
    fails_with(errno.ENOTSUP, os.getxattr, plain.point / "a.txt", "user.fsyncfs.hash")
    m = w.mount(server, cache="cache2", options=["xattr"])
    get = lambda name, attribute: os.getxattr(m.point / name, f"user.fsyncfs.{attribute}").decode()  # noqa: E731
    known = run_ok(["xxhsum", "-q", "-H2", w.tree / "a.txt"]).stdout.split()[0]
    equal(get("a.txt", "hash"), f"xxh3:{known}", "user.fsyncfs.hash")
    equal(get("a.txt", "cached"), "0", "user.fsyncfs.cached before a read")
    (m.point / "a.txt").read_text()
    wait_until(lambda: get("a.txt", "cached") == "100", "user.fsyncfs.cached after it")  # it goes to the store when it was read
    check(m.version() in get("", "version"), "user.fsyncfs.version of the root")
    fails_with(errno.ENODATA, os.getxattr, m.point / "a.txt", "user.other")


@case("cache stat and verify; a damaged blob is found and fetched anew")
def cache_commands(w):
    server = small_tree(w)
    m = w.mount(server)
    snapshot(m.point)
    m.unmount()
    stat = run_ok([program("fsyncfs"), "cache", "stat", "--cache", m.cache]).stdout
    check(re.search(r"\b3\b", stat), f"cache stat counts 3 blobs: {stat}")
    run_ok([program("fsyncfs"), "cache", "verify", "--cache", m.cache])
    blob = next(p for p in m.cache.glob("blobs/*/*/*") if p.stat().st_size == 300_000)
    data = bytearray(blob.read_bytes())
    data[1234] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(data)
    done = run([program("fsyncfs"), "cache", "verify", "--cache", m.cache])
    check(done.returncode != 0, "cache verify fails on a damaged blob")
    again = w.mount(server)
    same_snapshot(snapshot(again.point), snapshot(w.tree), "the tree after the damage")


@case("cache verify: a blob that cannot even be opened is damaged, and the others are looked at")
def unopened_blob(w):
    if not shutil.which("strace"):
        skip("strace is not installed")
    m = w.mount(small_tree(w))
    snapshot(m.point)
    m.unmount()
    blobs = list(m.cache.glob("blobs/*/*/*"))
    for error in ("EUCLEAN", "EBADMSG"):
        damaged = blobs.pop()
        done = run(["strace", "-f", "-qq", "-o", "/dev/null", "-P", damaged.parent, "-e", "trace=openat", "-e", f"inject=openat:error={error}",
                    program("fsyncfs"), "cache", "verify", "--cache", m.cache])
        check(damaged.name in done.stderr and f"{len(blobs)} contents verified, 1 damaged" in done.stdout, f"verify: {done.stdout}{done.stderr}")
        check(not damaged.exists(), f"it is in place still, in spite of {error}")


@case("a blob damaged behind our back is never served")
def damaged_blob(w):
    server = small_tree(w)
    m = w.mount(server)
    snapshot(m.point)
    m.unmount()
    for blob in m.cache.glob("blobs/xxh3/*/*"):
        blob.chmod(0o600)
        blob.write_bytes(b"?" * blob.stat().st_size)
    same_snapshot(snapshot(w.mount(server).point), snapshot(w.tree), "the tree")


@case("mount -t fsyncfs and an fstab line, as installed")
def installed(w):
    room = Room(w)
    room.sh("fsyncfs-server --workspace /srv/workspaces\n")
    shown = room.sh("mount -t fsyncfs localhost:/quotes /mnt/quotes && cat /mnt/quotes/run.py && umount /mnt/quotes\n"
                    "echo 'localhost:/quotes /mnt/quotes fsyncfs quota=1G,_netdev,nofail,x-test 0 0' >>/etc/fstab\n"
                    "mount /mnt/quotes && cat /mnt/quotes/run.py && umount /mnt/quotes\n")
    equal(shown, 2 * (SOURCE / "examples" / "spider" / "run.py").read_text(), "what both mounts show")


main()
