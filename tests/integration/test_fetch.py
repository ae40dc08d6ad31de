"""Fetch: many contents over one stream, in the right order, and nothing but what was asked for."""

import mmap
import os
import queue
import random
import time

import grpc

from harness import SPIDER, case, check, equal, main, skip, wait_until
import peers  # noqa: F401 (tests/peers on the path)
import digest
import hostile_worker
from trees import make_tree, settle

Code = grpc.StatusCode
workspace = hostile_worker.workspace
FETCH = "/fsyncfs.v1.Workspace/Fetch"
INVALID, NOT_FOUND, STALE, OUT_OF_RANGE = 3, 5, 9, 11
DEADLINE_SEC = 60
LARGE = 8 << 20
PIECE = digest.PIECE_BYTES


class Fetch:
    """One stream. Wants are made from what the files hold now; what comes is kept per id."""

    def __init__(self, server, client=None, spider=SPIDER, open_with=True):
        self.client = client or hostile_worker.Client(f"127.0.0.1:{server.port}")
        self.root = server.root
        self.requests, self.last_id = queue.SimpleQueue(), 0
        call = self.client.channel.stream_stream(FETCH, request_serializer=None, response_deserializer=workspace.FetchReply.FromString)
        self.replies = call(iter(self.requests.get, None), timeout=DEADLINE_SEC)
        self.spider = spider
        self.data, self.first, self.ended = {}, {}, {}  # by id: the bytes, the first one's offset, (status, text)
        self.lists = {}  # by id: what came before the bytes
        self.order, self.messages, self.beats = [], 0, 0  # ids as their parts came; messages without any
        if open_with:
            self.send(spider_id=spider, node_key="node")

    def send(self, raw=None, **fields):
        self.requests.put(raw if raw is not None else workspace.FetchRequest(**fields).SerializeToString())

    def half_close(self):
        self.requests.put(None)

    def wanted(self, path, content=None, **fields):
        """A FetchWant for PATH, which is to hold CONTENT (what it holds now)."""
        if content is None:
            content = (self.root / self.spider / os.fsdecode(path)).read_bytes()
        self.last_id += 1
        fields = {"id": self.last_id, "hash_algorithm": digest.algorithm(digest.KIND_FILE, len(content)), "size": len(content), **fields}
        if "digest" not in fields:
            fields["digest"] = digest.content(content)
        fields["path" if isinstance(path, str) else "raw_path"] = path
        return workspace.FetchWant(**fields)

    def want(self, *paths, **fields):
        wants = [self.wanted(path, **fields) for path in paths]
        self.send(wants=wants)
        return [w.id for w in wants]

    def take(self):
        """One message; False at the end of the stream."""
        try:
            reply = next(self.replies)
        except StopIteration:
            return False
        self.messages += 1
        self.beats += not reply.parts
        for part in reply.parts:
            check(part.id not in self.ended, f"a part of {part.id} after its last")
            if part.list:
                known = self.lists.setdefault(part.id, bytearray())
                check(part.id not in self.data and not part.last and not part.status, f"the list of {part.id} comes first")
                equal(part.offset, len(known), f"offset of a part of the list of {part.id}")
                known += part.data
            elif part.status == 0:
                data = self.data.setdefault(part.id, bytearray())
                equal(part.offset, self.first.setdefault(part.id, part.offset) + len(data), f"offset of a part of {part.id}")
                data += part.data
            if part.last or part.status:
                self.ended[part.id] = (part.status, part.text)
            self.order.append(part.id)
        return True

    def until(self, *ids):
        while not all(i in self.ended for i in ids):
            check(self.take(), f"the stream ended before {ids}: {self.ended}")
        return [self.ended[i][0] for i in ids]

    def status(self, path, **fields):
        """What becomes of one want."""
        [i] = self.want(path, **fields)
        return self.until(i)[0]

    def get(self, path, **fields):
        [i] = self.want(path, **fields)
        equal(self.until(i), [0], f"status of {path!r}: {self.ended.get(i)}")
        return bytes(self.data[i])

    def code(self):
        """How the stream ends."""
        try:
            while self.take():
                pass
        except grpc.RpcError as error:
            return error.code()
        return self.replies.code()


def files_of(w):
    return sorted(str(p.relative_to(w.tree)) for p in w.tree.rglob("*") if p.is_file())


def make_large(w, name="large", size=LARGE, seed=5):
    data = random.Random(seed).randbytes(size)
    w.tree.mkdir(parents=True, exist_ok=True)
    (w.tree / name).write_bytes(data)
    settle()
    return data


def listed(server):
    """Has the server list the workspace, so that it knows what the files hold: {path: digest}, if there are few."""
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    code, chunks = client.scan(SPIDER)
    client.close()
    equal(code, Code.OK, "the listing")
    return {f.path: f.digest for c in chunks for f in c.files}


# ---- contents ----

@case("many small contents: every byte, in few messages, counted, and the stream ends well")
def many_small(w):
    make_tree(w.tree, 2000, 4_000_000)
    (w.tree / "empty").touch()
    (w.tree / os.fsdecode(b"latin1-\xff")).write_text("odd")
    server = w.server()
    fetch = Fetch(server)
    paths = files_of(w)
    paths = [p if p.isprintable() and "\udcff" not in p else os.fsencode(p) for p in paths]
    ids = fetch.want(*paths)
    fetch.half_close()
    equal(fetch.code(), Code.OK, "the stream's end")
    for path, i in zip(paths, ids):
        equal(fetch.ended[i], (0, ""), f"{path}")
        check(bytes(fetch.data[i]) == (w.tree / os.fsdecode(path)).read_bytes(), f"what {path} holds")
    check(fetch.messages <= 60, f"{fetch.messages} messages for 2,000 contents of 2 KB")
    equal(fetch.order, ids, "first come, first served")
    equal(server.counter("fsyncfs_downloads_total"), len(ids), "downloads counted")
    equal(server.counter("fsyncfs_bytes_sent_total"), sum(len(d) for d in fetch.data.values()), "bytes counted")
    equal(server.counter("fsyncfs_files_hashed_total"), 0, "files hashed to serve them")
    equal(server.counter('fsyncfs_rpc_duration_seconds_count{method="/fsyncfs.v1.Workspace/Fetch",code="OK"}'), 1, "calls counted")


@case("every size about the limits of a message, whole and in ranges, also in a tree that was never listed")
def sizes(w):
    limit = 256 << 10
    contents = {f"s{size}": make_large(w, f"s{size}", size, size)
                for size in (0, 1, limit - 65, limit - 64, limit - 63, limit - 1, limit, limit + 1, 2 * limit, 1 << 20, 3_000_000)}
    server = w.server()
    fetch = Fetch(server)
    for name, data in contents.items():
        check(fetch.get(name) == data, f"all of {name}")
        for offset, length in ((0, 1), (1, 0), (len(data) // 2, 100), (len(data), 0), (len(data) - 1, 5), (5, limit), (0, 2**64 - 1)):
            if 0 <= offset <= len(data):
                end = min(len(data), offset + length) if length else len(data)
                check(fetch.get(name, offset=offset, length=length) == data[offset:end], f"{length} at {offset} of {name}")
        equal(fetch.status(name, offset=len(data) + 1), OUT_OF_RANGE, f"beyond the end of {name}")
        equal(fetch.status(name, offset=2**64 - 1, length=2**64 - 1), OUT_OF_RANGE, f"far beyond the end of {name}")
    fetch.half_close()
    equal(fetch.code(), Code.OK, "the stream's end")


@case("a large file that no listing knows is hashed once for all its ranges, also if it is not what was wanted; one that is known not at all")
def ranges_hash_once(w):
    data = make_large(w)
    server = w.server()
    fetch = Fetch(server)
    ids = [fetch.want("large", offset=i << 20, length=1 << 20)[0] for i in range(8)]
    equal(set(fetch.until(*ids)), {0}, "the ranges")
    check(b"".join(bytes(fetch.data[i]) for i in ids) == data, "put together")
    check(fetch.get("large", offset=100, length=100) == data[100:200], "one more")
    others = [fetch.want("large", content=data[:-1] + b"x", offset=i << 20, length=1 << 20)[0] for i in range(8)]
    equal(set(fetch.until(*others)), {STALE}, "ranges of another content")
    equal(server.counter("fsyncfs_files_hashed_total"), 1, "files hashed")
    fetch = Fetch(server)
    others = [fetch.want("large", content=data[:-1] + b"x", offset=i << 20, length=1 << 20)[0] for i in range(8)]
    equal(set(fetch.until(*others)), {STALE}, "ranges of another content, on a stream that knows nothing yet")
    equal(server.counter("fsyncfs_files_hashed_total"), 2, "files hashed")
    listed(server)
    hashed = server.counter("fsyncfs_files_hashed_total")
    check(Fetch(server).get("large") == data, "by a new stream")
    equal(server.counter("fsyncfs_files_hashed_total"), hashed, "files hashed after a listing")


# ---- order ----

@case("urgent wants overtake, large ones give way to each other and to small ones")
def order(w):
    make_tree(w.tree, 50, 200_000)
    for i in range(3):
        make_large(w, f"large{i}", 24 << 20, i)
    server = w.server()
    listed(server)
    fetch = Fetch(server)
    large = fetch.want("large0", "large1", "large2")
    while not all(i in fetch.data for i in large):  # all are under way
        check(fetch.take(), "the stream goes on")
    check(not set(large) & set(fetch.ended), "none was sent whole before the next was begun")
    wants = [fetch.wanted(f"d0000/f{i:06d}.bin", urgent=i >= 20) for i in range(40)]
    fetch.send(wants=wants)
    small, urgent = [f.id for f in wants[:20]], [f.id for f in wants[20:]]
    fetch.until(*large, *small, *urgent)
    last = {i: len(fetch.order) - 1 - fetch.order[::-1].index(i) for i in [*large, *small, *urgent]}
    check(max(last[i] for i in urgent) < min(last[i] for i in small), "urgent ones before the others")
    check(max(last[i] for i in small) < min(last[i] for i in large), "small ones before the end of large ones")
    equal([i for i in fetch.order if i in urgent], urgent, "urgent ones in the order asked for")
    for i, name in zip(large, ("large0", "large1", "large2")):
        check(bytes(fetch.data[i]) == (w.tree / name).read_bytes(), name)


@case("more large files at a time than may be open")
def many_large(w):
    names = [f"large{i:02d}" for i in range(60)]
    contents = [make_large(w, name, 400_000 + i, i) for i, name in enumerate(names)]
    server = w.server()
    fetch = Fetch(server)
    ids = fetch.want(*names)
    ids += fetch.want(*names, offset=300_000)
    missing = fetch.want(*["gone"] * 20, content=b"x" * LARGE)
    fetch.send(cancel=ids[10:20])
    kept = ids[:10] + ids[20:]
    fetch.half_close()
    equal(fetch.code(), Code.OK, "the stream's end")
    for i, data in zip(ids, [*contents, *(c[300_000:] for c in contents)]):
        if i in kept:
            equal(fetch.ended[i][0], 0, f"want {i}")
            check(bytes(fetch.data[i]) == data, f"content of want {i}")
    equal({fetch.ended[i][0] for i in missing}, {STALE}, "those that are gone")


@case("what is cancelled is not sent, also in the middle; an unknown id is nothing")
def cancel(w):
    data = make_large(w, size=64 << 20)
    make_tree(w.tree / "small", 10, 10_000)
    server = w.server()
    listed(server)
    fetch = Fetch(server)
    [large] = fetch.want("large")
    while large not in fetch.data:
        fetch.take()
    fetch.send(cancel=[large, 10**6, 0])
    [small] = fetch.want("small/d0000/f000001.bin")
    fetch.half_close()
    equal(fetch.code(), Code.OK, "the stream's end")
    equal(fetch.ended.get(small), (0, ""), "the other want")
    check(large not in fetch.ended and len(fetch.data[large]) < len(data) // 2,
          f"{len(fetch.data[large])} bytes came of what was cancelled")
    fetch = Fetch(server)
    fetch.send(wants=[fetch.wanted("large") for _ in range(100)], cancel=range(1, 101))
    fetch.half_close()
    equal(fetch.code(), Code.OK, "all cancelled at once")
    check(sum(len(d) for d in fetch.data.values()) < 8 << 20, "next to nothing comes")


# ---- what is not there ----

@case("stale: other contents, other sizes, what is gone, folders, links, files that change while they are sent")
def stale(w):
    data = make_large(w, size=32 << 20)
    small = make_large(w, "small", 1000)
    (w.tree / "folder").mkdir()
    (w.tree / "link").symlink_to("small")
    (w.tree / "out").symlink_to("/etc/hostname")
    os.mkfifo(w.tree / "fifo")
    server = w.server()
    fetch = Fetch(server)
    for path, content in (("small", b"x" * 1000), ("small", small[:-1]), ("large", data[:-1] + b"x"), ("large", data + b"x"),
                          ("gone", small), ("gone", data), ("folder", small), ("link", small), ("out", small), ("fifo", small),
                          ("small/below", small)):
        equal(fetch.status(path, content=content), STALE, f"{path}, {len(content)} bytes")
    check("stale: " in fetch.ended[1][1], "the text")
    check(fetch.get("small") == small, "others are served")
    [large] = fetch.want("large", content=data)
    while large not in fetch.data:
        fetch.take()
    with open(w.tree / "large", "r+b") as f:
        f.seek(-7, os.SEEK_END)
        f.write(b"changed")
    equal(fetch.until(large), [STALE], "changed while it was sent")
    equal(fetch.status("large", content=data), STALE, "asked for again")
    check(fetch.get("large") == data[:-7] + b"changed", "what it holds now")


@case("a file replaced by another: the stream goes on with what is there, and so does a spider's folder")
def replaced(w):
    data = make_large(w)
    server = w.server()
    listed(server)
    fetch = Fetch(server)
    check(fetch.get("large") == data, "the first one")
    other = make_large(w, "new", LARGE, 9)
    (w.tree / "new").rename(w.tree / "large")
    check(fetch.get("large") == other, "the second one")
    equal(fetch.status("large", content=data[:-1] + bytes([data[-1] ^ 1])), STALE, "neither")
    w.tree.rename(w.tree.parent / "old")
    w.tree.mkdir()
    (w.tree / "f").write_text("in the new folder")
    check(fetch.get("f") == b"in the new folder", "another folder under the spider's name")
    equal(fetch.status("large", content=other), STALE, "what was in the old one")


@case("written through a mapping, which no watcher sees: what the listing said is stale, and the next one has it right")
def mapped(w):
    small, large = make_large(w, "small", 5000), make_large(w)
    server = w.server()
    listed(server)
    fetch = Fetch(server)
    for name, data in (("small", small), ("large", large)):
        with open(w.tree / name, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
            m[:4] = b"MMAP"
        settle()
        equal(fetch.status(name, content=data), STALE, f"{name} as it was listed")
        equal(listed(server)[name], digest.content(b"MMAP" + data[4:]), f"{name} in the next listing")
        check(fetch.get(name) == b"MMAP" + data[4:], f"what {name} holds")


def unstamped(m, path, bit):
    """Changes the mapping M of the file PATH, whose page is dirty and stamped: most file systems do not stamp it again."""
    stamp = os.stat(path).st_mtime_ns
    m[0] ^= bit
    if os.stat(path).st_mtime_ns != stamp:
        skip("this file system stamps every write through a mapping")
    settle()


@case("changed and yet under the old stamps: who gets it finds out, and asks by itself; it is hashed again, and served as it is")
def trusted(w):
    make_large(w)
    server, path = w.server(), w.tree / "large"
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[0] ^= 1
        settle()
        fetch = Fetch(server)
        for _ in range(2):
            first = bytes(m)
            equal(listed(server)["large"], digest.content(first), "the listing")
            unstamped(m, path, 2)
            [i] = fetch.want("large", content=first)
            check(fetch.until(i) == [STALE] or bytes(fetch.data[i]) != first, "what it held is nowhere")
            algorithm = digest.algorithm(digest.KIND_FILE, len(first))
            code, _ = fetch.client.download(SPIDER, "large", hash_algorithm=algorithm, digest=digest.content(first))
            equal(code, Code.FAILED_PRECONDITION, "asked for by itself")
            equal(listed(server)["large"], digest.content(m), "the next listing")
            check(fetch.get("large", content=bytes(m)) == bytes(m), "what it holds")


@case("changed and yet under the old stamps, before anybody read it on a mount: that reads what is there now")
def trusted_and_mounted(w):
    make_large(w)
    server, path = w.server(), w.tree / "large"
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as mapping:
        mapping[0] ^= 1
        settle()
        m = w.mount(server, options=["refresh=off"])
        unstamped(mapping, path, 2)
        check((m.point / "large").read_bytes() == mapping[:], "what is there now")


# ---- memory ----

def read_all(server, data):
    """One worker that reads DATA, {name: bytes}; its stream."""
    fetch = Fetch(server)
    for name in data:
        check(fetch.get(name, list=True) == data[name], f"{name}")
    return fetch


@case("wanted by many: read from the disk twice, then sent from memory, in parts as well; the file may be gone by then")
def from_memory(w):
    sizes = {"small": 5000, "whole": PIECE, "large": 3 * PIECE + 1000}
    data = {name: make_large(w, name, size, size) for name, size in sizes.items()}
    server = w.server()
    listed(server)
    total, memory = sum(len(d) for d in data.values()), lambda: server.counter("fsyncfs_bytes_from_memory_total")
    read_all(server, data)
    read_all(server, data)
    equal(memory(), 0, "bytes from memory for the second")
    fetch = read_all(server, data)
    equal(memory(), total, "bytes from memory for the third")
    check(fetch.get("large", offset=2 * PIECE - 10, length=20) == data["large"][2 * PIECE - 10:2 * PIECE + 10], "a range over a limit")
    check(fetch.get("whole", offset=100) == data["whole"][100:], "a range to the end")
    equal(memory(), total + 20 + PIECE - 100, "with the ranges")
    (w.tree / "small").write_bytes(data["small"][::-1])
    (w.tree / "whole").unlink()
    for name in ("small", "whole"):
        check(fetch.get(name, content=data[name]) == data[name], f"{name} as it was listed")
    check(fetch.get("small") == data["small"][::-1], "as it is now")
    equal(fetch.status("whole", content=data["whole"][::-1]), STALE, "what was never there")


@case("what is in memory because of one spider is not there for another")
def from_memory_of_others(w):
    data = make_large(w, "small", 5000)
    (w.tree.parent / "other").mkdir()
    (w.tree.parent / "other" / "small").write_bytes(data[::-1])
    server = w.server()
    for _ in range(3):
        read_all(server, {"small": data})
    equal(server.counter("fsyncfs_bytes_from_memory_total"), 5000, "it is in memory")
    other = Fetch(server, spider="other")
    equal(other.status("small", content=data), STALE, "asked for in the name of the other")
    check(other.get("small") == data[::-1], "the other's own")


# ---- pieces ----

@case("pieces: the list comes first, each piece in one message and one part; both are counted")
def pieces(w):
    data = make_large(w, size=10 * PIECE + 1000)
    server = w.server()
    listed(server)
    hashed, sent = (server.counter(f"fsyncfs_{c}_total") for c in ("files_hashed", "bytes_sent"))
    fetch = Fetch(server)
    check(fetch.get("large", list=True) == data, "all of it")
    check(bytes(fetch.lists[1]) == digest.pieces(data), "the list")
    equal(fetch.messages, 12, "messages: the list, and the pieces; the last one waits for none")
    first = fetch.get("large", offset=10 * PIECE, length=1000, list=True)
    check(first == data[10 * PIECE:] and bytes(fetch.lists[2]) == fetch.lists[1], "list and last piece")
    check(fetch.get("large", offset=10 * PIECE, length=1000) == first and 3 not in fetch.lists, "without the list")
    equal(server.counter("fsyncfs_bytes_sent_total") - sent, len(data) + 2000 + 2 * 11 * 16, "bytes counted, lists as well")
    equal(server.counter("fsyncfs_files_hashed_total"), hashed, "files hashed")
    make_large(w, "small", 5000)
    check(len(fetch.get("small", list=True)) == 5000 and 4 not in fetch.lists, "a small one has none")
    equal(fetch.messages, 12 + 1 + 1 + 1, "messages")


@case("the list of an enormous file, in several parts; small ones come in between")
def enormous(w):
    w.tree.mkdir(parents=True, exist_ok=True)
    size = 4 << 30  # a list of 256 KiB: with its head it does not fit into one message
    with open(w.tree / "hole", "wb") as f:
        f.truncate(size)
    small = make_large(w, "small", 1000)
    server = w.server()
    listed(server)
    known = digest.xxh3(bytes(PIECE)) * (size // PIECE)
    fetch = Fetch(server)
    hole = fetch.wanted("hole", content=b"", hash_algorithm=3, digest=digest.xxh3(known), size=size, offset=size - PIECE, list=True)
    fetch.send(wants=[hole, fetch.wanted("small")])
    equal(fetch.until(hole.id, hole.id + 1), [0, 0], "statuses")
    check(bytes(fetch.lists[hole.id]) == known, "the list")
    check(bytes(fetch.data[hole.id]) == bytes(PIECE) and bytes(fetch.data[hole.id + 1]) == small, "the bytes")
    equal(fetch.order, [hole.id, hole.id + 1, hole.id, hole.id], "parts: the list gives way, and the piece follows its end")


@case("while a file is hashed that nobody knows, the master says that it is there; a cancelled want ends that, and closes the file")
def alive(w):
    w.tree.mkdir(parents=True, exist_ok=True)
    with open(w.tree / "hole", "wb") as f:
        f.truncate(4 << 40)
    small = make_large(w, "small", 1000)
    server = w.server()
    fetch = Fetch(server)
    hole = fetch.wanted("hole", content=b"", hash_algorithm=3, digest=b"x" * 16, size=4 << 40)
    fetch.send(wants=[hole])
    while fetch.beats < 3:
        check(fetch.take(), "the stream goes on")
    check(not fetch.ended and descriptors(server, "/hole") == 1, "it is being hashed")
    check(fetch.get("small") == small, "others are served")
    fetch.send(cancel=[hole.id])
    wait_until(lambda: descriptors(server, "/hole") == 0, "the file is closed", 10)
    [again] = fetch.want("hole", content=b"", hash_algorithm=3, digest=b"x" * 16, size=4 << 40)
    wait_until(lambda: descriptors(server, "/hole") == 1, "wanted again", 10)
    fetch.replies.cancel()
    wait_until(lambda: descriptors(server, "/hole") == 0, "the file is closed when the call ends", 10)
    check(again not in fetch.ended, "nobody was told anything")


# ---- hostile ----

@case("wants that make no sense fail alone")
def bad_wants(w):
    make_tree(w.tree, 5, 5_000)
    server = w.server()
    fetch = Fetch(server)
    path = "d0000/f000001.bin"
    for fields in ({"hash_algorithm": 0}, {"hash_algorithm": 2}, {"hash_algorithm": 2**32 - 1}, {"digest": b""}, {"digest": b"x" * 15},
                   {"digest": b"x" * 17}, {"size": 2**63}, {"size": 2**64 - 1}, {"raw_path": b"x"}):
        equal(fetch.status(path, **fields), INVALID, f"{fields}")
    for bad in ("", "/", "..", "../spider/" + path, "d0000//f000001.bin", "d0000/./f000001.bin", "/etc/passwd", "a\0b", "x" * 5000, "x" * 256,
                b"\0", b"d0000/../../x", b"\xff/.."):
        equal(fetch.status(bad, content=b"x"), INVALID, f"path {bad!r}")
    equal(fetch.status(path, id=0), INVALID, "id 0")
    fetch.ended.clear()
    fetch.send(wants=[fetch.wanted(path, id=900), fetch.wanted(path, id=900)])
    parts = []
    while len(parts) < 2:
        parts += next(fetch.replies).parts
    equal(sorted(p.status for p in parts), [0, INVALID], "an id twice")
    fetch.last_id = 1000
    check(fetch.get(path), "a good one")
    equal(fetch.status(path), 0, "and another")


@case("streams that make no sense end with INVALID_ARGUMENT, an unknown spider with NOT_FOUND")
def bad_streams(w):
    make_tree(w.tree, 5, 5_000)
    server = w.server()
    path = "d0000/f000001.bin"
    for raw in (b"\xff" * 50, b"\x1a\x05\x08", b"\x08\x01", b"\x1a\x02\x0a\x00", b"\x22\x01\x80", b"", b"\x0a\x00", os.urandom(3000)):
        fetch = Fetch(server, open_with=False)
        fetch.send(raw=raw)
        equal(fetch.code(), Code.INVALID_ARGUMENT, f"{raw[:20]!r} as the first message")
    fetch = Fetch(server)
    fetch.get(path)
    fetch.send(raw=b"\x1a\xff")
    equal(fetch.code(), Code.INVALID_ARGUMENT, "garbage later")
    fetch = Fetch(server, open_with=False)
    fetch.send(wants=[fetch.wanted(path)])
    equal(fetch.code(), Code.INVALID_ARGUMENT, "wants of no spider")
    fetch = Fetch(server)
    fetch.send(spider_id="other")
    equal(fetch.code(), Code.INVALID_ARGUMENT, "another spider")
    for spider, code in (("nosuch", Code.NOT_FOUND), ("..", Code.INVALID_ARGUMENT), ("spider/..", Code.INVALID_ARGUMENT),
                         ("s" * 300, Code.INVALID_ARGUMENT), ("a\0b", Code.INVALID_ARGUMENT)):
        equal(Fetch(server, spider=spider).code(), code, f"spider {spider[:20]!r}")
    fetch = Fetch(server, open_with=False)
    fetch.half_close()
    equal(fetch.code(), Code.OK, "nothing wanted")
    check(Fetch(server).get(path), "a good stream")


@case("too many wants at a time, too large messages; as many as may be are served")
def too_many(w):
    make_tree(w.tree, 5, 5_000)
    server = w.server()
    fetch = Fetch(server)
    good = fetch.wanted("d0000/f000001.bin")
    fetch.send(wants=[good] * 5000)
    equal(fetch.code(), Code.RESOURCE_EXHAUSTED, "5,000 wants")
    fetch = Fetch(server)
    fetch.send(raw=b"\x1a\x00" * 500_000)
    equal(fetch.code(), Code.RESOURCE_EXHAUSTED, "half a million empty wants")
    fetch = Fetch(server)
    fetch.send(raw=b"\x0a" + b"\x80\x80\x80\x08" + b"s" * (16 << 20))
    equal(fetch.code(), Code.RESOURCE_EXHAUSTED, "a message of 16 MiB")
    fetch = Fetch(server)
    ids = fetch.want(*["d0000/f000001.bin"] * 4096)
    equal(set(fetch.until(*ids)), {0}, "4,096 wants")


@case("readers that never read hold back their own stream only, and little memory; who goes away is forgotten at once")
def never_reads(w):
    make_large(w, size=64 << 20)
    make_tree(w.tree / "small", 10, 10_000)
    server = w.server()
    listed(server)
    Fetch(server).get("small/d0000/f000001.bin")
    before = server_memory(server)
    large = (w.tree / "large").read_bytes()
    name = digest.content(large)
    stalled = [Fetch(server) for _ in range(20)]
    for fetch in stalled:
        fetch.want(*["large"] * 50, content=large, digest=name)
        next(fetch.replies)
    check(Fetch(server).get("small/d0000/f000002.bin"), "others are served")
    grown = server_memory(server) - before
    check(grown < 100 << 10, f"20 stalled streams of 50 x 64 MiB cost {grown} KiB")
    sent = server.counter("fsyncfs_bytes_sent_total")
    for fetch in stalled:
        fetch.replies.cancel()
        fetch.client.close()
    wait_until(lambda: descriptors(server, "/large") == 0, "the files of those who went away are closed", 10)
    time.sleep(0.2)
    check(server.counter("fsyncfs_bytes_sent_total") - sent < 64 << 20, "nothing is read for them any more")


def server_memory(server):
    status = open(f"/proc/{server.pid}/status").read()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def descriptors(server, ending):
    found = 0
    for fd in os.listdir(f"/proc/{server.pid}/fd"):
        try:
            found += os.readlink(f"/proc/{server.pid}/fd/{fd}").endswith(ending)
        except OSError:
            pass
    return found


@case("an idle stream does not hold a server back that is to stop")
def stop(w):
    make_tree(w.tree, 5, 5_000)
    server = w.server()
    fetch = Fetch(server)
    fetch.get("d0000/f000001.bin")
    begun = time.monotonic()
    server.stop()
    check(time.monotonic() - begun < 3, f"the server took {time.monotonic() - begun:.1f} s to stop")
    equal(fetch.code(), Code.UNAVAILABLE, "the stream's end")


main()
