"""Nothing hangs, and all that is here works, when the other side is dead, stopped, or gone without a word (promise 2)."""

import concurrent.futures
import contextlib
import errno
import fcntl
import json
import os
import platform
import random
import re
import signal
import subprocess
import time

from faultlab import calls, read_all
from harness import BUILD, FULL, SPIDER, case, check, equal, fail, fails_with, is_mounted, main, program, report, run, run_ok, skip, wait_until
from trees import make_tree

TIMEOUT_SEC = 4   # of a read that needs the master
PROMPT_SEC = 20   # for what asks no master: far more than it takes, far less than for ever
FILES = 12
STOPS = 10 if FULL else 2

# Reads all of a tree for ever, each time from the daemon.
READER = r'''
import os, sys
while True:
    for folder, _, names in os.walk(sys.argv[1]):
        for name in names:
            with open(os.path.join(folder, name), "rb") as f:
                f.read()
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
'''


def tree(w):
    make_tree(w.tree, FILES, 600_000)


def read_some(m):
    """Reads every other file: (those that are cached now, those that are not)."""
    paths = sorted(m.point.rglob("*.bin"))
    for path in paths[::2]:
        path.read_bytes()
    return paths[::2], paths[1::2]


def local_works(m, cached):
    """All that needs no master, each in a process of its own, so that one that hangs is a failure of the case."""
    commands = [["stat", m.point], ["stat", cached[0]], ["ls", "-lR", m.point], ["find", m.point, "-newer", "/etc/passwd"],
                ["df", m.point], ["stat", "-f", m.point], ["cat", *cached], [program("fsyncfs"), "status", m.point],
                [program("fsyncfs"), "version", m.point]]
    for command in commands:
        run_ok(command, timeout=PROMPT_SEC)
    run(["lsof", m.point], timeout=PROMPT_SEC)  # says 1 if nothing is open


def waiting_cat(path):
    return subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def is_waiting(job):
    """Whether JOB sleeps in a read of a FUSE file system."""
    with open(f"/proc/{job.pid}/wchan") as f:
        where = f.read()
    return job.poll() is None and ("fuse" in where or "folio" in where)


def killable(path):
    """A read that waits for the master ends at once when it is killed."""
    job = waiting_cat(path)
    with contextlib.suppress(Exception):
        wait_until(lambda: is_waiting(job), "cat waits", 1)
    check(job.poll() is None, "cat waits for the master")
    job.send_signal(signal.SIGINT)
    try:
        equal(job.wait(TIMEOUT_SEC / 2), -signal.SIGINT, "how cat ends")
    finally:
        job.kill()


def fails_in_time(path):
    """A read that needs the master ends with an error that says so, when its time is over."""
    began = time.monotonic()
    try:
        path.read_bytes()
        fail(f"{path.name} could be read")
    except OSError as error:
        check(error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH), f"a read without a master: {error}")
    check(time.monotonic() - began < TIMEOUT_SEC + PROMPT_SEC, f"{path.name} took {time.monotonic() - began:.0f} s")


def cut_off(m, cached, rest):
    """What a mount does that has lost its master."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waits = pool.submit(fails_in_time, rest[0])
        killable(rest[1])
        local_works(m, cached)
        waits.result()


@case("with the master dead what is here works, a read of what is not ends in time or when killed, and umount is prompt")
def dead(w):
    tree(w)
    server = w.server()
    m = w.mount(server, options=[f"timeout={TIMEOUT_SEC}", "prefetch=off"])
    cached, rest = read_some(m)
    server.kill()
    cut_off(m, cached, rest)
    run_ok(["umount", m.point], timeout=PROMPT_SEC)
    equal(m.daemon.wait(PROMPT_SEC), 0, "the daemon's exit code")


@case("so with a master that is stopped; when it goes on, so do the reads")
def stopped(w):
    tree(w)
    server = w.server()
    m = w.mount(server, options=[f"timeout={TIMEOUT_SEC}", "prefetch=off", "refresh=push"])
    cached, rest = read_some(m)
    wait_until(lambda: m.status()["watching"], "it listens")
    server.signal(signal.SIGSTOP)
    cut_off(m, cached, rest)
    wait_until(lambda: m.status()["state"] == "offline", "the mount knows that the master is away")
    server.signal(signal.SIGCONT)
    wait_until(lambda: m.status()["state"] == "online" and m.status()["watching"], "the mount is back by itself", 60)
    for path in rest:
        equal(path.read_bytes(), (w.tree / path.relative_to(m.point)).read_bytes(), path.name)
    server.signal(signal.SIGSTOP)
    run_ok(["umount", m.point], timeout=PROMPT_SEC)
    equal(m.daemon.wait(PROMPT_SEC), 0, "the daemon's exit code")
    server.signal(signal.SIGCONT)


@contextlib.contextmanager
def frozen(m):
    """Keeper and daemon are stopped, as by who suspends all of a job."""
    pids = [m.daemon.pid, m.serving_pid()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@case("a daemon that is stopped goes on by itself: all looks, reads and umount come through")
def daemon_stopped(w):
    tree(w)
    m = w.mount(w.server(), options=["prefetch=off"])
    cached, rest = read_some(m)
    daemon = m.serving_pid()
    for work in (lambda: local_works(m, cached), lambda: [path.read_bytes() for path in rest], m.status):
        os.kill(daemon, signal.SIGSTOP)
        work()
        said = len(re.findall("was stopped by a signal, and not continued", m.daemon.output()))
        check(said > 0, "the log says so")
    report("Daemon stopped", f"SIGSTOP, {said} times", "looks, reads, status wait for a while, and no longer", "it was continued, and all came through")
    equal(m.serving_pid(), daemon, "the daemon")
    os.kill(daemon, signal.SIGSTOP)
    run_ok(["umount", m.point], timeout=PROMPT_SEC)
    equal(m.daemon.wait(2 * PROMPT_SEC), 0, "the daemon's exit code")


@case("with keeper and daemon stopped a task that waits can be killed, status says so in time, and umount -l works")
def both_stopped(w):
    tree(w)
    server = w.server()
    m = w.mount(server, options=["prefetch=off"])
    _cached, rest = read_some(m)
    with frozen(m):
        job = waiting_cat(rest[0])
        with contextlib.suppress(Exception):
            wait_until(lambda: is_waiting(job), "cat waits", 1)
        check(job.poll() is None, "cat waits for the daemon")
        job.kill()
        equal(job.wait(PROMPT_SEC), -signal.SIGKILL, "how cat ends")
        done = run([program("fsyncfs"), "status", m.point], timeout=3 * PROMPT_SEC)
        check(done.returncode != 0 and "does not answer" in done.stderr, f"status of a daemon that is stopped: {done.stderr}")
        run_ok(["umount", "-l", m.point], timeout=PROMPT_SEC)
        check(not is_mounted(m.point), "the mount is gone")
    equal(m.daemon.wait(), 0, "the daemon's exit code")


@case("what nobody answers for long the kernel ends, with the mount")
def unanswered(w):
    if tuple(int(n) for n in platform.release().split(".")[:2]) < (6, 15):
        skip("a kernel before 6.15 waits for ever")
    tree(w)
    m = w.mount(w.server(), options=["prefetch=off"], prefix=["env", "FSYNCFS_TEST_REQUEST_SEC=5"])  # otherwise hours
    _cached, rest = read_some(m)
    with frozen(m):
        job = waiting_cat(rest[0])
        check(job.wait(90) not in (0, -signal.SIGKILL), "cat has ended with an error of its own")
        fails_with({errno.ENOTCONN, errno.ECONNABORTED}, os.statvfs, m.point)
    run_ok(["umount", m.point], timeout=PROMPT_SEC)
    m.daemon.wait()


@case("a log that nobody reads any more holds nobody up, and what is lost is counted")
def deaf_log(w):
    tree(w)
    os.mkfifo(w.path("log"))
    log = os.open(w.path("log"), os.O_RDWR | os.O_NONBLOCK)  # nobody reads, but somebody could
    try:
        fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, 8192)
        os.write(log, b"x" * 8192)
        server = w.server()
        m = w.mount(server, options=[f"timeout={TIMEOUT_SEC}", "prefetch=off"], prefix=["sh", "-c", 'exec "$@" 2>"$0"', w.path("log")])
        cached, rest = read_some(m)
        server.kill()
        cut_off(m, cached, rest)
        for path in rest[2:]:
            fails_in_time(path)
        os.read(log, 8192)  # from now on there is room for a line or two
        w.server(port=server.port)
        (w.tree / "new.bin").write_bytes(b"new")
        m.refresh()
        said = os.read(log, 8192).decode()
        lost = re.search(r"(\d+) lines before the last one are lost: nobody took them", said)
        check(lost, f"what is said afterwards: {said}")
        report("Log that hangs", "standard error is a pipe that nobody empties, the master dies", "no read, look or umount waits for it; what is lost is counted",
               f"all ended in time; {lost[1]} lines lost, and said so when there was room")
    finally:
        os.close(log)


# Runs a command in namespaces of its own where the name server of resolv.conf is there, and silent.
SILENT_DNS = r'''
import socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.53", 53))
sys.exit(subprocess.run(sys.argv[2:]).returncode)
'''


@case("a name server that does not answer holds nobody up, whatever resolv.conf allows it")
def silent_dns(w):
    w.path("resolv.conf").write_text("nameserver 127.0.0.53\noptions timeout:30 attempts:5\n")
    tree(w)

    def run_there(*command):
        return run(["unshare", "-m", "-n", "python3", "-c", SILENT_DNS, w.path("resolv.conf"), *command], timeout=3 * PROMPT_SEC)
    if run_there("true").returncode != 0:
        skip("no network namespaces here")
    w.path("mnt").mkdir()
    options = f"cache={w.path('cache')},timeout={TIMEOUT_SEC}"
    done = run_there(program("fsyncfs"), "mount", f"master.example:1:/{SPIDER}", w.path("mnt"), "-o", options)
    check(done.returncode != 0 and "a name server that does not answer" in done.stderr, f"mount: {done.stderr}")
    done = run_there(program("fsyncfs"), "doctor", f"master.example:1:/{SPIDER}", "-o", options)
    check(done.returncode != 0 and "'master.example': the name server does not answer" in done.stdout, f"doctor: {done.stdout}")
    done = run_there(program("fsyncfs-server"), "--workspace", w.root, "--listen", "master.example:0", "--index", w.path("index.db"))
    check(done.returncode != 0 and "master.example" in done.stderr, f"the server: {done.stderr}")
    report("Name server that is silent", "resolv.conf with five attempts of 30 s", "mount, doctor and server end in time, and say what it is", "so they did")


class Wire:
    """Two network namespaces with a wire between them, which can be cut without a word to either end."""

    def __init__(self):
        self.names = [f"fsyncfs{os.getpid()}{end}" for end in "ab"]
        self.addresses = ["10.66.0.1", "10.66.0.2"]

    def __enter__(self):
        if run(["ip", "netns", "add", self.names[0]]).returncode != 0:
            skip("no network namespaces here")
        try:
            run_ok(["ip", "netns", "add", self.names[1]])
            run_ok(["ip", "-n", self.names[0], "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", self.names[1]])
            for name, address in zip(self.names, self.addresses):
                run_ok(["ip", "-n", name, "address", "add", address + "/24", "dev", "wire"])
                run_ok(["ip", "-n", name, "link", "set", "lo", "up"])
                run_ok(["ip", "-n", name, "link", "set", "wire", "up"])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.names:
            run(["ip", "netns", "del", name])

    def within(self, end, *argv):
        return ["nsenter", f"--net=/run/netns/{self.names[end]}", *argv]

    def cut(self):
        """Both links stay up, and what is sent goes nowhere: each end knows the other by an address that is nobody's."""
        for name, other in zip(self.names, self.addresses[::-1]):
            run_ok(["ip", "-n", name, "neighbour", "replace", other, "lladdr", "02:00:00:00:00:99", "dev", "wire", "nud", "permanent"])

    def mend(self):
        for name, other in zip(self.names, self.addresses[::-1]):
            run_ok(["ip", "-n", name, "neighbour", "del", other, "dev", "wire"])


def ended(wire, method):
    """How many calls of METHOD the master has seen the end of."""
    text = run_ok(wire.within(0, "curl", "-s", "--max-time", "10", "http://127.0.0.1:9667/metrics")).stdout
    check("fsyncfs_rpc_duration_seconds_count" in text, f"the server counts calls: {text[:200]}")
    return sum(int(float(line.split()[-1])) for line in text.splitlines()
               if line.startswith("fsyncfs_rpc_duration_seconds_count") and f"/{method}\"" in line)


@case("a network that is gone without a word is found out by both ends, and all goes on when it is back")
def half_open(w):
    tree(w)
    w.path("token").write_text("a-token-for-this-test\n")
    with Wire() as wire:
        server = w.spawn(wire.within(0, program("fsyncfs-server"), "--workspace", w.root, "--listen", "10.66.0.1:9666", "--index",
                                     w.path("index.db"), "--metrics", "127.0.0.1:9667", "--token-file", w.path("token")),
                         "server.log")
        server.wait_output(r"ready$")
        w.path("mnt").mkdir()
        w.spawn(wire.within(1, program("fsyncfs"), "mount", f"10.66.0.1:/{SPIDER}", w.path("mnt"), "-f", "-o",
                            f"cache={w.path('cache')},token_file={w.path('token')},timeout={TIMEOUT_SEC},prefetch=off"),
                "mount1.log")
        wait_until(lambda: is_mounted(w.path("mnt")), "the mount")

        class Mounted:
            point = w.path("mnt")

            @staticmethod
            def status():
                return json.loads(run_ok([program("fsyncfs"), "status", w.path("mnt"), "--json"], timeout=PROMPT_SEC).stdout)

        m = Mounted()
        cached, rest = read_some(m)
        wait_until(lambda: m.status()["watching"], "it listens")
        equal([ended(wire, "Watch"), ended(wire, "Fetch")], [0, 0], "streams that have ended")
        wire.cut()
        cut_off(m, cached, rest)
        wait_until(lambda: m.status()["state"] == "offline" and not m.status()["watching"], "the worker has found out")
        wait_until(lambda: ended(wire, "Watch") and ended(wire, "Fetch"), "the master has found out, and the calls have ended", 60)
        (w.tree / "meanwhile").write_text("m" * 300)
        wire.mend()
        wait_until(lambda: (m.point / "meanwhile").exists(), "what changed meanwhile shows", 60)
        for path in rest:
            equal(path.read_bytes(), (w.tree / path.relative_to(m.point)).read_bytes(), path.name)
        run_ok(["umount", m.point], timeout=PROMPT_SEC)


@case("a mount that is stopped at any moment does not hang another one of the same cache, which reads and evicts")
def stopped_sibling(w):
    make_tree(w.tree, 100, 2_000_000)
    for number in range(4):
        (w.tree / f"large{number}.bin").write_bytes(os.urandom(2_000_000))
    server = w.server()
    options = ["prefetch=off", "passthrough=off", "quota=6M", "timeout=80"]
    w.path("cache").mkdir()
    faults = calls.Faults(w.path("faults"), BUILD, w.path("cache"))
    slowed = ["env", *(f"{name}={value}" for name, value in faults.environment.items())]
    other = w.mount(server, options=options, prefix=slowed)
    m = w.mount(server, options=options)
    faults.slow(calls.NAMES | calls.WRITE, 0.01)  # most of its time it holds a lock, or has claimed something
    stopped, serving = other.serving_pid(), m.serving_pid()
    dice = random.Random(7)
    evict = [program("fsyncfs"), "cache", "evict", "--to", "0", "--cache", m.cache]
    reader = w.spawn(["/usr/bin/python3", "-c", READER, other.point], "reader.log")
    for _ in range(STOPS):
        run_ok(evict)
        time.sleep(dice.random() / 5)  # so that each stop is at another moment
        with frozen(other):
            right, _ = read_all(m, w.tree)
            check(right > 100, f"{right} files were right")
            run_ok(evict)
    check(reader.running(), f"the other mount's reader goes on: {reader.output()[-500:]}")
    reader.stop()
    equal((m.serving_pid(), other.serving_pid()), (serving, stopped), "the daemons that serve")


main(at_a_time=5)  # they wait for time-outs
