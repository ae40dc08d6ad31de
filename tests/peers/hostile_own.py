"""A master of our own kind that misbehaves in one way, chosen by --mode, in what only our own two ends speak.

    hostile_own.py --mode MODE      (hostile_own.py --list prints the modes)

Serves two versions of a small tree (FIRST, then SECOND) as packs, differences, pushes, single folders and over Fetch. Prints
"listening on 127.0.0.1:PORT", then a line for each call: "scan", "watch", "folder PATH", "fetch" or "download PATH". The modes are in
hostile_listings.py (what answers a scan), hostile_pushes.py (Watch, ListFolder), hostile_contents.py (Fetch) and hostile_paths.py.
"""

import argparse
import concurrent.futures
import os
import signal
import sys
import threading
import time

import grpc

import digest
import packs
from hostile_tree import Version, info, sync, workspace

LARGE = bytes(range(256)) * (4 << 10) + b"a megabyte"
TREE = {b"a": None, b"a/one": b"1\n", b"a/two": b"22\n", b"b": None, b"b/deep": None, b"b/deep/x": b"xx\n",
        b"good.txt": b"good content\n"}
FIRST = Version({**TREE, b"large": LARGE}, 10)
SECOND = Version({**TREE, b"large": LARGE, b"new": b"new\n", b"a/two": b"changed\n"}, 11)
# What leads from FIRST to SECOND.
STEP = [e for e in SECOND.entries() if e.path in (b"new", b"a/two")]

MODES = {}  # name: dict of the methods of Master that it replaces
CAPABILITIES = ["ranges", "expected-hash", "unchanged", "delta", "packs", "watch", "fetch", "pieces"]
HEARTBEAT = sync.FileScanChunk().SerializeToString()


def mode(name, **methods):
    MODES[name] = methods


def chunk(version, entries=(), plain=(), **fields):
    """A message of VERSION's listing; ENTRIES go into a pack, PLAIN ones as they are."""
    base = {"root_digest": version.digest, "revision": version.revision, "strategy": 1 if plain else 3}
    if entries:
        base["pack"] = packs.encode(entries)
    return sync.FileScanChunk(files=[info(e) for e in plain], **{**base, **fields}).SerializeToString()


def snapshot(version, first=0, **fields):
    """All of VERSION, a pack for each folder, each 100 bytes of the transfer long; without the packs before FIRST."""
    groups = version.groups()
    for i in range(first, len(groups)):
        yield chunk(version, groups[i], offset=i * 100, next_offset=(i + 1) * 100, **fields)


def ending(version, **fields):
    return chunk(version, **{"is_complete": True, **fields})


def whole(version):
    """A right answer that is everything, in plain entries."""
    yield chunk(version, plain=version.entries())
    yield ending(version, strategy=1)


def difference(version=SECOND, entries=None, **fields):
    """From FIRST to SECOND."""
    fields = {"base_revision": FIRST.revision, "strategy": 1, **fields}
    yield chunk(version, plain=STEP if entries is None else entries, **{"is_complete": True, **fields})


def wait_for_end(context):
    over = threading.Event()
    if context.add_callback(over.set):
        over.wait()


def heartbeats(context, pause=0.2):
    while context.is_active():
        yield HEARTBEAT
        time.sleep(pause)


def part(want_id, data=b"", **fields):
    return workspace.FetchPart(id=want_id, data=data, **fields)


def reply(*parts):
    return workspace.FetchReply(parts=parts).SerializeToString()


def asked_for(want, data):
    """Of the content DATA the bytes that WANT is for."""
    return data[want.offset:want.offset + want.length if want.length else len(data)]


def listing(want, data):
    """The messages with the list of the content DATA, if WANT asks for it."""
    if want.list:
        yield reply(part(want.id, digest.pieces(data), list=True))


class Master:
    """Right in everything; a mode replaces methods."""

    def __init__(self):
        self.scans = self.watches = 0
        self.lock = threading.Lock()

    def scan(self, request, context):
        """The first call is for FIRST, those after for SECOND, to who has FIRST as the difference."""
        if self.scans == 1:
            yield from snapshot(FIRST)
            yield ending(FIRST)
        else:
            yield from self.second(request, context)

    def second(self, request, _context):
        if request.known_digest == SECOND.digest:
            yield ending(SECOND, unchanged=True)
        elif request.known_digest == FIRST.digest and self.difference_once():
            yield from self.step()
        else:
            yield from whole(SECOND)

    def difference_once(self):
        return True

    def step(self):
        return difference()

    def watch(self, request, context):
        known = {v.digest: v for v in (FIRST, SECOND)}.get(request.known_digest)
        yield ending(known, unchanged=True) if known else chunk(FIRST, notice=True)
        yield from self.push(request, context)

    def push(self, _request, context):
        wait_for_end(context)
        return iter(())

    def folder(self, path, _context):
        children = FIRST.children(path)
        yield chunk(FIRST, children, is_complete=True)

    def content(self, name):
        """The bytes whose digest is NAME."""
        return next((data for v in (FIRST, SECOND) for data in v.contents.values() if data and digest.content(data) == name), b"?")

    def want(self, want, _context):
        """The messages that answer WANT."""
        data = asked_for(want, self.content(want.digest))
        yield from listing(want, self.content(want.digest))
        for at in range(0, len(data), 128 << 10):
            piece = data[at:at + (128 << 10)]
            yield reply(part(want.id, piece, offset=want.offset + at, last=at + len(piece) == len(data)))

    def fetch(self, requests, context):
        for request in requests:
            for want in request.wants:
                yield from self.want(want, context)

    def download(self, name, offset, length, _context):
        data = self.content(name)
        some = data[offset:offset + length if length else len(data)]
        yield sync.FileDownloadChunk(data=some, total_bytes=len(data)).SerializeToString()
        yield sync.FileDownloadChunk(is_complete=True, total_bytes=len(data)).SerializeToString()


class Service:
    """MASTER as gRPC methods; notes the calls."""

    def __init__(self, master):
        self.master = master

    def note(self, *words):
        with self.master.lock:
            print(f"{time.monotonic():.3f}", *words, flush=True)

    def scan(self, request, context):
        self.master.scans += 1
        self.note("scan", "for a difference" if request.known_digest else "for everything",
                  f"from {request.resume_offset}" if request.resume_offset else "")
        yield from self.master.scan(request, context)

    def watch(self, request, context):
        self.master.watches += 1
        self.note("watch")
        yield from self.master.watch(request, context)

    def folder(self, request, context):
        self.note("folder", request.path)
        yield from self.master.folder(request.path.encode(), context)

    def fetch(self, requests, context):
        self.note("fetch")
        yield from self.master.fetch(requests, context)

    def download(self, request, context):
        self.note("download", request.path)
        yield from self.master.download(request.digest, request.offset, request.length, context)

    def handshake(self, _request, _context):
        return workspace.HandshakeReply(protocol=1, server_name="hostile", capabilities=CAPABILITIES).SerializeToString()

    def handlers(self):
        raw = bytes  # answers are bytes already: they need not be well-formed
        yield grpc.method_handlers_generic_handler("grpc.SyncService", {
            "StreamFileScan": grpc.unary_stream_rpc_method_handler(self.scan, sync.FileSyncRequest.FromString, raw),
            "StreamFileDownload": grpc.unary_stream_rpc_method_handler(
                self.download, sync.FileDownloadRequest.FromString, raw)})
        yield grpc.method_handlers_generic_handler("fsyncfs.v1.Workspace", {
            "Handshake": grpc.unary_unary_rpc_method_handler(self.handshake, workspace.HandshakeRequest.FromString, raw),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, sync.FileSyncRequest.FromString, raw),
            "ListFolder": grpc.unary_stream_rpc_method_handler(self.folder, workspace.FolderRequest.FromString, raw),
            "Fetch": grpc.stream_stream_rpc_method_handler(self.fetch, workspace.FetchRequest.FromString, raw)})


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    import hostile_contents  # noqa: F401 (these fill MODES)
    import hostile_listings  # noqa: F401
    import hostile_paths  # noqa: F401
    import hostile_pushes  # noqa: F401
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", default="snapshot-good", choices=sorted(MODES))
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        print("\n".join(MODES))
        return
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), options=[("grpc.max_send_message_length", -1)])
    master = type("Hostile", (Master,), MODES[args.mode])()
    server.add_generic_rpc_handlers(tuple(Service(master).handlers()))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop(0)
    sys.stdout.flush()
    os._exit(0)  # threads that send for ever need not be waited for


if __name__ == "__main__":
    sys.modules["hostile_own"] = sys.modules["__main__"]  # the units of modes fill this one's MODES
    main()
