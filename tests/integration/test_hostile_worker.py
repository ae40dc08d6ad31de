"""Requests that no worker of ours would send: each gets its status, nothing leaks, the server lives on."""

import os
from pathlib import Path

import grpc

from harness import case, check, equal, main, wait_until
import peers  # noqa: F401 (finds the next one)
import hostile_worker
from trees import make_tree

Code = grpc.StatusCode
REFUSED = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.PERMISSION_DENIED}
SECRET = b"outside the workspace"
ESCAPES = ["..", "../secret", "d0000/../../../secret", "/etc/passwd", "a\0b", ".", "./secret", "d0000//f", "d0000/", "link/secret",
           "absolute-link", "n" * 256, "/".join(["d" * 200] * 30), "x" * 100_000]


def setup(w):
    make_tree(w.tree, 120, 300_000)
    w.path("secret").write_bytes(SECRET)
    (w.root / "secret").write_bytes(SECRET)
    (w.tree / "link").symlink_to(w.dir)
    (w.tree / "absolute-link").symlink_to(w.path("secret"))
    server = w.server()
    return server, hostile_worker.Client(f"127.0.0.1:{server.port}")


def alive(server):
    """A fresh client gets the whole tree."""
    check(server.running(), "the server has died")
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    code, chunks = client.scan("spider")
    client.close()
    equal(code, Code.OK, "a scan afterwards")
    check(sum(len(c.files) for c in chunks) >= 120, "entries of a scan afterwards")


def refused(code, answers, stock, what):
    """Refused by a status, or by an error chunk towards a stock worker; and without a byte of content."""
    data = b"".join(getattr(a, "data", b"") for a in answers)
    equal(data, b"", f"{what}: bytes sent")
    equal(sum(len(getattr(a, "files", ())) for a in answers), 0, f"{what}: entries sent")
    if stock and code == Code.OK:
        check(answers and answers[-1].error, f"{what}: no error chunk")
    else:
        check(code in REFUSED, f"{what}: {code}")


@case("paths that lead out of the workspace")
def escapes(w):
    server, client = setup(w)
    for own in (True, False):
        for path in ESCAPES:
            refused(*client.download("spider", path, own=own), not own, f"download of {path[:40]!r}, own={own}")
        for path in ("..", "../..", "/", "/etc", "link", "d0000/../..", "a\0b", "d0000/f000000.bin", "nosuch"):
            refused(*client.scan("spider", path, own=own), not own, f"scan of {path!r}, own={own}")
        raw = {"raw_path": b"../secret"}
        refused(*client.download("spider", "", own=own, **raw), not own, "download by raw_path")
    alive(server)


@case("spiders that are none")
def spiders(w):
    server, client = setup(w)
    for spider in ("", ".", "..", "nosuch", "spider/..", "../master/spider", "/etc", "a\0b", "s" * 300, "secret"):
        for own in (True, False):
            refused(*client.scan(spider, own=own), not own, f"scan of spider {spider[:40]!r}, own={own}")
            refused(*client.download(spider, "d0000/f000000.bin", own=own), not own, f"download from {spider[:40]!r}")
    alive(server)


@case("what is no file: folders, fifos, devices")
def no_files(w):
    server, client = setup(w)
    os.mkfifo(w.tree / "fifo")
    os.mknod(w.tree / "null", 0o20666, os.makedev(1, 3))
    for path in ("", "d0000", "fifo", "null"):
        for own in (True, False):
            refused(*client.download("spider", path, own=own), not own, f"download of {path!r}")
    alive(server)


@case("ranges beyond all sense")
def absurd_ranges(w):
    server, client = setup(w)
    for offset, length in ((2**64 - 1, 0), (2**63, 1), (2**64 - 1, 2**64 - 1), (10**12, 5)):
        code, answers = client.download("spider", "d0000/f000000.bin", offset=offset, length=length)
        equal(b"".join(a.data for a in answers), b"", f"bytes at {offset}")
        check(code in REFUSED | {Code.OK, Code.OUT_OF_RANGE}, f"status for {length} at {offset}: {code}")
    alive(server)


@case("messages that are none, too large ones, methods that do not exist")
def garbage(w):
    server, client = setup(w)
    for method in (hostile_worker.SCAN, hostile_worker.DOWNLOAD, hostile_worker.HANDSHAKE):
        for data in (b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", b"\x08" * 999, os.urandom(5000)):
            code, answers = client.call(method, data)
            check(code in {Code.INVALID_ARGUMENT, Code.INTERNAL}, f"{method} with garbage: {code} {answers}")
        code, _ = client.call(method, b"\x0a" + b"\x80\x80\x80\x08" + b"s" * (16 << 20))
        equal(code, Code.RESOURCE_EXHAUSTED, f"{method} with 16 MiB")
    for method in ("/grpc.SyncService/Nosuch", "/nosuch.Service/Method", "/x", "/fsyncfs.v1.Workspace/"):
        equal(client.call(method, b"")[0], Code.UNIMPLEMENTED, method)
    alive(server)


@case("connections that say nothing, half a greeting, or another protocol")
def half_open(w):
    server, _ = setup(w)
    greetings = [b"", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
                 b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(1000), b"\x16\x03\x01" + b"\0" * 500]
    connections = [hostile_worker.raw_connection(server.port, greetings[i % len(greetings)]) for i in range(150)]
    alive(server)
    for connection in connections:
        connection.close()
    alive(server)


def resident_kib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


@case("readers that never read hold back their own stream only, and little memory")
def never_reads(w):
    server, client = setup(w)
    with open(w.tree / "big", "wb") as f:
        f.truncate(256 << 20)
    alive(server)
    before = resident_kib(server.pid)
    request = hostile_worker.sync.FileDownloadRequest(spider_id="spider", path="big", fsyncfs_protocol=1)
    clients = [hostile_worker.Client(f"127.0.0.1:{server.port}") for _ in range(8)]
    streams = [c.stream(hostile_worker.DOWNLOAD, request) for c in clients for _ in range(8)]
    for stream in streams:
        next(stream)
    alive(server)
    grown = resident_kib(server.pid) - before
    check(grown < 512 * 1024, f"64 stalled streams of 256 MiB cost {grown} KiB")
    for stream in streams:
        stream.cancel()
    for c in clients:
        c.close()
    alive(server)


@case("a flood of calls, cut off in mid-stream")
def flood(w):
    server, client = setup(w)
    request = hostile_worker.sync.FileSyncRequest(spider_id="spider", fsyncfs_protocol=1)
    for _ in range(20):
        streams = [client.stream(hostile_worker.SCAN, request) for _ in range(100)]
        for stream in streams[::2]:
            stream.cancel()
        for stream in streams[1::2]:
            next(stream)
            stream.cancel()
    wait_until(lambda: alive(server) is None, "the server's answer")


main()
