"""Large contents over a way on which pieces and their lists are spoiled in every way (tests/peers/fetch_faults.py).

Whatever comes: no wrong byte, an errno in time, a daemon that lives on, and all of it right once the way is good again.
"""

import concurrent.futures
import errno
import os
import queue
import random

import grpc

from harness import case, check, equal, fails_with, main, program, run_ok, say, wait_until
import peers  # noqa: F401 (tests/peers on the path)
import digest
import hostile_worker
from counting_proxy import CountingProxy
from fetch_faults import FAULTS, LOST, SILENT, STALE, SURE, TARGET
from fetch_relay import FETCH, PIECE, Relay, workspace

TIMEOUT = 2
PIECES = 5
SIZE = PIECES * PIECE + 1000
READ_ERRORS = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTUNREACH}
AT_A_TIME = 6


def make_files(w, *names, size=SIZE):
    """Files of SIZE pseudo-random bytes: {name: bytes}."""
    w.tree.mkdir(parents=True, exist_ok=True)
    contents = {name: random.Random(name).randbytes(size) for name in names}
    for name, data in contents.items():
        (w.tree / name).write_bytes(data)
    return contents


def pieces_of(data):
    """(index, offset, bytes) of each piece of DATA."""
    return [(i, at, data[at:at + PIECE]) for i, at in enumerate(range(0, len(data), PIECE))]


def read_at(path, offset, size):
    """As pread(2), without the kernel's read-ahead: no piece is asked for but those read."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        got = b""
        while len(got) < size:
            some = os.pread(fd, size - len(got), offset + len(got))
            if not some:
                break
            got += some
        return got
    finally:
        os.close(fd)


def attempt(path, at, piece):
    """Reads a piece: the errno, or 0 if what was read is right."""
    try:
        got = read_at(path, at, len(piece))
    except OSError as error:
        check(error.errno in READ_ERRORS, f"{path.name} at {at}: {error}")
        return error.errno
    check(got == piece, f"WRONG BYTES in {path.name} at {at}")
    return 0


def attempt_all(path, data):
    """Reads all pieces at the same time: {index: errno or 0}."""
    pieces = pieces_of(data)
    with concurrent.futures.ThreadPoolExecutor(len(pieces)) as pool:
        reads = [pool.submit(attempt, path, at, piece) for _, at, piece in pieces]
        return {index: read.result() for (index, _, _), read in zip(pieces, reads)}


def sound(m, parts=0):
    """Nothing of the cache is damaged, nothing was put aside, no stray file is left but contents of which not all came: PARTS. The mount has ended."""
    run_ok([program("fsyncfs"), "cache", "verify", "--cache", m.cache])
    equal(os.listdir(m.cache / "quarantine"), [], "blobs in quarantine")
    equal(os.listdir(m.cache / "partial"), [], "partial contents left")
    beside = [name for _, _, names in os.walk(m.cache / "blobs") for name in names if len(name) != 30]
    equal(len(beside), parts, f"files beside the blobs: {beside}")


# ---- one fault at a time ----

def expect(name, errors, what):
    """ERRORS, of the pieces of a file, are what the fault NAME allows where there is no other way to a content."""
    if name in SURE:
        equal(set(errors.values()), {0}, f"errors of {what}")
    if name in LOST and "piece " in name:
        check(errors[TARGET] != 0, f"{what}: a piece came that cannot have come")
    elif name in LOST:
        check(all(errors.values()), f"{what}: pieces came that cannot have come: {errors}")
    if name == "piece never answered":
        equal({i for i, error in errors.items() if error}, {TARGET}, f"pieces of {what} that do not come")


def excused(name, error):
    """Whether the fault NAME allows ERROR of a read, although the content can be had by a download."""
    return error == 0 or name in SILENT or (name in STALE and error == errno.ESTALE)


def read_in_order(path, data, name):
    """As a task reads, with all the reading ahead that there is."""
    try:
        check(path.read_bytes() == data, f"WRONG BYTES in {path.name}, read in order")
    except OSError as error:
        check(error.errno in READ_ERRORS, f"{path.name}: {error}")
        check(excused(name, error.errno), f"a download would have brought {path.name}: {error}")


def spoiled(w, name):
    contents = make_files(w, "alone", "helped", "in order")
    server = w.server()
    fault = FAULTS[name]()
    fault.downloads = False
    with Relay(server.port, fault) as relay:
        m = w.mount(relay.source(), options=[f"timeout={TIMEOUT}", "prefetch=off"])
        expect(name, attempt_all(m.point / "alone", contents["alone"]), "the content that only Fetch has")
        fault.downloads = True
        errors = attempt_all(m.point / "helped", contents["helped"])
        check(all(excused(name, error) for error in errors.values()), f"a download would have brought it: {errors}")
        read_in_order(m.point / "in order", contents["in order"], name)
        check(m.daemon.running(), "the daemon lives")
        check("\x1b" not in m.daemon.output() and "\x07" not in m.daemon.output(), "control characters in the log")
        relay.fault = None
        wait_until(lambda: not any(attempt_all(m.point / "alone", contents["alone"]).values()), "all is right again")
        for path, data in contents.items():
            check((m.point / path).read_bytes() == data, f"{path} at the end")
        check(relay.streams <= 120, f"{relay.streams} streams")
        m.unmount()
        sound(m)


def register(name):
    case(f"{name}")(lambda w: spoiled(w, name))


for each_name in FAULTS:
    register(each_name)


# ---- the way itself ----

@case("connections cut in the middle, again and again: each read is right, little comes twice")
def cut(w):
    size, cuts = 24 * PIECE + 17, 12
    [data] = make_files(w, "large", size=size).values()
    rng = random.Random(3)
    with CountingProxy(w.server().port) as proxy:
        m = w.mount(f"127.0.0.1:{proxy.port}:/spider", options=["timeout=20", "prefetch=off"])
        proxy.down = 0
        for _ in range(cuts):
            proxy.cut_after(rng.randrange(1000, 2 * PIECE))
            index = rng.randrange(size // PIECE)
            equal(attempt(m.point / "large", index * PIECE, data[index * PIECE:(index + 1) * PIECE]), 0, "error of a read")
        check((m.point / "large").read_bytes() == data, "all of it")
        cut_off = proxy.cuts
        say(f"{proxy.down} bytes came for {size}, {cut_off} cuts")
        check(cut_off > 3, f"only {cut_off} cuts")
        check(proxy.down < size + (cut_off + 1) * 4 * PIECE, f"{proxy.down} bytes came for {size}")
        m.unmount()
        sound(m)


@case("the master is silent for longer than a read waits, then speaks: reads fail in time, and go on as if nothing had been")
def silence(w):
    [data] = make_files(w, "large", size=16 * PIECE).values()
    with Relay(w.server().port) as relay:
        m = w.mount(relay.source(), options=[f"timeout={TIMEOUT}", "prefetch=off"])
        equal(attempt(m.point / "large", 9 * PIECE + 99, data[9 * PIECE + 99:9 * PIECE + 199]), 0, "error of the first read")
        relay.fault = FAULTS["nothing"]()
        relay.fault.downloads = False
        errors = attempt_all(m.point / "large", data)
        equal(errors.pop(9), 0, "error of the piece that is here")
        check(set(errors.values()) <= {errno.ETIMEDOUT, errno.EHOSTUNREACH}, f"errors of the others: {errors}")
        relay.fault = None
        wait_until(lambda: not any(attempt_all(m.point / "large", data).values()), "all is right again")
        m.unmount()
        sound(m)


@case("only what is read is asked for, with the list once; what is here is not asked for again, offline neither")
def frugal(w):
    contents = make_files(w, "large", "other", size=40 * PIECE)
    data = contents["large"]
    with Relay(w.server().port) as relay:
        m = w.mount(relay.source(), options=["prefetch=off"])
        for index in (30, 7, 30, 7, 39):
            equal(attempt(m.point / "large", index * PIECE + 5, data[index * PIECE + 5:index * PIECE + 4101]), 0, "error")
        wants = [want for want in relay.wants if want[0] == "large"]
        equal(sorted((offset, length) for _, offset, length, _ in wants),
              [(index * PIECE, PIECE) for index in (7, 30, 39)], "pieces asked for")
        equal([listed for *_, listed in wants], [True, False, False], "lists asked for")
        m.unmount()
        again = w.mount(relay.source(), options=["offline"])
        for index in (30, 7, 39):
            equal(attempt(again.point / "large", index * PIECE, data[index * PIECE:(index + 1) * PIECE]), 0, "error offline")
        fails_with((errno.EHOSTUNREACH,), read_at, again.point / "large", 8 * PIECE, 10)
        fails_with((errno.EHOSTUNREACH,), read_at, again.point / "other", 0, 10)
        again.unmount()


@case("a version that changes while its pieces are read: those that came stay right, the rest is ESTALE or right")
def changing(w):
    [data] = make_files(w, "large", size=40 * PIECE).values()
    server = w.server()
    m = w.mount(server, options=[f"timeout={TIMEOUT}", "prefetch=off"])
    with open(m.point / "large", "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        equal(os.pread(f.fileno(), 100, 3 * PIECE) == data[3 * PIECE:3 * PIECE + 100], True, "a piece")
        new = random.Random("new").randbytes(40 * PIECE)
        (w.tree / "new").write_bytes(new)
        (w.tree / "new").rename(w.tree / "large")
        for index in range(40):
            try:
                got = os.pread(f.fileno(), PIECE, index * PIECE)
            except OSError as error:
                equal(error.errno, errno.ESTALE, "errno of a piece that is nowhere")
                check(index != 3, "the piece that is here is stale")
                continue
            check(got == data[index * PIECE:(index + 1) * PIECE], f"piece {index} of the file that is open")
        m.refresh()
        check((m.point / "large").read_bytes() == new, "the new one")
        equal(os.pread(f.fileno(), PIECE, 3 * PIECE) == data[3 * PIECE:4 * PIECE], True, "the piece that is here, at the end")
    m.unmount()
    sound(m, parts=1)


# ---- what the master says of itself ----

class Asking:
    """One Fetch stream to a server."""

    def __init__(self, server):
        self.client = hostile_worker.Client(f"127.0.0.1:{server.port}")
        self.requests = queue.SimpleQueue()
        call = self.client.channel.stream_stream(FETCH, request_serializer=None, response_deserializer=workspace.FetchReply.FromString)
        self.replies = call(iter(self.requests.get, None), timeout=60)
        self.id = 0

    def parts(self, path, data, name, **fields):
        """The parts that answer a want for some of the content NAME, which is DATA."""
        self.id += 1
        want = workspace.FetchWant(id=self.id, path=path, hash_algorithm=digest.PIECES, digest=name, size=len(data), **fields)
        self.requests.put(workspace.FetchRequest(spider_id="spider", wants=[want]).SerializeToString())
        found = []
        while not found or not (found[-1].last or found[-1].status):
            found += next(self.replies).parts
        equal({part.id for part in found}, {self.id}, "ids of the parts")
        return found


def joined(parts, at=0):
    """The bytes of PARTS, which follow each other from AT on."""
    data = b""
    for part in parts:
        equal(part.offset, at + len(data), "a part's offset")
        data += part.data
    return data


@case("a master's lists and pieces, against an implementation that shares no code; a list that was asked for once more; others' lists are stale")
def served(w):
    sizes = (PIECE + 1, 2 * PIECE - 1, 2 * PIECE, 2 * PIECE + 1, SIZE)
    contents = {}
    for size in sizes:
        contents |= make_files(w, f"s{size}", size=size)
    server = w.server()
    for listed in (False, True):  # before and after the master has looked at its files
        if listed:
            equal(hostile_worker.Client(f"127.0.0.1:{server.port}").scan("spider")[0], grpc.StatusCode.OK, "the scan")
        for path, data in contents.items():
            asking, name, known = Asking(server), digest.content(data), digest.pieces(data)
            for index, at, piece in pieces_of(data):
                parts = asking.parts(path, data, name, offset=at, length=len(piece), list=index != 1)
                lists, pieces = [p for p in parts if p.list], [p for p in parts if not p.list]
                equal(parts, lists + pieces, "the list comes first")
                equal(joined(lists) == (known if index != 1 else b""), True, f"the list of {path}, with piece {index}")
                equal([(p.offset, p.data == piece, p.last) for p in pieces], [(at, True, True)], f"piece {index} of {path}, in one part")
            parts = asking.parts(path, data, name, list=True)
            equal(joined([p for p in parts if p.list]) + joined([p for p in parts if not p.list]) == known + data, True, f"all of {path}")
            other = asking.parts(path, data, digest.content(data[:-1] + b"?"), offset=0, length=PIECE, list=True)
            equal([p.status for p in other if p.status], [9], "another content is stale")
            equal([p for p in other if p.data], [], "bytes beside it")


main(at_a_time=AT_A_TIME)
