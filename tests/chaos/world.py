"""What the chaos test does harm to: a master with changing files, mounts of it behind proxies, their disks and clocks, readers that compare each byte."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

from harness import BUILD, PEERS, Failure, check, fail, is_mounted, program, run, run_ok, wait_until, waits  # noqa: E402
import peers  # noqa: E402,F401 (tests/peers on the path)
from changing_files import Master  # noqa: E402
from shifted_clock import Clock  # noqa: E402
from random_reader import RECORD, THREADS  # noqa: E402

# Whether a mount lives on when its daemon is killed; otherwise (an older kernel) it answers ENOTCONN until it is mounted anew.
EXPECT_TAKEOVER = os.environ.get("FSYNCFS_EXPECT_TAKEOVER", "1") == "1"
TIMEOUT_SEC = 3  # what the mounts are told
READ_SEC = 60  # within which a read ends in any case: far more than TIMEOUT_SEC for each of what it may ask for
OTHER_SEC = 20  # and what asks for no content
DISK_BYTES = 24 << 20
KEPT = (100, 256, 70_000, 300_000, (2 << 20) + 1)


class Proxy:
    """tests/peers/chaos_proxy.py in front of PORT."""

    def __init__(self, w, name, port, seed):
        self.control = w.path(f"{name}.sock")
        self.process = w.spawn([sys.executable, PEERS / "chaos_proxy.py", "--to", str(port), "--control", self.control,
                                "--seed", str(seed)], f"{name}.log")
        self.port = int(self.process.wait_output(peers.LISTENING)[1])
        self.source = f"127.0.0.1:{self.port}:/spider"

    def do(self, **what):
        """Has it do WHAT from now on; its counters."""
        with socket.socket(socket.AF_UNIX) as s, s.makefile() as lines:
            s.settimeout(30)
            s.connect(str(self.control))
            s.sendall(json.dumps(what).encode() + b"\n")
            return json.loads(lines.readline())


class Disk:
    """A file system of its own for a cache, small enough to be filled."""

    def __init__(self, w, name):
        self.point, image = w.path(name), w.path(name + ".img")
        self.point.mkdir()
        with open(image, "wb") as f:
            f.truncate(DISK_BYTES)
        run_ok(["mkfs.ext4", "-q", "-m", "0", image])
        run_ok(["mount", "-o", "loop", image, self.point])

    def fill(self, leave):
        """All but about LEAVE bytes, whatever is freed meanwhile."""
        with open(self.point / "ballast", "ab", buffering=0) as f, contextlib.suppress(OSError):
            while (room := os.statvfs(self.point).f_bavail * 4096 - leave) > 0:
                f.write(bytes(min(room, 1 << 16)))

    def free(self):
        (self.point / "ballast").unlink(missing_ok=True)


class Worker:
    """A mount, whatever happens to its daemon, and a reader of it."""

    def __init__(self, world, number, proxy, cache, options=()):
        self.world, self.number, self.proxy, self.cache = world, number, proxy, cache
        self.options = [f"timeout={TIMEOUT_SEC}", *options]
        self.clock = Clock(world.w, f"worker{number}")
        self.mounts = []     # all that ever were, the present one last
        self.stopped = False
        self.excused = 0.0   # what began before this time may have waited for a stopped daemon
        self.mount_once()

    @property
    def point(self):
        return self.world.w.path(f"mnt{self.number}")

    def mount_once(self):
        with self.clock.shown():
            self.mount = self.world.w.mount(self.proxy.source, cache=self.cache, options=self.options, point=self.point.name)
        self.mounts.append(self.mount)
        self.anew = False  # true: it was unmounted by us, and not mounted again yet

    def mounted(self):
        return self.mount.daemon.running() and is_mounted(self.point)

    def mount_anew(self):
        """Tries to; with the way there cut off it may fail, and is tried again later."""
        self.anew = True
        while is_mounted(self.point):
            run(["umount", "-l", self.point])
        with contextlib.suppress(Failure):
            self.mount_once()

    def kill(self):
        """The daemon alone: the mount lives on. None is there while a mount that we ended cannot be made again, with its way spoiled."""
        self.proceed()
        if self.anew:
            return
        with contextlib.suppress(ProcessLookupError):
            self.mount.crash()

    def stop(self):
        """SIGSTOP, as a debugger or a frozen container does."""
        self.stopped = True
        self._signal(signal.SIGSTOP)

    def proceed(self):
        if self.stopped:
            self._signal(signal.SIGCONT)
            self.stopped, self.excused = False, time.monotonic()

    def _signal(self, number):
        pid = self.mount.serving_pid()
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, number)

    def read_on(self):
        """Starts the reader."""
        self.beats = self.world.w.path(f"beats{self.number}")
        self.beats.write_bytes(bytes(RECORD.size * THREADS))
        self.reader = self.world.w.spawn(
            [sys.executable, PEERS / "random_reader.py", self.point, self.world.master.folder,
             str(self.world.seed + self.number), self.world.stop, self.beats], f"reader{self.number}.log")

    def _waits(self):
        """Since when the reader's threads wait, looked at once more: a time that is just being written is another one then."""
        return {since for since, _ in RECORD.iter_unpack(self.beats.read_bytes())}

    def check_reader(self, read_sec=READ_SEC, other_sec=OTHER_SEC):
        """It has found nothing wrong and does not hang."""
        if not self.reader.running():
            fail(f"the reader of mount {self.number}: {self.reader.output().strip()[-1500:]}")
        if self.stopped:
            return
        now = time.monotonic()
        for since, content in RECORD.iter_unpack(self.beats.read_bytes()):
            waited = now - max(since, self.excused)
            if since and waited > (read_sec if content else other_sec) and since in self._waits():
                fail(f"mount {self.number}: {'a read' if content else 'what asks for no content'} hangs for {waited:.0f} s\n"
                     + threads_of(self.mount.serving_pid()))


def threads_of(pid):
    """Where the threads of a process are, for people."""
    found = waits(pid)
    if not found:
        return "its daemon is gone"
    stacks = subprocess.run(["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt 12"], capture_output=True, text=True) \
        if Path("/usr/bin/gdb").exists() else None
    return "\n".join(found) + ("\n" + stacks.stdout[-20000:] if stacks else "")


class Editor(threading.Thread):
    """Changes the master's files until stopped; holds still while paused."""

    def __init__(self, master, rng, pause_sec):
        super().__init__(name="editor", daemon=True)
        self.master, self.rng, self.pause_sec = master, rng, pause_sec
        self.running = threading.Lock()  # held during a change; and by who wants none
        self.over = threading.Event()
        self.changes, self.error = 0, None

    def run(self):
        try:
            while not self.over.wait(self.rng.random() * self.pause_sec):
                with self.running:
                    self.master.change()
                self.changes += 1
        except Exception as error:  # told by who looks
            self.error = error


class World:
    def __init__(self, w, seed, pause_sec):
        self.w, self.seed = w, seed
        self.master = Master(w.tree, w.path("versions"), random.Random(seed), kept=KEPT)
        self.stop, self.clock = w.path("stop"), Clock(w, "server")
        self.start_server(0)
        self.proxies = [Proxy(w, f"proxy{i}", self.server.port, seed + i) for i in range(2)]
        self.disk = Disk(w, "disk")
        self.workers = [
            Worker(self, 0, self.proxies[0], "cache", ["refresh=push"]),
            Worker(self, 1, self.proxies[1], "cache", ["refresh=push", "passthrough=on"]),
            Worker(self, 2, self.proxies[1], "disk/cache", ["refresh=1", "quota=16M"]),
        ]
        for worker in self.workers:
            worker.read_on()
        self.editor = Editor(self.master, random.Random(seed + 1), pause_sec)
        self.editor.start()

    def start_server(self, port):
        with self.clock.shown():
            self.server = self.w.server(port=port)

    def watch(self):
        """Raises Failure as soon as something is wrong."""
        check(not self.editor.error, f"the editor: {self.editor.error!r}")
        for worker in self.workers:
            worker.check_reader()
            for mount in worker.mounts:
                code = mount.daemon.popen.poll()
                if code not in (None, 0, -signal.SIGKILL):
                    fail(f"a daemon of mount {worker.number} ended with {code}: {mount.daemon.output()[-1500:]}")
        code = self.server.popen.poll()
        check(code in (None, 0, -signal.SIGKILL), f"the server ended with {code}: {self.server.output()[-1500:]}")
        if EXPECT_TAKEOVER:
            for worker in self.workers:
                check(worker.anew or worker.mounted(), f"mount {worker.number} is lost")

    def status(self):
        return [json.loads(run_ok([program("fsyncfs"), "status", worker.point, "--json"]).stdout) for worker in self.workers]
