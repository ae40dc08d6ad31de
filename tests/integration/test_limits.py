"""A flood costs the flooder only: connections, calls, metadata, silence, and what there are no descriptors for."""

import contextlib
import hashlib
import os
import socket
import threading

import grpc

from harness import case, check, equal, main, report, wait_until
import peers  # noqa: F401 (finds the next one)
import hostile_worker
from digest import content as content_digest
from hostile_worker import DOWNLOAD, FETCH, SCAN, WATCH, sync, workspace

Code = grpc.StatusCode
FLOODER = "127.0.0.2"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
DESCRIPTORS = 256
SHARE = DESCRIPTORS // 8 // 4  # of open files, for one peer
PEER_THREADS = min(max(2 * os.sysconf("SC_NPROCESSORS_ONLN"), 3), 4) // 2  # that hash for one peer


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
    hostile_worker.Client(f"unix:{w.path('s')}").download("spider", "nosuch")
    check(f"for unix:user-{os.geteuid()} failed" in server.output(), "who comes by a unix socket is known by its user")
    for stream in streams:
        stream.cancel()
    wait_until(lambda: clients[0].scan("spider")[0] == Code.OK, "a call once there is room")


@case("a new version is told to more watches than there are descriptors")
def many_watches(w):
    server = prepare(w, prefix=["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"])
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    request = sync.FileSyncRequest(spider_id="spider", fsyncfs_protocol=1)

    def told(stream):
        return sync.FileScanChunk.FromString(next(s for s in stream if s)).revision
    streams = [client.stream(WATCH, request) for _ in range(2 * DESCRIPTORS)]
    before = [told(stream) for stream in streams]
    (w.tree / "f").write_text("another content\n")
    check(min(told(stream) for stream in streams) > max(before), "every watch is told of the next one")
    check("Too many open files" not in server.output(), "the server ran out of descriptors")


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


def open_files(server, tree):
    """How many descriptors the server has in the workspace, folders left out."""
    count = 0
    for fd in os.listdir(f"/proc/{server.pid}/fd"):
        try:
            count += os.readlink(f"/proc/{server.pid}/fd/{fd}").startswith(f"{tree}/")
        except FileNotFoundError:
            pass  # closed meanwhile
    return count


class Flood:
    """Streams that ask and do not read, from one peer: the users of a unix socket. The honest ones come over TCP."""

    def __init__(self, w, clients):
        self.clients = [hostile_worker.Client(f"unix:{w.path('s')}") for _ in range(clients)]
        self.end = threading.Event()
        self.calls = []

    def fetch(self, wants, spider="spider"):
        """A stream that wants WANTS, a list a message; it is half closed with the flood's end."""
        def say():
            for some in wants:
                yield workspace.FetchRequest(spider_id=spider, wants=some).SerializeToString()
            self.end.wait()
        client = self.clients[len(self.calls) % len(self.clients)]
        call = client.channel.stream_stream(FETCH, request_serializer=None, response_deserializer=None)
        self.calls.append(call(say(), timeout=hostile_worker.DEADLINE_SEC * 15))

    def download(self, path, spider="spider", **fields):
        client = self.clients[len(self.calls) % len(self.clients)]
        self.calls.append(client.stream(DOWNLOAD, sync.FileDownloadRequest(spider_id=spider, path=path, fsyncfs_protocol=1, **fields)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end.set()
        for call in self.calls:
            call.cancel()
        for client in self.clients:
            client.close()


def large_files(w, number):
    """NUMBER files of many pieces in the workspace: {path: content}."""
    files = {f"large{i:02}": bytes([i]) * (3 << 20) for i in range(number)}
    w.tree.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        (w.tree / path).write_bytes(content)
    return files


def read_on(call):
    """Takes all that comes, until the end."""
    with contextlib.suppress(grpc.RpcError):
        for _ in call:
            pass


def wants_of(files):
    return [workspace.FetchWant(id=i, path=path, hash_algorithm=3, digest=content_digest(content), size=len(content), list=True)
            for i, (path, content) in enumerate(files.items(), 1)]


def reads_everything(w, server, files, cache):
    m = w.mount(server, cache=cache, options=["timeout=20"])
    for path, content in files.items():
        check((m.point / path).read_bytes() == content, f"the content of {path}")
    m.unmount()


def stays_within_share(w, server, files, begin, calls):
    """Hundreds of calls of a peer that each could hold open files: they have their share, and the others theirs."""
    with Flood(w, 4) as flood:
        for _ in range(calls):
            begin(flood)
        wait_until(lambda: open_files(server, w.tree) >= SHARE, "the flood's open files")
        for turn in range(2):
            reads_everything(w, server, files, f"during-{turn}")
            equal(open_files(server, w.tree), SHARE, "files that the flood holds")
    wait_until(lambda: open_files(server, w.tree) == 0, "the end of the flood's open files")
    check("Too many open files" not in server.output(), "the server ran out of descriptors")


@case("hundreds of Fetch calls that do not read have no more files open than one peer may; another peer reads everything")
def fetch_flood(w):
    server, files = prepare(w, prefix=["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]), large_files(w, 16)
    stays_within_share(w, server, files, lambda flood: flood.fetch([wants_of(files)]), 300)
    (w.tree / "large00").write_bytes(files["large00"])
    mounts(w, f"unix:{w.path('s')}:/spider", "the-flooder-itself")


@case("hundreds of downloads that do not read have no more files open than one peer may; another peer reads everything")
def download_flood(w):
    server, files = prepare(w, prefix=["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]), large_files(w, 4)
    with open(w.tree / "endless", "wb") as f:
        f.truncate(256 << 20)
    stays_within_share(w, server, files, lambda flood: flood.download("endless"), 300)


@case("who waits for room is served once there is some")
def fetch_waits(w):
    server, files = prepare(w, prefix=["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]), large_files(w, 16)
    with Flood(w, 2) as flood:
        flood.fetch([wants_of(files)])
        wait_until(lambda: open_files(server, w.tree) == SHARE, "the first stream's files")
        for ask in (lambda: flood.fetch([wants_of(files)[:1]]), lambda: flood.download("large01")):
            ask()
        flood.calls[0].cancel()
        data = b"".join(part.data for message in flood.calls[1] for part in workspace.FetchReply.FromString(message).parts
                        if not part.list and not (part.last and flood.end.set()))
        check(data == files["large00"], "what waited")
        data = b"".join(sync.FileDownloadChunk.FromString(chunk).data for chunk in flood.calls[2])
        check(data == files["large01"], "the download that waited")


@case("a download whose list of hashes there is no room for waits, whatever it is hashed by")
def lists_of_downloads(w):
    server = prepare(w)
    with open(w.tree / "huge", "wb") as f:
        f.truncate(1 << 40)  # a list of 128 MiB, twice what one peer may have
    for algorithm, length in ((3, 16), (5, 32)):
        with Flood(w, 2) as flood:
            for _ in range(2):
                flood.download("huge", hash_algorithm=algorithm, digest=bytes(length))
                wait_until(lambda: open_files(server, w.tree) > 0, "the first download's file")
            for client in flood.clients:  # whoever is answered after the second download has come
                equal(client.download("spider", "f")[0], Code.OK, "a download without a list")
            wait_until(lambda: open_files(server, w.tree) == 1, f"one file open for lists of algorithm {algorithm}")
        wait_until(lambda: open_files(server, w.tree) == 0, "the end of the downloads")


@case("files that have to be read before it is known what they hold are read by some threads only; another peer's listing, reads and hashes go on")
def hash_flood(w):
    server, files = prepare(w), large_files(w, 4)
    holes = w.root / "holes"
    holes.mkdir()
    names = [f"hole{i}" for i in range(8)]
    for name in names:
        with open(holes / name, "wb") as f:
            f.truncate(32 << 30)  # by SHA-256 and MD5 half a minute each, at the least
    wants = [workspace.FetchWant(id=i, path=name, hash_algorithm=5, digest=bytes(32), size=32 << 30) for i, name in enumerate(names, 1)]
    with Flood(w, 4) as flood:
        for i in range(8):
            flood.fetch([wants], spider="holes")
            flood.download(names[i], spider="holes", hash_algorithm=2, digest=bytes(16))
        wait_until(lambda: server.counter("fsyncfs_files_hashed_total") >= PEER_THREADS and open_files(server, holes) > PEER_THREADS, "the flood's hashing")
        reads_everything(w, server, files, "during")
        other = hostile_worker.Client(f"127.0.0.1:{server.port}")
        content = files["large00"]  # nobody has asked for its MD5 yet
        code, chunks = other.download("spider", "large00", hash_algorithm=2, digest=hashlib.md5(content).digest())
        equal(code, Code.OK, "a download that needs the file to be hashed")
        check(b"".join(c.data for c in chunks) == content, "what it brought")
        check(not any(c.done() for c in flood.calls), "the flood has ended before it should")
    wait_until(lambda: open_files(server, holes) == 0, "the end of the flood's open files")
    report("Worker that floods: files to be hashed", "64 wants and 8 downloads of unread files of 32 GiB", "another peer's listing, reads and hashes go on", "all right")


@case("wants take no more memory than one peer may have; the call that asks for more ends, another peer goes on")
def wants_flood(w):
    server, files = prepare(w), large_files(w, 2)
    deep, content = "/".join(["d" * 199] * 18), b"e" * (3 << 20)
    (w.tree / deep).mkdir(parents=True)
    (w.tree / deep / "file").write_bytes(content)

    def wants(first, number):
        return [workspace.FetchWant(id=i, path=f"{deep}/file", hash_algorithm=3, digest=content_digest(content), size=len(content))
                for i in range(first, first + number)]
    with Flood(w, 2) as flood:
        for _ in range(6):
            flood.fetch([wants(1 + 200 * i, 200) for i in range(20)])
        wait_until(lambda: 'fsyncfs_rpc_duration_seconds_count{method="%s",code="RESOURCE_EXHAUSTED"}' % FETCH in server.counters(),
                   "the end of a call that is too much")
        reads_everything(w, server, files, "during")
        for call in flood.calls:  # who has not read what has come is not told of the end
            threading.Thread(target=read_on, args=[call], daemon=True).start()
        ended = wait_until(lambda: [c for c in flood.calls if c.done()], "its end, at the other end")
        equal({c.code() for c in ended}, {Code.RESOURCE_EXHAUSTED}, "how it ends")
        check("from this address" in ended[0].details(), f"why: {ended[0].details()}")


main()
