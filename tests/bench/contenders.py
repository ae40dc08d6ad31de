"""Who is compared: a local folder, fsyncfs, rsync and sshfs. Each can run one round over a tree and records what it saw.

Phases have the same names for all: `first` (nothing is there yet), `same` (again, nothing changed), `changed` (again,
10 files changed), `all` (from nothing until all of it was read once).
"""

import os
import shutil
from pathlib import Path

import gauge
from daemons import RsyncDaemon, Sshd
from gauge import measured
from harness import SPIDER, fail, daemons_naming, program, run_ok, wait_until


class Bench:
    """What all contenders of one tree share: the work folder, the master's tree, the sample of files to open."""

    SAMPLE = 1000

    def __init__(self, work, openloop, cpu):
        self.work = work
        self.cpu = cpu  # a CpuGroup by contender's name
        self.tree = work.tree
        self.openloop = openloop
        files = sorted(p for p in self.tree.rglob("*") if p.is_file())
        self.files = [str(p.relative_to(self.tree)) for p in files]
        self.sample = self.files[::max(1, len(files) // self.SAMPLE)][:self.SAMPLE]
        self.tar_size = gauge.tar(self.tree)
        self._changes = 0

    def change(self):
        """Gives 10 files spread over the tree other bytes of the same number."""
        self._changes += 1
        step = len(self.files) // 10
        for name in self.files[self._changes % step::step][:10]:
            path = self.tree / name
            path.write_bytes(os.urandom(path.stat().st_size))

    def tar(self, folder):
        """Reads all of FOLDER, which must amount to what the master's tree amounts to."""
        size = gauge.tar(folder)
        if size != self.tar_size:
            fail(f"tar of {folder}: {size} bytes, {self.tar_size} expected")

    def from_nothing(self, record, cpu, provide, folder):
        """`first` is PROVIDE(), which makes the tree appear in FOLDER; `all` is that and reading all of it. Returns the
        seconds that the reading took."""
        parts = {}
        with measured(parts.__setitem__, "first", cpu):
            provide()
        with measured(parts.__setitem__, "read", cpu):
            self.tar(folder)
        for kind in ("time", "wire", "cpu"):
            record(f"{kind}.first", parts[f"{kind}.first"])
            record(f"{kind}.all", parts[f"{kind}.first"] + parts[f"{kind}.read"])
        return parts["time.read"]

    def warm(self, record, folder):
        """The loads over a folder of which everything was read a moment ago."""
        for phase, load in (("find.warm", gauge.find), ("ls.warm", gauge.ls), ("tar.warm", self.tar)):
            with measured(record, phase):
                load(folder)
        record("time.open.warm", gauge.open_read_close(self.openloop, folder, self.sample))

    def fresh(self, name):
        """An empty folder; what it held before is gone."""
        folder = self.work.path(name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def daemon(self, point):
        """The process id of the daemon that has the contender's name and serves POINT."""
        found = [pid for pid in daemons_naming(str(point)) if Path(f"/proc/{pid}/exe").resolve().name == point.name]
        if len(found) != 1:
            fail(f"{len(found)} daemons of {point}")
        return found[0]

    def unmount(self, point):
        daemon = self.daemon(point)
        run_ok(["umount", point])
        wait_until(lambda: not Path(f"/proc/{daemon}").exists(), f"the end of the daemon of {point}")

    def remember_memory(self, record, when, point):
        """Of the daemon and of what it has started (sshfs: ssh)."""
        for name, value in zip(("rss", "pss"), gauge.memory(gauge.family(self.daemon(point)))):
            record(f"{name}.{when}", value)


class Native:
    name = "native"

    def __init__(self, bench):
        self.bench = bench

    def round(self, record):
        for phase, load in (("find.first", gauge.find), ("ls.first", gauge.ls), ("tar.first", self.bench.tar)):
            gauge.drop_caches()
            with measured(record, phase):
                load(self.bench.tree)
        self.bench.warm(record, self.bench.tree)


class Fsyncfs:
    name = "fsyncfs"

    def __init__(self, bench):
        self.bench = bench
        self.work = bench.work
        self.point = self.work.path("fsyncfs")
        self.point.mkdir()
        self.cpu = bench.cpu[self.name]
        self.server = self.work.server(index=self.work.path("index.db"), prefix=self.cpu.prefix)

    def round(self, record):
        self._unhashed(record)
        self._first(record)
        self._again(record)
        self._changed(record)

    def _unhashed(self, record):
        """A master that has never seen the tree: its index is empty, every file is hashed for this mount."""
        index = self.bench.fresh("new-index") / "index.db"
        known, self.server = self.server, self.work.server(index=index, prefix=self.cpu.prefix)
        cache = self.bench.fresh("cache")
        with measured(record, "unhashed", self.cpu):
            self._mount(cache)
        self._unmount()
        self.server.stop()
        self.server = known

    def _first(self, record):
        """An empty cache folder: mount, read all of it, then once more from memory."""
        cache = self.bench.fresh("cache")
        self._mount(cache)  # the master looks again at what changed since the last round
        self._unmount()
        cache = self.bench.fresh("cache")
        record("time.tar.first", self.bench.from_nothing(record, self.cpu, lambda: self._mount(cache), self.point))
        self.bench.warm(record, self.point)
        self.bench.remember_memory(record, "used", self.point)
        self._unmount()

    def _again(self, record):
        """The store is full, the mount is new: the kernel knows nothing of the tree."""
        cache = self.work.path("cache")
        with measured(record, "same", self.cpu):
            self._mount(cache)
        self.bench.remember_memory(record, "idle", self.point)
        with measured(record, "find.first"):
            gauge.find(self.point)
        self._unmount()
        self._mount(cache)
        with measured(record, "ls.first"):
            gauge.ls(self.point)
        self._unmount()
        self._mount(cache)
        with measured(record, "tar.remounted"):
            self.bench.tar(self.point)
        self._unmount()

    def _changed(self, record):
        self.bench.change()
        with measured(record, "changed", self.cpu):
            self._mount(self.work.path("cache"))
        self._unmount()

    def _mount(self, cache):
        run_ok([program("fsyncfs"), "mount", self.server.source(), self.point, "-o", f"cache={cache}"])

    def _unmount(self):
        self.bench.unmount(self.point)


class Rsync:
    """rsync -a from a daemon on the loopback interface into a folder."""

    name = "rsync"

    def __init__(self, bench):
        self.bench = bench
        self.cpu = bench.cpu[self.name]
        self.daemon = RsyncDaemon(bench.work, {SPIDER: bench.tree}, self.cpu.prefix)

    def round(self, record):
        copy = self.bench.fresh("copy")
        self.bench.from_nothing(record, self.cpu, lambda: record("rss.used", self._sync(copy)), copy)
        with measured(record, "same", self.cpu):
            self._sync(copy)
        self.bench.change()
        with measured(record, "changed", self.cpu):
            self._sync(copy)

    def _sync(self, copy):
        """Copies, and returns the peak RSS of the process started (the receiver; its generator is about as large)."""
        pid = os.posix_spawnp("rsync", self.daemon.copy(SPIDER, copy), os.environ)
        _, status, usage = os.wait4(pid, 0)
        if status != 0:
            fail(f"rsync: wait status {status}")
        return usage.ru_maxrss / 1024


class Sshfs:
    """sshfs from an sshd of our own."""

    name = "sshfs"
    missing = Sshd.missing

    def __init__(self, bench):
        self.bench = bench
        self.point = bench.work.path("sshfs")
        self.point.mkdir()
        self.cpu = bench.cpu[self.name]
        self.sshd = Sshd(bench.work, self.cpu.prefix)

    def round(self, record):
        record("time.tar.first", self.bench.from_nothing(record, self.cpu, self._mount, self.point))
        self.bench.warm(record, self.point)
        self.bench.remember_memory(record, "used", self.point)
        self._unmount()
        for phase, load in (("find.first", gauge.find), ("ls.first", gauge.ls)):
            self._mount()
            if phase == "find.first":
                self.bench.remember_memory(record, "idle", self.point)
            with measured(record, phase):
                load(self.point)
            self._unmount()

    def _mount(self):
        self.sshd.mount(self.bench.tree, self.point)

    def _unmount(self):
        self.bench.unmount(self.point)
