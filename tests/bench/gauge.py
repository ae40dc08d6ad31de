"""What is measured, and how: time, bytes on the wire, CPU of processes, memory; and the loads that are timed."""

import os
import re
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from harness import fail, run_ok, wait_until

SETTLE_SEC = 0.05  # a server's work ends a moment after the client's


def wire_bytes():
    """All bytes that crossed the loopback interface of this network namespace, headers included."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[8])
    fail("no loopback interface")


def family(pid):
    """PID and the ids of all its living descendants."""
    found = [pid]
    for parent in found:
        try:
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += [int(child) for child in children.read_text().split()]
        except OSError:
            pass  # it has ended
    return found


class CpuGroup:
    """A cgroup (v2) that counts the CPU time of a server and of all it forks, to the microsecond.

    A server is started with .prefix before its command line. To be left after the server has ended.
    """

    def __init__(self, name):
        points = re.findall(r"^\S+ (\S+) cgroup2 ", Path("/proc/self/mounts").read_text(), re.M)
        if not points:
            fail("no cgroup v2 file system is mounted: the servers' CPU time cannot be counted")
        self.folder = Path(points[0]) / f"fsyncfs-bench-{os.getpid()}-{name}"
        self.prefix = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.folder)]

    def __enter__(self):
        self.folder.mkdir()
        return self

    def __exit__(self, *_):
        wait_until(lambda: not (self.folder / "cgroup.procs").read_text(), f"the end of all in {self.folder}")
        self.folder.rmdir()

    def seconds(self):
        return int(re.search(r"usage_usec (\d+)", (self.folder / "cpu.stat").read_text())[1]) / 1e6


def memory(pids):
    """(RSS, PSS) in MiB, summed over PIDS. PSS is the honest one where pages are shared or mapped twice."""
    totals = {"Rss": 0, "Pss": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in totals:
                totals[name] += int(value.split()[0])
    return totals["Rss"] / 1024, totals["Pss"] / 1024


@contextmanager
def measured(record, phase, server=None):
    """Records the body's time; with a server's CpuGroup also the server's CPU time and what crossed the wire."""
    cpu = server.seconds() if server else 0
    wire = wire_bytes()
    start = time.monotonic()
    yield
    record(f"time.{phase}", time.monotonic() - start)
    if server:
        record(f"wire.{phase}", wire_bytes() - wire)
        time.sleep(SETTLE_SEC)
        record(f"cpu.{phase}", server.seconds() - cpu)


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def find(folder):
    subprocess.run(["find", folder], stdout=subprocess.DEVNULL, check=True)


def ls(folder):
    subprocess.run(["ls", "-lR", folder], stdout=subprocess.DEVNULL, check=True, env={**os.environ, "LC_ALL": "C"})


def tar(folder):
    """Archives FOLDER into a pipe (with /dev/null for output tar would read nothing) and returns the archive's size."""
    with subprocess.Popen(["tar", "-C", folder, "-cf", "-", "."], stdout=subprocess.PIPE) as archive:
        counted = subprocess.run(["wc", "-c"], stdin=archive.stdout, stdout=subprocess.PIPE, check=True)
    if archive.returncode != 0:
        fail(f"tar of {folder}: exit code {archive.returncode}")
    return int(counted.stdout)


def compile_load(folder, name):
    """Compiles NAME.c beside this file into FOLDER, and returns the program's path."""
    program = Path(folder) / name
    run_ok(["cc", "-O2", "-D_GNU_SOURCE", "-o", program, Path(__file__).with_name(f"{name}.c")])
    return program


def compile_openloop(folder):
    return compile_load(folder, "openloop")


def open_read_close(program, folder, names):
    """Seconds per file to open, read and close the files NAMES below FOLDER, when all of it was read before."""
    stdin = b"".join(os.fsencode(f"{folder}/{name}") + b"\0" for name in names)
    return float(subprocess.run([program], input=stdin, stdout=subprocess.PIPE, check=True).stdout) / 1e9
