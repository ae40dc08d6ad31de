"""The server as an operator runs it: an unprivileged user, without capabilities, within what the example's unit allows."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from certs import Authority
from harness import SOURCE, Work, case, check, equal, main, program, run, run_ok, skip, wait_until
from trees import make_tree, same_snapshot, snapshot

UNIT = SOURCE / "examples" / "fsyncfs-server.service"
NOBODY = 65534
DROP = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
EXPOSURE_MAX = 20  # of 100
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
    (w.tree / "new").write_text("new")
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


@case("the unit is one that systemd takes, and leaves little open")
def unit(w):
    need("systemd-analyze")
    text = UNIT.read_text()
    w.path("units").mkdir()
    w.path("units", UNIT.name).write_text(text.replace("/usr/bin/fsyncfs-server", program("fsyncfs-server")))
    done = subprocess.run(["systemd-analyze", "verify", w.path("units", UNIT.name)], capture_output=True, text=True)
    equal((done.returncode, done.stdout, done.stderr), (0, "", ""), "systemd-analyze verify")
    done = run(["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", w.path("units", UNIT.name)])
    equal(done.returncode, 0, done.stdout[-200:])
    # Every option that it starts the server with is one that the server knows.
    known = run_ok([program("fsyncfs-server"), "--help"]).stdout
    command = re.search(r"^ExecStart=((?:.*\\\n)*.*)$", text, re.M)[1]
    for option in re.findall(r"--[a-z-]+", command):
        check(f"{option} " in known, f"{option} is in --help")


main()
