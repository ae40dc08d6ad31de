"""A daemon that dies is replaced, and no task notices: no error, no wrong byte, nothing left over."""

import contextlib
import errno
import json
import os
import signal
import socket
import time
from pathlib import Path

from harness import (FULL, case, check, daemons_naming, equal, fails_with, is_mounted, main,
                     processes_naming, program, run, run_ok, skip, wait_until)
from trees import make_tree, same_snapshot, snapshot

KILLS = 50 if FULL else 8
FILES, BYTES = 300, 25_000_000

# Reads and compares all of a tree, again and again until told to stop: any error, any difference ends it with a line that says which.
READER = r'''
import mmap, os, sys
point, tree, stop = sys.argv[1:4]
rounds = 0
while rounds == 0 or not os.path.exists(stop):
    for folder, _, names in os.walk(point, onerror=lambda error: sys.exit(f"walk: {error}")):
        for name in names:
            path = os.path.join(folder, name)
            true = os.path.join(tree, os.path.relpath(path, point))
            if os.path.islink(path):
                assert os.readlink(path) == os.readlink(true), path
                continue
            with open(path, "rb") as a, open(true, "rb") as b:
                os.posix_fadvise(a.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                want = b.read()
                if want and rounds % 2:
                    with mmap.mmap(a.fileno(), 0, prot=mmap.PROT_READ) as m:
                        got = m[:]
                else:
                    got = a.read()
                if got != want:
                    sys.exit(f"{path}: wrong bytes")
    rounds += 1
print("rounds", rounds)
'''


def start_readers(w, m, n, stop):
    return [w.spawn(["/usr/bin/python3", "-c", READER, m.point, w.tree, stop], f"reader{i}.log") for i in range(n)]


def tar(w, m, number):
    return w.spawn(["tar", "-C", m.point, "-cf", "/dev/null", "--exclude=./nothing", "."], f"tar{number}.log")


def await_new(m, old):
    """Waits for the daemon that takes OLD's place to serve."""
    def new():
        pid = m.serving_pid()
        return pid if pid not in (None, old) else None
    wait_until(new, "the next daemon")
    os.statvfs(m.point)


def program_is(folder, path):
    try:
        return os.readlink(folder / "exe") == str(path)
    except OSError:
        return False


def foreign_socketpair():
    """As another user would make it."""
    before = os.geteuid()
    os.seteuid(65534)
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    finally:
        os.seteuid(before)


def say_to_daemon(m, command):
    """What `fsyncfs` would say to it, and its answer."""
    device = next(line.split()[2] for line in Path("/proc/self/mountinfo").read_text().splitlines()
                  if line.split()[4] == str(m.point))
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"/run/fsyncfs/{device}.sock")
        s.sendall(command.encode() + b"\n")
        return json.loads(s.makefile().read())


def waits_in(pid):
    """Where in the kernel PID sleeps."""
    return Path(f"/proc/{pid}/wchan").read_text()


def nothing_left(w, m):
    wait_until(lambda: not processes_naming(str(m.point)), "the end of keeper and daemon")
    check(not is_mounted(m.point), "a mount is left")


def killed_under_load(w, options):
    make_tree(w.tree, FILES, BYTES)
    for number in range(3):
        (w.tree / f"large{number}.bin").write_bytes(os.urandom(3_000_000))
    server = w.server()
    m = w.mount(server, options=["timeout=20", *options])
    held = sorted(p for p in m.point.rglob("*.bin"))[:20]
    fds = [(os.open(p, os.O_RDONLY), w.tree / p.relative_to(m.point)) for p in held]
    stop = w.path("stop")
    readers = start_readers(w, m, 3, stop)
    for number in range(KILLS):
        if FULL:
            time.sleep(7)  # a daemon that dies more than twelve times a minute is given up
        archive = tar(w, m, number)
        time.sleep(0.1 + 0.03 * (number % 7))
        await_new(m, m.crash())
        for fd, true in fds:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            check(os.pread(fd, 1 << 24, 0) == true.read_bytes(), f"bytes of {true.name}, held open")
        equal(archive.wait(), 0, f"exit code of tar {number} ({archive.output()[-300:]})")
    stop.touch()
    for reader in readers:
        equal(reader.wait(60), 0, f"exit code of a reader ({reader.output()[-300:]})")
    for fd, _ in fds:
        os.close(fd)
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
    equal(m.status()["restarts"], KILLS, "restarts in status")
    m.unmount()
    nothing_left(w, m)
    run_ok([program("fsyncfs"), "cache", "verify", "--cache", m.cache])


@case(f"kill -9 of the daemon {KILLS} times under load")
def plain(w):
    killed_under_load(w, ["passthrough=off"])


@case(f"the same {KILLS} times where the kernel reads large files itself")
def through(w):
    killed_under_load(w, ["passthrough=on"])


@case("who asks for the status while the daemon is replaced is told by the next one")
def asked_between(w):
    make_tree(w.tree, 3, 3000)
    m = w.mount(w.server())
    device = os.stat(m.point).st_dev
    left = Path(f"/run/fsyncfs/{os.major(device)}:{os.minor(device)}.sock.new")  # by one that died before it had the socket's name
    for restarts in range(1, 11):
        left.touch()
        m.crash()
        equal(m.status()["restarts"], restarts, "restarts")
    check(not left.exists(), "what was left is still there")
    m.unmount()


@case("what is open by passthrough when the daemon dies is opened the same way again, until it is closed")
def same_way(w):
    w.tree.mkdir(parents=True)
    (w.tree / "whole.bin").write_bytes(os.urandom(5_000_000))
    (w.tree / "cold.bin").write_bytes(os.urandom(5_000_000))
    m = w.mount(w.server(), options=["passthrough=on"])
    if not m.status()["passthrough"]:
        skip(m.status()["features"]["passthrough"]["reason"])
    run_ok([program("fsyncfs"), "prefetch", m.point / "whole.bin"])
    held = {name: os.open(m.point / name, os.O_RDONLY) for name in ("whole.bin", "cold.bin")}
    equal(m.status()["passthrough_opens"], 1, "opens by passthrough")
    await_new(m, m.crash())
    run_ok([program("fsyncfs"), "prefetch", m.point / "cold.bin"])
    for name, fd in held.items():
        check((m.point / name).read_bytes() == (w.tree / name).read_bytes(), f"bytes of {name}, opened once more")
        check(os.pread(fd, 1 << 24, 0) == (w.tree / name).read_bytes(), f"bytes of {name}, held open")
        os.close(fd)
    await_new(m, m.crash())
    for name in held:
        check((m.point / name).read_bytes() == (w.tree / name).read_bytes(), f"bytes of {name} after another crash")
    wait_until(lambda: m.status()["passthrough_opens"] == 2, "both are read by the kernel, once nobody has them open")
    m.unmount()


@case("a read that waits for the master when the daemon dies is answered by the next one")
def waiting_read(w):
    make_tree(w.tree, 10, 1_000_000)
    server = w.server()
    m = w.mount(server, options=["timeout=60"])
    name = sorted(w.tree.rglob("*.bin"))[0].relative_to(w.tree)
    os.stat(m.point / name)
    server.signal(signal.SIGSTOP)
    reader = w.spawn(["cmp", m.point / name, w.tree / name], "cmp.log")
    wait_until(lambda: "fuse" in waits_in(reader.pid) or "folio" in waits_in(reader.pid), "the read to wait")
    old = m.crash()
    wait_until(lambda: m.serving_pid() not in (None, old), "the next daemon")
    check(reader.running(), "the read still waits")
    server.signal(signal.SIGCONT)
    equal(reader.wait(), 0, f"exit code of cmp ({reader.output()})")
    m.unmount()


@case("an open file of an older version keeps its content, and so do the names of the present one")
def older_version(w):
    make_tree(w.tree, 20, 400_000)
    m = w.mount(w.server())
    files = sorted(w.tree.rglob("*.bin"))
    before = {p: p.read_bytes() for p in files}
    fds = {p: os.open(m.point / p.relative_to(w.tree), os.O_RDONLY) for p in files[:5]}
    inodes = {p: os.stat(m.point / p.relative_to(w.tree)).st_ino for p in files}
    for p, fd in fds.items():
        check(os.pread(fd, 1 << 20, 0) == before[p], f"bytes of {p.name}")
        p.write_bytes(b"changed " + p.name.encode())
    m.refresh()
    await_new(m, m.crash())
    for p, fd in fds.items():
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        check(os.pread(fd, 1 << 20, 0) == before[p], f"bytes of {p.name}, opened before it was replaced")
        equal(os.fstat(fd).st_size, len(before[p]), f"size of {p.name}, opened before it was replaced")
        os.close(fd)
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the present version")
    for p in files[5:]:
        equal(os.stat(m.point / p.relative_to(w.tree)).st_ino, inodes[p], f"inode number of {p.name}")
    m.unmount()


@case("a version that the kernel was not told of: it is after the crash")
def untold(w):
    make_tree(w.tree, 300, 600_000)
    server = w.server()
    m = w.mount(server)
    for number in range(5):
        same_snapshot(snapshot(m.point), snapshot(w.tree), f"before version {number}")
        for p in sorted(w.tree.rglob("*.bin")):
            p.write_bytes(f"{number} {p.name}".encode() * 3)
        refresh = w.spawn([program("fsyncfs"), "refresh", m.point], f"refresh{number}.log")
        time.sleep(0.01 * number)
        await_new(m, m.crash())
        refresh.wait()
        m.refresh()
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the last version")
    m.unmount()


@case("a daemon that took over while the master was away hears of its new versions when it is back")
def master_away(w):
    make_tree(w.tree, 10, 100_000)
    server = w.server()
    m = w.mount(server, options=["refresh=push"])
    server.kill()
    await_new(m, m.crash())
    equal(sorted(os.listdir(m.point)), sorted(os.listdir(w.tree)), "the names")
    w.server(port=server.port)
    (w.tree / "new").write_text("new")
    wait_until(lambda: (m.point / "new").exists(), "the new file")
    m.unmount()


@case("a daemon that dies again and again is given up: ENOTCONN, and umount leaves nothing")
def given_up(w):
    make_tree(w.tree, 10, 100_000)
    m = w.mount(w.server())
    while m.daemon.running():
        pid = m.serving_pid() if m.daemon.running() else None
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    check("given up" in m.daemon.output(), f"the log says so: {m.daemon.output()[-300:]}")
    fails_with(errno.ENOTCONN, os.listdir, m.point)
    run_ok(["umount", m.point])
    nothing_left(w, m)


@case("umount while there is no daemon")
def unmounted_between(w):
    make_tree(w.tree, 10, 100_000)
    m = w.mount(w.server())
    for _ in range(3):
        await_new(m, m.crash())
    m.crash()
    run_ok(["umount", m.point])
    equal(m.daemon.wait(), 0, "the keeper's exit code")
    nothing_left(w, m)


@case("a daemon that dies right before umount leaves no file of metrics")
def unmounted_dead(w):
    make_tree(w.tree, 10, 100_000)
    metrics = w.path("mount.prom")
    m = w.mount(w.server(), options=[f"metrics={metrics}"])
    wait_until(metrics.exists, "the mount's metrics")
    os.stat(m.point)  # so that umount need not ask the daemon
    os.kill(m.daemon.pid, signal.SIGSTOP)  # the keeper: it starts no other daemon
    try:
        os.kill(m.serving_pid(), signal.SIGKILL)
        run_ok(["umount", "-l", m.point])
    finally:
        os.kill(m.daemon.pid, signal.SIGCONT)
    equal(m.daemon.wait(), 0, "the keeper's exit code")
    check(not metrics.exists(), "its metrics are still there")
    nothing_left(w, m)


@case("SIGTERM to the keeper, after a crash: the mount ends")
def terminated(w):
    make_tree(w.tree, 10, 100_000)
    m = w.mount(w.server())
    await_new(m, m.crash())
    equal(m.daemon.stop(), 0, "exit code")
    nothing_left(w, m)


def covered(w, end):
    """A mount with another one over it, which END ends: the other one stays."""
    make_tree(w.tree, 10, 100_000)
    m = w.mount(w.server())
    held = os.open(m.point, os.O_RDONLY)
    run_ok(["mount", "-t", "tmpfs", "tmpfs", m.point])
    try:
        (m.point / "theirs").write_text("theirs")
        end(m)
        equal((m.point / "theirs").read_text(), "theirs", "a file of the mount over it")
        fails_with((errno.ENOTCONN, errno.ECONNABORTED), os.statvfs, held)
    finally:
        os.close(held)
        run_ok(["umount", m.point])
    run_ok(["umount", m.point])
    nothing_left(w, m)


@case("a mount with another one over it: SIGTERM ends it, and the other one stays")
def covered_terminated(w):
    covered(w, lambda m: equal(m.daemon.stop(), 0, "exit code"))


@case("the same after a crash: the next daemon serves, and is given up when it dies again and again")
def covered_given_up(w):
    def end(m):
        while m.daemon.running():
            pid = m.serving_pid() if m.daemon.running() else None
            with contextlib.suppress(TypeError, ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        check("given up" in m.daemon.output(), f"the log says so: {m.daemon.output()[-300:]}")
    covered(w, end)


@case("in the background: no terminal, the daemon is replaced, umount leaves nothing")
def background(w):
    make_tree(w.tree, 10, 100_000)
    server = w.server()
    point = w.path("mnt")
    equal(w.try_mount(server.source(), ["refresh=off"]).returncode, 0, "mount")
    daemons = daemons_naming(str(point))
    equal(len(daemons), 1, "daemons")
    os.kill(daemons[0], signal.SIGKILL)
    same_snapshot(snapshot(point), snapshot(w.tree), "the tree")
    check(daemons_naming(str(point)) != daemons, "another daemon serves")
    run_ok(["umount", point])
    wait_until(lambda: not processes_naming(str(point)), "the end of keeper and daemon")


def copy_of_program(w, name="new"):
    """As a new release would lie beside the old one."""
    path = w.path(name)
    path.write_bytes(Path(program("fsyncfs")).read_bytes())
    path.chmod(0o755)
    return path


def program_of(pid):
    return os.readlink(f"/proc/{pid}/exe")


@case("upgrade to a program at another path, under load; after a crash the new one serves again")
def upgraded(w):
    make_tree(w.tree, 200, 10_000_000)
    m = w.mount(w.server(), options=["passthrough=on"])
    new, stop = copy_of_program(w), w.path("stop")
    readers = start_readers(w, m, 2, stop)
    for number in range(3):
        old = m.serving_pid()
        run_ok([new, "upgrade", m.point])
        check(m.serving_pid() != old, "another process serves")
        equal(program_of(m.serving_pid()), str(new), "its program")
        equal(m.status()["upgrades"], number + 1, "upgrades in status")
    await_new(m, m.crash())
    equal(program_of(m.serving_pid()), str(new), "the program after a crash")
    run_ok([program("fsyncfs"), "upgrade", m.point])
    equal(program_of(m.serving_pid()), program("fsyncfs"), "the program after an upgrade back")
    stop.touch()
    for reader in readers:
        equal(reader.wait(60), 0, f"exit code of a reader ({reader.output()[-300:]})")
    equal(m.status()["restarts"], 1, "restarts in status")
    m.unmount()
    nothing_left(w, m)


@case("trace and top go on with the next daemon, after a crash and after an upgrade; a mount that is gone ends trace")
def followed(w):
    make_tree(w.tree, 4, 40_000)
    m = w.mount(w.server(), options=["prefetch=off"])
    trace = w.spawn([program("fsyncfs"), "trace", m.point, "--json"], "trace.log")
    trace.wait_output('"source"')
    top = w.spawn([program("fsyncfs"), "top", m.point, "--batch", "1000000", "--interval", "0.1", "--json"], "top.log")
    top.wait_output('"requests"')
    for number, replace in enumerate((lambda: await_new(m, m.crash()), lambda: run_ok([program("fsyncfs"), "upgrade", m.point])), 1):
        replace()
        wait_until(lambda: trace.output().count('"source"') == number + 1, "trace goes on")
        name = f"d0000/f{number:06d}.bin"
        (m.point / name).read_bytes()
        for job in (trace, top):
            job.wait_output(f'"why":.*{name}|{name}.*"why":')
        equal(trace.output().count("another daemon"), number, "times that it is said")
    check(top.running(), f"top ended: {top.output()[-500:]}")
    m.unmount()
    equal(trace.wait(), 1, "exit code of trace after umount")
    check("is not in a mount" in trace.output(), trace.output()[-300:])


@case("an upgrade to a program that does not come up: the old one goes on")
def rolled_back(w):
    make_tree(w.tree, 20, 1_000_000)
    m = w.mount(w.server())
    bad = w.path("bad")
    bad.write_text("#!/bin/sh\nexit 1\n")
    bad.chmod(0o755)
    ask = f"upgrade {bad}"
    for number in range(2):
        answer = say_to_daemon(m, ask)
        check("error" not in answer, f"the answer: {answer}")
        wait_until(lambda: m.status()["failed_upgrades"] == number + 1, "the failure to show in status")
        same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
    equal(m.status()["upgrades"], 0, "upgrades in status")
    m.unmount()
    nothing_left(w, m)


@case("an upgrade to a program that is killed while it comes up: one of the two serves")
def killed_while_upgraded(w):
    make_tree(w.tree, 20, 1_000_000)
    m = w.mount(w.server())
    new = copy_of_program(w)
    for number in range(6):
        say_to_daemon(m, f"upgrade {new}")
        for pid in wait_until(lambda: [p for p in Path("/proc").iterdir() if p.name.isdigit() and program_is(p, new)],
                              "the new program"):
            time.sleep(0.02 * number)
            os.kill(int(pid.name), signal.SIGKILL)
        same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
        status = m.status()
        equal(status["failed_upgrades"] + status["upgrades"], number + 1, "upgrades that ended")
        check(status["upgrades"] or program_of(m.serving_pid()) == program("fsyncfs"), "the old program goes on")
        if status["upgrades"]:
            break  # it was killed too late: that is a crash of the daemon
    m.unmount()
    nothing_left(w, m)


@case("a mount is adopted from its keeper only: another user's environment names none")
def not_a_keeper(w):
    make_tree(w.tree, 5, 100_000)
    source, point = w.server().source(), w.path("mnt")
    point.mkdir()
    ours, theirs = foreign_socketpair()
    line = os.pipe()
    done = run([program("fsyncfs"), "mount", source, point, "-o", f"cache={w.path('cache')},refresh=off"],
               env={**os.environ, "FSYNCFS_KEEPER": f"{theirs.fileno()},{line[1]}"}, pass_fds=(theirs.fileno(), line[1]))
    equal(done.returncode, 0, f"exit code ({done.stderr})")
    ours.setblocking(False)
    fails_with(errno.EAGAIN, ours.recv, 10_000)
    same_snapshot(snapshot(point), snapshot(w.tree), "the tree")
    run_ok(["umount", point])


@case("upgrade of a mount in the background, made with relative paths")
def upgraded_background(w):
    make_tree(w.tree, 20, 1_000_000)
    server = w.server()
    w.path("mnt").mkdir()
    run_ok([program("fsyncfs"), "mount", server.source(), "mnt", "-o", "cache=cache,refresh=off"], cwd=w.dir)
    point = w.path("mnt")
    run_ok([copy_of_program(w), "upgrade", point])
    daemons = [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and program_is(pid, w.path("new"))]
    equal(len(daemons), 1, "processes of the new program")
    same_snapshot(snapshot(point), snapshot(w.tree), "the tree")
    run_ok(["umount", point])
    wait_until(lambda: not daemons[0].exists(), "the end of the daemon")


main()
