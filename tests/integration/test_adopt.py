"""Large files come by pieces: the first byte before the last piece, and of a new version only what differs from the one that is here."""

import errno
import json
import os
import time

from harness import case, check, equal, fails_with, main, program, run_ok, wait_until

PIECE = 256 << 10
MIB = 1 << 20


def bytes_sent(server):
    return server.counter("fsyncfs_bytes_sent_total")


def write(w, data, name="file"):
    """As a master's programs do: a new file in the place of the old one."""
    w.tree.mkdir(parents=True, exist_ok=True)
    (w.tree / ".new").write_bytes(data)
    (w.tree / ".new").rename(w.tree / name)


def mounted(w, data, **options):
    """A server whose only file holds DATA, and a mount of it."""
    write(w, data)
    server = w.server()
    return server, w.mount(server, **options)


def read_whole(m, data, name="file"):
    check((m.point / name).read_bytes() == data, f"the bytes of {name}")
    wait_until(lambda: m.status()["cached_files"] == 1, "all of it is in the store")


def changed(w, change, pieces, size=40 * MIB + 12345):
    """The file is here, CHANGE makes another one of it: no more than PIECES of its pieces are sent."""
    data = os.urandom(size)
    server, m = mounted(w, data)
    read_whole(m, data)
    data = change(data)
    write(w, data)
    m.refresh()
    sent, before = bytes_sent(server), m.status()
    read_whole(m, data)
    sent, after = bytes_sent(server) - sent, m.status()
    lists = (len(data) // PIECE + 1) * 16 + 4096
    check(sent <= pieces * PIECE + lists, f"{sent} bytes sent for {pieces} pieces")
    check(after["fetched_bytes"] - before["fetched_bytes"] <= pieces * PIECE, "bytes fetched")
    equal(after["fetched_bytes"] - before["fetched_bytes"] + after["adopted_bytes"] - before["adopted_bytes"], len(data),
          "bytes fetched and taken over")
    m.unmount()


@case("1 MiB in the middle changes: those pieces come, the others are taken over")
def middle(w):
    at = 20 * MIB + 1000
    changed(w, lambda data: data[:at] + os.urandom(MIB) + data[at + MIB:], 5)


@case("a file grows at its end, or loses some: the last pieces come")
def ends(w):
    changed(w, lambda data: data + os.urandom(MIB), 6)


@case("a shorter file: its last piece comes")
def shorter(w):
    changed(w, lambda data: data[:30 * MIB + 5], 1)


@case("nothing in common: everything comes, and is right")
def all_new(w):
    changed(w, lambda data: os.urandom(len(data)), 1000, size=5 * MIB)


@case("what is taken over is right after a remount, too, and the version before can still be read by who has it open")
def both_versions(w):
    old = os.urandom(20 * MIB)
    server, m = mounted(w, old)
    read_whole(m, old)
    with open(m.point / "file", "rb") as f:
        new = old[:10 * MIB] + b"changed" + old[10 * MIB + 7:]
        write(w, new)
        m.refresh()
        check((m.point / "file").read_bytes() == new, "the new version")
        check(f.read() == old, "the old version")
    m.unmount()
    sent = bytes_sent(server)
    m = w.mount(server)
    check((m.point / "file").read_bytes() == new, "the new version after a remount")
    check(bytes_sent(server) - sent < 1000, "nothing is fetched again")
    m.unmount()


@case("a version that nobody has seen before a remount takes over what is here")
def over_a_remount(w):
    old = os.urandom(20 * MIB)
    server, m = mounted(w, old)
    read_whole(m, old)
    m.unmount()
    new = old[:10 * MIB] + b"changed" + old[10 * MIB + 7:]
    write(w, new)
    m = w.mount(server)
    sent = bytes_sent(server)
    check((m.point / "file").read_bytes() == new, "the new version")
    check(bytes_sent(server) - sent <= 2 * PIECE, "bytes sent")
    m.unmount()


@case("a read in the middle of a large file brings its piece, and who jumps about no more than that")
def jumps(w):
    data = os.urandom(64 * MIB)
    server, m = mounted(w, data)
    with open(m.point / "file", "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for i in range(20):
            at = (i * 7 + 3) % 20 * 3 * MIB + 4096
            check(os.pread(f.fileno(), 4096, at) == data[at:at + 4096], f"the bytes at {at}")
    check(m.status()["fetched_bytes"] <= 20 * PIECE, f"{m.status()['fetched_bytes']} bytes fetched for 20 pieces")
    m.unmount()


@case("pieces that are here are read while the master is away; the others fail in time")
def away(w):
    data = os.urandom(64 * MIB)
    server, m = mounted(w, data, options=["timeout=2"])
    with open(m.point / "file", "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        check(os.pread(f.fileno(), 4096, 32 * MIB) == data[32 * MIB:32 * MIB + 4096], "a piece")
        server.kill()
        began = time.monotonic()
        fails_with((errno.EHOSTUNREACH, errno.ETIMEDOUT), os.pread, f.fileno(), 4096, 0)
        check(time.monotonic() - began < 30, "in time")
        at = 32 * MIB + PIECE - 4096
        check(os.pread(f.fileno(), 4096, at) == data[at:at + 4096], "another part of the piece that is here")
    m.unmount()


def entry_of(m, name="file"):
    return json.loads(run_ok([program("fsyncfs"), "stat", m.point / name, "--json"]).stdout)


@case("of a file that is partly here it can be seen how much")
def percent(w):
    _server, m = mounted(w, os.urandom(64 * MIB), options=["xattr", "prefetch=off"])
    equal((entry_of(m)["cached"], m.status()["cached_bytes"]), (0, 0), "before it is read")
    with open(m.point / "file", "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for i in range(64):
            os.pread(f.fileno(), 4096, i * MIB + MIB // 2)  # a piece of each MiB: a quarter of all
    wait_until(lambda: m.status()["cached_bytes"] == 16 * MIB, "a quarter is here")
    equal(m.status()["cached_files"], 0, "files that are whole")
    equal(entry_of(m)["cached"], 25, "what stat says")
    equal(os.getxattr(m.point / "file", "user.fsyncfs.cached"), b"25", "the attribute")
    here = json.loads(run_ok([program("fsyncfs"), "cache", "stat", "--cache", m.cache, "--json"]).stdout)
    equal(here["partials"], 1, "contents not all of which is here")
    check(16 * MIB <= here["partial_bytes"] < 17 * MIB, f"{here['partial_bytes']} bytes of such")
    check((m.point / "file").read_bytes() == (w.tree / "file").read_bytes(), "all of it")
    wait_until(lambda: entry_of(m)["cached"] == 100, "all of it is here")
    equal(m.status()["cached_bytes"], 64 * MIB, "bytes that are here")
    m.unmount()


@case("who has read on for a while has all of the file, though the master has another one by now")
def replaced_in_the_middle(w):
    old, new = os.urandom(40 * MIB), os.urandom(40 * MIB)
    _server, m = mounted(w, old, options=["prefetch=off"])
    with open(m.point / "file", "rb", buffering=0) as f:
        got = b"".join(f.read(MIB) for _ in range(10))
        wait_until(lambda: m.status()["cached_files"] == 1, "the rest comes by itself")
        write(w, new)
        m.refresh()
        check(got + f.read() == old, "the file that was opened")
    check((m.point / "file").read_bytes() == new, "the new one")
    m.unmount()


@case("two mounts of one cache read the same file at the same time: it is sent once")
def shared(w):
    data = os.urandom(40 * MIB)
    write(w, data)
    server = w.server()
    mounts = [w.mount(server), w.mount(server)]
    readers = [w.spawn(["cmp", m.point / "file", w.tree / "file"], f"cmp{i}.log") for i, m in enumerate(mounts)]
    equal([reader.wait() for reader in readers], [0, 0], "the bytes that both read")
    check(bytes_sent(server) <= len(data) + 4 * MIB, f"{bytes_sent(server)} bytes sent for {len(data)}")
    for m in mounts:
        m.unmount()


main()
