"""The disk under the cache: full, failing, read-only, slow, gone. The mount stays, what can be served is, and all is well again by itself."""

import errno
import os
import random
import shutil

from faultlab import (MIB, Disk, calls, ends_well, files_of, injected, log_is_short, read_all, report, text_of, verify)
from harness import case, check, equal, main, program, run, run_ok
from trees import make_tree


def make_large(tree, n, size, seed=5):
    rng = random.Random(seed)
    tree.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (tree / f"large{i}").write_bytes(rng.randbytes(size + i * 4097))


def tree_of(w):
    make_tree(w.tree / "small", 200, 10 * MIB)
    make_large(w.tree / "large", 4, 3 * MIB)


def change(w, number):
    """The master's tree has another version: the text that is now in a file, which comes with its entry."""
    w.tree.mkdir(parents=True, exist_ok=True)
    (w.tree / "news").write_text(f"version {number}")


def news(m):
    return (m.point / "news").read_text()


def full(w, kind):
    tree_of(w)
    disk = Disk(w, kind, 16 * MIB)
    change(w, 1)
    server = w.server()
    m = w.mount(server, cache="disk/cache")
    for _ in range(2):
        equal(read_all(m, w.tree)[1], {}, "errors while there is room to be made")
    disk.fill()
    right, failed = read_all(m, w.tree, allowed={errno.ENOSPC})
    check(right > 0, "nothing could be read")
    change(w, 2)
    done = run([program("fsyncfs"), "refresh", m.point])
    for name in files_of(w.tree):
        os.stat(m.point / name)
    check(news(m) in ("version 1", "version 2"), f"a version or the next: {news(m)}")
    check(done.returncode != 0 or news(m) == "version 2", "a refresh that says it worked")
    disk.empty()
    equal(read_all(m, w.tree, [n for n in files_of(w.tree) if n != "news"]), (204, {}), "reads once there is room")
    m.refresh()
    equal(news(m), "version 2", "the new version, once there is room")
    equal(read_all(m, w.tree)[1], {}, "errors once there is room")
    log_is_short(m)
    ends_well(m)
    disk.fill()
    again = w.mount(server, cache="disk/cache")
    right2, failed2 = read_all(again, w.tree, allowed={errno.ENOSPC})
    equal(right2 + sum(failed2.values()), 205, "files")
    ends_well(again)
    verify(w.path("disk/cache"))
    report(f"Disk full ({kind})", "a file system of 16 MiB under a cache for 22, then no byte left",
           "right bytes or ENOSPC; the version as it was; well again by itself",
           f"{right} right, {text_of(failed)}; refresh {'refused' if done.returncode else 'done'}; all right once there was room; "
           f"mounted on the full disk: {right2} right, {text_of(failed2)}")


@case("full, on ext4")
def _(w):
    full(w, "ext4")


@case("full, on tmpfs")
def _(w):
    full(w, "tmpfs")


@case("failing: reads, writes, syncs, names, one class after the other and all at once")
def _(w):
    change(w, 0)
    disk = Disk(w, "tmpfs", 96 * MIB)
    classes = {"read": calls.READ, "write": calls.WRITE, "sync": calls.SYNC, "rename, unlink": calls.NAMES,
               "open": calls.OPEN | calls.MAKE, "length": calls.LENGTH, "all": calls.CHANGES | calls.READ | calls.OPEN}
    for name in classes:  # of each class its own: files that are here already, and files that are not
        make_tree(w.tree / name, 40, 4 * MIB, seed=len(name))
        make_large(w.tree / name, 2, MIB, seed=len(name))
    server = w.server()
    with injected(w, disk.folder) as faults:
        m = w.mount(server, cache="disk/cache", options=["prefetch=off"])
    for number, (name, which) in enumerate(classes.items(), 1):
        mine = [n for n in files_of(w.tree) if n.startswith(f"{name}/")]
        read_all(m, w.tree, mine[::2])
        faults.fail(which)
        right, failed = read_all(m, w.tree, mine, allowed={errno.EIO})
        change(w, number)
        refresh = run([program("fsyncfs"), "refresh", m.point]).returncode
        hit = faults.end()
        equal(read_all(m, w.tree, mine)[1], {}, f"errors after {name} had failed")
        m.refresh()
        equal(news(m), f"version {number}", f"the version after {name} had failed")
        report("Disk failing (EIO)", f"{name}: {hit} calls", "right bytes or EIO; well again by itself",
               f"{right} right, {text_of(failed)}; refresh {'refused' if refresh else 'done'}; afterwards all right")
        check(hit > 0 or name == "sync", f"{name}: no call failed")
        check(right >= 36 or name == "all", f"{name}: {right} files could be read: small ones need no disk")
    log_is_short(m)
    ends_well(m)
    verify(w.path("disk/cache"))


@case("a blob of which a sector is bad, open and not: it is fetched anew")
def _(w):
    make_tree(w.tree, 20, 4 * MIB)
    disk = Disk(w, "tmpfs", 64 * MIB)
    with injected(w, disk.folder) as faults:
        m = w.mount(w.server(), cache="disk/cache", options=["prefetch=off"])
    read_all(m, w.tree)
    struck = 0
    for name in files_of(w.tree):
        faults.fail(calls.READ, times=2)  # the read, and its verification
        equal(read_all(m, w.tree, [name]), (1, {}), name)
        struck += faults.end() > 0
    check(struck >= 8, f"reads of {struck} files failed")
    kept = len(os.listdir(m.cache / "quarantine"))
    check(kept > 0, "nothing is in quarantine")
    log_is_short(m)
    ends_well(m)
    verify(w.path("disk/cache"))
    report("Bad sector under a blob", f"{struck} blobs: a read and its verification fail", "quarantined and fetched anew; no error", "20 of 20 read right")


@case("read-only of a sudden: the file system has found an error in itself")
def _(w):
    tree_of(w)
    disk = Disk(w, "ext4", 64 * MIB)
    trigger = f"/sys/fs/ext4/{disk.device}/trigger_fs_error"
    change(w, 1)
    m = w.mount(w.server(), cache="disk/cache")
    half = files_of(w.tree)[::2]
    read_all(m, w.tree, half)
    with open(trigger, "w", encoding="ascii") as f:
        f.write("test")
    right, failed = read_all(m, w.tree, allowed={errno.EROFS, errno.EIO})
    check(right >= len(half), f"{right} files can be read, {len(half)} are cached")
    change(w, 2)
    refresh = run([program("fsyncfs"), "refresh", m.point])
    check(news(m) in ("version 1", "version 2"), "a version or the next")
    log_is_short(m)
    ends_well(m)
    offline = run([program("fsyncfs"), "mount", m.source, m.point, "-o", f"cache={w.path('disk/cache')},offline"])
    report("File system turned read-only", "ext4, errors=remount-ro", "what is cached is served; EROFS for the rest",
           f"{right} right, {text_of(failed)}; refresh {'refused' if refresh.returncode else 'done'}; a new mount "
           f"{'refused: ' + offline.stderr.strip().split(': ')[-1] if offline.returncode else 'works'}")


@case("slow: each call on the cache takes 5 ms")
def _(w):
    make_tree(w.tree, 40, 4 * MIB)
    disk = Disk(w, "tmpfs", 64 * MIB)
    with injected(w, disk.folder) as faults:
        m = w.mount(w.server(), cache="disk/cache")
    faults.slow(calls.READ | calls.CHANGES | calls.OPEN, 0.005)
    equal(read_all(m, w.tree), (40, {}), "reads from a slow disk")
    seen = faults.seen
    check(seen > 100, f"{seen} slow calls")
    faults.end()
    ends_well(m)
    report("Disk slow", f"{seen} calls took 5 ms longer", "right bytes, no time-out", "40 of 40 files right")


def gone(w, how, take_away):
    tree_of(w)
    change(w, 1)
    disk = Disk(w, "tmpfs", 64 * MIB)
    server = w.server()
    m = w.mount(server, cache="disk/cache")
    half = files_of(w.tree)[::2]
    read_all(m, w.tree, half)
    take_away(disk)
    jobs = [w.spawn(["/usr/bin/find", m.point, "-size", "+1G"], f"find{i}.log") for i in range(16)]
    for job in jobs:
        equal(job.wait(), 0, f"exit code of find: {job.output()[:300]}")
    right, failed = read_all(m, w.tree, allowed={errno.EIO, errno.ENOENT})
    change(w, 2)
    refresh = run([program("fsyncfs"), "refresh", m.point])
    check(news(m) in ("version 1", "version 2"), "a version or the next")
    equal(failed, {}, "failed reads: the master has all")
    log_is_short(m)
    again = w.mount(server, cache="disk/cache")
    equal(read_all(again, w.tree)[1], {}, "errors of a mount that is made afterwards")
    ends_well(again)
    ends_well(m)
    report("Cache folder gone", how, "the tree and all bytes as before: the master has them; a new mount begins anew",
           f"{right} right, {text_of(failed)}; refresh {'refused' if refresh.returncode else 'done'}; a new mount works")


@case("gone: the cache folder is removed under the mount")
def _(w):
    gone(w, "rm -rf under the mount", lambda disk: shutil.rmtree(disk.folder / "cache"))


@case("gone: the file system of the cache is unmounted under the mount")
def _(w):
    gone(w, "umount -l under the mount", lambda disk: run_ok(["umount", "-l", disk.folder]))


main()
