"""What bad input gets, on the worker's side: a clear line and the right exit code; never a crash, a hang or a wrong tree."""

import os
import signal
import socket
import threading

from harness import (case, check, equal, free_port, is_mounted, main, one_line, program, run, run_ok,
                     wait_until)
from trees import snapshot

USAGE, SYSTEM, FAILED = 1, 2, 32  # exit codes of mount(8)


def served(w):
    w.tree.mkdir(parents=True)
    (w.tree / "f").write_text("content\n")
    return w.server()


def not_mounted(w):
    check(not is_mounted(w.path("mnt")), "nothing is mounted")


@case("an unknown spider")
def unknown_spider(w):
    server = served(w)
    one_line(w.try_mount(server.source("nosuch")), FAILED, "nosuch")
    one_line(w.try_mount(server.source(path="/nofolder")), FAILED, "nofolder")
    not_mounted(w)


@case("a master that is down, and a host that does not exist")
def master_down(w):
    port = free_port()
    one_line(w.try_mount(f"127.0.0.1:{port}:/spider", ["timeout=3"]), FAILED, f"127.0.0.1:{port}")
    one_line(w.try_mount("no-such-host.invalid:/spider", ["timeout=3"]), FAILED,
             "master no-such-host.invalid:9666 is not found: no address for 'no-such-host.invalid' (")
    one_line(w.try_mount(f"unix:{w.path('nosuch')}:/spider", ["timeout=3"]), FAILED, "nosuch")
    not_mounted(w)


@case("a wrong, a missing and an unreadable token")
def wrong_token(w):
    w.path("server-token").write_text("right\n")
    w.path("worker-token").write_text("wrong-secret\n")
    w.tree.mkdir(parents=True)
    server = w.server(options=["--token-file", w.path("server-token")])
    done = w.try_mount(server.source(), [f"token_file={w.path('worker-token')}"])
    one_line(done, FAILED, "token", "127.0.0.1")
    check("wrong-secret" not in done.stderr, "the token is not shown")
    one_line(w.try_mount(server.source()), FAILED, "token")
    done = w.try_mount(server.source(), [f"token_file={w.path('nosuch')}"])
    check(done.returncode in (USAGE, SYSTEM, FAILED), f"exit code {done.returncode}")
    one_line(done, done.returncode, "nosuch")
    not_mounted(w)


@case("a wrong port: something else answers, or nobody says anything")
def wrong_port(w):
    with socket.create_server(("127.0.0.1", 0)) as talker, socket.create_server(("127.0.0.1", 0)) as mute:
        over = threading.Event()

        def talk():
            talker.settimeout(0.2)
            while not over.is_set():
                try:
                    with talker.accept()[0] as connection:
                        connection.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")
                except TimeoutError:
                    pass
        thread = threading.Thread(target=talk)
        thread.start()
        try:
            for port in (talker.getsockname()[1], mute.getsockname()[1]):
                one_line(w.try_mount(f"127.0.0.1:{port}:/spider", ["timeout=3"]), FAILED, f"127.0.0.1:{port}")
        finally:
            over.set()
            thread.join()
    not_mounted(w)


@case("options and sources that are wrong")
def usage(w):
    server = served(w)
    for option in ("frobnicate", "quota=much", "timeout=-1", "timeout=soon", "refresh=sometimes", "uid=nobody-such",
                   "umask=999", "prefetch=maybe", "cache=", "tls=yes", "ca=/etc/ca.pem", "cert=/c", "key="):
        name = option.partition("=")[0]
        one_line(w.try_mount(server.source(), [option]), USAGE, name)
    for source in ("", "nothing", ":/spider", "host:", "host:spider", "127.0.0.1:99999999:/spider", "127.0.0.1:0x:/spider",
                   "127.0.0.1:/", "127.0.0.1:/..", "127.0.0.1:/spider/../other", "127.0.0.1:/spider//x"):
        done = w.try_mount(source)
        check(done.returncode in (USAGE, FAILED), f"source {source!r}: exit code {done.returncode}")
        one_line(done, done.returncode)
    not_mounted(w)
    for argv in ([], ["nosuch-command"], ["mount"], ["refresh"], ["cache", "nosuch"], ["status", "--nosuch"]):
        done = run([program("fsyncfs"), *argv])
        check(done.returncode != 0 and done.stderr.strip(), f"fsyncfs {argv}: {done.returncode} {done.stderr}")


@case("a mount point that is missing, a file, or busy")
def mount_point(w):
    server = served(w)
    one_line(w.try_mount(server.source(), point=w.path("missing")), FAILED, "missing")
    w.path("file").write_text("x")
    one_line(w.try_mount(server.source(), point=w.path("file")), FAILED, "file")
    m = w.mount(server)
    done = w.try_mount(server.source(), point=m.point)
    one_line(done, FAILED, str(m.point))
    equal(os.listdir(m.point), ["f"], "the first mount is still there")
    for command in ("refresh", "version"):
        done = run([program("fsyncfs"), command, w.dir])
        check(done.returncode != 0, f"fsyncfs {command} of a folder that is no mount")
        one_line(done, done.returncode, str(w.dir))


@case("a cache folder that cannot be written, is a file, or is of another format")
def cache_folder(w):
    server = served(w)
    w.path("a-file").write_text("x")
    one_line(w.try_mount(server.source(), cache="a-file"), FAILED, "a-file")
    w.path("readonly").mkdir()
    run_ok(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", w.path("readonly")])
    one_line(w.try_mount(server.source(), cache="readonly"), FAILED, "readonly")
    w.path("later").mkdir()
    w.path("later", "format").write_text("fsyncfs-store 999\n")
    one_line(w.try_mount(server.source(), cache="later"), FAILED, "later")
    not_mounted(w)


@case("a cache folder on a full disk: files can be read all the same, and are kept once there is room")
def full_disk(w):
    w.tree.mkdir(parents=True)
    (w.tree / "big").write_bytes(os.urandom(8 << 20))
    (w.tree / "small").write_text("small")
    server = w.server()
    w.path("cache").mkdir()
    run_ok(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", w.path("cache")])
    m = w.mount(server)
    equal((m.point / "big").read_bytes() == (w.tree / "big").read_bytes(), True, "what has no room")
    equal((m.point / "small").read_text(), "small", "what has room")
    equal(m.status()["cached_bytes"] < 6 << 20, True, "there is not more than has room")
    run_ok(["mount", "-o", "remount,size=64m", w.path("cache")])
    with open(m.point / "big", "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        equal(f.read() == (w.tree / "big").read_bytes(), True, "once there is room")
    m.unmount()
    run_ok(["umount", w.path("cache")])
    run_ok(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", w.path("cache")])
    one_line(w.try_mount(server.source()), FAILED, "cache")


@case("a failed refresh leaves the mounted version as it is")
def failed_refresh(w):
    server = served(w)
    m = w.mount(server)
    before = snapshot(m.point)
    server.kill()
    check(run([program("fsyncfs"), "refresh", m.point]).returncode != 0, "refresh from a dead master fails")
    equal(snapshot(m.point), before, "the tree")


@case("a master that falls silent during a refresh leaves what was there (unknown is not deleted)")
def cut_listing(w):
    server = served(w)
    m = w.mount(server, options=["timeout=3"])
    before = snapshot(m.point)
    server.signal(signal.SIGSTOP)
    done = run([program("fsyncfs"), "refresh", m.point])
    check(done.returncode != 0, "refresh from a silent master fails")
    equal(snapshot(m.point), before, "the tree")
    server.signal(signal.SIGCONT)
    (w.tree / "new").write_text("new")
    wait_until(lambda: run([program("fsyncfs"), "refresh", m.point]).returncode == 0, "refresh afterwards")
    equal(sorted(os.listdir(m.point)), ["f", "new"], "the new version")


main()
