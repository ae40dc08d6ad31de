"""Several masters in SOURCE: a read goes on with the next one, the first one is returned to, and nothing goes back to an older version."""

import concurrent.futures
import errno
import os
import shutil
import signal
import socket
import threading

import grpc

from harness import SPIDER, case, check, equal, fails_with, main, one_line, wait_until
from peers import delay_proxy, master_digest
from trees import make_tree, same_snapshot, snapshot

TIMEOUT_SEC = 9  # of a read: a silent master is found out within two thirds of it
FILES, BYTES = 60, 12_000_000
RATE = "2000000"  # bytes a second of the first master: a read of all is under way for some seconds


def source(*ports):
    return ",".join(f"127.0.0.1:{port}" for port in ports) + f":/{SPIDER}"


def second(w, root=None):
    """Another master with the same tree, or with the one in ROOT."""
    return w.server(root=root or w.root, index=w.path("index2.db"))


def masters(m):
    """How `fsyncfs status` shows them: by port, the state, "used" beside that of the one in use."""
    return {int(one["address"].rpartition(":")[2]): (one["state"], "used") if one["used"] else (one["state"],)
            for one in m.status()["masters"]}


def uses(m, port):
    return masters(m)[port][-1] == "used"


def read_cold(path):
    """All of a file; the kernel keeps none of it."""
    with open(path, "rb") as f:
        data = f.read()
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return data


class Reader(threading.Thread):
    """Compares every file of a mount with the master's tree, once or until .stop(); .failed: the first that went wrong."""

    def __init__(self, m, tree, once=True):
        super().__init__()
        self.mount, self.tree, self.once = m, tree, once
        self.done, self.failed, self.ended = 0, None, threading.Event()
        self.start()

    def run(self):
        try:
            while not self.ended.is_set():
                for path in sorted(p for p in self.tree.rglob("*.bin")):
                    here = self.mount.point / path.relative_to(self.tree)
                    check(read_cold(here) == path.read_bytes(), f"wrong bytes in {here}")
                    self.done += 1
                    if self.ended.is_set():
                        return
                if self.once:
                    return
        except BaseException as error:  # for the case to raise
            self.failed = error

    def finish(self, timeout=60):
        self.join(timeout)
        check(not self.is_alive(), f"the reader hangs after {self.done} files")
        if self.failed:
            raise self.failed
        return self.done

    def stop(self):
        self.ended.set()
        return self.finish()


def read_and_lose(w, lose):
    """A mount of two masters, all of it being read from the first, which is lost in the middle by LOSE(server, proxy): (mount, ports)."""
    make_tree(w.tree, FILES, BYTES)
    first, other = w.server(), second(w)
    proxy = delay_proxy(w, first.port, "--rate", RATE)
    m = w.mount(source(proxy.port, other.port), options=[f"timeout={TIMEOUT_SEC}", "prefetch=off"])
    reader = Reader(m, w.tree)
    wait_until(lambda: reader.done >= 5, "some files are read")
    check(reader.done < FILES, f"the reader is in the middle: {reader.done} files")
    equal(other.counter("fsyncfs_bytes_sent_total"), 0, "bytes that the second master sent before")
    lose(first, proxy)
    equal(reader.finish(), FILES, "files read")
    check(other.counter("fsyncfs_bytes_sent_total") > BYTES / 2, "the second master sent the rest")
    equal(masters(m), {proxy.port: ("away",), other.port: ("well", "used")}, "the masters")
    equal(m.status()["failed_reads"], 0, "reads that failed")
    return m


@case("a master that is killed in mid-read is replaced by the next one, and no read fails")
def killed(w):
    def lose(first, proxy):
        proxy.kill()  # not after the master: without it the proxy would be there, and of no use
        first.kill()
    read_and_lose(w, lose)


@case("so is one that falls silent")
def silent(w):
    read_and_lose(w, lambda first, proxy: first.signal(signal.SIGSTOP))


class Refusing:
    """A relay to PORT that answers UNAVAILABLE to everything but the handshake as soon as .refuses is set."""

    def __init__(self, port):
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0), ("grpc.use_local_subchannel_pool", 1)]
        self.refuses = threading.Event()
        self.calls = []
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), options=options)
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, call):
        return grpc.stream_stream_rpc_method_handler(lambda requests, context: self._carry(call.method, requests, context))

    def _carry(self, method, requests, context):
        if self.refuses.is_set() and not method.endswith("/Handshake"):
            context.abort(grpc.StatusCode.UNAVAILABLE, "not today")
        stream = self._channel.stream_stream(method)(requests)
        context.add_callback(stream.cancel)
        self.calls.append(stream)
        try:
            yield from stream
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())

    def refuse(self):
        self.refuses.set()
        for call in self.calls:
            call.cancel()

    def close(self):
        self._server.stop(0)
        self._channel.close()


@case("so is one that is there, and yet answers UNAVAILABLE to whatever it is asked")
def unavailable(w):
    make_tree(w.tree, 20, 1_000_000)
    first, other = w.server(), second(w)
    relay = Refusing(first.port)
    try:
        m = w.mount(source(relay.port, other.port), options=[f"timeout={TIMEOUT_SEC}", "prefetch=off"])
        equal(masters(m)[relay.port], ("well", "used"), "the first master")
        relay.refuse()
        equal(Reader(m, w.tree).finish(), 20, "files read")
        wait_until(lambda: uses(m, other.port), "the second master is used")
        equal(m.status()["failed_reads"], 0, "reads that failed")
    finally:
        relay.close()


@case("the first master is returned to when it is well again, its pushes too, and no read of that time fails")
def returned_to(w):
    make_tree(w.tree, FILES, BYTES)
    first, other = w.server(), second(w)
    m = w.mount(source(first.port, other.port), options=["refresh=push", "quota=6M", "prefetch=off"])
    wait_until(lambda: m.status()["watching"], "it listens")
    port, index = first.port, first.index
    reader = Reader(m, w.tree, once=False)
    first.kill()
    wait_until(lambda: uses(m, other.port) and m.status()["watching"], "the second master is used, and pushes")
    (w.tree / "new1").write_text("x" * 300)
    wait_until(lambda: (m.point / "new1").exists(), "what the second master pushes shows")
    first = w.server(port=port, index=index)
    wait_until(lambda: uses(m, port), "the first master is used again", 60)
    wait_until(lambda: first.counter("fsyncfs_bytes_sent_total") > 0, "contents come from it")
    other.kill()  # nothing may depend on it any more
    wait_until(lambda: m.status()["watching"], "it pushes again")
    (w.tree / "new2").write_text("y" * 300)
    wait_until(lambda: (m.point / "new2").exists(), "what the first master pushes shows")
    check(reader.stop() > FILES, "the reader has come round")
    equal(m.status()["failed_reads"], 0, "reads that failed")
    wait_until(lambda: m.version() == master_digest(first), "both ends have the same tree")


@case("a master that stands in and is behind takes nothing back: what it has is read, what only the first has waits for that")
def behind(w):
    make_tree(w.tree, 10, 100_000)
    old = w.path("old")
    shutil.copytree(w.tree, old / SPIDER, copy_function=shutil.copy2)
    shutil.copystat(w.tree, old / SPIDER)
    first, other = w.server(), second(w, root=old)
    m = w.mount(source(first.port, other.port), options=["timeout=2", "prefetch=off"])
    equal(m.version(), master_digest(other), "both begin with the same version")
    (w.tree / "new.bin").write_bytes(b"n" * 1000)
    m.refresh()
    newer = m.version()
    check(newer != master_digest(other), "the first one has gone on")
    port, index = first.port, first.index
    first.kill()
    fails_with((errno.ETIMEDOUT, errno.EHOSTUNREACH), (m.point / "new.bin").read_bytes)
    wait_until(lambda: uses(m, other.port), "the second master is used")
    names = sorted(p.name for p in w.tree.rglob("f*.bin"))
    equal(len(names), 10, "files that both have")
    for path in w.tree.rglob("f*.bin"):
        equal((m.point / path.relative_to(w.tree)).read_bytes(), path.read_bytes(), f"{path.name}, which both have")
    equal(m.version(), newer, "the version")
    check("older version" in m.daemon.output(), "the log says what the second master has")
    (old / SPIDER / "other.bin").write_bytes(b"o" * 1000)
    m.refresh()
    equal(m.version(), master_digest(other), "a version that was never here is taken")
    w.server(port=port, index=index)
    wait_until(lambda: uses(m, port), "the first master is used again", 60)
    m.refresh()
    equal(m.version(), newer, "the first master's version is always taken")
    equal((m.point / "new.bin").read_bytes(), b"n" * 1000, "what only the first has")


@case("a master whose name is not known is told as that beside the one in use")
def nameless(w):
    make_tree(w.tree, 5, 1000)
    server = w.server()
    m = w.mount(f"127.0.0.1:{server.port},nowhere.invalid:/{SPIDER}")
    away = wait_until(lambda: (one := m.status()["masters"][1])["state"] == "away" and one, "the second master is asked for")
    check(away["error"].startswith("is not found: no address for 'nowhere.invalid'"), f"what status says of it: {away}")


@case("a mount whose first master is away uses the second; one whose masters are all away says what is wrong with the first")
def mount_without_first(w):
    make_tree(w.tree, 5, 10_000)
    other = second(w)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        gone = nobody.getsockname()[1]
        m = w.mount(source(gone, other.port))
        same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
        equal(masters(m), {gone: ("away",), other.port: ("well", "used")}, "the masters")
        m.unmount()
        other.kill()
        one_line(w.try_mount(source(gone, other.port), cache="cache2"), 32, f"127.0.0.1:{gone}", "cannot connect")


main(at_a_time=4)  # they wait for time-outs
