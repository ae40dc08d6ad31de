"""Large files over a slow link: who reads gets the first bytes first, waits for as long as something comes, and nothing comes twice."""

import os
import threading

from harness import FULL, case, check, equal, free_port, main, wait_until
import peers  # noqa: F401 (tests/peers on the path)
from counting_proxy import CountingProxy

MIB = 1 << 20
PIECE = 256 << 10
# Beyond what is missing: pieces that were on their way, and what the wire takes for itself.
SLACK = 8 * PIECE


def served(w, size, port=0):
    w.tree.mkdir(parents=True, exist_ok=True)
    data = os.urandom(size)
    (w.tree / "file").write_bytes(data)
    return data, w.server(port=port)


def mount(w, proxy, *options):
    return w.mount(f"127.0.0.1:{proxy.port}:/spider", options=["prefetch=off", *options])


@case("the first bytes of a large file are there before the second MiB was sent")
def first_byte(w):
    data, server = served(w, 16 * MIB)
    with CountingProxy(server.port, rate=400e3) as proxy:
        m = mount(w, proxy)
        before = proxy.down
        with open(m.point / "file", "rb", buffering=0) as f:
            got = f.read(4096)
            came = proxy.down - before
            check(got == data[:4096], "the first bytes")
        check(came < MIB, f"{came} bytes had been sent")
        proxy.rate = None
        m.unmount()


@case("a read ends only when nothing comes any more, however long it takes and whatever was asked for before")
def slow(w):
    size = 24 * MIB if FULL else 6 * MIB  # several times what comes within the time-out
    data, server = served(w, size)
    with CountingProxy(server.port) as proxy:
        m = mount(w, proxy, "timeout=2")
        proxy.rate = 600e3
        with open(m.point / "file", "rb", buffering=0) as f:
            got = b"".join(iter(lambda: f.read(MIB), b""))
        check(got == data, "the bytes")
        equal(m.status()["failed_reads"], 0, "reads that failed")
        proxy.rate = None
        m.unmount()


@case("a read of what was only asked for ahead goes before what was asked for earlier")
def overtakes(w):
    data, server = served(w, 100 * MIB)
    with CountingProxy(server.port) as proxy:
        m = mount(w, proxy)
        over, at = threading.Event(), [0]

        def read_on():
            with open(m.point / "file", "rb", buffering=0) as f:
                while not over.is_set() and (got := f.read(MIB)):
                    at[0] += len(got)
        reader = threading.Thread(target=read_on)
        reader.start()
        wait_until(lambda: at[0] >= 8 * MIB, "the window has grown")
        proxy.rate = 2e6
        came = []
        try:
            with open(m.point / "file", "rb", buffering=0) as f:
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                for _ in range(3):
                    here = m.status()["fetched_bytes"]
                    before, offset = proxy.down, here + 7 * MIB  # within the 8 MiB that are asked for ahead
                    check(os.pread(f.fileno(), 4096, offset) == data[offset:offset + 4096], f"the bytes at {offset}")
                    came.append(proxy.down - before)
        finally:
            over.set()
            proxy.rate = None
            reader.join()
        check(min(came) < 6 * MIB, f"{came} bytes came before reads of what was 7 MiB ahead")
        m.unmount()


@case("the master is killed in the middle of a large file and comes back: what had come does not come again")
def restarted(w):
    port = free_port()
    data, server = served(w, 24 * MIB, port)
    with CountingProxy(port, rate=20e6) as proxy:
        m = mount(w, proxy)
        got = []
        reader = threading.Thread(target=lambda: got.append((m.point / "file").read_bytes()))
        reader.start()
        wait_until(lambda: m.status()["fetched_bytes"] >= 8 * MIB, "some of it has come")
        server.kill()
        wait_until(lambda: m.status()["state"] == "offline", "the worker has noticed")
        w.server(port=port)
        reader.join(60)
        check(got == [data], "the bytes")
        equal(m.status()["fetched_bytes"], len(data), "bytes fetched")
        check(proxy.down <= len(data) + SLACK, f"{proxy.down} bytes came for {len(data)}")
        m.unmount()


main()
