"""What every integration test stands on: a work folder, servers, mounts and peers in it, and their end in any case.

All servers listen on 127.0.0.1 only. Whatever a case starts lives in a Work; leaving it stops the processes, unmounts and
removes the folder, also after a failure, a signal or a time-out. After a failure the logs are printed.
"""

import contextlib
import ctypes
import errno
import itertools
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

import tap  # noqa: E402
from tap import Failure, case, check, equal, fail, say, skip  # noqa: E402,F401 (the tests take them from here)

SOURCE = TESTS.parent
BUILD = Path(os.environ.get("FSYNCFS_BUILD", SOURCE / "build"))
PEERS = TESTS / "peers"
FULL = os.environ.get("FSYNCFS_TEST_FULL") == "1"
SPIDER = "spider"
for variable in ("FSYNCFS_CONFIG", "FSYNCFS_SERVER_CONFIG"):
    os.environ[variable] = "/dev/null"  # not what this machine's own say
WAIT_SEC = 60      # for something that happens at once unless it is broken
COMMAND_SEC = 120  # for a command that ends


def report(fault, injected, promised, happened):
    """A row of the table in docs/reliability.md: tests/fault/report.py collects them."""
    say("RELIABILITY " + " | ".join((fault, injected, promised, happened)))


def program(name):
    """The path of a built program (or of FSYNCFS_BINDIR's, to test an installation)."""
    folders = [os.environ["FSYNCFS_BINDIR"]] if "FSYNCFS_BINDIR" in os.environ else []
    folders += [BUILD / room for room in ("cli", "server", "fs")]
    for folder in folders:
        path = Path(folder) / name
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    fail(f"{name} is not built in {BUILD}")


def holders(point):
    """The processes in whose namespaces of mounts POINT is mounted."""
    found = []
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):
            if f" {point} " in path.read_text():
                found.append(f"{path.parent.name} {(path.parent / 'comm').read_text().strip()}")
    return found


def waits(pid):
    """Where in the kernel each thread of PID waits, for people: none if it is gone."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            found.append(f"{(task / 'comm').read_text().strip()}: {(task / 'wchan').read_text()}")
    return sorted(found)


def has_sanitizer():
    """Whether the programs are built with one that keeps memory of its own beside theirs."""
    return re.search(r"lib[at]san\.so", run_ok(["ldd", program("fsyncfs")]).stdout) is not None


def wait_until(condition, what, timeout=WAIT_SEC):
    """Polls until condition() is true and returns its value; a Failure that names WHAT otherwise."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            fail(f"{what}: did not happen within {timeout} s")
        time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(argv, timeout=COMMAND_SEC, **options):
    """Runs a command to its end with its output captured as text; a time-out is a Failure."""
    argv = [os.fspath(a) for a in argv]
    options.setdefault("stdin", subprocess.DEVNULL)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="surrogateescape",
                          start_new_session=True, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException as reason:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(reason, subprocess.TimeoutExpired):
                raise Failure(f"{' '.join(argv)}: no end within {timeout} s") from None
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def run_ok(argv, **options):
    """As run, and exit code 0 is demanded."""
    done = run(argv, **options)
    check(done.returncode == 0, f"{' '.join(done.args)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done


def one_line(done, code, *words):
    """The command failed with CODE and one line on stderr that holds all WORDS: what a person needs to go on."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    equal(done.returncode, code, f"exit code of {' '.join(done.args)} ({done.stderr.strip()[:300]})")
    equal(len(lines), 1, f"lines on stderr of {' '.join(done.args)} ({done.stderr.strip()[:500]})")
    for word in words:
        check(word in lines[0], f"stderr does not name {word!r}: {lines[0]}")


def fails_with(number, function, *args):
    """FUNCTION(*ARGS) raises OSError with errno NUMBER (or one of several)."""
    wanted = number if isinstance(number, (set, tuple)) else {number}
    name = f"{getattr(function, '__name__', function)}{args}"
    try:
        function(*args)
    except OSError as error:
        check(error.errno in wanted, f"{name}: {error}, expected {[os.strerror(n) for n in wanted]}")
        return
    fail(f"{name} succeeded, expected {[os.strerror(n) for n in wanted]}")


def mounts_below(folder):
    """The mount points of all mounts below FOLDER, innermost first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split()
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4])
        if point.startswith(str(folder)):
            found.append(point)
    return found[::-1]


def is_mounted(folder):
    return str(folder) in mounts_below(folder)


def processes_naming(text):
    """The ids of processes whose command line names TEXT (a work folder's path: so they are ours)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


def daemons_naming(text):
    """Those of them that are daemons of mounts, not their keepers."""
    return [pid for pid in processes_naming(text) if Path(f"/proc/{pid}/comm").read_text().strip() != "keeper"]


def _lives(status):
    try:
        return not re.search(r"^State:\t[ZX]", status.read_text(), re.M)
    except OSError:
        return False


def is_alive(pid):
    """Not a zombie either, nor about to be one."""
    return _lives(Path(f"/proc/{pid}/status"))


def has_threads(pid):
    """Whether any thread of PID, which may be None, has not ended."""
    return any(_lives(status) for status in Path(f"/proc/{pid}/task").glob("*/status"))


def kill_processes_naming(text):
    """Also ends every wait for a FUSE daemon among them: its connection goes with it. Until none is left: a keeper that is still there makes another daemon."""
    for _ in range(100):
        found = [pid for pid in processes_naming(text) if is_alive(pid)]
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)


def on_terminal(argv, timeout=COMMAND_SEC):
    """Runs ARGV with a terminal on all three descriptors: (exit code, all that it wrote)."""
    ours, theirs = pty.openpty()
    job = subprocess.Popen([os.fspath(a) for a in argv], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown, until = b"", time.monotonic() + timeout
    while time.monotonic() < until:
        if select.select([ours], [], [], 1)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:
                break
    os.close(ours)
    return job.wait(timeout), shown.decode(errors="backslashreplace")


class Process:
    """A program in its own process group, with its output in a log file. START: what starts it, as subprocess.Popen does."""

    def __init__(self, argv, log, start=subprocess.Popen, **options):
        self.log = Path(log)
        self.argv = [os.fspath(a) for a in argv]
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as out:
            self.popen = start(self.argv, stdout=out, stderr=out, start_new_session=True, **{"stdin": subprocess.DEVNULL, **options})
        self.pid = self.popen.pid

    def output(self):
        """What this process (not an earlier one with the same log) has written."""
        with open(self.log, "rb") as f:
            f.seek(self._log_start)
            return f.read().decode(errors="backslashreplace")

    def wait_output(self, pattern, timeout=WAIT_SEC):
        """Waits until the output matches PATTERN and returns the match; a Failure if the process ends before."""
        def look():
            ended = self.popen.poll() is not None
            match = re.search(pattern, self.output(), re.M)
            if not match and ended:
                fail(f"{self.argv[0]} ended with {self.popen.returncode}: {self.output().strip()[-500:]}")
            return match
        return wait_until(look, f"/{pattern}/ in the output of {self.argv[0]}", timeout)

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def wait(self, timeout=WAIT_SEC):
        """Waits for the end and returns the exit code."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"{' '.join(self.argv)}: still running after {timeout} s") from None

    def stop(self, timeout=WAIT_SEC):
        """SIGTERM; the exit code."""
        if self.running():
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self):
        """SIGKILL to the whole group, and waits."""
        if self.running():
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.popen.wait(WAIT_SEC)


class Server(Process):
    """A running fsyncfs-server; .port is where it listens. PREFIX: a command that runs it. INDEX: one that no other server is using, if none is given."""

    def __init__(self, work, root, port=0, options=(), index=None, prefix=()):
        self.metrics_port = free_port()
        self.root = Path(root)
        in_use = {p.index for p in work.processes if isinstance(p, Server) and p.running()}
        self.index = index or next(path for path in (work.path(f"index{n or ''}.db") for n in itertools.count()) if path not in in_use)
        super().__init__([*prefix, program("fsyncfs-server"), "--workspace", root, "--listen", f"127.0.0.1:{port}",
                          "--index", self.index, "--metrics", f"127.0.0.1:{self.metrics_port}", *options],
                         work.path("server.log"))
        self.port = int(self.wait_output(r"listening on 127\.0\.0\.1:(\d+)")[1])
        self.wait_output(r"metrics on 127\.0\.0\.1:")

    def source(self, spider=SPIDER, path=""):
        return f"127.0.0.1:{self.port}:/{spider}{path}"

    def counters(self):
        """All metrics as {name{labels}: value}."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=WAIT_SEC) as reply:
            lines = reply.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
                for line in lines if line and not line.startswith("#")}

    def status(self):
        """/status.json"""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/status.json", timeout=WAIT_SEC) as reply:
            return json.loads(reply.read())

    def counter(self, name):
        """One counter, summed over its labels; it must exist."""
        values = [v for k, v in self.counters().items() if k == name or k.startswith(name + "{")]
        check(values, f"the server has no counter {name}")
        return int(sum(values))


class Mount:
    """A mount in the foreground, so that its log is at hand and its daemon can be killed. `daemon` is its keeper, with the daemon in its group."""

    def __init__(self, work, source, point, cache, options, log, prefix=()):
        self.point = Path(point)
        self.cache = Path(cache)
        self.source = source
        self.point.mkdir(parents=True, exist_ok=True)
        if not any(option.startswith("refresh=") for option in options):
            options = [*options, "refresh=off"]  # a test decides when a new version is taken
        self.daemon = work.spawn([*prefix, program("fsyncfs"), "mount", source, point, "-f", "-o",
                                  ",".join([f"cache={cache}", *options])], log)

        def ready():
            if not self.daemon.running():
                fail(f"mount of {source} ended with {self.daemon.popen.returncode}: {self.daemon.output()[-500:]}")
            return is_mounted(self.point)
        wait_until(ready, f"mount of {source}", COMMAND_SEC)
        os.stat(self.point)

    def status(self):
        return json.loads(run_ok([program("fsyncfs"), "status", self.point, "--json"]).stdout)

    def version(self):
        """The root digest in hex."""
        return run_ok([program("fsyncfs"), "version", self.point]).stdout.split()[0]

    def refresh(self, *options):
        """Takes the master's present version; in place on return."""
        run_ok([program("fsyncfs"), "refresh", self.point, *options])

    def unmount(self):
        run_ok(["umount", self.point])
        try:
            equal(self.daemon.wait(), 0, "the daemon's exit code after umount")
        except Failure:
            say(f"the mount is still there for {holders(self.point)}; the daemon's threads wait in {waits(self.serving_pid())}")
            raise

    def serving_pid(self):
        """The process that serves, not its keeper, nor what a sanitizer forks from that; None: there is none just now."""
        keeper = self.daemon.pid
        children = Path(f"/proc/{keeper}/task/{keeper}/children")
        for pid in children.read_text().split() if children.exists() else []:
            stat = Path(f"/proc/{pid}/stat")
            try:
                head, _, rest = stat.read_text().rpartition(")")
                if not head.endswith("(keeper") and rest.split()[0] != "Z":
                    return int(pid)
            except OSError:
                pass
        return None

    def crash(self):
        """kill -9 of the daemon alone, which the keeper replaces: its process id."""
        pid = wait_until(self.serving_pid, "a daemon to kill")
        os.kill(pid, signal.SIGKILL)
        return pid

    def die(self):
        """kill -9 of keeper and daemon; the dead mount stays."""
        self.daemon.kill()

        def gone():  # not "Software caused connection abort": a thread of the daemon's still has the connection open
            return os.strerror(errno.ENOTCONN) in run(["stat", "-f", self.point], env=os.environ | {"LC_ALL": "C"}).stderr
        wait_until(gone, "the daemon's end")

    def kill(self):
        """kill -9 of keeper and daemon, and removal of the dead mount. By force: a page that was being pushed may keep it alive (docs/promises.md)."""
        serving = self.serving_pid()
        self.daemon.kill()
        if is_mounted(self.point):
            run_ok(["umount", "-f", "-l", self.point])
        wait_until(lambda: not has_threads(serving), "the daemon's end")


class Work:
    """A work folder and all that runs in it; see the file's head."""

    def __init__(self, name):
        self.name = name
        self.dir = Path(tempfile.mkdtemp(prefix="fsyncfs-test-"))
        self.root = self.path("master")
        self.tree = self.root / SPIDER
        self.processes = []
        self._mounts = 0

    def path(self, *parts):
        return self.dir.joinpath(*parts)

    def spawn(self, argv, log, **options):
        return self.own(Process(argv, self.path(log), **options))

    def server(self, **options):
        """A server of self.root, which holds the tree of SPIDER."""
        self.tree.mkdir(parents=True, exist_ok=True)
        return self.own(Server(self, options.pop("root", self.root), **options))

    def mount(self, source, cache="cache", options=(), point=None, prefix=()):
        """Mounts SOURCE (or a Server's spider) and returns when it can be read. PREFIX: a command that runs the daemon."""
        self._mounts += 1
        source = source.source() if isinstance(source, Server) else source
        return Mount(self, source, self.path(point or f"mnt{self._mounts}"), self.path(cache), options,
                     f"mount{self._mounts}.log", prefix)

    def try_mount(self, source, options=(), point=None, cache="cache"):
        """`fsyncfs mount` in the background as a user types it; whatever comes of it."""
        point = self.path("mnt") if point is None else Path(point)
        if point == self.path("mnt"):
            point.mkdir(exist_ok=True)
        return run([program("fsyncfs"), "mount", source, point, "-o", ",".join([f"cache={self.path(cache)}", *options])])

    def own(self, process):
        self.processes.append(process)
        return process

    def __enter__(self):
        tap.on_timeout.append(self._abort)
        return self

    def _abort(self):
        kill_processes_naming(str(self.dir))

    def __exit__(self, kind, _value, _traceback):
        failed = kind is not None and not issubclass(kind, tap.Skipped)
        with tap.undisturbed():
            tap.on_timeout.remove(self._abort)
            self._end_all()
            if failed:
                self._print_logs()
            if failed and os.environ.get("FSYNCFS_TEST_KEEP"):
                say(f"kept: {self.dir}")
            else:
                shutil.rmtree(self.dir, ignore_errors=True)

    def _end_all(self):
        """Mounts first, so that their daemons end by themselves; then again, as one that was coming up may have come meanwhile."""
        self._unmount_all()
        for process in self.processes:
            try:
                process.stop(5)
            except Failure:
                process.kill()
        kill_processes_naming(str(self.dir))
        self._unmount_all()

    def _unmount_all(self):
        for point in mounts_below(self.dir):
            if subprocess.run(["timeout", "10", "umount", point], capture_output=True).returncode != 0:
                subprocess.run(["umount", "-l", point], capture_output=True)

    def _print_logs(self):
        for log in sorted(self.dir.glob("*.log")):
            say(f"--- {log.name}, its last lines:")
            say("\n".join(log.read_text(errors="backslashreplace").splitlines()[-40:]))


CLONE_NEWNS, MS_REC, MS_SLAVE = 0x20000, 0x4000, 0x80000  # linux/sched.h, linux/mount.h


def own_mounts():
    """A namespace of mounts for this process: a mount ends when it is in none any more, and another test may just be making one of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) < 0 or libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None) < 0:
        say(f"no namespace for the mounts: {os.strerror(ctypes.get_errno())}")


def main(**options):
    own_mounts()
    tap.run(Work, **options)
