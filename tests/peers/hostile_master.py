"""A master that misbehaves in one way, chosen by --mode; everything else about it is right.

    hostile_master.py --mode MODE [--stock]      (hostile_master.py --list prints the modes)

Serves the same small tree for every spider: good.txt, folder/, folder/inner.txt. With --stock it has no handshake and
none of our fields. Prints "listening on 127.0.0.1:PORT".
"""

import argparse
import concurrent.futures
import itertools
import signal
import sys
import threading
import time

import grpc

from hostile_tree import GO_DEVICE, GO_DIR, GOOD, INNER, Entries, good_digest, sync, workspace

SCAN_MODES, DOWNLOAD_MODES, FETCH_MODES = {}, {}, {}  # name: function; see scan_mode, download_mode, fetch_mode


class Answer:
    """A scan's answer before it is sent: modes change it."""

    def __init__(self, stock):
        self.make = Entries(stock)
        self.stock = stock
        self.entries = self.make.good_tree()
        self.total = None
        self.complete = not stock
        self.digest = good_digest()
        self.error = ""
        self.unchanged = False

    def chunks(self):
        total = len(self.entries) if self.total is None else self.total
        chunk = sync.FileScanChunk(files=self.entries, is_complete=self.complete, total_files=total, error=self.error)
        if not self.stock:
            chunk.total_entries = total
            chunk.root_digest = self.digest
            chunk.revision = 7
            chunk.unchanged = self.unchanged
        yield chunk.SerializeToString()


def scan_mode(function):
    """A misbehaviour in the listing: changes the Answer, or returns other messages (bytes) to send, or aborts."""
    SCAN_MODES[function.__name__.replace("_", "-")] = function
    return function


def adding(name, make):
    """A listing mode that is one entry too many."""
    def mode(answer, _context):
        answer.entries.extend(make(answer.make))
    SCAN_MODES[name] = mode


def changing(name, **fields):
    """A listing mode in which good.txt has other FIELDS."""
    def mode(answer, _context):
        for field, value in fields.items():
            setattr(answer.entries[-1], field, value)
    SCAN_MODES[name] = mode


adding("escape-dotdot", lambda m: [m.file(b"../evil", b"x")])
adding("escape-inside", lambda m: [m.file(b"folder/../../evil", b"x")])
adding("escape-absolute", lambda m: [m.file(b"/tmp/evil", b"x")])
adding("escape-nul", lambda m: [m.file(b"a\0b", b"x")])
adding("escape-dot", lambda m: [m.file(b"folder/./x", b"x")])
adding("empty-name", lambda m: [m.file(b"folder//x", b"x")])
adding("trailing-slash", lambda m: [m.file(b"folder/", b"x")])
adding("long-name", lambda m: [m.file(b"n" * 256, b"x")])
adding("long-path", lambda m: [m.file(b"/".join([b"d" * 250] * 20), b"x")])
adding("duplicate", lambda m: [m.file(b"good.txt", b"other")])
adding("file-and-folder", lambda m: [m.folder(b"good.txt")])
adding("file-under-file", lambda m: [m.file(b"good.txt/below", b"x")])
adding("orphan", lambda m: [m.file(b"no such folder/x", b"x")])
adding("root-is-file", lambda m: [m.file(b"", b"x")])
adding("under-symlink", lambda m: [m.symlink(b"link", b"/tmp"), m.file(b"link/evil", b"x")])
adding("huge-target", lambda m: [m.symlink(b"link", b"t" * 5000)])
adding("nul-in-target", lambda m: [m.symlink(b"link", b"a\0b")])
adding("empty-target", lambda m: [m.symlink(b"link", b"")])
changing("huge-size", file_size=2**63 - 1)
changing("negative-size", file_size=-1)
changing("device-mode", mode=0o644 | GO_DEVICE)
changing("contradictory-mode", mode=0o755 | GO_DIR)
changing("future-time", mod_time=2**62)
changing("past-time", mod_time=-(2**62))
changing("nanoseconds", mtime_nsec=10**9)
changing("unknown-kind", kind=99)
changing("short-hash", digest=b"short", hash="abcd")
changing("unknown-hash", hash_algorithm=77)


@scan_mode
def good(_answer, _context):
    """No misbehaviour: proves that the others fail for their own."""


@scan_mode
def unordered(answer, _context):
    answer.entries.reverse()


@scan_mode
def more_than_total(answer, _context):
    answer.total = 1


@scan_mode
def fewer_than_total(answer, _context):
    answer.total = 1000


@scan_mode
def endless(answer, _context):
    answer.complete = False
    first = next(answer.chunks())
    yield first
    for n in itertools.count():
        files = [answer.make.file(b"z%d-%d" % (n, i), b"x") for i in range(1000)]
        yield sync.FileScanChunk(files=files, total_files=5).SerializeToString()


@scan_mode
def wrong_digest(answer, _context):
    answer.digest = b"\xaa" * 16


@scan_mode
def short_digest(answer, _context):
    answer.digest = b"\xaa" * 3


@scan_mode
def no_digest(answer, _context):
    answer.digest = b""


@scan_mode
def unasked_unchanged(answer, _context):
    answer.entries, answer.total, answer.unchanged = [], 0, True


@scan_mode
def after_the_end(answer, _context):
    yield next(answer.chunks())
    yield next(answer.chunks())


@scan_mode
def truncated(answer, _context):
    answer.complete = False
    answer.entries, answer.total = answer.entries[:2], 4
    yield next(answer.chunks())


@scan_mode
def aborted(answer, context):
    answer.complete = False
    yield next(answer.chunks())
    context.abort(grpc.StatusCode.DATA_LOSS, "lost it")


@scan_mode
def empty_stream(_answer, _context):
    return iter(())


@scan_mode
def error_chunk(answer, _context):
    answer.entries, answer.complete = [], True
    answer.error = "no such spider\x1b[31m\nreally"


@scan_mode
def error_status(_answer, context):
    context.abort(grpc.StatusCode.INTERNAL, "broken master")


@scan_mode
def garbage(_answer, _context):
    yield b"\xff\xfe\xfd garbage \x00\x01" * 20


@scan_mode
def huge_message(_answer, _context):
    yield sync.FileScanChunk(error="e" * (16 << 20)).SerializeToString()


@scan_mode
def silent(_answer, context):
    wait_for_end(context)
    return iter(())


def wait_for_end(context):
    over = threading.Event()
    if context.add_callback(over.set):
        over.wait()


def download_mode(function):
    """A misbehaviour in a download of DATA: yields messages as bytes."""
    DOWNLOAD_MODES["download-" + function.__name__.replace("_", "-")] = function
    return function


def chunk(data, complete=False, total=None, error=""):
    return sync.FileDownloadChunk(data=data, is_complete=complete, total_bytes=total or 0, error=error).SerializeToString()


@download_mode
def wrong_bytes(data, _context):
    yield chunk(b"X" + data[1:], total=len(data))
    yield chunk(b"", True, len(data))


@download_mode
def too_short(data, _context):
    yield chunk(data[:-1], total=len(data))
    yield chunk(b"", True, len(data))


@download_mode
def too_long(data, _context):
    yield chunk(data + b"more", total=len(data))
    yield chunk(b"", True, len(data))


@download_mode
def says_more(data, _context):
    yield chunk(data[:-1], total=len(data) + 1000)
    yield chunk(b"", True, len(data) + 1000)


@download_mode
def negative_total(data, _context):
    yield chunk(data, total=-1)
    yield chunk(data[:1], True, -1)


@download_mode
def no_end(data, _context):
    yield chunk(data[:-1], total=len(data))


@download_mode
def endless_bytes(data, _context):
    while True:
        yield chunk(data, total=len(data))


@download_mode
def nothing(_data, _context):
    return iter(())


@download_mode
def error_answer(_data, _context):
    yield chunk(b"", True, error="gone\x07")


@download_mode
def failing(data, context):
    yield chunk(data[:1], total=len(data))
    context.abort(grpc.StatusCode.INTERNAL, "disk on fire")


@download_mode
def stale(_data, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "stale")


@download_mode
def malformed(_data, _context):
    yield b"\x0a\xff\xff\xff\xff\x0f"


@download_mode
def silence(_data, context):
    wait_for_end(context)
    return iter(())


@download_mode
def slow(data, _context):
    """Slow, but right: the one mode here that must succeed."""
    for i in range(0, len(data), max(1, len(data) // 5)):
        time.sleep(0.1)
        yield chunk(data[i:i + max(1, len(data) // 5)], total=len(data))
    yield chunk(b"", True, len(data))


def download_good(data, _context):
    yield chunk(data, total=len(data))
    yield chunk(b"", True, len(data))


def fetch_mode(function):
    """A misbehaviour of the Fetch stream in answering a want with DATA: yields messages as bytes. Downloads are right then."""
    FETCH_MODES["fetch-" + function.__name__.replace("_", "-")] = function
    return function


def parts(*fields):
    return workspace.FetchReply(parts=[workspace.FetchPart(**f) for f in fields]).SerializeToString()


def adding_part(name, **fields):
    """A fetch mode that answers with one message of the right part, with other FIELDS (functions of the data)."""
    def mode(want, data, _context):
        part = {"id": want.id, "data": data, "last": True}
        part.update({field: make(data) for field, make in fields.items()})
        yield parts(part)
    FETCH_MODES["fetch-" + name] = mode


adding_part("right")
adding_part("wrong-bytes", data=lambda d: b"X" + d[1:])
adding_part("too-short", data=lambda d: d[:-1])
adding_part("too-long", data=lambda d: d + b"more")
adding_part("no-data", data=lambda d: b"")
adding_part("wrong-offset", offset=lambda d: 1)
adding_part("huge-offset", offset=lambda d: 2**64 - 1)
adding_part("error", status=lambda d: 13, text=lambda d: "gone\x07")
adding_part("stale-with-data", status=lambda d: 9)
adding_part("unknown-status", status=lambda d: 2**32 - 1)


@fetch_mode
def pieces(want, data, _context):
    """Piece by piece, but right."""
    step = max(1, len(data) // 5)
    for i in range(0, len(data), step):
        yield parts({"id": want.id, "offset": i, "data": data[i:i + step], "last": i + step >= len(data)})


@fetch_mode
def pieces_wrong(want, data, _context):
    yield parts({"id": want.id, "data": data[:5]})
    yield parts({"id": want.id, "offset": 5, "data": b"X" * (len(data) - 5), "last": True})


@fetch_mode
def pieces_again(want, data, _context):
    yield parts({"id": want.id, "data": data[:5]}, {"id": want.id, "data": data[:5]})


@fetch_mode
def twice(want, data, _context):
    yield parts(*[{"id": want.id, "data": data, "last": True}] * 2)


@fetch_mode
def nobody_asked(want, data, _context):
    for i in range(1000):
        yield parts({"id": want.id + 1 + i, "data": data}, {"data": data, "last": True})
    yield parts({"id": want.id, "data": data, "last": True})


@fetch_mode
def empty_parts(want, _data, context):
    while context.is_active():
        yield parts({"id": want.id})


@fetch_mode
def malformed_message(_want, _data, _context):
    yield b"\x0a\xff\xff\xff\xff\x0f"


@fetch_mode
def broken_off(want, data, context):
    yield parts({"id": want.id, "data": data[:5]})
    context.abort(grpc.StatusCode.INTERNAL, "disk on fire")


@fetch_mode
def silence_after_a_piece(want, data, context):
    yield parts({"id": want.id, "data": data[:5]})
    wait_for_end(context)


@fetch_mode
def silence(_want, _data, context):
    wait_for_end(context)
    return iter(())


@fetch_mode
def closing(_want, _data, _context):
    return None


class HostileMaster:
    def __init__(self, mode, stock):
        self.fetch_mode = FETCH_MODES.get(mode)
        self.scan = SCAN_MODES.get(mode, good)
        self.download = DOWNLOAD_MODES.get(mode, download_good)
        self.stock = stock

    def stream_file_scan(self, _request, context):
        answer = Answer(self.stock)
        other = self.scan(answer, context)
        yield from answer.chunks() if other is None else other

    def stream_file_download(self, request, context):
        data = {"good.txt": GOOD, "folder/inner.txt": INNER}.get(request.path, b"x")
        yield from self.download(data, context)

    def fetch(self, requests, context):
        for request in requests:
            for want in request.wants:
                data = {"good.txt": GOOD, "folder/inner.txt": INNER}.get(want.path, b"x")
                answer = self.fetch_mode(want, data, context)
                if answer is None:
                    return
                yield from answer

    def handshake(self, _request, _context):
        capabilities = ["ranges", "expected-hash", *(["fetch", "pieces"] if self.fetch_mode else [])]
        return workspace.HandshakeReply(protocol=1, server_name="hostile", capabilities=capabilities).SerializeToString()

    def handlers(self):
        raw = bytes  # answers are bytes already: they need not be well-formed
        yield grpc.method_handlers_generic_handler("grpc.SyncService", {
            "StreamFileScan": grpc.unary_stream_rpc_method_handler(
                self.stream_file_scan, sync.FileSyncRequest.FromString, raw),
            "StreamFileDownload": grpc.unary_stream_rpc_method_handler(
                self.stream_file_download, sync.FileDownloadRequest.FromString, raw)})
        if not self.stock:
            own = {"Handshake": grpc.unary_unary_rpc_method_handler(
                self.handshake, workspace.HandshakeRequest.FromString, raw)}
            if self.fetch_mode:
                own["Fetch"] = grpc.stream_stream_rpc_method_handler(self.fetch, workspace.FetchRequest.FromString, raw)
            yield grpc.method_handlers_generic_handler("fsyncfs.v1.Workspace", own)


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", default="good", choices=sorted({**SCAN_MODES, **DOWNLOAD_MODES, **FETCH_MODES}))
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        print("\n".join([*SCAN_MODES, *DOWNLOAD_MODES, *FETCH_MODES]))
        return
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), options=[("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers(tuple(HostileMaster(args.mode, args.stock).handlers()))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop(0)
    sys.exit(0)


if __name__ == "__main__":
    main()
