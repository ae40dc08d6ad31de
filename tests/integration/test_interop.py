"""Proof 6: stock masters and workers that share no code with us: @grpc/grpc-js both ways, Debian's python3-grpcio."""

import errno
import os
from pathlib import Path

import grpc

from harness import case, check, equal, main, one_line
from peers import stock_master, stock_worker
import protos
from trees import make_tree, same_snapshot, set_times, snapshot

stock = protos.load_stock()


def stock_tree(w):
    """What the stock protocol can say: UTF-8 names, files and folders, whole seconds."""
    make_tree(w.tree, 350, 6_000_000)
    (w.tree / "empty").write_bytes(b"")
    (w.tree / "empty folder").mkdir()
    (w.tree / "\u00fcml\u00e4ut \u4e2d").write_text("utf-8")
    (w.tree / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (w.tree / "run.sh").chmod(0o755)
    (w.tree / "setuid").write_text("s")
    (w.tree / "setuid").chmod(0o4755)
    for path in sorted(w.tree.rglob("*"), reverse=True):
        set_times(path, 1_650_000_000 * 10**9)
    set_times(w.tree, 1_650_000_001 * 10**9)


@case("a stock master in JavaScript, mounted by our worker")
def js_master(w):
    stock_tree(w)
    master = stock_master(w, w.root)
    m = w.mount(master.source)
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the mounted tree")
    equal(m.status()["state"], "stock", "state")
    m.unmount()
    m = w.mount(master.source)
    same_snapshot(snapshot(m.point), snapshot(w.tree), "mounted again")
    equal(m.status()["fetched_files"], 0, "contents fetched by the second mount")
    m.unmount()
    master.stop()
    check('"scans":1,' in master.output(), f"the stock master scanned once within its minute: {master.output()}")


@case("a stock master's tree changes: the delta is found by the worker itself")
def js_master_delta(w):
    stock_tree(w)
    m = w.mount(stock_master(w, w.root, "--scan-ttl", "0").source)
    tree = snapshot(m.point)
    fetched = m.status()["fetched_files"]
    (w.tree / "run.sh").write_text("#!/bin/sh\necho other\n")
    (w.tree / "setuid").unlink()
    (w.tree / "added").write_text("added")
    for name in ("run.sh", "added", "."):
        set_times(w.tree / name, 1_660_000_000 * 10**9)
    m.refresh()
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree after refresh")
    check(snapshot(m.point) != tree, "something changed")
    equal(m.status()["fetched_files"] - fetched, 2, "contents fetched for the delta")


@case("a file that changed on a stock master since its scan is never served under the old hash")
def js_master_stale(w):
    stock_tree(w)
    m = w.mount(stock_master(w, w.root, "--scan-ttl", "0").source, options=["timeout=5"])
    (w.tree / "run.sh").write_text("#!/bin/sh\necho newer\n")
    try:
        data = (m.point / "run.sh").read_bytes()
    except OSError as error:
        check(error.errno in (errno.EIO, errno.ESTALE), f"the errno: {error}")
    else:
        equal(data, b"#!/bin/sh\necho newer\n", "the bytes read")


@case("a stock master that wants a token")
def js_master_token(w):
    stock_tree(w)
    master = stock_master(w, w.root, "--token", "sesame")
    one_line(w.try_mount(master.source), 32, "token")
    w.path("token").write_text("sesame\n")
    m = w.mount(master.source, options=[f"token_file={w.path('token')}"])
    equal((m.point / "run.sh").read_text(), "#!/bin/sh\necho ran\n", "a file")


@case("an unknown spider on a stock master")
def js_master_unknown(w):
    stock_tree(w)
    one_line(w.try_mount(stock_master(w, w.root).source.replace("/spider", "/nosuch")), 32, "nosuch")


@case("a stock worker in JavaScript syncs from our server; a second sync downloads nothing")
def js_worker(w):
    stock_tree(w)
    address = f"127.0.0.1:{w.server().port}"
    copy = w.path("copy")
    files = sum(p.is_file() for p in w.tree.rglob("*"))
    first = stock_worker(address, copy)
    equal((first["downloaded"], first["listed"], first["complete"]),
          (files, len(snapshot(w.tree)), True), "files downloaded, entries listed, final marker")
    same_snapshot(snapshot(copy), snapshot(w.tree), "the copy")
    equal({k: stock_worker(address, copy)[k] for k in ("downloaded", "deleted")}, {"downloaded": 0, "deleted": 0},
          "a second sync")
    equal(stock_worker(address, copy, "--sync-files")["downloaded"], 0, "the same through SyncFiles")


@case("links for a stock worker: inside the workspace as files, others left out; odd names left out")
def js_worker_links(w):
    stock_tree(w)
    (w.tree / "inside").symlink_to("run.sh")
    (w.tree / "outside").symlink_to("/etc/passwd")
    (w.tree / "dangling").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(w.tree) + b"/not-utf8-\xff")).write_text("x")
    stock_worker(f"127.0.0.1:{w.server().port}", w.path("copy"))
    copy = w.path("copy")
    equal((copy / "inside").read_text(), (w.tree / "run.sh").read_text(), "the link inside")
    missing = [name for name in ("outside", "dangling") if os.path.lexists(copy / name)]
    equal(missing, [], "links that must be left out")
    equal([n for n in os.listdir(os.fsencode(copy)) if n.startswith(b"not-utf8")], [], "names that are not UTF-8")


def python_client(server, token=None):
    channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
    metadata = [("authorization", token)] if token else []

    def call(method, request, answer):
        stream = channel.unary_stream(f"/grpc.SyncService/{method}", request_serializer=type(request).SerializeToString,
                                      response_deserializer=answer.FromString)
        return list(stream(request, metadata=metadata, timeout=30))
    return call


@case("python3-grpcio as a stock client: the answers' shape is a stock master's")
def python_worker(w):
    stock_tree(w)
    call = python_client(w.server())
    chunks = call("StreamFileScan", stock.FileSyncRequest(spider_id="spider"), stock.FileScanChunk)
    entries = {f.path: f for chunk in chunks for f in chunk.files}
    equal(len(entries), sum(len(c.files) for c in chunks), "each entry comes once")
    equal({c.total_files for c in chunks}, {len(entries)}, "total_files in every chunk")
    equal([c.is_complete for c in chunks], [False] * (len(chunks) - 1) + [True], "is_complete")
    check(max(len(c.files) for c in chunks) == 100, "chunks of 100 entries")
    equal((entries["."].is_dir, entries["."].mode >> 31), (True, 1), "the entry of the root")
    equal(oct(entries["setuid"].mode), oct(0o755 | 1 << 23), "Go's mode bits of a setuid file")
    big = max(entries.values(), key=lambda f: f.file_size * (not f.is_dir))
    parts = call("StreamFileDownload", stock.FileDownloadRequest(spider_id="spider", path=big.path), stock.FileDownloadChunk)
    equal(b"".join(p.data for p in parts), (w.tree / big.path).read_bytes(), "a download's bytes")
    equal((parts[-1].is_complete, parts[-1].data), (True, b""), "its last chunk")
    check(max(len(p.data) for p in parts) <= 65536, "chunks of 64 KiB at most")


@case("errors towards a stock client are chunks, status OK")
def python_errors(w):
    stock_tree(w)
    call = python_client(w.server())
    [chunk] = call("StreamFileScan", stock.FileSyncRequest(spider_id="nosuch"), stock.FileScanChunk)
    check(chunk.error and chunk.is_complete, f"the scan's error chunk: {chunk}")
    [chunk] = call("StreamFileDownload", stock.FileDownloadRequest(spider_id="spider", path="nosuch"),
                   stock.FileDownloadChunk)
    check(chunk.error and chunk.is_complete, f"the download's error chunk: {chunk}")


@case("an empty workspace is the root's entry alone")
def python_empty(w):
    w.tree.mkdir(parents=True)
    [chunk] = python_client(w.server())("StreamFileScan", stock.FileSyncRequest(spider_id="spider"), stock.FileScanChunk)
    equal(([f.path for f in chunk.files], chunk.is_complete, chunk.total_files), (["."], True, 1), "the answer")


main()
