"""The row of `reads` that is a task's start: a Python program of 600 modules, far from the master."""

import contextlib
import time

import peers
from daemons import Sshd, Webdav, privilege_separation
from harness import daemons_naming, equal, run_ok, wait_until

RTT_MS = (10, 50)
MERGE_SEC = 1.2  # until the master takes another report of what was read


def _program(lab, folder):
    """Seconds that the program in FOLDER takes; it must print what it should."""
    start = time.monotonic()
    done = run_ok(["/usr/bin/python3", "-B", "-E", "-S", f"{folder}/main.py"], timeout=1200)
    seconds = time.monotonic() - start
    equal(done.stdout, lab.printed, f"what {folder}/main.py prints")
    return seconds


def _proxy(lab, port, rtt_ms):
    return peers.delay_proxy(lab.work, port, "--delay-ms", str(rtt_ms / 2))


def _unmount(lab, point):
    """And returns when nothing is left that served it."""
    run_ok(["umount", point])
    wait_until(lambda: not daemons_naming(str(point)), f"the end of what served {point}")
    point.rmdir()


def _peer(lab, report, key, port, rtt_ms, mount):
    """Mounts by MOUNT(point, port) through a proxy before PORT, and starts the program there, once: it waits for the line."""
    proxy = _proxy(lab, port, rtt_ms)
    point = lab.fresh("peer")
    point.mkdir()
    start = time.monotonic()
    mount(point, proxy.port)
    report.keep(f"{key}.mount", time.monotonic() - start)
    report.keep(key, _program(lab, point))
    _unmount(lab, point)
    proxy.stop()


def _ours(lab, report, key, port):
    """One mount with an empty store and the program's start there, then its warm start."""
    mount = lab.mount("program", lab.fresh("cache"), port=port)
    report.keep(f"{key}.mount", mount.seconds)
    report.keep(key, _program(lab, mount.point))
    report.keep(f"{key}.total", mount.seconds + report.get(key)[-1])
    report.keep(f"{key}.warm", _program(lab, mount.point))
    lab.discard(mount)


def _bulk(lab):
    """A file of all the program's bytes."""
    path = lab.fresh("bulk")
    path.write_bytes(b"".join(file.read_bytes() for file in sorted(lab.tree("program").rglob("*.py"))))
    return path


def _own(lab, report, rtt_ms):
    """The first start ever, and one after another worker's, against its warm start and the bytes in one go."""
    port, server = lab.raw_server(_bulk(lab))
    far, raw = _proxy(lab, lab.server.port, rtt_ms), _proxy(lab, port, rtt_ms)
    for _ in range(lab.args.rounds):
        lab.forget()
        _ours(lab, report, f"start{rtt_ms}.first", far.port)
        time.sleep(MERGE_SEC)
        _ours(lab, report, f"start{rtt_ms}.learned", far.port)
        report.keep(f"start{rtt_ms}.bulk", lab.raw_fetch(raw.port))
        report.keep(f"start{rtt_ms}.least", report.get(f"start{rtt_ms}.learned.warm")[-1] + report.get(f"start{rtt_ms}.bulk")[-1])
        time.sleep(MERGE_SEC)
    for process in (far, raw, server):
        process.stop()


def _rows(report, rtt_ms):
    key = f"start{rtt_ms}"
    for peer in ("sshfs", "rclone"):
        report.ratio(f"program's first start ever, RTT {rtt_ms} ms / {peer}", 0.25, f"{key}.first", f"{key}.{peer}", peer)
    report.ratio("  with a learned list / warm and one transfer", 1.5, f"{key}.learned", f"{key}.least", "that", "ms")
    report.ratio("  the same with its mount", None, f"{key}.learned.total", f"{key}.least", "that", "ms")
    report.absolute("  the mount of the first start", None, f"{key}.first.mount", "ms")


def start(lab, report):
    tree = lab.tree("program")
    with contextlib.ExitStack() as stack:
        sshd = webdav = None
        if not Sshd.missing():
            stack.enter_context(privilege_separation())
            sshd = Sshd(lab.work)
        if not Webdav.missing():
            webdav = Webdav(lab.work, tree)
        for kind in (Sshd, Webdav):
            if kind.missing():
                report.missing("program's first start ever", kind.missing())
        for rtt_ms in RTT_MS:
            lab.say(f"start at {rtt_ms} ms")
            _own(lab, report, rtt_ms)
            if sshd:
                _peer(lab, report, f"start{rtt_ms}.sshfs", sshd.port, rtt_ms, lambda point, port: sshd.mount(tree, point, port))
            if webdav:
                _peer(lab, report, f"start{rtt_ms}.rclone", webdav.port, rtt_ms,
                      lambda point, port: webdav.mount(point, lab.fresh("cache"), port))
            _rows(report, rtt_ms)
