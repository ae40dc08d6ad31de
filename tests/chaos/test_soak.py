"""Many mounts in a row, many operations on one: memory, descriptors, threads and files of server and worker must not grow with their number."""

import collections
import contextlib
import os
import random
import re
import subprocess
from pathlib import Path

import world  # noqa: F401 (the harness on the path)
from changing_files import Master, at_rest
from harness import FULL, Failure, case, check, equal, fail, has_sanitizer, main, program, report, run_ok, say, wait_until

CYCLES = 1000 if FULL else 40
ROUNDS = 24 * 60 if FULL else 24  # of changes, refresh, reads: a day with a new version each minute
WARM = 700 if FULL else 10     # cycles or rounds until all that is kept is there: the master's contents in memory (64 MiB), what each arena of malloc once needed
RSS_SLACK_KIB = (8 if FULL else 64 + 8) * 1024  # with --full what malloc wavers by, and what SQLite's page caches (1 MiB for each reader) still lack; a leak of 12 KiB a round
                                                # shows; otherwise the master's contents still come in
SLACK = (16, 4)                # descriptors, of contents that are just open, and threads: libfuse starts them as they are needed
SPOOLS_MAX = 64
OPERATIONS = 200               # in a round


def descriptors(pid):
    """What a process has open, in words with their numbers: for people."""
    kinds = collections.Counter()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kinds[re.sub(r"\d+", "N", os.readlink(fd))] += 1
    return dict(kinds)


def usage(pid):
    """What a process holds: (KiB of memory, descriptors, threads). Of what the server keeps ready to be sent, files without a name, there may be SPOOLS_MAX."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    kinds = descriptors(pid)
    spools = sum(number for what, number in kinds.items() if what.endswith("/#N (deleted)"))
    return int(status["RssAnon"].split()[0]), sum(kinds.values()) - min(spools, SPOOLS_MAX), int(status["Threads"])


def files_of(*folders):
    """How many files there are below FOLDERS, blobs apart."""
    return sum(len(names) for folder in folders for path, _, names in os.walk(folder) if "/blobs" not in path)


class Gauge:
    """A process, measured when all is warm and at the end: what may not have grown. CONTENTS: the bytes it keeps for as long as they are wanted often enough,
    which depends on how fast the machine is."""

    def __init__(self, name, pid, contents=lambda: 0):
        self.name, self.pid, self.contents = name, pid, contents
        self.first, self.open, self.first_contents = usage(pid), descriptors(pid), contents()

    def _settled(self):
        """What a connection that has just ended held goes a moment later."""
        return all(now <= before + slack for now, before, slack in zip(usage(self.pid)[1:], self.first[1:], SLACK))

    def end(self):
        last = usage(self.pid)
        say(f"{self.name}: {self.first} KiB, descriptors, threads, then {last}")
        self.told = f"{self.name} {round(self.first[0] / 1024)} MiB, {self.first[2]} threads, then {round(last[0] / 1024)} MiB, {last[2]}"
        more_contents = max(self.contents() - self.first_contents, 0) / 1024
        check(has_sanitizer() or last[0] <= self.first[0] + RSS_SLACK_KIB + more_contents, f"{self.name}: memory {self.first[0]} KiB, then {last[0]}")
        try:
            wait_until(self._settled, f"{self.name}: no more descriptors and threads than before")
        except Failure:
            fail(f"{self.name}: {self.first} KiB, descriptors, threads, then {usage(self.pid)}: {self.open}, then {descriptors(self.pid)}")


def daemons(w):
    return subprocess.run(["pgrep", "-f", str(w.dir) + "/mnt"], capture_output=True, text=True).stdout.split()


@case(f"{CYCLES} times mount, read, unmount: the server holds no more, no file, process or mount is left")
def cycles(w):
    master = Master(w.tree, w.path("versions"), random.Random(5))
    server, point, cache = w.server(), w.path("mnt"), w.path("cache")
    point.mkdir()
    gauge, before = None, None
    for number in range(CYCLES):
        if number == WARM:
            gauge = Gauge("server", server.pid, lambda: server.counter("fsyncfs_memory_contents_bytes"))
            before = files_of(cache, server.index)
        if number % 5 == 0:
            master.change()
        run_ok([program("fsyncfs"), "mount", server.source(), point, "-o", f"cache={cache},refresh=push"])
        name = master.names[number % len(master.names)]
        data = (point / name).read_bytes()
        check(data == master.now[name] or number % 5 == 0, f"{name} of cycle {number}")
        run_ok(["umount", point])
        wait_until(lambda: not daemons(w), "the end of the daemon")
    gauge.end()
    report("Many mounts", f"{CYCLES} times mount, read, unmount", "the master holds no more, nothing is left on the worker",
           f"from {WARM} on {gauge.told}; no file, process or mount left")
    equal(files_of(cache, server.index) <= before + 1, True, f"files left in cache and index: {before}, then {files_of(cache, server.index)}")
    equal(os.listdir(cache / "partial"), [], "partial contents left")


def look(rng, point, names):
    """One operation of a task: whatever it is, it is over afterwards."""
    path = point / rng.choice(names)
    how = rng.randrange(5)
    if how == 0:
        os.stat(path)
    elif how == 1:
        os.listdir(point)
    elif how == 2:
        path.read_bytes()
    elif how == 3:
        with open(path, "rb", buffering=0) as f:
            os.pread(f.fileno(), 100, rng.randrange(1 + os.fstat(f.fileno()).st_size))
    else:
        subprocess.run(["cat", path, point / "nothing"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@case(f"{ROUNDS} rounds of changes, refresh, status and {OPERATIONS} reads: neither end holds more")
def operations(w):
    rng = random.Random(6)
    master = Master(w.tree, w.path("versions"), rng)
    server = w.server()
    m = w.mount(server, options=["quota=16M"])
    gauges = []
    for number in range(ROUNDS):
        if number == WARM:
            gauges = [Gauge("server", server.pid, lambda: server.counter("fsyncfs_memory_contents_bytes")),
                      Gauge("worker", m.serving_pid())]
            before = files_of(w.path("cache"), server.index)
        for _ in range(10):
            master.change()
        m.refresh()
        m.status()
        for _ in range(OPERATIONS):
            look(rng, m.point, master.names)
        at_rest(master, [m])
        if number % (ROUNDS // 8) == 0:
            say(f"round {number}: worker {usage(m.serving_pid())}, server {usage(server.pid)}")
    for gauge in gauges:
        gauge.end()
    after = files_of(w.path("cache"), server.index)
    check(after <= before + 1, f"files beside blobs: {before}, then {after}")
    report("Long use", f"{ROUNDS} rounds of 10 changes, refresh, {OPERATIONS} reads", "neither end holds more",
           f"from {WARM} on {'; '.join(gauge.told for gauge in gauges)}")
    m.unmount()
    run_ok([program("fsyncfs"), "cache", "verify", "--cache", m.cache])


main()
