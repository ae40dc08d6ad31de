"""For tests of faults: small file systems of their own, calls that fail, and the rows of docs/reliability.md."""

import contextlib
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

from harness import BUILD, TESTS, check, program, report, run_ok, say, skip  # noqa: F401 (the tests take report from here)

sys.path.insert(0, str(TESTS / "fault"))
import faults as calls  # noqa: E402,F401

MIB = 1 << 20


class Disk:
    """A file system of BYTES at w.path(NAME), unmounted at the end; KIND "tmpfs" or "ext4"."""

    def __init__(self, w, kind, size, name="disk", options="errors=remount-ro"):
        self.folder = w.path(name)
        self.folder.mkdir()
        self.kind = kind
        if kind == "tmpfs":
            run_ok(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", self.folder])
            return
        image = w.path(name + ".img")
        with open(image, "wb") as f:
            f.truncate(size)
        run_ok(["mkfs.ext4", "-q", "-m", "0", "-O", "^resize_inode", image])
        done = subprocess.run(["mount", "-o", f"loop,{options}", image, self.folder], capture_output=True, text=True)
        if done.returncode != 0:
            skip(f"no loop devices: {done.stderr.strip()}")

    @property
    def device(self):
        """The name of the block device, such as loop0."""
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            if fields[4] == str(self.folder):
                return os.path.basename(fields[fields.index("-") + 2])
        return None

    def free(self):
        st = os.statvfs(self.folder)
        return st.f_bavail * st.f_frsize

    def fill(self):
        """A file that takes all that is left."""
        with open(self.folder / "filler", "ab") as f, contextlib.suppress(OSError):
            while True:
                os.write(f.fileno(), bytes(65536))
        with open(self.folder / "filler", "ab") as f, contextlib.suppress(OSError):
            while True:
                os.write(f.fileno(), bytes(512))

    def empty(self):
        (self.folder / "filler").unlink()


class MemoryGroup:
    """A control group in which all that is started with .prefix has MOST bytes of memory together, pages of files and what the kernel keeps for it included.

    Of either version of control groups, whichever has the memory controller here; without one the case is skipped. To be left after its processes have ended.
    """

    def __init__(self, name, most):
        version, self._top = self._controller()
        self._limit, events = {2: ("memory.max", "memory.events"), 1: ("memory.limit_in_bytes", "memory.oom_control")}[version]
        self.folder = self._top / f"fsyncfs-test-{os.getpid()}-{name}"
        self.events = self.folder / events
        self.prefix = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self.folder)]
        self._most = most

    @staticmethod
    def _controller():
        """(the version, the folder of the first group)"""
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, folder, kind, options, *_ = line.split()
            if kind == "cgroup" and "memory" in options.split(","):
                return 1, Path(folder)
            if kind == "cgroup2" and "memory" in (Path(folder) / "cgroup.subtree_control").read_text().split():
                return 2, Path(folder)
        return skip("no memory controller here, or it is not ours to use")

    def __enter__(self):
        try:
            self.folder.mkdir()
            (self.folder / self._limit).write_text(str(self._most))
        except OSError as error:
            skip(f"no control group can be made: {error}")
        return self

    def __exit__(self, *_):
        for pid in (self.folder / "cgroup.procs").read_text().split():  # left by what failed
            with contextlib.suppress(OSError):
                (self._top / "cgroup.procs").write_text(pid)
        self.folder.rmdir()

    def killed(self):
        """How many processes the kernel has ended for lack of memory."""
        return int(re.search(r"^oom_kill (\d+)", self.events.read_text(), re.M)[1])


@contextlib.contextmanager
def injected(w, folder):
    """Programs that are started within can have their calls on the file system of FOLDER fail."""
    faults = calls.Faults(w.path("faults"), BUILD, folder)
    before = dict(os.environ)
    os.environ.update(faults.environment)
    try:
        yield faults
    finally:
        os.environ.clear()
        os.environ.update(before)


def forget(path):
    """The kernel has no page of it any more."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def files_of(tree):
    return sorted(os.path.relpath(os.path.join(d, n), tree) for d, _, names in os.walk(tree) for n in names)


def read_all(m, tree, names=None, allowed=()):
    """Reads every file through the mount and compares it with the master's: how many were right; {errno: how many failed so}. Other errors fail the test."""
    right, failed = 0, {}
    for name in files_of(tree) if names is None else names:
        try:
            with open(m.point / name, "rb") as f:
                got = f.read()
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            check(error.errno in allowed, f"{name}: {error}, allowed {[os.strerror(n) for n in allowed]}")
            failed[error.errno] = failed.get(error.errno, 0) + 1
            continue
        check(got == (Path(tree) / name).read_bytes(), f"wrong bytes in {name}")
        right += 1
    return right, failed


def log_is_short(m, lines=150):
    """What happens again and again is not logged again and again."""
    found = m.daemon.output().splitlines()
    check(len(found) <= lines, f"{len(found)} lines in the log, such as {found[len(found) // 2]!r}")


def ends_well(m):
    """The daemon has not died, and unmounting works."""
    check(m.daemon.running(), f"the daemon ended: {m.daemon.output()[-800:]}")
    m.unmount()


def verify(cache, *words):
    return run_ok([program("fsyncfs"), "cache", "verify", "--cache", cache, *words])


def text_of(failed):
    return ", ".join(f"{count} {errno.errorcode[n]}" for n, count in sorted(failed.items())) or "no error"


