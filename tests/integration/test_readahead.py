"""Reading ahead: a walk through a tree of small files costs few requests, brings each content once, and never a wrong byte."""

import os
import random
import socket
import threading
import time
from pathlib import Path

from harness import case, check, equal, main, run, run_ok, skip, wait_until
from trees import make_tree, same_snapshot, snapshot

FILES, BYTES = 1000, 2_500_000
DROP = Path("/proc/sys/vm/drop_caches")


def tar(m):
    """What a walk through the tree reads; its bytes are looked at elsewhere."""
    run_ok(["sh", "-c", 'tar -C "$1" -cf - . | cat > /dev/null', "sh", m.point])


def requests(m):
    status = m.status()
    return status["hits"] + status["misses"]


def drop_caches():
    try:
        os.sync()
        DROP.write_text("3")
    except OSError as error:
        skip(f"{DROP}: {error}")


@case("a first walk: few requests, each content sent once, all bytes right")
def cold(w):
    make_tree(w.tree, FILES, BYTES)
    server = w.server()
    m = w.mount(server)
    tar(m)
    status = m.status()
    check(requests(m) < FILES * 0.8, f"reads that asked the daemon: {requests(m)} of {FILES}")
    check(status["prefetched_files"] > FILES * 0.2, f"files pushed: {status['prefetched_files']}")
    check(status["prefetch_hits"] <= status["prefetched_files"], "no more hits than files pushed")
    equal((status["fetched_files"], status["cached_files"], status["failed_reads"]), (FILES, FILES, 0), "fetched, cached, failed")
    equal(server.counter("fsyncfs_downloads_total"), FILES, "contents sent")
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree after it")


@case("a walk after the kernel has forgotten all: few requests, nothing fetched, all bytes right")
def forgotten(w):
    make_tree(w.tree, FILES, BYTES)
    server = w.server()
    m = w.mount(server)
    tar(m)
    sent, asked = server.counter("fsyncfs_downloads_total"), requests(m)
    drop_caches()
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")
    check(requests(m) - asked < FILES * 0.8, f"reads that asked the daemon: {requests(m) - asked} of {FILES}")
    equal(server.counter("fsyncfs_downloads_total"), sent, "contents sent")


@case("prefetch=off: every read is its own")
def off(w):
    make_tree(w.tree, 100, 250_000)
    m = w.mount(w.server(), options=["prefetch=off"])
    tar(m)
    status = m.status()
    equal((status["misses"], status["prefetched_files"]), (100, 0), "reads that asked, files pushed")


@case("who stops after a few files has a small window fetched, not the tree")
def stops(w):
    make_tree(w.tree, FILES, BYTES)
    m = w.mount(w.server())
    for name in sorted(os.listdir(m.point / "d0000"))[:4]:
        (m.point / "d0000" / name).read_bytes()
    time.sleep(0.5)
    fetched = m.status()["fetched_files"]
    check(4 <= fetched <= 60, f"{fetched} contents fetched for four reads")


@case("two mounts of one cache walk at the same time: each content is sent once")
def shared(w):
    make_tree(w.tree, FILES, BYTES)
    server = w.server()
    mounts = [w.mount(server) for _ in range(2)]
    walks = [threading.Thread(target=tar, args=(m,)) for m in mounts]
    for walk in walks:
        walk.start()
    for walk in walks:
        walk.join()
    equal(server.counter("fsyncfs_downloads_total"), FILES, "contents sent")
    for m in mounts:
        same_snapshot(snapshot(m.point), snapshot(w.tree), "the tree")


@case("versions change under a walk: every file is wholly of one version")
def versions(w):
    rng = random.Random(3)
    sizes = [rng.randrange(100, 20_000) for _ in range(300)]

    def content(i, version):
        return (f"{i:05d}.{version:05d}\n".encode() * (sizes[i] // 12 + version % 2 + 1))

    def write(i, version):
        path = w.tree / f"d{i // 50}" / f"f{i:04d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(".new").write_bytes(content(i, version))
        path.with_name(".new").rename(path)
    for i in range(300):
        write(i, 0)
    m = w.mount(w.server())
    over, wrong = threading.Event(), []

    def walk():
        while not over.is_set():
            for i in range(300):
                try:
                    data = (m.point / f"d{i // 50}" / f"f{i:04d}").read_bytes()
                except OSError:
                    continue  # the master replaced it meanwhile, and nobody had read it: an error, but no mixture
                version = int(data[6:11]) if len(data) > 11 else -1
                if data != content(i, version):
                    wrong.append((i, version))
    readers = [threading.Thread(target=walk) for _ in range(3)]
    for reader in readers:
        reader.start()
    for version in range(1, 12):
        for i in rng.sample(range(300), 100):
            write(i, version)
        m.refresh()
    over.set()
    for reader in readers:
        reader.join()
    equal(wrong[:3], [], "files that no version ever had")
    m.refresh()
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the last version")


@case("umount and a killed master in the middle of a walk")
def broken_off(w):
    make_tree(w.tree, FILES, BYTES)
    server = w.server()
    for number in range(5):
        m = w.mount(server, cache=f"cache{number}", options=["timeout=3"])
        walk = w.spawn(["tar", "-C", m.point, "-cf", w.path("out.tar"), "."], f"tar{number}.log")
        time.sleep(0.01 + number * 0.01)
        if number % 2:
            server.kill()
            time.sleep(0.5)
            walk.kill()
            server = w.server(port=server.port)
            wait_until(lambda: run(["tar", "-C", m.point, "-cf", w.path("out.tar"), "."]).returncode == 0,
                       "a whole walk once the master is back")
            same_snapshot(snapshot(m.point), snapshot(w.tree), f"the tree in round {number}")
            m.unmount()
        else:
            walk.kill()
            m.unmount()


class CutProxy:
    """Forwards connections to PORT; cuts the first that brings more than LIMIT bytes from there. .passed: bytes from there."""

    def __init__(self, port, limit):
        self.target, self.limit, self.passed, self.cut = port, limit, 0, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self._copy, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._copy, args=(far, near, True), daemon=True).start()

    def _copy(self, source, sink, counts):
        try:
            while data := source.recv(65536):
                self.passed += len(data) * counts
                if counts and not self.cut and self.passed > self.limit:
                    self.cut = True
                    break
                sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@case("a master that comes back is noticed by the first read")
def back_again(w):
    make_tree(w.tree, 20, 50_000)
    server = w.server()
    m = w.mount(server, options=["timeout=5"])
    names = sorted((m.point / "d0000").iterdir())
    names[0].read_bytes()
    server.kill()
    wait_until(lambda: m.status()["state"] == "offline", "state offline")
    w.server(port=server.port)
    wait_until(lambda: run(["cat", names[19]]).returncode == 0, "a read once the master is back")
    equal(m.status()["state"], "online", "state after it")


@case("a large content goes on where it was when the connection breaks")
def resumed(w):
    size, cut = 60_000_000, 40_000_000
    w.tree.mkdir(parents=True)
    (w.tree / "large").write_bytes(random.Random(5).randbytes(size))
    server = w.server()
    proxy = CutProxy(server.port, cut)
    m = w.mount(f"127.0.0.1:{proxy.port}:/spider")
    equal((m.point / "large").read_bytes() == (w.tree / "large").read_bytes(), True, "the bytes")
    check(proxy.cut, "the connection was cut")
    check(proxy.passed < size + cut / 2, f"sent in all: {proxy.passed}")


main()
