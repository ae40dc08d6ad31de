"""What our own two ends say to each other about metadata: differences, packs, transfers that go on, pushes; and gzip for stock workers."""

import concurrent.futures
import itertools
import os
import random
import shutil
import signal
import socket
import threading
import time

import grpc

from harness import case, check, equal, main
import peers
import hostile_worker
import packs
from trees import make_tree, settle

Code = grpc.StatusCode
sync, workspace = hostile_worker.sync, hostile_worker.workspace
CHANGES, BATCHES, SNAPSHOT = 1, 2, 3
MANY = 20_000  # files: more than one pack


def own_request(last=None, **fields):
    """A request of a worker that has what LAST, a chunk, named."""
    if last is not None:
        fields.update(known_digest=last.root_digest, known_revision=last.revision)
    return sync.FileSyncRequest(spider_id="spider", fsyncfs_protocol=1, **fields)


class Worker:
    """A worker in Python: follows the master, and proves after each answer that both hold the same tree."""

    def __init__(self, server):
        self.client = hostile_worker.Client(f"127.0.0.1:{server.port}")
        self.tree, self.last = packs.Tree(), None

    def take(self, chunks):
        chunks = [c for c in chunks if c.root_digest]  # not the heartbeats
        check(chunks and chunks[-1].is_complete, "the answer is complete")
        if not chunks[-1].unchanged:
            if chunks[0].base_revision:
                equal(chunks[0].base_revision, self.last.revision, "the revision that the difference is from")
            else:
                check(packs.entries_of(chunks[:1])[0].whole, "the root is whole")
            self.tree.apply(packs.entries_of(chunks))
        self.last = chunks[-1]
        equal(self.tree.root_digest().hex(), self.last.root_digest.hex(), "the root digest of what was put together")
        return chunks

    def ask(self, **fields):
        code, chunks = self.client.call(hostile_worker.SCAN, own_request(last=self.last, **fields))
        equal(code, Code.OK, "the call's status")
        return self.take(chunks)


def make_many(w, files=MANY):
    (w.tree / "many").mkdir(parents=True)
    for i in range(files):
        (w.tree / "many" / f"file{i:06d}").touch()
    settle()


def touch(w, names):
    for name in names:
        os.utime(w.tree / "many" / name, ns=(0, random.randrange(10**18)))


# ---- differences ----

@case("unchanged, a difference, everything: what the answer holds follows what changed")
def differences(w):
    make_tree(w.tree, 300, 300_000)
    server = w.server()
    worker = Worker(server)
    [chunk] = worker.ask()
    equal((chunk.strategy, chunk.base_revision, len(chunk.files)), (CHANGES, 0, len(worker.tree.entries)), "the first answer")
    [chunk] = worker.ask()
    equal((chunk.unchanged, len(chunk.files)), (True, 0), "the second")
    (w.tree / "d0001/f000100.bin").write_bytes(b"other")
    (w.tree / "d0001/f000101.bin").unlink()
    shutil.rmtree(w.tree / "d0002")
    (w.tree / "d0002").write_text("a file now")
    (w.tree / "new/below").mkdir(parents=True)
    (w.tree / "new/below/link").symlink_to("../..")
    (w.tree / "d0000").rename(w.tree / "moved")
    [chunk] = worker.ask()
    check(chunk.base_revision > 0 and len(chunk.files) < 120, f"a difference: {len(chunk.files)} entries")
    [chunk] = worker.ask(known_revision=0)
    check(chunk.unchanged, "a worker that does not know its revision, but has the digest")
    worker.last.revision = 1
    (w.tree / "one more").touch()
    chunks = worker.ask()
    equal((chunks[0].base_revision, len(chunks[0].files)), (0, len(worker.tree.entries)), "with a revision that never was")
    equal(server.counter("fsyncfs_deltas_total"), 1, "differences counted")
    equal(server.counter("fsyncfs_full_listings_total"), 2, "full listings counted")
    check("everything to revision" in server.output() and "difference to revision" in server.output(), "the log tells")


@case("a digest that the revision never had gets everything, and so does a revision that the journal has forgotten")
def forgotten(w):
    make_many(w, 30)
    server = w.server(prefix=["env", "FSYNCFS_TEST_JOURNAL_MAX=60"])
    worker = Worker(server)
    worker.ask()
    first = worker.last
    touch(w, ["file000001"])
    equal(worker.client.call(hostile_worker.SCAN, own_request(known_digest=b"x" * 16, known_revision=first.revision))[1]
          [-1].base_revision, 0, "another digest")
    for _ in range(5):
        touch(w, [f"file{i:06d}" for i in range(30)])
        check(worker.ask()[0].base_revision > 0, "a difference from the version before")
    worker.last = first
    equal(worker.ask()[0].base_revision, 0, "from a version long ago")
    check("the journal does not reach back" in server.output(), "the log says why")


@case("each strategy by force, of everything and of a difference")
def strategies(w):
    make_many(w)
    server = w.server()
    workers = {s: Worker(server) for s in (0, CHANGES, BATCHES, SNAPSHOT)}
    said = {s: {c.strategy for c in worker.ask(strategy=s)} for s, worker in workers.items()}
    equal(said, {0: {SNAPSHOT}, CHANGES: {CHANGES}, BATCHES: {BATCHES}, SNAPSHOT: {SNAPSHOT}}, "everything is sent as")
    touch(w, [f"file{i:06d}" for i in range(0, MANY, 10)])
    answers = {s: worker.ask(strategy=s) for s, worker in workers.items()}
    equal({s: {c.strategy for c in chunks} for s, chunks in answers.items()},
          {0: {BATCHES}, CHANGES: {CHANGES}, BATCHES: {BATCHES}, SNAPSHOT: {SNAPSHOT}}, "2,000 changes are sent as")
    equal({s: chunks[0].base_revision > 0 for s, chunks in answers.items()},
          {0: True, CHANGES: True, BATCHES: True, SNAPSHOT: False}, "is a difference")
    equal(max(len(c.files) for c in answers[CHANGES]), 1000, "entries in a message")
    touch(w, ["file000003"])
    equal({s: {c.strategy for c in worker.ask(strategy=s)} for s, worker in workers.items()},
          {0: {CHANGES}, CHANGES: {CHANGES}, BATCHES: {BATCHES}, SNAPSHOT: {SNAPSHOT}}, "one change is sent as")
    sent = server.counter("fsyncfs_metadata_bytes_sent_total")
    workers[0].ask()
    check(server.counter("fsyncfs_metadata_bytes_sent_total") - sent < 200, "'unchanged' is a few bytes")


@case("a folder of a workspace as the root of a mount")
def below(w):
    make_many(w, 50)
    worker = Worker(w.server())
    worker.ask(path="many")
    equal(len(worker.tree.entries), 51, "entries")
    (w.tree / "elsewhere").touch()
    check(worker.ask(path="many")[0].unchanged, "what happens elsewhere is none of its business")
    touch(w, ["file000009"])
    [chunk] = worker.ask(path="many")
    check(chunk.base_revision > 0 and [f.path for f in chunk.files][-1] == "file000009", f"a difference: {chunk}")
    for path in ("nosuch", "elsewhere"):
        code, _ = worker.client.call(hostile_worker.SCAN, own_request(path=path))
        equal(code, Code.NOT_FOUND, path)


# ---- transfers ----

def packed(worker, **fields):
    code, chunks = worker.client.call(hostile_worker.SCAN, own_request(**fields))
    equal(code, Code.OK, "the call's status")
    chunks = [c for c in chunks if c.root_digest]
    for chunk in chunks:
        equal(chunk.next_offset, chunk.offset + len(chunk.pack), "next_offset")
    return chunks


@case("a transfer goes on where it broke off: the same server, one that was restarted, one whose tree has changed")
def resume(w):
    make_many(w, 50_000)
    server = w.server()
    worker = Worker(server)
    whole = packed(worker)
    check(len(whole) >= 3 and whole[0].offset == 0, f"several packs: {len(whole)}")
    equal(whole[-1].total_bytes, whole[-1].next_offset, "total_bytes")
    first, rest = whole[0], b"".join(c.pack for c in whole[1:])
    again = {"resume_revision": first.revision, "resume_offset": first.next_offset}

    def goes_on(worker, what):
        chunks = packed(worker, **again)
        equal((chunks[0].offset, b"".join(c.pack for c in chunks)), (first.next_offset, rest), what)
        equal(chunks[-1].root_digest, first.root_digest, what)
    goes_on(worker, "the same server")
    equal(server.counter("fsyncfs_snapshots_built_total"), 1, "snapshots built")
    chunks = packed(worker, resume_revision=first.revision, resume_offset=whole[-1].next_offset)
    equal([(c.pack, c.is_complete) for c in chunks], [(b"", True)], "all was there but the end")
    for offset in (1, first.next_offset - 1, first.next_offset + 1, whole[-1].next_offset + 1, 2**62):
        equal(packed(worker, resume_revision=first.revision, resume_offset=offset)[0].offset, 0, f"begins anew from {offset}")
    equal(packed(worker, resume_revision=5, resume_offset=first.next_offset)[0].offset, 0, "another revision: begins anew")
    equal(server.stop(), 0, "exit code")
    server = w.server()
    goes_on(Worker(server), "a server that was restarted")
    touch(w, ["file000000"])
    goes_on(Worker(server), "while there is a newer version")
    equal(server.stop(), 0, "exit code")
    chunks = packed(Worker(w.server()), **again)
    check(chunks[0].offset == 0 and chunks[0].root_digest != first.root_digest, "the old version is gone: begins anew")


@case("many first mounts at once share one pass and one snapshot")
def shared(w):
    make_many(w)
    server = w.server()
    workers = [Worker(server) for _ in range(12)]
    with concurrent.futures.ThreadPoolExecutor(len(workers)) as pool:
        answers = list(pool.map(packed, workers))
    equal(len({b"".join(c.pack for c in chunks) for chunks in answers}), 1, "different answers")
    workers[0].take(answers[0])
    equal(len(workers[0].tree.entries), MANY + 2, "entries")
    equal(server.counter("fsyncfs_snapshots_built_total"), 1, "snapshots built")
    equal(server.counter("fsyncfs_scans_total"), 1, "scans")


# ---- pushes ----

class Watch:
    """The stream of a worker that has what LAST named (None: nothing); the answers come from next()."""

    def __init__(self, worker, last=None, **fields):
        self.stream = worker.client.stream(hostile_worker.WATCH, own_request(last=last, **fields))

    def next(self):
        """The chunks up to the end of one version."""
        chunks = []
        while not chunks or not (chunks[-1].is_complete or chunks[-1].notice):
            chunk = sync.FileScanChunk.FromString(next(self.stream))
            if chunk.root_digest:
                chunks.append(chunk)
        return chunks

    def code(self):
        try:
            for _ in self.stream:
                pass
        except grpc.RpcError as error:
            return error.code()
        return Code.OK


@case("a watch tells what it missed, then each change: small ones at once, large ones as a notice")
def watching(w):
    make_many(w, 3000)
    server = w.server()
    worker = Worker(server)
    worker.ask()
    watch = Watch(worker, worker.last)
    check(watch.next()[0].unchanged, "nothing was missed")
    for i in range(10):
        touch(w, [f"file{i:06d}", f"file{i + 100:06d}"])
        before = worker.last.revision
        while worker.last.revision == before or worker.tree.entries[b"many/file%06d" % (i + 100)].mtime_ns != os.stat(
                w.tree / "many" / f"file{i + 100:06d}").st_mtime_ns:
            chunks = worker.take(watch.next())
            check(chunks[0].base_revision and not chunks[0].notice, "a difference")
    server.signal(signal.SIGSTOP)  # all at once, however long it takes to make them
    touch(w, [f"file{i:06d}" for i in range(3000)])
    server.signal(signal.SIGCONT)
    while True:
        [chunk] = watch.next()
        if chunk.notice:
            break
        worker.take([chunk])
    check(len(chunk.files) == 0 and not chunk.pack, "a notice holds no entries")
    worker.ask()
    touch(w, ["file000001"])
    late = Watch(worker, worker.last)
    worker.take(late.next())
    watch.stream.cancel()
    late.stream.cancel()


@case("a watch of a folder hears of what happens in it, and of nothing else")
def watching_below(w):
    make_many(w, 20)
    worker = Worker(w.server())
    worker.ask(path="many")
    watch = Watch(worker, worker.last, path="many")
    check(watch.next()[0].unchanged, "nothing was missed")
    for i in range(3):
        (w.tree / f"elsewhere{i}").touch()
        time.sleep(0.3)  # a version of its own
        touch(w, [f"file{i:06d}"])
        [chunk] = worker.take(watch.next())
        equal([f.path for f in chunk.files], [f"file{i:06d}"], "what is told")
    watch.stream.cancel()


@case("fifty watches of one change: one difference is gathered for all")
def fifty(w):
    make_many(w, 2000)
    server = w.server()
    worker = Worker(server)
    worker.ask()
    watches = [Watch(worker, worker.last) for _ in range(50)]
    for watch in watches:
        check(watch.next()[0].unchanged, "nothing was missed")
    touch(w, ["file000000"])
    answers = [watch.next() for watch in watches]
    equal(len({tuple(c.SerializeToString() for c in chunks) for chunks in answers}), 1, "different answers")
    worker.take(answers[0])
    for watch in watches:
        watch.stream.cancel()


@case("a watch of nothing known begins with a notice, ends with its workspace, and does not hold up a stop")
def watch_ends(w):
    make_many(w, 10)
    server = w.server()
    worker = Worker(server)
    watch = Watch(worker)
    [chunk] = watch.next()
    check(chunk.notice and chunk.root_digest, "a notice")
    equal(Watch(worker, path="nosuch").code(), Code.NOT_FOUND, "of a folder that is not there")
    begun = time.monotonic()
    equal(server.stop(), 0, "exit code")
    check(time.monotonic() - begun < 5, "the stop does not wait for watches")
    equal(watch.code(), Code.UNAVAILABLE, "the watch's status")


# ---- one folder ----

def list_folder(worker, digest, **fields):
    request = workspace.FolderRequest(spider_id="spider", digest=digest, **fields)
    return worker.client.call(hostile_worker.LIST_FOLDER, request)


@case("one folder's children, as long as it has the digest that is asked for")
def folders(w):
    make_tree(w.tree, 300, 300_000)
    odd = os.path.join(os.fsencode(w.tree), b"odd\xff")
    os.mkdir(odd)
    open(os.path.join(odd, b"in it"), "wb").close()
    os.mkdir(os.path.join(odd, b"empty"))
    settle()
    worker = Worker(w.server())
    worker.ask()
    known = worker.tree.entries
    for path in (b"d0000", b"odd\xff", b"odd\xff/empty"):
        where = {"path": path.decode()} if path.isascii() else {"raw_path": path}
        code, chunks = list_folder(worker, known[path].digest, **where)
        equal((code, chunks[-1].is_complete), (Code.OK, True), f"{path}")
        want = {p.rpartition(b"/")[2]: e for p, e in known.items() if p.rpartition(b"/")[0] == path and p}
        got = {e.path: e for e in packs.entries_of(chunks)}
        equal({name: e._replace(path=name) for name, e in want.items()}, got, f"children of {path}")
    stale = known[b"d0000"].digest
    (w.tree / "d0000" / "new").touch()
    worker.ask()
    for path, digest in (("d0000", stale), ("d0001", b"x" * 16), ("nosuch", stale), ("d0000/new", stale)):
        equal(list_folder(worker, digest, path=path)[0], Code.FAILED_PRECONDITION, f"{path} with another digest")
    for fields in ({"path": "../x"}, {"path": "/"}, {"raw_path": b"a\0b"}, {"path": "a", "raw_path": b"a"}):
        equal(list_folder(worker, stale, **fields)[0], Code.INVALID_ARGUMENT, f"{fields}")
    for digest in (b"", b"x" * 15, b"x" * 17):
        equal(list_folder(worker, digest, path="d0000")[0], Code.INVALID_ARGUMENT, f"a digest of {len(digest)} bytes")


# ---- hostile ----

@case("requests that no worker of ours would send")
def hostile(w):
    make_many(w, 100)
    server = w.server()
    worker = Worker(server)
    worker.ask()
    for method in (hostile_worker.SCAN, hostile_worker.WATCH):
        for fields in ({"known_digest": b"x"}, {"known_digest": b"x" * 17}, {"known_digest": b"x" * 60_000}, {"strategy": 4},
                       {"strategy": 2**32 - 1}, {"resume_revision": 1, "resume_offset": 2**64 - 1}, {"path": "../x"}):
            request = sync.FileSyncRequest(spider_id="spider", fsyncfs_protocol=1, **fields)
            equal(worker.client.call(method, request)[0], Code.INVALID_ARGUMENT, f"{method} {str(fields)[:80]}")
        equal(worker.client.call(method, own_request().SerializeToString()[:-1])[0], Code.INVALID_ARGUMENT, "half a request")
    equal(worker.client.call(hostile_worker.WATCH, sync.FileSyncRequest(spider_id="spider"))[0], Code.INVALID_ARGUMENT,
          "a stock worker's watch")
    rng = random.Random(1)
    for _ in range(200):
        fields = {"known_digest": rng.choice([b"", worker.last.root_digest, rng.randbytes(16)]),
                  "known_revision": rng.choice([0, 1, worker.last.revision, worker.last.revision + 1, 2**64 - 1, 2**63]),
                  "strategy": rng.randrange(4), "stat_pass": rng.random() < 0.1,
                  "resume_revision": rng.choice([0, 1, worker.last.revision, 2**64 - 1]),
                  "resume_offset": rng.choice([0, 1, 1000, 2**63 - 1])}
        request = sync.FileSyncRequest(spider_id="spider", fsyncfs_protocol=1, **fields)
        code, chunks = worker.client.call(hostile_worker.SCAN, request)
        check(code == Code.OK and chunks[-1].is_complete, f"{fields}: {code}")
        if not chunks[-1].unchanged and not chunks[-1].base_revision:
            equal(len(packs.entries_of(chunks)), len(worker.tree.entries), f"{fields}: entries of everything")
    check(server.running(), "the server lives")


# ---- gzip for stock workers ----

class Counted:
    """A way to the server that counts the bytes which come back."""

    def __init__(self, port):
        self.to, self.received = port, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.to))
            threading.Thread(target=self._carry, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, True), daemon=True).start()

    def _carry(self, source, target, counted):
        try:
            while data := source.recv(65536):
                self.received += len(data) if counted else 0
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def stock_scan(port, metadata=(), **options):
    """The paths that a stock worker gets, and the bytes it took."""
    way = Counted(port)
    with grpc.insecure_channel(f"127.0.0.1:{way.port}") as channel:
        call = channel.unary_stream(hostile_worker.SCAN, request_serializer=sync.FileSyncRequest.SerializeToString,
                                    response_deserializer=sync.FileScanChunk.FromString)
        chunks = list(call(sync.FileSyncRequest(spider_id="spider", node_key=options.pop("node_key", "")), metadata=metadata,
                           timeout=30, **options))
    return sorted(f.path for c in chunks for f in c.files), way.received


@case("gzip for stock workers who ask for it, by metadata or by compressing what they ask with")
def gzip(w):
    make_tree(w.tree, 500, 50_000)
    server = w.server()
    plain, plain_bytes = stock_scan(server.port)
    asked = {"metadata": stock_scan(server.port, metadata=[("fsyncfs-compress", "gzip")]),
             "a compressed request": stock_scan(server.port, compression=grpc.Compression.Gzip, node_key="n" * 500)}
    for how, (paths, received) in asked.items():
        equal(paths, plain, f"{how}: the listing")
        check(received < plain_bytes / 2, f"{how}: {received} bytes, {plain_bytes} without")
    other = stock_scan(server.port, metadata=[("fsyncfs-compress", "no")])
    check(other[1] > plain_bytes * 0.9, "who does not ask gets none")


@case("a stock worker in JavaScript that compresses with gzip")
def gzip_js(w):
    make_tree(w.tree, 500, 50_000)
    server = w.server()
    ways = [Counted(server.port), Counted(server.port)]
    plain = peers.stock_worker(f"127.0.0.1:{ways[0].port}", w.path("copy"), "--list-only")
    zipped = peers.stock_worker(f"127.0.0.1:{ways[1].port}", w.path("copy"), "--list-only", "--gzip")
    equal(zipped["listed"], plain["listed"], "entries listed")
    check(ways[1].received < ways[0].received / 2, f"{ways[1].received} bytes, {ways[0].received} without")


@case("a compressed request that would become a huge one is refused")
def bomb(w):
    make_many(w, 10)
    server = w.server()
    worker = Worker(server)
    call = worker.client.channel.unary_stream(hostile_worker.SCAN, request_serializer=None, response_deserializer=None)
    for size, codes in ((50 << 20, {Code.RESOURCE_EXHAUSTED}), (2 << 20, {Code.RESOURCE_EXHAUSTED}), (900_000, {Code.INVALID_ARGUMENT})):
        try:
            list(call(b"\0" * size, compression=grpc.Compression.Gzip, timeout=20))
            code = Code.OK
        except grpc.RpcError as error:
            code = error.code()
        check(code in codes, f"{size} bytes of zeros, compressed: {code}")
    peak = next(line for line in open(f"/proc/{server.pid}/status") if line.startswith("VmHWM"))
    check(int(peak.split()[1]) < 200_000, f"memory: {peak}")
    worker.ask()


@case("random changes, three workers, each strategy: what they put together has the master's digest")
def mutations(w):
    make_tree(w.tree, 200, 20_000, per_folder=20)
    server = w.server()
    workers = [Worker(server) for _ in range(4)]
    rng = random.Random(7)
    counter = itertools.count()

    def some(kind):
        found = [p for p in w.tree.rglob("*") if not p.is_symlink() and (p.is_dir() if kind == "folder" else p.is_file())]
        return rng.choice(sorted(found)) if found else w.tree / "nothing"

    def mutate():
        name = f"n{next(counter)}"
        [lambda: (some("folder") / name).write_text(name), lambda: some("file").unlink(),
         lambda: shutil.rmtree(some("folder")), lambda: (some("folder") / name).mkdir(),
         lambda: some("file").rename(some("folder") / name), lambda: some("folder").rename(w.tree / name),
         lambda: some("file").chmod(rng.choice([0o600, 0o755, 0o444])), lambda: (some("folder") / name).symlink_to(name),
         lambda: os.utime(some("folder"), ns=(0, rng.randrange(10**18))), lambda: some("file").write_text(name * 3),
         ][rng.randrange(10)]()
    for step in range(120):
        for _ in range(rng.randrange(1, 6)):
            try:
                mutate()
            except OSError:
                pass
        for strategy, worker in enumerate(workers):
            if rng.random() < 0.5 or step == 119:
                worker.ask(strategy=strategy)
    check(server.counter("fsyncfs_deltas_total") > 50, "differences were sent")


main()
