"""The list learned from earlier runs, and siblings: a program's second start finds its files here; hostile reports harm nobody."""

import concurrent.futures
import random
import sys
import threading
import time

import grpc

from harness import case, check, equal, main, program as built, run_ok, wait_until
import peers
import hostile_worker
from pyprogram import make_program
from trees import make_tree, same_snapshot, snapshot

Code = grpc.StatusCode
workspace = hostile_worker.workspace
PATHS_MAX = 4096
LEARNED_WAIT = 1.1  # between two merges into one list


def start(m):
    """Runs the program from the mount, as a task does."""
    return run_ok([sys.executable, "-B", "-E", "-S", m.point / "main.py"]).stdout


def reports(server):
    return server.counter("fsyncfs_reports_total")


def list_files(w):
    return list(w.path("index.db").glob("*/learned"))


class Worker(hostile_worker.Client):
    def __init__(self, server):
        super().__init__(f"127.0.0.1:{server.port}")

    def learned(self, path="", spider="spider", **fields):
        request = workspace.LearnedRequest(spider_id=spider, path=path, node_key="test", **fields)
        code, answers = self.call(hostile_worker.LEARNED, request)
        return code, [p.decode(errors="surrogateescape") for a in answers for p in a.paths]

    def report(self, paths, path="", spider="spider", **fields):
        data = [p if isinstance(p, bytes) else p.encode() for p in paths]
        request = workspace.AccessReport(spider_id=spider, path=path, node_key="test", paths=data, **fields)
        return self.call(hostile_worker.REPORT, request)[0]


@case("a program started with the list: nearly all its files are here, or on their way, before they are read")
def program(w):
    expected, files = make_program(w.tree)
    server = w.server()
    equal(Worker(server).learned(), (Code.OK, []), "the list of what nobody has mounted yet")
    proxy = peers.delay_proxy(w, server.port, "--delay-ms", "25")
    m = w.mount(proxy.source, cache="first")
    equal(start(m), expected, "what the program prints at its first start ever")
    first = m.status()
    check(first["sibling_files"] > 100, f"siblings brought: {first['sibling_files']}")
    check(first["failed_reads"] == 0 and first["learned_files"] == 0, "no failure, no list")
    m.unmount()
    equal(reports(server), 1, "reports")
    code, paths = Worker(server).learned()
    check(len(paths) >= files * 0.9, f"{len(paths)} of {files} files on the list, {code}")
    equal(paths[0], "main.py", "the first file of all")
    m = w.mount(proxy.source, cache="second")
    equal(start(m), expected, "what it prints with the list")
    status = m.status()
    alone = status["misses"] - status["learned_joined"]
    check(status["learned_files"] >= files * 0.9, f"files on the list: {status['learned_files']}")
    check(status["learned_fetched"] >= files * 0.8, f"brought by the list: {status['learned_fetched']}")
    check(alone <= files * 0.1, f"{alone} of {files} reads had to ask by themselves ({status})")
    equal((status["failed_reads"], status["fetched_files"] <= files), (0, True), "failures; nothing came twice")
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
    m.unmount()
    check("learned list:" in m.daemon.output(), "the log says what the list was good for")


@case("the list survives a restart of the server; a damaged one is begun anew; a mounted folder has its part")
def persistence(w):
    make_tree(w.tree, 300, 600_000)
    server = w.server()
    m = w.mount(server, cache="one")
    names = ["d0002/f000250.bin", "d0000/f000007.bin", "d0002/f000201.bin", "d0001/f000133.bin"]
    for name in names:
        (m.point / name).read_bytes()
    m.unmount()
    equal(Worker(server).learned(), (Code.OK, names), "the list")
    equal(Worker(server).learned("d0002"), (Code.OK, ["f000250.bin", "f000201.bin"]), "a folder's part of it")
    equal(Worker(server).learned(names[0]), (Code.OK, []), "what lies in a file")
    server.stop()
    server = w.server()
    m = w.mount(server.source(path="/d0002"), cache="two")
    wait_until(lambda: m.status()["learned_fetched"] == 2, "two files of the list in the folder brought")
    (m.point / "f000201.bin").read_bytes()
    wait_until(lambda: m.status()["learned_hits"] == 1, "one of them read")
    time.sleep(LEARNED_WAIT)
    m.unmount()
    check("1 hits" in m.daemon.output() and "1 wasted" in m.daemon.output(), "the log tells hits and waste")
    code, paths = Worker(server).learned()
    equal((code, sorted(paths)), (Code.OK, sorted(names)), "the list after a report of the folder alone")
    equal(len(list_files(w)), 1, "files of lists")
    list_files(w)[0].write_bytes(b"fsyncfs-learned 1\n1000 0 ../../etc/passwd\n")
    equal(Worker(server).learned(), (Code.OK, []), "a damaged list")
    time.sleep(LEARNED_WAIT)
    equal(Worker(server).report(["d0000/f000001.bin"]), Code.OK, "a report after that")
    equal(Worker(server).learned(), (Code.OK, ["d0000/f000001.bin"]), "the list begun anew")
    check(server.running() and "is damaged" in server.output(), "the server says so")


@case("off is off: nothing asked for, nothing brought, nothing reported; so is offline")
def off(w):
    make_tree(w.tree, 100, 200_000)
    server = w.server()
    m = w.mount(server, cache="on")
    (m.point / "d0000/f000003.bin").read_bytes()
    m.unmount()
    equal(reports(server), 1, "reports with it")
    time.sleep(LEARNED_WAIT)
    for cache, options in (("off", ["prefetch=off"]), ("on", ["offline"])):
        m = w.mount(server, cache=cache, options=options)
        for number in (3, 50, 20):
            if cache == "off" or number == 3:
                (m.point / f"d0000/f0000{number:02d}.bin").read_bytes()
        time.sleep(0.3)
        status = m.status()
        equal((status["learned_files"], status["learned_fetched"], status["sibling_files"]), (0, 0, 0), f"brought with {options}")
        if cache == "off":
            equal(status["fetched_files"], 3, "contents fetched")
        m.unmount()
    equal(reports(server), 1, "reports")


@case("siblings: the second small file of a folder brings the others; a large folder, large files and a reader in order do not")
def siblings(w):
    for folder, count, size in (("few", 20, 1000), ("many", 300, 1000), ("mid", 100, 1000), ("large", 3, 400_000)):
        (w.tree / folder).mkdir(parents=True)
        for i in range(count):
            (w.tree / folder / f"f{i:03d}").write_bytes(f"{folder}{i}".encode() * (size // 8))
    m = w.mount(w.server())

    def read(folder, *numbers):
        before = m.status()["fetched_files"]
        for number in numbers:
            (m.point / folder / f"f{number:03d}").read_bytes()
        time.sleep(0.4)
        return m.status()["fetched_files"] - before
    equal(read("few", 7), 1, "one file read")
    equal(read("few", 3), 19, "and a second one")
    equal(read("many", 200, 100, 50), 3, "of a folder with many files")
    equal(read("large", 2, 1), 2, "large files")
    equal(read("mid", 10, 14), 2, "a reader in order")
    equal(read("mid", 12), 98, "and no longer in order")
    equal(m.status()["sibling_files"] >= 18 + 90, True, "siblings counted")


@case("prefetch_rate bounds what a list brings, and what fsyncfs prefetch does; reads are not held up")
def rate(w):
    w.tree.mkdir(parents=True)
    for i in range(40):
        (w.tree / f"f{i:02d}").write_bytes(bytes([i]) * 50_000)
    server = w.server()
    w.mount(server, cache="none", options=["prefetch=off"]).unmount()
    equal(Worker(server).report([f"f{i:02d}" for i in range(40)]), Code.OK, "a report")
    m = w.mount(server, options=["prefetch_rate=500K"])
    time.sleep(1)
    brought = m.status()["learned_fetched"]
    check(3 <= brought <= 25, f"{brought} of 40 files brought within a second at ten a second")
    begun = time.monotonic()
    equal((m.point / "f39").read_bytes(), bytes([39]) * 50_000, "the last file")
    check(time.monotonic() - begun < 1, "a read goes before")
    begun = time.monotonic()
    run_ok([built("fsyncfs"), "prefetch", m.point / "f38"])
    wait_until(lambda: m.status()["cached_files"] == 40, "all of it in the end")
    check(time.monotonic() - begun > 0.8, "not at once")


@case("on a slow line, too, a read does not wait for what the list brings")
def slow_line(w):
    (w.tree / "want").mkdir(parents=True)
    for i in range(300):
        (w.tree / f"f{i:03d}").write_bytes(random.Random(i).randbytes(100_000))
    for i in range(5):
        (w.tree / "want" / f"f{i}").write_bytes(bytes([i]) * 300_000)
    server = w.server()
    w.mount(server, cache="none", options=["prefetch=off"]).unmount()
    equal(Worker(server).report([f"f{i:03d}" for i in range(300)]), Code.OK, "a report")
    proxy = peers.delay_proxy(w, server.port, "--delay-ms", "10", "--rate", "4000000")
    m = w.mount(proxy.source)
    time.sleep(1.5)
    took = []
    for i in range(5):
        begun = time.monotonic()
        equal((m.point / "want" / f"f{i}").read_bytes() == bytes([i]) * 300_000, True, "the bytes")
        took.append(time.monotonic() - begun)
    status = m.status()
    check(20 < status["learned_fetched"] < 290, f"the list is still being brought: {status['learned_fetched']}")
    check(sorted(took)[2] < 0.8, f"reads took {took}")


@case("hostile reports: refused or bounded, one a second merged, the server lives on")
def hostile(w):
    make_tree(w.tree, 120, 300_000)
    server = w.server()
    w.mount(server, options=["prefetch=off"]).unmount()
    worker = Worker(server)
    for path in ("..", "../x", "/etc/passwd", "a//b", "a/../b", ".", "", b"a\0b", "n" * 256, "/".join(["d" * 200] * 30)):
        equal(worker.report(["fine", path]), Code.INVALID_ARGUMENT, f"a report of {path[:40]!r}")
    equal(worker.report(["x"] * (PATHS_MAX + 1)), Code.INVALID_ARGUMENT, "too many paths")
    equal(worker.report(["x"], path="../other"), Code.INVALID_ARGUMENT, "a folder outside")
    equal(worker.report(["x"], path="a", raw_path=b"b"), Code.INVALID_ARGUMENT, "two folders")
    for spider in ("", "..", "a/b", "s" * 300):
        check(worker.report(["x"], spider=spider) in (Code.INVALID_ARGUMENT, Code.NOT_FOUND), f"spider {spider[:20]!r}")
        check(worker.learned(spider=spider) in ((Code.INVALID_ARGUMENT, []), (Code.OK, [])), f"the list of {spider[:20]!r}")
    equal(worker.report(["x"], spider="nosuch"), Code.NOT_FOUND, "a spider that does not exist")
    for method in (hostile_worker.REPORT, hostile_worker.LEARNED):
        for data in (b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", b"\x2a\x00" * 400_000, b"\x08" * 999):
            code, _ = worker.call(method, data)
            check(code in (Code.INVALID_ARGUMENT, Code.INTERNAL, Code.NOT_FOUND), f"{method} with garbage: {code}")
        check(worker.call(method, b"\x2a\x80\x80\x80\x08" + b"s" * (16 << 20))[0] == Code.RESOURCE_EXHAUSTED, "16 MiB")
    equal((list_files(w), reports(server)), ([], 0), "nothing was written")
    equal(worker.report([f"{i:04d}" + "/x" * 50 for i in range(PATHS_MAX)]), Code.OK, "as much as is allowed")
    equal(worker.report(["x"]), Code.RESOURCE_EXHAUSTED, "another one at once")
    for i in range(3):
        time.sleep(LEARNED_WAIT)
        equal(worker.report([f"{i}-{j:04d}" + "/y" * 50 for j in range(PATHS_MAX)]), Code.OK, "others a second later")
    check(list_files(w)[0].stat().st_size < 2 << 20, "the list stays bounded")
    equal(len(worker.learned()[1]), PATHS_MAX, "paths on the list")
    m = w.mount(server, cache="another")
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree, with a list of nothing that is there")
    equal(m.status()["learned_files"], 0, "files of the list")
    check(server.running(), "the server lives")


class Liar(grpc.GenericRpcHandler):
    """Passes every call on to the server at PORT, but answers Learned itself, with .answers: messages, or None: never."""

    def __init__(self, port):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        self.answers = []
        self.calls = []  # the methods, as they came
        self.hold = False  # whether the tree is kept back until the list has been asked for
        self.asked, self.ended, self.over = threading.Event(), threading.Event(), threading.Event()
        self.hidden = ()  # capabilities
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
        self.server.add_generic_rpc_handlers((self,))
        self.source = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}:/spider"
        self.server.start()

    def service(self, call):
        def carry(requests, context):
            self.calls.append(call.method)
            if self.hold and call.method == hostile_worker.SCAN:
                self.asked.wait(20)
            if call.method == hostile_worker.LEARNED:
                next(requests)
                self.asked.set()
                context.add_callback(self.ended.set)
                if self.answers is None:
                    self.over.wait(30)
                yield from self.answers or ()
                return
            far = self.channel.stream_stream(call.method)(requests, metadata=[])
            context.add_callback(far.cancel)
            try:
                for data in far:
                    yield self.hide(data) if call.method == hostile_worker.HANDSHAKE else data
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
        return grpc.stream_stream_rpc_method_handler(carry)

    def hide(self, data):
        handshake = workspace.HandshakeReply.FromString(data)
        left = [name for name in handshake.capabilities if name not in self.hidden]
        del handshake.capabilities[:]
        handshake.capabilities.extend(left)
        return handshake.SerializeToString()

    def stop(self):
        self.over.set()
        self.server.stop(0).wait()
        self.channel.close()


def reply(*paths):
    return workspace.LearnedReply(paths=[p if isinstance(p, bytes) else p.encode() for p in paths]).SerializeToString()


@case("hostile lists: nothing is trusted, the mount is right")
def lies(w):
    make_tree(w.tree, 40, 100_000)
    server = w.server()
    liar = Liar(server.port)
    good = "d0000/f000001.bin"
    bad = {
        "leads out": [reply(good, "../../etc/passwd")], "absolute": [reply(good, "/etc/passwd")], "empty": [reply(good, "")],
        "NUL": [reply(good, b"a\0b")], "too many": [reply(*["x"] * (PATHS_MAX + 1))], "garbage": [b"\xff" * 99],
        "bomb": [b"\x0a\x00" * 2_000_000], "two": [reply(good), reply(good)], "none": [], "silence": None,
    }
    for name, answers in bad.items():
        liar.answers = answers
        m = w.mount(liar.source, cache=name.replace(" ", "-"))
        time.sleep(0.3)
        equal(m.status()["learned_fetched"], 0, f"{name}: brought")
        equal((m.point / good).read_bytes(), (w.tree / good).read_bytes(), f"{name}: a file")
        begun = time.monotonic()
        m.unmount()
        check(time.monotonic() - begun < 3, f"{name}: umount is not held up")
    liar.answers = [reply("nosuch", "d0000", good, good, good + "/x", "d0000/f000002.bin")]
    m = w.mount(liar.source, cache="some")
    wait_until(lambda: m.status()["learned_fetched"] == 2, "what there is of a list is brought")
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
    m.unmount()
    liar.stop()


@case("the list is asked for before the tree has come; not with prefetch=off, nor from a master without it; contents only after the tree")
def early(w):
    make_tree(w.tree, 40, 100_000)
    server = w.server()
    good = "d0000/f000001.bin"
    for name, hold, hidden, options in (("on", True, (), []), ("off", False, (), ["prefetch=off"]), ("without", False, ("learned",), [])):
        liar = Liar(server.port)
        liar.answers, liar.hold, liar.hidden = [reply(good)], hold, hidden
        m = w.mount(liar.source, cache=name, options=options)
        if hold:
            check(liar.asked.is_set(), "the list was asked for while the tree was held back")
            equal(liar.calls[0], hostile_worker.HANDSHAKE, "the first call")
            wait_until(lambda: m.status()["learned_fetched"] == 1, "the file on the list")
            order = [liar.calls.index(method) for method in (hostile_worker.LEARNED, hostile_worker.SCAN, hostile_worker.FETCH)]
            check(max(order[:2]) < order[2], f"no content before the list and the tree: {liar.calls}")
        else:
            check(hostile_worker.FETCH not in liar.calls, f"{name}: no content was asked for: {liar.calls}")
        equal((m.point / good).read_bytes(), (w.tree / good).read_bytes(), f"{name}: a file")
        m.unmount()
        equal(liar.calls.count(hostile_worker.LEARNED), int(hold), f"{name}: lists asked for")
        liar.stop()


@case("a mount that fails, or succeeds, while the master is silent about the list is not held up, and asks no longer")
def silent(w):
    make_tree(w.tree, 5, 1000)
    server = w.server()
    for spider, status in (("nosuch", 32), ("spider", 0)):
        liar = Liar(server.port)
        liar.answers, liar.hold = None, True
        done = w.try_mount(liar.source.replace("/spider", f"/{spider}"), cache=spider)
        equal(done.returncode, status, f"mount of {spider}: {done.stderr}")
        check(liar.asked.is_set(), "the list was asked for")
        if status == 0:
            check(not liar.ended.is_set(), "it is still being asked for")
            run_ok(["umount", w.path("mnt")])
        check(liar.ended.wait(10) and not liar.over.is_set(), "and no longer")
        liar.stop()


@case("a master that vanishes: umount is not held up by the report")
def vanished(w):
    make_tree(w.tree, 50, 100_000)
    server = w.server()
    m = w.mount(server)
    (m.point / "d0000/f000003.bin").read_bytes()
    server.signal(19)  # SIGSTOP: it is there, and says nothing
    begun = time.monotonic()
    m.unmount()
    took = time.monotonic() - begun
    server.signal(18)
    check(took < 3, f"umount with a silent master took {took:.1f} s")


main()
