"""What the rows of `scale` work with: the trees, servers, and mounts as a user makes them."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from gauge import wire_bytes
from harness import BUILD, SPIDER, Server, fail, daemons_naming, program, run, run_ok, wait_until

LONG_SEC = 1200  # for what takes minutes on a slow machine
SMALL = "small"  # the spider that the large one is compared with
SMALL_SHAPE = ("wide", 10, 999)


def shape_of(kind, entries):
    """(kind, folders, files in each) of about ENTRIES entries."""
    return (kind, max(1, entries // 1000), 999) if kind == "wide" else (kind, max(1, entries // 10), 9)


def peer(name):
    """The path of a counterpart in C, built with the tests."""
    path = BUILD / "tests" / "peers" / name
    return path if path.is_file() else fail(f"{name} is not built in {BUILD}")


def make_tree(root, shape):
    kind, folders, files = shape
    Path(root).parent.mkdir(parents=True, exist_ok=True)
    run_ok([peer("maketree"), root, kind, str(folders), str(files)], timeout=LONG_SEC)


def count(folder, *tests):
    """How many entries there are in FOLDER, itself included."""
    with subprocess.Popen(["find", folder, *tests, "-printf", "x"], stdout=subprocess.PIPE) as found:
        return sum(len(data) for data in iter(lambda: found.stdout.read(1 << 20), b""))


def memory(pid):
    """{VmRSS, VmHWM, Pss, Pss_Anon} of PID in bytes."""
    found = {}
    for file in ("status", "smaps_rollup"):
        for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", Path(f"/proc/{pid}/{file}").read_text(), re.M):
            found[name] = int(value) * 1024
    return {name: found[name] for name in ("VmRSS", "VmHWM", "Pss", "Pss_Anon")}


class ScaleMount:
    """`fsyncfs mount` in the background, as a user types it; timed, and its bytes counted."""

    def __init__(self, lab, source, point, cache, options=()):
        self.lab, self.source, self.point, self.cache = lab, source, Path(point), Path(cache)
        self.point.mkdir(exist_ok=True)
        self.argv = [program("fsyncfs"), "mount", source, point, "-o", ",".join([f"cache={cache}", *options])]

    def mount(self):
        """Returns (seconds until ls answered, bytes on the wire until then)."""
        wire, start = wire_bytes(), time.monotonic()
        run_ok(self.argv, timeout=LONG_SEC)
        os.listdir(self.point)
        return time.monotonic() - start, wire_bytes() - wire

    def status(self):
        return json.loads(run_ok([program("fsyncfs"), "status", self.point, "--json"]).stdout)

    def is_complete(self, entries):
        status = self.status()
        return not status.get("loading") and status["entries"] == entries

    def wait_complete(self, entries):
        wait_until(lambda: self.is_complete(entries), f"all {entries} entries in {self.point}", LONG_SEC)

    def _daemons(self):
        return [pid for pid in daemons_naming(str(self.point)) if Path(f"/proc/{pid}/exe").resolve().name == "fsyncfs"]

    def daemon(self):
        """Its process id. A moment after the mount its watchdog may still go by the daemon's name."""
        return wait_until(lambda: len(found := self._daemons()) == 1 and found, f"one daemon of {self.point}")[0]

    def unmount(self):
        unmount_all([self])


def unmount_all(mounts):
    """Returns when their daemons have ended."""
    daemons = [mount.daemon() for mount in mounts]
    for mount in mounts:
        run_ok(["umount", mount.point])
    for daemon in daemons:
        wait_until(lambda pid=daemon: not Path(f"/proc/{pid}").exists(), f"the end of process {daemon}", LONG_SEC)


class Lab:
    """One large tree and a small one under one root, and what serves and mounts them."""

    def __init__(self, work, shape, args):
        self.work, self.args = work, args
        self.root, self.tree = work.root, work.tree
        make_tree(self.tree, shape)
        make_tree(self.root / SMALL, SMALL_SHAPE)
        self.entries = count(self.tree)
        self.files = count(self.tree, "-type", "f")
        self.small_entries = count(self.root / SMALL)
        self.leaf = self._find_leaf(shape)
        self.has_push = "--watch" in run([program("fsyncfs-server"), "--help"]).stdout
        self._numbers = iter(range(10**6))
        self._random = random.Random(1)

    def _find_leaf(self, shape):
        """A folder without folders, relative to the tree: to ask for it makes the master look at everything, and send little."""
        if shape[0] == "wide":
            return "dir0000"
        done = run_ok(["find", self.tree, "-name", f"pkg{shape[1] - 1}"], timeout=LONG_SEC)
        return os.path.relpath(done.stdout.strip(), self.tree)

    def say(self, text):
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def server(self, index="index"):
        """Starts a server with the index of that name; the caller stops it."""
        server = Server(self.work, self.root, index=self.work.path(index))
        self.work.processes.append(server)
        return server

    def fresh(self, name):
        """The path of a folder that does not exist; what was there before is gone."""
        path = self.work.path(f"{name}{next(self._numbers):06d}")  # none the beginning of another
        shutil.rmtree(path, ignore_errors=True)
        return path

    def remove(self, path):
        shutil.rmtree(path, ignore_errors=True)

    def mount(self, server, cache, spider=SPIDER, path="", options=(), point=None):
        """A mount to be, see ScaleMount.mount. The point's name is its own, so that its daemon can be told by it."""
        return ScaleMount(self, server.source(spider, path), point or self.fresh("mnt"), cache, options)

    def change(self, number):
        """Writes other bytes of another size to NUMBER files all over the tree; returns their paths."""
        folders = self._random.sample(self._folders(), min(number, len(self._folders())))
        changed = []
        for folder in folders:
            names = sorted(e.name for e in os.scandir(folder) if e.is_file())
            path = Path(folder) / self._random.choice(names)
            path.write_bytes(self._random.randbytes(500 + self._random.randrange(1000)))
            changed.append(path)
        return changed

    def _folders(self):
        if not hasattr(self, "_all_folders"):
            done = run_ok(["find", self.tree, "-mindepth", "1", "-type", "d"], timeout=LONG_SEC)
            self._all_folders = sorted(done.stdout.splitlines())
        return self._all_folders

    def memfs(self):
        """A bare libfuse file system of the tree: (process, mount point)."""
        point = self.fresh("memfs")
        point.mkdir()
        process = self.work.spawn([peer("memfs"), self.tree, point], f"{point.name}.log")
        process.wait_output("^mounted$", LONG_SEC)
        return process, point

