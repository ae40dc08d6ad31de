"""The rows of `scale` with many workers at once: first mounts of a master that has seen nothing yet, changes pushed to all."""

import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

from harness import PEERS, SPIDER, fail
from scale_lab import LONG_SEC, SMALL, memory, unmount_all
from scale_report import percentile

CHANGES = 30       # pushed, one after the other
UNSEEN_SEC = 10    # until a change counts as lost
SWEEP_SEC = 0.0005  # between two looks at all mounts: the watchers have the processors meanwhile


def counted(server):
    """What the first mounts may cause once, however many they are; None: not counted."""
    counters = server.counters()
    return {name: counters.get(f"fsyncfs_{name}_total") for name in ("scans", "snapshots_built")}


def _log(mount):
    return mount.point.with_suffix(".log")


def mount_all(mounts):
    """Mounts all at once, each with its own cache folder, and returns the seconds until each one's ls answered."""
    begin, left, seconds = time.monotonic(), [], []
    for mount in mounts:
        argv = [os.fspath(word) for word in mount.argv]
        with open(_log(mount), "wb") as log:
            left.append((mount, subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)))
    while left:
        for mount, process in left[:]:
            if process.poll() is None:
                continue
            if process.returncode != 0:
                fail(f"mount of {mount.source}: {_log(mount).read_text()[-500:]}")
            seconds.append(time.monotonic() - begin)
            left.remove((mount, process))
        if time.monotonic() - begin > LONG_SEC:
            fail(f"{len(left)} of {len(mounts)} mounts did not come up")
        time.sleep(0.01)
    return seconds


def scan_all(server, number):
    """The same for clients that only ask for the listing and drop what comes."""
    sys.path.insert(0, str(PEERS))
    import hostile_worker
    results = queue.Queue()

    def ask():
        client = hostile_worker.Client(f"127.0.0.1:{server.port}")
        call = client.channel.unary_stream(hostile_worker.SCAN, request_serializer=None, response_deserializer=None)
        request = hostile_worker.sync.FileSyncRequest(spider_id=SPIDER, fsyncfs_protocol=1)
        begin = time.monotonic()
        try:
            received = sum(len(data) for data in call(request.SerializeToString(), timeout=LONG_SEC, wait_for_ready=True))
            results.put((time.monotonic() - begin, received))
        except Exception as error:  # whatever it is, the main thread says it
            results.put(error)
        client.close()
    for _ in range(number):
        threading.Thread(target=ask, daemon=True).start()
    answers = [results.get(timeout=LONG_SEC) for _ in range(number)]
    for answer in answers:
        if isinstance(answer, Exception):
            fail(f"a scan: {answer}")
    return [seconds for seconds, _ in answers]


class Fleet:
    """Many mounts of one workspace on a master of their own, whose index is empty in the beginning."""

    def __init__(self, lab, report):
        self.lab, self.report = lab, report
        self.caches = lab.fresh("fleet")
        self.caches.mkdir()
        self.index = lab.fresh("index")
        self.server = lab.server(self.index.name)
        self.mounts = []

    def mount(self, spider, entries, number):
        self.mounts = [self.lab.mount(self.server, self.caches / str(i), spider=spider) for i in range(number)]
        seconds = mount_all(self.mounts)
        for mount in self.mounts:
            mount.wait_complete(entries)
        return seconds

    def unmount(self):
        unmount_all(self.mounts)
        self.server.stop()
        self.lab.remove(self.caches)
        self.lab.remove(self.index)


def first_mounts(lab, report, fleet):
    """All ask a master that has hashed nothing yet."""
    number, begin = lab.args.fleet, time.monotonic()
    if lab.args.light:
        seconds = scan_all(fleet.server, number)
        who = "listings"
    else:
        seconds = fleet.mount(SPIDER, lab.entries, number)
        who = "first mounts"
    report.keep("fleet.all", time.monotonic() - begin)
    for value in seconds:
        report.keep("fleet.ls", value)
    report.keep("fleet.master_rss", memory(fleet.server.pid)["VmHWM"])
    report.keep("fleet.master_anon", memory(fleet.server.pid)["Pss_Anon"])
    counters = counted(fleet.server)
    report.absolute(f"{number} {who} at once: master's peak RSS", 300, "fleet.master_rss", "MB")
    report.absolute("  its own afterwards (Pss_Anon)", None, "fleet.master_anon", "MB")
    report.absolute("  until all had all", None, "fleet.all", "s")
    for name, title in (("scans", "  scans"), ("snapshots_built", "  snapshots built")):
        if counters[name] is None:
            report.missing(title, "this master does not count them")
        else:
            report.keep(f"fleet.{name}", counters[name])
            report.absolute(title, 1, f"fleet.{name}", "")
    if not lab.args.light:
        workers = [memory(mount.daemon()) for mount in fleet.mounts]
        report.keep("fleet.worker_anon", max(m["Pss_Anon"] for m in workers))
        report.absolute("  a worker's own (Pss_Anon), the largest", None, "fleet.worker_anon", "MB")


def watch_one_change(mounts, path, relative, data):
    """Writes PATH and returns the seconds until each mount showed it; UNSEEN_SEC for those that did not."""
    points = [os.fspath(mount.point / relative) for mount in mounts]
    begin = time.monotonic()
    path.write_bytes(data)
    wanted = path.stat()
    seconds = []
    while points and time.monotonic() - begin < UNSEEN_SEC:
        unseen = []
        for point in points:
            shown = os.stat(point)
            if shown.st_mtime_ns == wanted.st_mtime_ns and shown.st_size == wanted.st_size:
                seconds.append(time.monotonic() - begin)
            else:
                unseen.append(point)
        points = unseen
        time.sleep(SWEEP_SEC)
    return seconds + [UNSEEN_SEC] * len(points)


def push(lab, report, fleet):
    """One file changes on the master; the mounts are looked at until each shows it."""
    if not lab.has_push:
        report.missing("push", "this master pushes nothing")
        return
    spider, root = (SMALL, lab.root / SMALL) if lab.args.light else (SPIDER, lab.tree)
    if lab.args.light:
        fleet.mount(SMALL, lab.small_entries, lab.args.fleet)
    folder = root / "dir0000"
    files = sorted(entry.path for entry in os.scandir(folder if folder.is_dir() else root) if entry.is_file())

    time.sleep(1)  # until the last mount's stream is open, too
    for number in range(CHANGES):
        path = Path(files[number % len(files)])
        relative = path.relative_to(root)
        for mount in fleet.mounts:
            os.stat(mount.point / relative)  # in use: the kernel has to be told
        seen = watch_one_change(fleet.mounts, path, relative, os.urandom(700 + number))
        for seconds in seen:
            report.keep("push.seen", seconds)
        report.keep("push.lost", seen.count(UNSEEN_SEC))
        time.sleep(0.3)
    n = f"{len(fleet.mounts)} mounts of {spider}, {CHANGES} changes"
    for title, pick in (("push: change to shown, p50", 50), ("push: change to shown, p99", 99)):
        report.absolute(title, None, "push.seen", "ms", lambda values, p=pick: percentile(values, p), n)
    report.absolute("  changes that a mount did not show", 0, "push.lost", "", sum)
