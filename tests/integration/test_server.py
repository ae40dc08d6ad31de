"""The server as an operator meets it: start, signals, tokens, listening, what it counts."""

import hashlib
import mmap
import os
import random
import signal

import grpc

from harness import SPIDER, case, check, equal, main, one_line, program, run, wait_until
import peers  # noqa: F401 (finds the next ones)
import digest
import hostile_worker
from trees import make_tree, same_snapshot, settle, snapshot

XXH3 = 1
Code = grpc.StatusCode


def start_fails(w, *words, root=None, options=()):
    done = run([program("fsyncfs-server"), "--workspace", root or w.root, "--index", w.path("other.db"), *options],
               timeout=20)
    check(done.returncode != 0, "the exit code is not 0")
    one_line(done, done.returncode, *words)


def client(w, server, token=None):
    return hostile_worker.Client(f"127.0.0.1:{server.port}", token)


@case("what cannot start says why in one line")
def cannot_start(w):
    server = w.server()
    start_fails(w, str(server.port), options=["--listen", f"127.0.0.1:{server.port}"])
    start_fails(w, "nosuch", root=w.path("nosuch"), options=["--listen", "127.0.0.1:0"])
    start_fails(w, "no-token", options=["--listen", "127.0.0.1:0", "--token-file", w.path("no-token")])
    start_fails(w, "--frobnicate", options=["--frobnicate"])
    start_fails(w, "nonsense", options=["--listen", "nonsense"])
    start_fails(w, "name is not known", options=["--listen", "no-such-host.invalid:0"])
    w.path("file").write_text("x")
    start_fails(w, "file", root=w.path("file"), options=["--listen", "127.0.0.1:0"])


@case("an index is one server's: a second one is refused and disturbs nothing; a killed one does not keep it")
def one_index(w):
    make_tree(w.tree, 3, 1000)
    first = w.server()
    mounted = w.mount(first)
    version = mounted.version()
    for index in (first.index, w.path("link")):
        if index != first.index:
            index.symlink_to(first.index)
        files = sorted(first.index.iterdir())
        done = run([program("fsyncfs-server"), "--workspace", w.root, "--listen", "127.0.0.1:0", "--index", index], timeout=20)
        one_line(done, 1, "another server", str(index), "--index")
        equal(sorted(first.index.iterdir()), files, "what is in the index's folder")
    equal(run([program("fsyncfs-server"), "fence", SPIDER, "--index", first.index, "--version", version]).returncode, 0, "a fence of the first")
    (w.tree / "new").write_text("new")
    mounted.refresh()
    first.kill()
    w.server(port=first.port, index=first.index)
    mounted.refresh()
    equal((mounted.point / "new").read_text(), "new", "what the second serves")


@case("SIGTERM and SIGINT end it with exit code 0, also with streams open")
def signals(w):
    make_tree(w.tree, 3, 60_000_000)
    for number in (signal.SIGTERM, signal.SIGINT):
        server = w.server()
        c = client(w, server)
        request = hostile_worker.sync.FileDownloadRequest(spider_id="spider", path="d0000/f000000.bin", fsyncfs_protocol=1)
        stream = c.stream(hostile_worker.DOWNLOAD, request)
        next(stream)
        server.signal(number)
        equal(server.wait(20), 0, f"exit code after {number.name}")
        c.close()


@case("several addresses, among them a unix socket; a stale one is replaced")
def listening(w):
    (w.tree / "f").parent.mkdir(parents=True)
    (w.tree / "f").write_text("over a socket")
    path = w.path("s")
    server = w.server(options=["--listen", f"unix:{path}"])
    equal((w.mount(f"unix:{path}:/spider").point / "f").read_text(), "over a socket", "through the unix socket")
    equal((w.mount(server, cache="other").point / "f").read_text(), "over a socket", "through TCP")
    start_fails(w, str(path), options=["--listen", f"unix:{path}"])
    server.kill()
    check(path.exists(), "the dead server's socket is left")
    w.server(options=["--listen", f"unix:{path}"])
    equal((w.mount(f"unix:{path}:/spider", cache="third").point / "f").read_text(), "over a socket", "after a restart")


@case("other machines are let in only with tokens, TLS, or --insecure; alone it serves this machine")
def who_may_come(w):
    (w.tree / "f").parent.mkdir(parents=True)
    token = w.path("token")
    token.write_text("secret\n")
    token.chmod(0o600)
    for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0"):
        start_fails(w, address, "--token-file", "--tls-cert", "--insecure", options=["--listen", address])
    start_fails(w, "0.0.0.0:0", options=["--listen", "127.0.0.1:0", "--listen", "0.0.0.0:0"])
    for options, says in ((["--listen", "0.0.0.0:0", "--insecure"], "can read every workspace"),
                          (["--listen", "0.0.0.0:0", "--token-file", token], "go in clear"),
                          (["--listen", "localhost:0"], None)):
        server = w.server(options=options)
        server.wait_output("ready")
        check(says is None or says in server.output(), f"{options}: {server.output()}")
        equal(server.stop(), 0, "exit code")


@case("without --listen: port 9666 of loopback, of everything with a token")
def default_address(w):
    w.tree.mkdir(parents=True)
    token = w.path("token")
    token.write_text("secret\n")
    # In a network of its own: the port may be taken in this one.
    script = 'ip link set lo up; exec "$0" "$@"'
    for number, (options, says) in enumerate((([], r"listening on 127\.0\.0\.1:9666\n.*only this machine"),
                                              (["--token-file", token], r"listening on (\[::\]|0\.0\.0\.0):9666"),
                                              (["--insecure"], r"listening on (\[::\]|0\.0\.0\.0):9666\n.*--insecure"))):
        server = w.spawn(["unshare", "-n", "sh", "-c", script, program("fsyncfs-server"), "--workspace", w.root,
                          "--index", w.path("index"), *options], f"default{number}.log")
        server.wait_output(says)
        server.wait_output("ready")
        equal(server.stop(), 0, "exit code")


@case("every call wants the token; SIGHUP reads it again")
def tokens(w):
    make_tree(w.tree, 3, 1000)
    token_file = w.path("token")
    token_file.write_text("first  \n")  # blanks at the end are nobody's
    server = w.server(options=["--token-file", token_file])
    handshake = hostile_worker.workspace.HandshakeRequest(protocol=1)
    for token in (None, "", "firs", "first1", "second", "x" * 4000):
        c = client(w, server, token)
        codes = {c.call(hostile_worker.HANDSHAKE, handshake)[0], c.scan("spider")[0], c.scan("spider", own=False)[0],
                 c.download("spider", "d0000/f000000.bin")[0], c.call("/grpc.SyncService/Nosuch", b"")[0]}
        check(codes <= {Code.UNAUTHENTICATED, Code.UNIMPLEMENTED} and Code.UNAUTHENTICATED in codes,
              f"token {token!r} gives {codes}")
    equal(client(w, server, "first").scan("spider")[0], Code.OK, "the right token")
    token_file.write_text("second \n")
    server.signal(signal.SIGHUP)
    wait_until(lambda: client(w, server, "second").scan("spider")[0] == Code.OK, "the new token is accepted")
    equal(client(w, server, "first").scan("spider")[0], Code.UNAUTHENTICATED, "the old one")
    check("first" not in server.output() and "second" not in server.output(), "no token in the log")
    mounted = w.mount(server, options=[f"token_file={token_file}"])
    same_snapshot(snapshot(mounted.point), snapshot(w.tree), "the tree mounted with the token")


@case("a mount waits for a master that hashes for longer than its time-out")
def long_hashing(w):
    w.tree.mkdir(parents=True, exist_ok=True)
    with open(w.tree / "holes", "wb") as f:
        f.truncate(5 << 30)  # no disk, but seconds of hashing
    (w.tree / "small").write_text("small")
    m = w.mount(w.server(), options=["timeout=1"])
    equal((m.point / "small").read_text(), "small", "a file")


@case("a file that is written through a mapping, without a new time stamp, is served as it is")
def mapped_writer(w):
    w.tree.mkdir(parents=True, exist_ok=True)
    with open(w.tree / "mapped", "wb+") as f:
        f.write(b"a" * 4096)
        f.flush()
        with mmap.mmap(f.fileno(), 4096) as mapping:
            mapping[:4] = b"1111"
            settle()
            m = w.mount(w.server())
            stamp = os.stat(w.tree / "mapped").st_mtime_ns
            mapping[:4] = b"2222"
            equal(os.stat(w.tree / "mapped").st_mtime_ns, stamp, "the time stamp")
            equal((m.point / "mapped").read_bytes()[:4], b"2222", "what is read")


@case("downloads by offset and length, and refused as stale when the content is another")
def ranges(w):
    w.tree.mkdir(parents=True)
    contents = {f"f{size}": random.Random(size).randbytes(size) for size in (0, 5000, 262_144, 262_145, 1_000_000)}
    for path, data in contents.items():
        (w.tree / path).write_bytes(data)
    settle()
    server = w.server()
    c = client(w, server)
    [chunk] = c.scan("spider")[1]
    files = {f.path: f for f in chunk.files}
    hashed = server.counter("fsyncfs_files_hashed_total")
    for path, data in contents.items():
        known = {"hash_algorithm": files[path].hash_algorithm, "digest": files[path].digest}
        equal(known, {"hash_algorithm": digest.algorithm(digest.KIND_FILE, len(data)), "digest": digest.content(data)}, f"name of {path}")
        for offset, length in ((0, 0), (0, 1), (1000, 70_000), (262_143, 2), (len(data) - 1, 0), (len(data), 0)):
            if not 0 <= offset <= len(data):
                continue
            code, chunks = c.download("spider", path, offset=offset, length=length, **known)
            want = data[offset:offset + length] if length else data[offset:]
            equal((code, b"".join(x.data for x in chunks) == want), (Code.OK, True), f"{length} bytes at {offset} of {path}")
        for wrong in ({"digest": b"\1" * 16}, {"hash_algorithm": 4 - known["hash_algorithm"]}):
            equal(c.download("spider", path, **{**known, **wrong})[0], Code.FAILED_PRECONDITION, f"{wrong} of {path}")
    equal(server.counter("fsyncfs_files_hashed_total") - hashed, 0, "hashed, as the listing has told what each holds")
    for path, data in list(contents.items())[1:]:
        known = {"hash_algorithm": files[path].hash_algorithm, "digest": files[path].digest}
        (w.tree / path).write_bytes(b"other" + data[5:])
        code, chunks = c.download("spider", path, **known)
        equal(code, Code.FAILED_PRECONDITION, f"the old hash of {path} after a change")
        equal(b"".join(x.data for x in chunks), b"", "bytes sent under the wrong name")


@case("a stock worker's scan is shared for a while, our own always see the present")
def scan_ttl(w):
    make_tree(w.tree, 5, 1000)
    server = w.server(options=["--watch", "off"])  # without a watcher every fresh answer takes a walk
    c = client(w, server)
    files = lambda own: sum(len(x.files) for x in c.scan("spider", own=own)[1])  # noqa: E731
    before = files(own=False)
    (w.tree / "new").write_text("new")
    equal(files(own=False), before, "entries for a stock worker within the minute")
    equal(files(own=True), before + 1, "entries for our own")
    passes = server.counter("fsyncfs_stat_passes_total")
    files(own=False)
    equal(server.counter("fsyncfs_stat_passes_total"), passes, "walks for a stock worker within the minute")
    files(own=True)
    equal(server.counter("fsyncfs_stat_passes_total"), passes + 1, "walks for our own")


@case("MD5 for stock workers, XXH3 for our own, both hashed once in a file's life")
def algorithms(w):
    make_tree(w.tree, 20, 100_000)
    want = {str(p.relative_to(w.tree)): hashlib.md5(p.read_bytes()).hexdigest() for p in w.tree.rglob("*.bin")}
    for hashed in (40, 0):  # the second time from the index of the first
        server = w.server()
        c = client(w, server)
        chunks = c.scan("spider", own=False)[1]
        equal({f.path: f.hash for x in chunks for f in x.files if not f.is_dir}, want, "MD5 of all files")
        equal(c.scan("spider")[0], Code.OK, "our own scan")
        equal(server.counter("fsyncfs_files_hashed_total"), hashed, "files hashed")
        equal(server.stop(), 0, "exit code")


@case("what changes or vanishes during scans harms nothing")
def busy_tree(w):
    make_tree(w.tree, 500, 500_000)
    server = w.server()
    churn = w.spawn(["/usr/bin/python3", "-c", r'''
import os, random, sys
rng, root = random.Random(1), sys.argv[1]
for n in range(100000):
    d = os.path.join(root, f"t{rng.randrange(20)}")
    try:
        [lambda: os.mkdir(d), lambda: os.rename(d, d + "x"), lambda: os.rmdir(d + "x"),
         lambda: open(os.path.join(d, str(n)), "w").write("x" * n), lambda: os.unlink(os.path.join(d, os.listdir(d)[0])),
         lambda: os.rmdir(d)][rng.randrange(6)]()
    except (OSError, IndexError):
        pass
    if n == 1000: print("churning", flush=True)
''', w.tree], "churn.log")
    churn.wait_output("churning")
    m = w.mount(server)
    for _ in range(10):
        m.refresh()
    churn.kill()
    m.refresh()
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree once it rests")
    check(server.running(), "the server lives")


@case("an unreadable folder is unknown, not deleted")
def unreadable(w):
    """The server runs without root's privileges; the folder's contents stay on the worker."""
    make_tree(w.tree, 50, 100_000, per_folder=10)
    for path in (w.dir, w.root, w.tree, *w.tree.rglob("*")):
        path.chmod(0o755)
    w.path("index").mkdir()
    os.chown(w.path("index"), 65534, 65534)
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    server = w.server(index=w.path("index", "index.db"), prefix=drop)
    m = w.mount(server)
    before = snapshot(m.point)
    (w.tree / "d0002").chmod(0)
    (w.tree / "d0001" / "f000010.bin").write_bytes(b"changed")
    m.refresh()
    after = snapshot(m.point)
    lost = [p for p in before if p not in after]
    equal(lost, [], "entries lost")
    equal(after[b"d0001/f000010.bin"][2], 7, "the size of the file that changed")
    (w.tree / "d0002").chmod(0o755)
    m.refresh()
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree once it is readable again")


main()
