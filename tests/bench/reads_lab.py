"""What the rows of `reads` work with: trees made when first asked for, one master of them all, mounts and their peers."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import gauge
from harness import PEERS, Server, fail, run_ok
from scale_lab import LONG_SEC, ScaleMount
from scale_rows import timed

sys.path.insert(0, str(PEERS))

from pyprogram import make_program  # noqa: E402
from trees import make_tree, settle  # noqa: E402

MIB = 1 << 20
PIECE_BYTES = 256 << 10  # of a large content, in the store and on the wire


def make_random(path, size):
    """A file of random bytes."""
    with open(path, "wb") as f:
        for offset in range(0, size, MIB):
            f.write(os.urandom(min(MIB, size - offset)))
    settle()


def make_hollow(path, size):
    """A file that takes little of the disk although no piece of it equals another's."""
    with open(path, "wb") as f:
        for offset in range(0, size, PIECE_BYTES):
            f.seek(offset)
            f.write(os.urandom(16))
        f.truncate(size)


def words_of(argv):
    return [os.fspath(word) for word in argv]


class Lab:
    """The trees are spiders of one master: `thousand`, `small`, `large`, `program`, `stream`, `version`."""

    def __init__(self, work, root, args, cpu):
        self.work, self.root, self.args, self.cpu = work, root, args, cpu
        part = 10 if args.light else 1
        self.large_bytes = 1024 * MIB // part
        self.stream_bytes = 10240 * MIB // part
        self.version_bytes = 200 * MIB // part
        self._makers = {
            "thousand": lambda path: make_tree(path, 1_000, 50_000_000),
            "small": lambda path: make_tree(path, 30_000 // part, 120_000_000 // part),
            "large": lambda path: self._make_file(path, make_random, self.large_bytes),
            "program": lambda path: setattr(self, "printed", make_program(path)[0]),
            "stream": self._make_stream,
            "version": lambda path: self._make_file(path, make_random, self.version_bytes),
        }
        self._stores = {}
        self._numbers = iter(range(10**6))
        for name in ("openloop", "readload", "rawcopy"):
            setattr(self, name, gauge.compile_load(work.dir, name))
        self.index = work.path("index")
        self.server = Server(work, root, index=self.index, prefix=cpu["fsyncfs"].prefix, options=["--hash", args.hash])
        work.processes.append(self.server)

    @staticmethod
    def _make_file(folder, maker, size):
        folder.mkdir()
        maker(folder / "file", size)

    def _make_stream(self, folder):
        folder.mkdir()
        for number in range(10):
            make_hollow(folder / f"file{number}", self.stream_bytes // 10)
        settle()

    def say(self, text):
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    def tree(self, name):
        """The master's folder of that name; the master has seen and hashed it."""
        path = self.root / name
        if not path.exists():
            self.say(f"making {name}")
            self._makers[name](path)
            mount = self.mount(name, self.fresh("cache"))
            mount.unmount()
            self.remove(mount.cache)
        return path

    def fresh(self, name):
        """A path at which there is nothing."""
        return self.work.path(f"{name}{next(self._numbers):06d}")  # none the beginning of another

    def remove(self, path):
        shutil.rmtree(path, ignore_errors=True)

    def mount(self, name, cache, options=(), port=None):
        """Mounts the tree of that name. PORT: of a proxy before the master. The caller unmounts it."""
        mount = self.mount_to_be(name, cache, options, port)
        mount.seconds, _ = mount.mount()
        return mount

    def mount_to_be(self, name, cache, options=(), port=None):
        return ScaleMount(self, f"127.0.0.1:{port or self.server.port}:/{name}", self.fresh("mnt"), cache, options)

    def cold(self, name, options=(), port=None):
        """A mount with an empty store, on a master that has learned nothing from earlier ones."""
        self.tree(name)
        self.forget()
        os.sync()
        return self.mount(name, self.fresh("cache"), options, port)

    def discard(self, mount):
        """Unmounts it, and removes its store."""
        mount.unmount()
        self.remove(mount.cache)

    def filled(self, name):
        """A mount whose store has all of the tree; everything was read once in it."""
        tree = self.tree(name)
        if name not in self._stores:
            self._stores[name] = self.fresh("cache")
            mount = self.mount(name, self._stores[name])
            self.tar(mount.point, tree)
            mount.unmount()
        mount = self.mount(name, self._stores[name])
        self.tar(mount.point, tree)
        return mount

    def forget(self):
        """The master no longer knows what tasks read first."""
        for path in self.index.glob("*/learned"):
            path.unlink()

    def tar(self, folder, tree):
        """Seconds that it takes to archive FOLDER, which must amount to what TREE amounts to."""
        start = time.monotonic()
        size = gauge.tar(folder)
        seconds = time.monotonic() - start
        wanted = gauge.tar(tree)
        return seconds if size == wanted else fail(f"tar of {folder}: {size} bytes, {wanted} expected")

    def read(self, load, file):
        """Seconds that `readload` says, which do not include the opening."""
        return float(run_ok([self.readload, load, file], timeout=LONG_SEC).stdout)

    def raw_server(self, path):
        """The port at which the bytes of PATH are to be had, and its process."""
        process = self.work.spawn([*self.cpu["raw"].prefix, self.rawcopy, "serve", path], f"{self.fresh('raw').name}.log")
        return int(process.wait_output(r"^port (\d+)$")[1]), process

    def raw_fetch(self, port):
        """Seconds that the transfer from such a PORT into a file takes."""
        copy = self.fresh("copy")
        seconds = timed([self.rawcopy, "fetch", str(port), copy])
        copy.unlink()
        return seconds

    def all_at_once(self, commands):
        """Runs them side by side until the last has ended; all must succeed."""
        running = [subprocess.Popen(words_of(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for argv in commands]
        codes = [process.wait() for process in running]
        if any(codes):
            fail(f"{commands[0][0]}: exit codes {sorted(set(codes))}")


def cpu_seconds(pid):
    """CPU time that a process has used up to now, in the clock's ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid):
    """The most memory that a process has had resident."""
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)[1]) * 1024
