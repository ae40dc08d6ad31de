"""The server as an operator runs it: an unprivileged user, without capabilities, within what the example's unit allows; what it tells systemd; the example's units."""

import json
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

from certs import Authority
from harness import SOURCE, WAIT_SEC, Work, case, check, equal, fail, free_port, main, program, run, run_ok, say, skip, wait_until
from trees import make_tree, same_snapshot, snapshot

EXAMPLES = SOURCE / "examples"
UNIT = EXAMPLES / "fsyncfs-server.service"
NOBODY = 65534
DROP = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
EXPOSURE_MAX = 15  # of 100
DONE_WITHOUT = {"fanotify_init", "fanotify_mark"}  # refused, as they are to this user anyway: inotify does


def need(program_name):
    if not shutil.which(program_name):
        skip(f"{program_name} is not installed")


def prepare(w: Work):
    """(the server's options, a mount's): all that a server can be told about who may come, in files that nobody may read."""
    make_tree(w.tree, 50, 100_000)
    ca = Authority(w.path("ca"))
    master, worker = ca.issue("master", "IP:127.0.0.1"), ca.issue("worker")
    w.path("tokens").write_text("secret\n")
    w.path("index").mkdir()
    for path in (w.path("index"), w.path("tokens"), *master):
        os.chown(path, NOBODY, NOBODY)
    w.path("token").write_text("secret\n")
    for path in (w.dir, w.root, w.tree, w.path("ca"), *w.tree.rglob("*")):
        path.chmod(0o755)
    ca.cert.chmod(0o644)
    return (["--token-file", w.path("tokens"), "--tls-cert", master[0], "--tls-key", master[1], "--tls-client-ca", ca.cert],
            ["tls", f"ca={ca.cert}", f"cert={worker[0]}", f"key={worker[1]}", f"token_file={w.path('token')}", "refresh=push"])


def use(w, server, mount_options):
    """A day in a server's life."""
    m = w.mount(server, options=mount_options)
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
    w.path("new").write_text("new")
    w.path("new").rename(w.tree / "new")
    wait_until(lambda: (m.point / "new").exists(), "a push")
    equal((m.point / "new").read_text(), "new", "what was pushed")
    check(server.counter("fsyncfs_workers") == 1, "metrics")
    server.signal(signal.SIGHUP)
    server.wait_output("was read again")
    m.unmount()
    equal(server.stop(), 0, "exit code")


@case("as a user who may do nothing: tokens, TLS, inotify, metrics, SIGHUP")
def unprivileged(w):
    options, mount_options = prepare(w)
    server = w.server(index=w.path("index", "index"), prefix=DROP, options=options)
    status = Path(f"/proc/{server.pid}/status").read_text()
    check(re.search(r"^Uid:\t65534\t65534", status, re.M), "it runs as nobody")
    check(re.search(r"^CapEff:\t0+$", status, re.M) and re.search(r"^CapBnd:\t0+$", status, re.M), "without capabilities")
    use(w, server, mount_options)


@case("files that the server's user may not read are named")
def unreadable(w):
    options, _ = prepare(w)
    os.chown(w.path("tokens"), 0, 0)
    w.path("tokens").chmod(0o600)
    done = run([*DROP, program("fsyncfs-server"), "--workspace", w.root, "--listen", "127.0.0.1:0",
                "--index", w.path("index", "index"), *options])
    check(done.returncode == 1 and str(w.path("tokens")) in done.stderr and "Permission denied" in done.stderr, done.stderr)


def unit_values(name):
    """The words of all lines NAME=… of the unit, in their order."""
    return [value.split() for value in re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.M)]


def expand(name, known={}):  # noqa: B006 (a cache)
    """The system calls of a set such as @system-service."""
    if not name.startswith("@"):
        return {name}
    if name not in known:
        lines = run_ok(["systemd-analyze", "syscall-filter", name]).stdout.splitlines()[1:]
        words = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        known[name] = set().union(*(expand(word) for word in words))
    return known[name]


def allowed():
    calls = set()
    for words in unit_values("SystemCallFilter"):
        refuse = words[0].startswith("~")
        named = set().union(*(expand(word.lstrip("~")) for word in words))
        calls = calls - named if refuse else calls | named
    return calls


@case("all system calls of the server's life are in the unit's filter")
def system_calls(w):
    need("strace")
    need("systemd-analyze")
    options, mount_options = prepare(w)
    trace = w.path("index", "trace")
    server = w.server(index=w.path("index", "index"), options=options,
                      prefix=[*DROP, "strace", "-f", "-qq", "-o", trace, "--"])
    server.wait_output("ready")
    child = int(Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()[0])
    server.signal = lambda number: os.kill(child, number)  # strace keeps signals to itself
    use(w, server, mount_options)
    lines = trace.read_text(errors="replace").splitlines()
    began = next(i for i, line in enumerate(lines) if "execve(" in line)
    calls = set(re.findall(r"^\d+ +(\w+)\(", "\n".join(lines[began + 1:]), re.M))
    check({"accept4", "epoll_wait", "inotify_init1"} <= calls, f"the trace has what there must be: {sorted(calls)}")
    equal(sorted(calls - allowed() - DONE_WITHOUT), [], "system calls beyond the filter")


def known_options():
    return run_ok([program("fsyncfs-server"), "--help"]).stdout


def verify(folder, unit):
    """systemd takes it without a word. Its manual pages are not installed."""
    done = run(["systemd-analyze", "verify", "--man=no", folder / unit])
    equal((done.returncode, done.stdout, done.stderr), (0, "", ""), f"systemd-analyze verify {unit}")


def copy_units(w):
    folder = w.path("units")
    folder.mkdir()
    for path in EXAMPLES.iterdir():
        if path.suffix in (".service", ".mount", ".automount"):
            (folder / path.name).write_text(path.read_text().replace("/usr/bin/fsyncfs-server", program("fsyncfs-server")))
    return folder


@case("the units are such as systemd takes, and the server's leaves little open")
def units(w):
    need("systemd-analyze")
    folder = copy_units(w)
    names = sorted(path.name for path in folder.iterdir())
    equal({Path(name).suffix for name in names}, {".service", ".mount", ".automount"}, "kinds of units")
    for name in names:
        verify(folder, name)
    done = run(["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", folder / UNIT.name])
    equal(done.returncode, 0, done.stdout[-200:])
    # Every option that it starts the server with is one that the server knows.
    for words in unit_values("ExecStart"):
        for option in re.findall(r"--[a-z-]+", " ".join(words)):
            check(f"{option} " in known_options(), f"{option} is in --help")
    (folder / UNIT.name).write_text(UNIT.read_text().replace("Type=notify", "Type=notfy"))
    check(run(["systemd-analyze", "verify", "--man=no", folder / UNIT.name]).stderr, "a unit that is wrong is found")


@case("so are the drop-ins")
def drop_ins(w):
    need("systemd-analyze")
    version = int(re.search(r"systemd (\d+)", run_ok(["systemd-analyze", "--version"]).stdout)[1])
    folder = copy_units(w)
    for path in sorted((EXAMPLES / "drop-ins").iterdir()):
        since = re.search(r"systemd (\d+) and later", path.read_text())
        if since and version < int(since[1]):
            say(f"{path.name} is for systemd {since[1]}, this is {version}")
            continue
        place = folder / f"{UNIT.name}.d"
        place.mkdir()
        shutil.copy(path, place)
        verify(folder, UNIT.name)
        shutil.rmtree(place)


# ---- what systemd is told ----

class Manager:
    """The service manager's end of sd_notify(3)."""

    def __init__(self, w):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(w.path("notify")))
        self.socket.settimeout(WAIT_SEC)
        self.environment = [f"NOTIFY_SOCKET={w.path('notify')}", "WATCHDOG_USEC=4000000"]

    def hear(self, pattern):
        """The match of the next message that matches; those before it are dropped."""
        until, heard = time.monotonic() + WAIT_SEC, []
        while time.monotonic() < until:
            try:
                heard.append(self.socket.recv(4096).decode())
            except socket.timeout:
                break
            match = re.fullmatch(pattern, heard[-1], re.S)
            if match:
                return match
        return fail(f"{pattern!r} was not told, but {heard}")


@case("systemd is told that it is ready, what it does, that it is alive, reloads and stops")
def notify(w):
    if "libsystemd" not in run_ok(["ldd", program("fsyncfs-server")]).stdout:
        skip("this build has no libsystemd")
    manager, port = Manager(w), free_port()
    make_tree(w.tree, 3, 100)
    server = w.spawn(["env", *manager.environment, program("fsyncfs-server"), "--workspace", w.root, "--listen", f"127.0.0.1:{port}",
                      "--index", w.path("index")], "server.log")
    manager.hear("READY=1\nSTATUS=serving; spiders in use: 0, workers: 0")
    socket.create_connection(("127.0.0.1", port), timeout=WAIT_SEC).close()
    manager.hear("WATCHDOG=1")
    m = w.mount(f"127.0.0.1:{port}:/spider")
    manager.hear("STATUS=serving; spiders in use: 1, workers: 1")
    manager.hear("WATCHDOG=1")
    server.signal(signal.SIGHUP)
    manager.hear(r"RELOADING=1\nMONOTONIC_USEC=\d+")
    manager.hear("READY=1")
    m.unmount()
    shutil.move(w.path("index"), w.path("elsewhere"))
    server.signal(signal.SIGHUP)  # looks after the index as well
    manager.hear("STATUS=not ready: the index '.*' cannot be used: .*")
    shutil.move(w.path("elsewhere"), w.path("index"))
    server.signal(signal.SIGHUP)
    manager.hear("STATUS=serving; .*")
    server.signal(signal.SIGTERM)
    manager.hear("STOPPING=1\nSTATUS=stopping, calls under way: \\d+")
    equal(server.wait(), 0, "exit code")
    manager.socket.close()


# ---- logs ----

def objects(text):
    found = [json.loads(line) for line in text.splitlines()]
    check(found, "there are lines")
    return found


@case("the log as JSON, of the server and of a mount")
def log(w):
    make_tree(w.tree, 3, 100)
    server = w.server(options=["--log-format", "json"])
    m = w.mount(server, options=["log_format=json"])
    m.unmount()
    equal(server.stop(), 0, "exit code")
    lines = objects(server.output())
    equal({line["program"] for line in lines}, {"fsyncfs-server"}, "program")
    check(any(line["message"] == "ready" and line["level"] == "info" and line["pid"] == server.pid for line in lines), f"{lines}")
    lines = objects(m.daemon.output())
    equal({line["mount"] for line in lines}, {str(m.point)}, "mount")


main()
