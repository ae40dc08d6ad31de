"""A daemon that hangs is replaced like one that died; one that is busy, stopped, starved or debugged is not."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time

from faultlab import Disk, calls, forget
from harness import BUILD, FULL, case, check, equal, is_mounted, main, processes_naming, run, run_ok, skip, wait_until
from trees import make_tree

FUSE_THREADS = 8
NOTED = r"in the works for 20 s"  # the keeper's line on a request that is older than a hang would have been found at
VERDICT_SEC = 20                  # longer than the keeper takes to find a hang
WAIT_SEC = 90                     # for what takes a verdict, on a machine that is slow


def tree(w, files=12):
    make_tree(w.tree, files, 600_000)


def mount_with_faults(w, server, options):
    """A mount, and the faults of its calls. Not by this process's environment: other cases start mounts at the same time."""
    w.path("cache").mkdir()
    faults = calls.Faults(w.path("faults"), BUILD, w.path("cache"))
    prefix = ["env", *(f"{name}={value}" for name, value in faults.environment.items())]
    return w.mount(server, options=options, prefix=prefix), faults


def mounted(w, options=()):
    """A mount whose files are all in the store, its calls' faults, and its files."""
    tree(w)
    m, faults = mount_with_faults(w, w.server(), ["prefetch=off", "passthrough=off", *options])
    paths = sorted(m.point.rglob("*.bin"))
    for path in paths:
        path.read_bytes()
        forget(path)
    return m, faults, paths


def reader(w, m, path):
    """Compares a file of the mount with the master's; its bytes come from the daemon."""
    return subprocess.Popen(["cmp", path, w.tree / path.relative_to(m.point)], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, start_new_session=True)


def replaced(m, old):
    wait_until(lambda: m.serving_pid() not in (None, old), "another daemon", WAIT_SEC)
    wait_until(lambda: m.status()["hangs"] == 1, "the hang in status")
    equal(m.status()["restarts"], 1, "restarts")


def not_replaced(m, old):
    equal(m.serving_pid(), old, "the process that serves")
    status = m.status()
    equal((status["hangs"], status["restarts"]), (0, 0), "hangs and restarts")


def ends_right(jobs):
    for job in jobs:
        equal(job.wait(WAIT_SEC), 0, f"exit code of cmp ({job.stderr.read()})")


@contextlib.contextmanager
def killed_at_the_end(jobs):
    try:
        yield
    finally:
        for job in jobs:
            job.kill()
            job.wait()


@case("a request whose call never returns: others are served meanwhile, then the daemon is replaced, and the reader goes on")
def one_thread(w):
    m, faults, paths = mounted(w)
    old = m.serving_pid()
    faults.hang(calls.READ)
    jobs = [reader(w, m, paths[0])]
    with killed_at_the_end(jobs):
        wait_until(lambda: faults.failed, "the call")
        equal(paths[1].read_bytes(), (w.tree / paths[1].relative_to(m.point)).read_bytes(), "another file")
        equal(m.serving_pid(), old, "the daemon that serves it")
        replaced(m, old)
        ends_right(jobs)
    log = m.daemon.output()
    for word in ("hangs: thread", "(lifeline)", "pause"):
        check(word in log, f"{word!r} is in the log: {log[-2000:]}")
    m.unmount()


@case("all threads in calls that never return: so")
def all_threads(w):
    m, faults, paths = mounted(w)
    old = m.serving_pid()
    faults.hang(calls.READ, times=FUSE_THREADS)
    jobs = [reader(w, m, path) for path in paths]
    with killed_at_the_end(jobs):
        wait_until(lambda: faults.failed == FUSE_THREADS, "all threads in such a call")
        replaced(m, old)
        ends_right(jobs)
    equal(m.daemon.stop(), 0, "exit code")


@case("reads that wait for a silent master for longer than that are no hang")
def silent_master(w):
    tree(w, 24)
    server = w.server()
    m = w.mount(server, options=["prefetch=off", "timeout=80"])
    old, paths = m.serving_pid(), sorted(m.point.rglob("*.bin"))
    server.signal(signal.SIGSTOP)
    jobs = [reader(w, m, path) for path in paths]
    with killed_at_the_end(jobs):
        until = time.monotonic() + VERDICT_SEC
        while time.monotonic() < until:
            run_ok(["stat", "-f", m.point])
            time.sleep(0.5)
        not_replaced(m, old)
        server.signal(signal.SIGCONT)
        ends_right(jobs)
    not_replaced(m, old)
    m.unmount()


@case("a daemon that is stopped, then gets a hundredth of a CPU's time, is not replaced")
def starved(w):
    m, faults, paths = mounted(w)
    faults.slow(calls.READ, 0.005)
    old = m.serving_pid()
    jobs = [reader(w, m, path) for path in paths]
    with killed_at_the_end(jobs):
        until = time.monotonic() + VERDICT_SEC
        os.kill(old, signal.SIGSTOP)
        time.sleep(8)  # two more, and it would be continued
        while time.monotonic() < until:
            os.kill(old, signal.SIGCONT)
            time.sleep(0.004)
            os.kill(old, signal.SIGSTOP)
            time.sleep(0.4)
        os.kill(old, signal.SIGCONT)
        ends_right(jobs)
    not_replaced(m, old)
    m.unmount()


class Tracer:
    """A debugger of all threads of PID, which stops none of them."""
    SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17

    def __init__(self, pid):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        for thread in map(int, os.listdir(f"/proc/{pid}/task")):
            if self._libc.ptrace(self.SEIZE, thread, None, None) != 0:
                skip(f"no ptrace here: {os.strerror(ctypes.get_errno())}")


@case("a request that is old in a debugger is left to who debugs")
def debugged(w):
    m, faults, paths = mounted(w)
    old = m.serving_pid()
    Tracer(old)
    faults.hang(calls.READ)
    jobs = [reader(w, m, paths[0])]
    with killed_at_the_end(jobs):
        m.daemon.wait_output(NOTED + ".*debugger", WAIT_SEC)
        not_replaced(m, old)


@case("a request that waits for a disk that is frozen is left to it")
def frozen_disk(w):
    w.tree.mkdir(parents=True)
    (w.tree / "large.bin").write_bytes(os.urandom(3_000_000))
    disk = Disk(w, "ext4", 64 << 20)
    m = w.mount(w.server(), cache="disk/cache", options=["prefetch=off", "timeout=80"])
    old = m.serving_pid()
    run_ok(["fsfreeze", "-f", disk.folder])
    jobs = [reader(w, m, m.point / "large.bin")]
    try:
        with killed_at_the_end(jobs):
            m.daemon.wait_output(NOTED + ".*disk", WAIT_SEC)
            equal(m.serving_pid(), old, "the process that serves")
            run_ok(["fsfreeze", "-u", disk.folder])
            ends_right(jobs)
        not_replaced(m, old)
    finally:
        run(["fsfreeze", "-u", disk.folder])
    m.unmount()


@case("a daemon that hangs when it is asked to end is killed, and the mount ends")
def asked_to_end(w):
    if not FULL:
        skip("takes half a minute; FSYNCFS_TEST_FULL=1 runs it")
    m, faults, paths = mounted(w)
    faults.hang(calls.READ)
    jobs = [reader(w, m, paths[0])]
    with killed_at_the_end(jobs):
        wait_until(lambda: faults.failed, "the call")
        equal(m.daemon.stop(WAIT_SEC), 0, "the keeper's exit code")
    check(not is_mounted(m.point), "the mount is gone")
    check(not processes_naming(str(m.point)), "no process is left")


@case("a daemon that hangs when it is unmounted is ended")
def unmounted(w):
    tree(w)
    m, faults = mount_with_faults(w, w.server(), ["prefetch=off", "passthrough=off"])
    path = sorted(m.point.rglob("*.bin"))[0]
    faults.hang(calls.WRITE)
    equal(path.read_bytes(), (w.tree / path.relative_to(m.point)).read_bytes(), "a file, from memory")
    wait_until(lambda: faults.failed, "the call that stores it")
    run_ok(["umount", m.point])
    equal(m.daemon.wait(WAIT_SEC), 0, "the keeper's exit code")
    check("hangs: thread" in m.daemon.output(), f"the log says so: {m.daemon.output()[-2000:]}")
    check(not processes_naming(str(m.point)), "no process is left")


main(at_a_time=7)  # they wait for a verdict
