"""A flood costs the flooder only: connections, calls, metadata, silence, and what there are no descriptors for."""

import socket

import grpc

from harness import case, check, equal, main, wait_until
import peers  # noqa: F401 (finds the next one)
import hostile_worker
from hostile_worker import SCAN, WATCH, sync

Code = grpc.StatusCode
FLOODER = "127.0.0.2"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


def prepare(w, options=(), prefix=()):
    w.tree.mkdir(parents=True, exist_ok=True)
    (w.tree / "f").write_text("content\n")
    return w.server(options=["--listen", f"unix:{w.path('s')}", *options], prefix=prefix)


def connect(server, source=FLOODER):
    """A connection that has been greeted; None if it was closed instead."""
    connection = socket.create_connection(("127.0.0.1", server.port), 30, source_address=(source, 0))
    try:
        connection.sendall(PREFACE)
        if connection.recv(9)[3:4] == b"\4":
            return connection
    except ConnectionError:
        pass
    connection.close()
    return None


def flood(server, number):
    """NUMBER connections one after the other: those that were taken."""
    return [c for c in (connect(server) for _ in range(number)) if c]


def close(connections):
    for connection in connections:
        connection.close()


def mounts(w, source, cache):
    m = w.mount(source, cache=cache, options=["timeout=20"])
    equal((m.point / "f").read_text(), "content\n", f"a file from {source}")
    m.unmount()


@case("connections of one address are bounded; others come as before; who goes makes room")
def peer_connections(w):
    server = prepare(w, ["--peer-connections", "20"])
    taken = flood(server, 50)
    equal(len(taken), 20, "connections taken from one address")
    check("a connection was refused" in server.output(), "a line in the log")
    equal(server.counter("fsyncfs_connections_refused_total"), 30, "connections refused")
    mounts(w, server, "same-time")
    mounts(w, f"unix:{w.path('s')}:/spider", "by-socket")
    close(taken[:10])
    fresh = []
    wait_until(lambda: fresh.extend(flood(server, 1)) or len(fresh) == 10, "room for new ones")
    equal(flood(server, 5), [], "connections beyond the bound again")
    close(taken + fresh)


@case("more connections than there are descriptors: no listener ends of it")
def descriptors(w):
    for limit in (64, 100):
        server = prepare(w, ["--peer-connections", "100000"], ["prlimit", f"--nofile={limit}:{limit}"])
        for _ in range(3):
            taken = flood(server, 2 * limit)
            check(0 < len(taken) < limit, f"{len(taken)} connections taken with {limit} descriptors")
            close(taken)
        wait_until(lambda: flood(server, 1), "a connection afterwards")
        mounts(w, server, f"after-{limit}")
        mounts(w, f"unix:{w.path('s')}:/spider", f"socket-{limit}")
        equal(server.stop(), 0, "exit code")


@case("a process that has no descriptor left sends away who comes, and takes the next once there are some")
def starved(w):
    """The descriptors are taken by the flood; the limit that is then lowered leaves none, whatever the gate has counted."""
    server = prepare(w, ["--peer-connections", "100000"])
    taken = flood(server, 100)
    equal(len(taken), 100, "connections at first")
    w.spawn(["prlimit", f"--pid={server.pid}", "--nofile=32:"], "prlimit.log").wait()
    equal(len(flood(server, 20)), 0, "connections taken without descriptors")
    check("no descriptors left" in server.output(), "a line in the log")
    w.spawn(["prlimit", f"--pid={server.pid}", "--nofile=4096:"], "prlimit.log").wait()
    close(taken)
    mounts(w, server, "afterwards")


@case("calls of one address are bounded, on however many connections")
def peer_calls(w):
    server = prepare(w, ["--peer-calls", "10"])
    clients = [hostile_worker.Client(f"127.0.0.1:{server.port}") for _ in range(3)]
    request = sync.FileSyncRequest(spider_id="spider", fsyncfs_protocol=1)
    streams = []
    for client in clients:
        for _ in range(10):
            streams.append(client.stream(WATCH, request))
            try:
                next(streams[-1])
            except grpc.RpcError as error:
                equal(error.code(), Code.RESOURCE_EXHAUSTED, "the end of a call that is too much")
                streams.pop()
    equal(len(streams), 10, "calls taken from one address")
    mounts(w, f"unix:{w.path('s')}:/spider", "by-socket")
    for stream in streams:
        stream.cancel()
    wait_until(lambda: clients[0].scan("spider")[0] == Code.OK, "a call once there is room")


@case("metadata beyond all measure is refused")
def metadata(w):
    server = prepare(w)
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    call = client.channel.unary_stream(SCAN, request_serializer=None, response_deserializer=None)
    request = sync.FileSyncRequest(spider_id="spider", fsyncfs_protocol=1).SerializeToString()
    for size in (20_000, 1_000_000):
        try:
            list(call(request, metadata=[("x-much", "m" * size)], timeout=20))
            raise AssertionError(f"{size} bytes of metadata were taken")
        except grpc.RpcError as error:
            check(error.code() in (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.INTERNAL), f"{size} bytes: {error.code()}")
    equal(hostile_worker.Client(f"127.0.0.1:{server.port}").scan("spider")[0], Code.OK, "a call afterwards")


@case("who connects and says nothing, or half a word, is hung up on")
def silence(w):
    server = prepare(w)
    silent = [hostile_worker.raw_connection(server.port, data) for data in (b"", PREFACE[:10], b"\x16\x03\x01")]
    for connection in silent:
        connection.settimeout(60)
        try:
            while connection.recv(4096):
                pass
        except ConnectionResetError:
            pass
    mounts(w, server, "afterwards")


main()
