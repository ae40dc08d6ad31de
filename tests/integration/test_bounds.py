"""Little memory, few descriptors, few threads: everything goes on, slower; and the end of a daemon by the kernel is the end of nothing else."""

import concurrent.futures
import errno
import os
import random
import re
import resource
import sys
import time
from pathlib import Path

from faultlab import MIB, MemoryGroup, ends_well, files_of, log_is_short, read_all, report, verify
from harness import FULL, WAIT_SEC, case, check, equal, has_sanitizer, is_mounted, main, run_ok, say, skip
from trees import make_tree

LIMIT = 64 * MIB
FILES = 20_000 if FULL else 1_500
LARGE = 24 if FULL else 10  # of 16 MiB each
DEAD = {errno.ECONNABORTED, errno.ENOTCONN, errno.EIO}  # of a mount whose daemon is no more


def tree_of(w, large):
    make_tree(w.tree / "small", FILES, FILES * 3000)
    rng = random.Random(3)
    block = rng.randbytes(16 * MIB)
    for i in range(large):
        (w.tree / f"large{i:02}").write_bytes(i.to_bytes(8, "little") + block)


def read_beside(m, w, n=8):
    """N readers at once, all of the tree."""
    names = files_of(w.tree)
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        for right, failed in pool.map(lambda i: read_all(m, w.tree, names[i::n]), range(n)):
            equal(failed, {}, "errors")
            check(right > 0, "nothing read")
    return len(names)


def own_memory(pid):
    """Bytes of memory that are the process's own, and cannot be taken back by dropping pages of files."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


class Watched:
    """The most that processes had of their own, looked at often."""

    def __init__(self, pids):
        self.most = dict.fromkeys(pids, 0)
        self._stop = False
        self._pool = concurrent.futures.ThreadPoolExecutor(1)

    def _look(self):
        while not self._stop:
            for pid in self.most:
                self.most[pid] = max(self.most[pid], own_memory(pid))
            time.sleep(0.005)

    def __enter__(self):
        self._job = self._pool.submit(self._look)
        return self

    def __exit__(self, *_):
        self._stop = True
        self._job.result()
        self._pool.shutdown()


@case("memory of daemon and server while eight readers go through everything")
def _(w):
    if has_sanitizer():
        skip("the sanitizer's memory would be measured")
    tree_of(w, LARGE)
    server = w.server()
    m = w.mount(server, options=["quota=96M"])
    both = [server.pid, m.serving_pid()]
    with Watched(both) as watched:
        n = read_beside(m, w)
    most = [watched.most[pid] / MIB for pid in both]
    say(f"at most {most[0]:.1f} MiB of the server's own, {most[1]:.1f} of the daemon's")
    log_is_short(m)
    ends_well(m)
    report("Memory", f"8 readers, {n} files, {LARGE * 16} MiB of large ones", "bounded, whatever the tree",
           f"server {most[0]:.0f} MiB, daemon {most[1]:.0f} MiB of their own at most")
    check(max(most) < 128, f"{most} MiB")


@case("server and daemon within memory limits of 64 and 128 MiB")
def _(w):
    if has_sanitizer():
        skip("the sanitizer's memory would be measured")
    tree_of(w, LARGE)
    with MemoryGroup("server", LIMIT) as one, MemoryGroup("daemon", 2 * LIMIT) as other:
        server = w.server(prefix=one.prefix)
        m = w.mount(server, options=["quota=96M"], prefix=other.prefix)
        n = read_beside(m, w)
        equal((one.killed(), other.killed()), (0, 0), "killed for lack of memory")
        ends_well(m)
        server.stop()
    report("Memory limit", f"memory cgroups of {LIMIT // MIB} MiB for the server and {2 * LIMIT // MIB} for the daemon, 8 readers, {n} files", "slower, no more", "all right, nobody killed")


# Takes memory, a little at a time, until somebody is ended for it.
HOG = """
import re, sys
taken = []
while int(re.search(r"^oom_kill (\\d+)", open(sys.argv[1]).read(), re.M)[1]) == 0:
    taken.append(b"x" * 262144)
"""


@case("the kernel ends the daemon for lack of memory: another one takes its place, and no task notices")
def _(w):
    if has_sanitizer():
        skip("the sanitizer's memory would be measured")
    tree_of(w, LARGE)
    server = w.server()
    with MemoryGroup("daemon", 2 * LIMIT) as group:
        m = w.mount(server, options=["quota=96M"], prefix=group.prefix)
        first = m.serving_pid()
        Path(f"/proc/{first}/oom_score_adj").write_text("1000")  # so that it is the one that is chosen
        with open(w.tree / "large00", "rb") as right, open(m.point / "large00", "rb") as held, concurrent.futures.ThreadPoolExecutor(1) as pool:
            equal(held.read(MIB), right.read(MIB), "before")
            reading = pool.submit(read_beside, m, w)
            equal(w.spawn([*group.prefix, sys.executable, "-c", HOG, group.events], "hog.log").wait(), 0, "what takes all memory")
            n = reading.result(WAIT_SEC)
            equal(held.read(), right.read(), "a file that was open")
        killed = group.killed()
        check(killed > 0 and m.serving_pid() != first, "the daemon is another one")
        ends_well(m)
    report("Out of memory", f"a memory cgroup of {2 * LIMIT // MIB} MiB that something else fills, 8 readers, {n} files", "the daemon is replaced, and no task notices",
           f"ended by the kernel {killed} times; all right, no error")


def few_descriptors(w, n):
    tree_of(w, 2)
    limit = ["prlimit", f"--nofile={n}:{n}"]
    server = w.server(prefix=limit)
    m = w.mount(server, prefix=limit, options=["quota=96M"])
    count = read_beside(m, w)
    (w.tree / "new").write_bytes(b"n" * 1000)
    m.refresh()
    equal((m.point / "new").read_bytes(), b"n" * 1000, "the new version")
    for pid in (server.pid, m.serving_pid()):
        check(len(os.listdir(f"/proc/{pid}/fd")) <= n, "descriptors")
    log_is_short(m)
    ends_well(m)
    verify(m.cache)
    report("Few descriptors", f"RLIMIT_NOFILE {n} for server and daemon, 8 readers, {count} files", "slower, no more", "all right")


@case("128 descriptors")
def _(w):
    few_descriptors(w, 128)


@case("256 descriptors")
def _(w):
    few_descriptors(w, 256)


@case("nothing is sized from the limit: as many descriptors as the machine allows")
def _(w):
    make_tree(w.tree, 100, MIB)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = ["prlimit", f"--nofile={most}:{most}"]
    server = w.server(prefix=limit)
    m = w.mount(server, prefix=limit)
    equal(read_all(m, w.tree), (100, {}), "files")
    for pid in (server.pid, m.serving_pid()):
        check(has_sanitizer() or own_memory(pid) < LIMIT, f"{own_memory(pid)} bytes of its own")
        check(len(os.listdir(f"/proc/{pid}/task")) < 80, "threads")
    ends_well(m)
    report("Limit without sense", f"RLIMIT_NOFILE {most:,}", "nothing is sized from it", "memory and threads as ever")


@case("daemon and keeper are ended in the middle of reads: no reader hangs, and the next mount has all that was here")
def _(w):
    tree_of(w, 2)
    server = w.server()
    refused = 0
    for turn in range(3):
        m = w.mount(server, options=["quota=96M"])
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read_all, m, w.tree, files_of(w.tree)[turn::2], DEAD)
            while not m.status()["fetched_files"]:
                check(not reading.done(), "all was read before the end")
            m.daemon.kill()
            right, failed = reading.result(WAIT_SEC)
        check(is_mounted(m.point), "the mount point answers, with an error")
        run_ok(["umount", "-l", m.point])
        say(f"{right} right, {sum(failed.values())} failed")
        refused += sum(failed.values())
    check(refused > 0, "no read met the end")
    m = w.mount(server, options=["quota=96M"])
    equal(read_all(m, w.tree)[1], {}, "errors")
    ends_well(m)
    verify(m.cache)
    report("Daemon and keeper killed", "3 times in the middle of reads", "no reader hangs; the next mount goes on where it was", "all right, verified")


main()
