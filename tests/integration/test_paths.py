"""Paths that attack: by requests, by a master's listing, by what lies in the workspace, and while it is being changed.

Outside lie canaries. Their bytes and hashes are in no answer, whatever is asked; and nobody has read or changed them: their access times, older
than their modification times, would show it on any file system that keeps them.
"""

import contextlib
import ctypes
import hashlib
import os
import socket
import threading

import grpc

from harness import FULL, case, check, equal, main, one_line, program, run, run_ok, say, skip, wait_until
from peers import hostile_own
import attacks
import digest
import hostile_worker
from hostile_worker import DOWNLOAD, FETCH, LEARNED, LIST_FOLDER, REPORT, SCAN, SYNC, WATCH, sync, workspace

Code = grpc.StatusCode
REFUSED = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.PERMISSION_DENIED}
SECRET = b"canary: what lies outside of a workspace\n" * 20
NAMES = [SECRET[:40], digest.content(SECRET), hashlib.md5(SECRET).hexdigest().encode()]
EXCHANGE = 2  # renameat2(2)
libc = ctypes.CDLL(None, use_errno=True)


class Outside:
    """Canaries around the workspace, that must stay as they are and unread."""

    def __init__(self, w):
        self.files = [w.path("secret"), w.root / "secret", w.root / "other/secret", w.path("outside/file"), w.path("outside/d/inner")]
        w.tree.mkdir(parents=True)
        (w.tree / "d").mkdir()
        (w.tree / "d/inner").write_bytes(b"inside\n")
        for path in self.files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(SECRET)
        self.folders = {path.parent for path in self.files} - {w.dir}
        self.age()
        self.files[0].read_bytes()
        if os.lstat(self.files[0]).st_atime_ns == 10**18:
            say("this file system keeps no access times: that nobody reads what lies outside is not seen by them")
        self.age()
        self.before = self.look()

    def age(self):
        for path in self.files:
            os.utime(path, ns=(10**18, 2 * 10**18))

    def look(self):
        files = [(os.lstat(p).st_atime_ns, os.lstat(p).st_mtime_ns, os.lstat(p).st_size, os.lstat(p).st_mode) for p in self.files]
        return files, [sorted(os.listdir(f)) for f in sorted(self.folders)]

    def check(self, what):
        equal(self.look(), self.before, f"what lies outside, after {what}")


def silent(answers, what):
    """No canary in what was said."""
    said = b"".join(a if isinstance(a, bytes) else a.SerializeToString() for a in answers)
    for name in NAMES:
        check(name not in said, f"{what}: a canary's bytes or hash")


def field(number, data):
    """A field of bytes as it is on the wire, whatever they are."""
    length, head = len(data), bytes([number << 3 | 2])
    while True:
        head += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
        length >>= 7
        if not length:
            return head + data


def want(**fields):
    """Of a canary, by its right hash."""
    return workspace.FetchWant(id=1, hash_algorithm=1, digest=digest.content(SECRET), size=len(SECRET), **fields)


def requests(path):
    """(what, method, message): PATH asked for in every way that there is."""
    expected = {"hash_algorithm": 1, "digest": digest.content(SECRET)}
    for own in (1, 0):
        scan = sync.FileSyncRequest(spider_id="spider", fsyncfs_protocol=own).SerializeToString() + field(2, path)
        yield f"scan, own={own}", SCAN, scan
        yield f"sync, own={own}", SYNC, scan
        for more in ({}, expected):
            ask = sync.FileDownloadRequest(spider_id="spider", fsyncfs_protocol=own, **more)
            yield f"download, own={own}, {len(more)}", DOWNLOAD, ask.SerializeToString() + field(2, path)
    ask = sync.FileDownloadRequest(spider_id="spider", fsyncfs_protocol=1, raw_path=path)
    yield "download by raw_path", DOWNLOAD, ask.SerializeToString()
    yield "watch", WATCH, sync.FileSyncRequest(spider_id="spider", fsyncfs_protocol=1).SerializeToString() + field(2, path)
    for spider in (False, True):  # in the spider's place, too
        yield "fetch", FETCH, (field(1, path) if spider else field(1, b"spider")) + workspace.FetchRequest(
            wants=[want(path="d/inner") if spider else want(raw_path=path)]).SerializeToString()
        yield "folder", LIST_FOLDER, (field(1, path) if spider else field(1, b"spider") + field(2, path)) + workspace.FolderRequest(
            digest=b"d" * 16).SerializeToString()
        yield "report", REPORT, (field(1, path) if spider else field(1, b"spider") + field(2, path)) + field(5, b"d/inner")
        yield "learned", LEARNED, field(1, path) if spider else field(1, b"spider") + field(2, path)
    yield "reported", REPORT, field(1, b"spider") + field(5, path)
    yield "spider", SCAN, field(1, path) + sync.FileSyncRequest(fsyncfs_protocol=1).SerializeToString()
    yield "spider's download", DOWNLOAD, field(1, path) + field(2, b"secret")


def ask(client, method, message):
    """(status, what was said, as bytes): of calls without an end the beginning."""
    if method == WATCH:
        code, answer = client.first(method, message)
        return code or Code.OK, [answer] if answer else []
    if method not in (SYNC, FETCH):
        return client.call(method, message)
    call = client.channel.stream_stream(method, request_serializer=None, response_deserializer=None)
    answers = []
    try:
        for data in call(iter([message]), timeout=hostile_worker.DEADLINE_SEC):
            answers.append(data)
    except grpc.RpcError as error:
        return error.code(), answers
    return Code.OK, answers


def has_data(method, answers):
    parsed = [hostile_worker.REPLIES[method].FromString(a) if isinstance(a, bytes) else a for a in answers]
    return any(getattr(a, "data", b"") or getattr(a, "files", ()) or any(p.data for p in getattr(a, "parts", ())) for a in parsed)


@case("every path of the table, by every method: nothing outside is named, read or told")
def by_request(w):
    outside = Outside(w)
    server = w.server()
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    n = 0
    for path in attacks.BAD + attacks.GOOD:
        for what, method, message in requests(path):
            code, answers = ask(client, method, message)
            what = f"{what} of {path[:60]!r}"
            silent(answers, what)
            check(code in REFUSED | {Code.OK, Code.RESOURCE_EXHAUSTED, Code.OUT_OF_RANGE}, f"{what}: {code}")
            stock_root = path == b"." and "own=0" in what  # what stock workers call it
            check(path not in attacks.BAD or stock_root or not has_data(method, answers), f"{what}: it was answered")
            n += 1
    outside.check(f"{n} requests")
    code, chunks = client.scan("spider")
    equal((code, sorted(f.path for c in chunks for f in c.files)), (Code.OK, ["", "d", "d/inner"]), "the tree afterwards")
    learned = client.call(LEARNED, workspace.LearnedRequest(spider_id="spider"))[1]
    check(not {bytes(p) for a in learned for p in a.paths} & set(attacks.BAD), "a bad path was learned")


@case("a master whose listings name bad paths: each is refused, the tree stays, nothing is written outside")
def by_listing(w):
    master = hostile_own(w, "paths-bad")
    m = w.mount(master.source, options=["timeout=3"])
    before = sorted(os.listdir(m.point))
    outside = sorted(os.listdir(w.dir)), sorted(os.listdir(m.cache))
    for i in range(len(attacks.BAD)):
        done = run([program("fsyncfs"), "refresh", m.point])
        one_line(done, 1)
        check("lead out" in done.stderr or "too long" in done.stderr, f"{i}: {done.stderr}")
        equal(sorted(os.listdir(m.point)), before, f"the tree after path {i}")
    equal((sorted(os.listdir(w.dir)), sorted(os.listdir(m.cache))), outside, "what lies around")
    m.unmount()


@case("odd names are names: all of them, as they are, with their bytes")
def odd_names(w):
    outside, files = Outside(w), {}
    for i, path in enumerate(attacks.GOOD):
        full = os.path.join(os.fsencode(w.tree), path)
        if len(full) > 4000:
            continue
        with contextlib.suppress(OSError):  # a file is where a folder would be
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "xb") as f:
                f.write(b"%d\n" % i)
            files[path] = b"%d\n" % i
    check(len(files) > len(attacks.GOOD) * 8 // 10, f"{len(files)} names can be made here")
    m = w.mount(w.server())
    point = os.fsencode(m.point)
    for path, content in files.items():
        with open(os.path.join(point, path), "rb") as f:
            equal(f.read(), content, f"the content of {path[:60]!r}")
    shown = {os.path.relpath(os.path.join(folder, f), point) for folder, _, names in os.walk(point) for f in names}
    equal(shown, set(files) | {b"d/inner"}, "all names")
    check("\x1b" not in m.daemon.output(), "control characters in the log")
    m.unmount()
    outside.check("a mount of odd names")


def link_all(w):
    """Links that lead out, in every way: {path in the workspace: target}."""
    links = {"absolute": w.path("secret"), "up": "../../secret", "sibling": "../other/secret", "folder": w.path("outside"), "chain": "up",
             "root": f"/proc/self/root{w.path('secret')}", "thread": f"/proc/thread-self/root{w.path('secret')}",
             "one": f"/proc/1/root{w.path('secret')}", "cwd": "/proc/self/cwd", "exe": "/proc/self/exe", "loop": "loop", "loop-a": "loop-b",
             "loop-b": "loop-a", "up-folder": "../../outside", "slash": "/", "dots": "..", "d/dots": "../../../outside/d",
             "long": "d/../" * 800 + "../../secret", **{f"fd{n}": f"/proc/self/fd/{n}" for n in range(3, 40)}}
    for path, target in links.items():
        (w.tree / path).symlink_to(target)
    return links


@case("links that lead out, through /proc, round and round: shown to own workers as links, never followed out")
def links(w):
    outside = Outside(w)
    led = link_all(w)
    (w.tree / "within").symlink_to("d/inner")
    server = w.server()
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    for own in (True, False):
        code, chunks = client.scan("spider", own=own)
        equal(code, Code.OK, "a scan")
        silent(chunks, f"a scan, own={own}")
        names = {f.path for c in chunks for f in c.files} - {"", "."}
        equal(names, {"d", "d/inner", "within"} | (set(led) if own else set()), f"what is listed, own={own}")
    for path in led:
        for below in ("", *(() if path[:2] == "fd" else ("/file", "/secret", "/outside/file", "/etc/passwd"))):
            for what, method, message in requests(f"{path}{below}".encode()):
                if method not in (DOWNLOAD, FETCH):
                    continue
                code, answers = ask(client, method, message)
                silent(answers, f"{what} of {path}{below}")
                check("spider" in what or not has_data(method, answers), f"{what} of {path}{below}: it was answered")
    outside.check("links")


@case("fifos, sockets and devices are no files; a hard link is one; what is mounted in a workspace belongs to it")
def special(w):
    outside = Outside(w)
    os.mkfifo(w.tree / "fifo")
    os.mknod(w.tree / "zero", 0o20666, os.makedev(1, 5))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(w.tree / "socket"))
    w.path("shared").mkdir()
    w.path("shared/file").write_bytes(b"shared\n")
    os.link(w.path("shared/file"), w.tree / "hard")
    (w.tree / "mounted").mkdir()
    server = w.server()
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    for path in ("fifo", "zero", "socket"):
        for what, method, message in requests(path.encode()):
            if "spider" not in what and method in (DOWNLOAD, FETCH):
                check(not has_data(method, ask(client, method, message)[1]), f"{what} of {path}")
    if run(["mount", "--bind", w.path("shared"), w.tree / "mounted"]).returncode != 0:
        skip("no right to mount --bind")
    try:
        for own in (True, False):
            code, chunks = client.scan("spider", own=own)
            equal({f.path for c in chunks for f in c.files} - {"", "."}, {"d", "d/inner", "hard", "mounted", "mounted/file"}, "files")
            for path in ("hard", "mounted/file"):
                code, answers = client.download("spider", path, own=own)
                equal((code, b"".join(a.data for a in answers)), (Code.OK, b"shared\n"), f"{path}, own={own}")
            silent(client.download("spider", "mounted/../../secret", own=own)[1], "from the mount upwards")
    finally:
        run_ok(["umount", w.tree / "mounted"])
    outside.check("special files")


class Swapper:
    """Exchanges what is inside with links that lead out, as fast as it can."""

    def __init__(self, w):
        self.pairs, self.swaps, self.end = [], 0, threading.Event()
        for name in ("s", "deep/a/s"):
            (w.tree / name).mkdir(parents=True)
            (w.tree / name / "file").write_bytes(b"inside\n")
            self.pair(w.tree / name, w.path("outside"))
        (w.tree / "f").write_bytes(b"inside\n")
        self.pair(w.tree / "f", w.path("secret"))
        (w.tree / "absolute").write_bytes(b"inside\n")
        self.pair(w.tree / "absolute", f"/proc/self/root{w.path('secret')}")
        self.thread = threading.Thread(target=self.run)

    def pair(self, path, target):
        other = path.with_name(path.name + "-out")
        other.symlink_to(target)
        self.pairs.append((os.fsencode(path), os.fsencode(other)))

    def run(self):
        while not self.end.is_set():
            for a, b in self.pairs:
                if libc.renameat2(-100, a, -100, b, EXCHANGE) != 0:
                    return
                self.swaps += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()


RACED = ["s/file", "s-out/file", "deep/a/s/file", "f", "f-out", "absolute", "absolute-out"]


@case("folders and files exchanged with links that lead out, thousands of times, while everything is listed and downloaded: never a canary")
def race(w):
    outside = Outside(w)
    server = w.server(options=["--scan-ttl", "0"])
    client = hostile_worker.Client(f"127.0.0.1:{server.port}")
    m = w.mount(server, options=["timeout=5"])
    served = refused = turns = 0
    with Swapper(w) as swapper:
        wait_until(lambda: swapper.swaps > 10 or not swapper.thread.is_alive(), "the first exchanges")
        check(swapper.thread.is_alive(), "renameat2 works here")
        while turns < (400 if FULL else 12) or swapper.swaps < 5000 or not (served and refused):
            turns += 1
            for own in (True, False):
                silent(client.scan("spider", own=own)[1], f"a scan, own={own}")
            for path in RACED:
                for what, method, message in requests(path.encode()):
                    if "spider" in what or method not in (DOWNLOAD, FETCH):
                        continue
                    code, answers = ask(client, method, message)
                    silent(answers, f"{what} of {path}")
                    got = code == Code.OK and has_data(method, answers)
                    served, refused = served + got, refused + (not got)
            if turns % 4 == 0:
                run([program("fsyncfs"), "refresh", m.point])
            for name in ("s", "f", "absolute"):
                if not os.path.islink(m.point / name):  # that would lead out here as well
                    with contextlib.suppress(OSError):
                        equal((m.point / name / "file" if name == "s" else m.point / name).read_bytes(), b"inside\n", name)
    say(f"{swapper.swaps} exchanges, {served} answers, {refused} refusals")
    for root, _, files in os.walk(m.cache):
        for f in files:
            with open(os.path.join(root, f), "rb") as blob:
                check(SECRET[:40] not in blob.read(), f"a canary in the cache: {f}")
    m.unmount()
    outside.check("the race")


main()
