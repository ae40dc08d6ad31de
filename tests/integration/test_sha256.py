"""A master that names contents by SHA-256: all that a mount does works, from the scan to eviction and repair, and nobody can forge a name."""

import hashlib
import json
import os
import struct
import sys

from harness import PEERS, SPIDER, case, check, equal, main, one_line, program, run, run_ok
from peers import hostile_master
from trees import same_snapshot, snapshot

sys.path.insert(0, str(PEERS))

from collision import pair  # noqa: E402
from digest import xxh3  # noqa: E402

PIECE = 256 << 10
SHA = ["--hash", "sha256"]


def name_of(data):
    """As docs/formats.md says it."""
    if len(data) <= PIECE:
        return "sha256:" + hashlib.sha256(data).hexdigest()
    made = b"".join(hashlib.sha256(data[at:at + PIECE]).digest() for at in range(0, len(data), PIECE))
    return "sha256p:" + hashlib.sha256(b"fsyncfs pieces 1" + struct.pack("<Q", len(data)) + made).hexdigest()


def root_of(folder):
    """The root digest, likewise: of what is on the disk."""
    def digest(path):
        data = b""
        for name in sorted(os.listdir(os.fsencode(path))):
            full = os.path.join(os.fsencode(path), name)
            st = os.lstat(full)
            if os.path.islink(full):
                kind, size, what = 3, st.st_size, (4, hashlib.sha256(os.readlink(full)).digest())
            elif os.path.isdir(full):
                kind, size, what = 2, 0, (4, digest(full))
            else:
                with open(full, "rb") as f:
                    named = name_of(f.read())
                kind, size, what = 1, st.st_size, (5 if named.startswith("sha256p") else 4, bytes.fromhex(named.split(":")[1]))
            data += struct.pack("<HBIqQB", len(name), kind, st.st_mode & 0o7777, st.st_mtime_ns, size, what[0]) + what[1] + name
        return hashlib.sha256(data).digest()
    st = os.stat(folder)
    return hashlib.sha256(struct.pack("<Iq", st.st_mode & 0o7777, st.st_mtime_ns) + digest(folder)).hexdigest()


def make(w):
    """Tiny, small and large files, an empty one, links, folders deep and empty."""
    w.tree.mkdir(parents=True)
    contents = {"tiny": b"tiny", "empty": b"", "small": os.urandom(5000), "edge": os.urandom(PIECE), "large": os.urandom(5 * PIECE + 77),
                "a/b/c/deep": os.urandom(300), "a/other": os.urandom(70000)}
    for name, data in contents.items():
        path = w.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (w.tree / "a" / "nothing").mkdir()
    (w.tree / "link").symlink_to("a/other")
    return contents


def cache(w, *words, code=0):
    done = run([program("fsyncfs"), "cache", *words, "--cache", w.path("cache"), "--json"])
    equal(done.returncode, code, f"cache {words}: {done.stderr}")
    return json.loads(done.stdout)


@case("a whole mount: names, version, reads, a delta, a remount, prefetch, pins, verify and repair")
def whole(w):
    contents = make(w)
    server = w.server(options=SHA)
    m = w.mount(server, options=["hash=sha256", "xattr"])
    equal(m.status()["hash"], "sha256", "the hash that status names")
    equal(m.version(), root_of(w.tree), "the version, as the description makes it")
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the mount")
    for name, data in contents.items():
        equal(m.point.joinpath(name).read_bytes(), data, name)
        equal(os.getxattr(m.point / name, "user.fsyncfs.hash").decode(), name_of(data), f"the name of {name}")

    large = bytearray(contents["large"])
    large[3 * PIECE + 5] ^= 1
    (w.tree / "large").write_bytes(large)
    (w.tree / "a" / "new").write_bytes(b"new")
    before, entries = m.status(), server.counter("fsyncfs_entries_sent_total")
    m.refresh()
    equal(m.version(), root_of(w.tree), "the version after a change")
    check(server.counter("fsyncfs_entries_sent_total") - entries <= 6, "only the difference came")
    equal(m.point.joinpath("large").read_bytes(), bytes(large), "the large file's new content")
    check(m.status()["fetched_bytes"] - before["fetched_bytes"] < 2 * PIECE, "one piece came, the others were taken over")
    equal(m.point.joinpath("a/new").read_bytes(), b"new", "the new file")
    m.unmount()

    full, sent = server.counter("fsyncfs_full_listings_total"), server.counter("fsyncfs_bytes_sent_total")
    m = w.mount(server, options=["hash=sha256", "prefetch=off"])
    equal(m.point.joinpath("large").read_bytes(), bytes(large), "after a remount")
    equal(server.counter("fsyncfs_full_listings_total"), full, "listings for a remount")
    equal(server.counter("fsyncfs_bytes_sent_total"), sent, "bytes of contents for a remount")

    names = {entry["hash"] for entry in cache(w, "list")}
    check(name_of(bytes(large)) in names and all(n.startswith("sha256") for n in names), f"the cache's names: {names}")
    run_ok([program("fsyncfs"), "cache", "pin", m.point / "small", name_of(bytes(large)), "--cache", m.cache])
    cache(w, "evict")
    equal({entry["hash"] for entry in cache(w, "list")} & {name_of(bytes(large)), name_of(contents["small"])},
          {name_of(bytes(large)), name_of(contents["small"])}, "what is pinned stays")
    run_ok([program("fsyncfs"), "prefetch", m.point])
    equal(m.status()["cached_files"], len(contents) + 1, "all is here after a prefetch")
    equal(cache(w, "verify")["damaged"], 0, "damage")

    blob = m.cache / "blobs" / "sha256" / name_of(contents["small"]).split(":")[1][:2] / name_of(contents["small"]).split(":")[1][2:]
    blob.chmod(0o600)
    blob.write_bytes(b"x" * 5000)
    equal(cache(w, "verify", code=1)["damaged"], 1, "damage that is found")
    m.unmount()
    m = w.mount(server, options=["hash=sha256"])
    equal(m.point.joinpath("small").read_bytes(), contents["small"], "what was damaged comes again")


@case("packs: a first version as a snapshot, and one that is restarted from")
def packs(w):
    make(w)
    for i in range(3000):
        path = w.tree / f"d{i % 30}" / f"f{i}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(str(i).encode())
    server = w.server(options=SHA)
    m = w.mount(server)
    same_snapshot(snapshot(m.point), snapshot(w.tree), "the mount")
    equal(m.version(), root_of(w.tree), "the version of a snapshot")
    equal(m.point.joinpath("d7/f37").read_bytes(), b"37", "a tiny file of it")
    server.stop()
    m.unmount()
    m = w.mount(server.source(), options=["offline", "hash=sha256"])
    equal(m.point.joinpath("d7/f37").read_bytes(), b"37", "the same without a master")


@case("another --hash: everything is hashed anew, workers go over to it and back, mounted or not")
def another_hash(w):
    contents = make(w)
    server = w.server()
    m = w.mount(server)
    for name in ("small", "large"):
        equal(m.point.joinpath(name).read_bytes(), contents[name], name)
    port, old = server.port, m.version()
    for options, length in ((SHA, 64), ([], 32)):
        server.stop()
        server = w.server(port=port, options=options)
        m.refresh()
        equal(len(m.version()), length, "digits of the version")
        check(m.version() == (root_of(w.tree) if options else old), "the version is the tree's")
        for name, data in contents.items():
            equal(m.point.joinpath(name).read_bytes(), data, name)
        other = w.mount(server)
        same_snapshot(snapshot(other.point), snapshot(w.tree), "the mount")
        equal(other.version(), m.version(), "the version of another mount")
        other.unmount()
    check({e["hash"].split(":")[0] for e in cache(w, "list")} == {"xxh3", "xxh3p", "sha256", "sha256p"}, "both kinds in one cache")
    equal(cache(w, "verify")["damaged"], 0, "damage")


@case("two contents of one XXH3-128 have two names by SHA-256, in one cache without domains")
def forged(w):
    good, evil = pair(os.urandom(1000), 1000, 2000)
    equal(xxh3(good), xxh3(evil), "two contents with one hash")
    mounts = []
    for name, data in (("attacker", evil), ("victim", good)):
        w.path(name, SPIDER).mkdir(parents=True)
        w.path(name, SPIDER, "run.py").write_bytes(data)
        mounts.append(w.mount(w.server(root=w.path(name), options=SHA)))
        equal(mounts[-1].point.joinpath("run.py").read_bytes(), data, f"the {name}'s mount")


@case("a worker that insists on SHA-256 takes nothing else: at the mount, later, offline, from a stock master")
def insists(w):
    contents = make(w)
    server = w.server()
    one_line(w.try_mount(server.source(), ["hash=sha256"]), 32, "xxh3", "sha256", "hash=", "--hash sha256")
    w.mount(server, cache="taken").unmount()
    one_line(w.try_mount(server.source(), ["hash=sha256"], cache="taken"), 32, "xxh3", "hash=")
    one_line(w.try_mount(server.source(), ["hash=sha256", "offline"], cache="taken"), 32, "sha256", "hash=")
    one_line(w.try_mount(server.source(), ["hash=md5"]), 1, "hash=md5")
    one_line(w.try_mount(hostile_master(w, "good", stock=True).source, ["hash=sha256"]), 32, "md5", "hash=")

    done = run([program("fsyncfs"), "cat", server.source(path="/small"), "-o", f"hash=sha256,cache={w.path('cache')}"])
    one_line(done, 4, "xxh3", "hash=")

    port = server.port
    server.stop()
    server = w.server(port=port, options=SHA)
    m = w.mount(server, options=["hash=sha256"])
    version = m.version()
    server.stop()
    server = w.server(port=port)
    done = run([program("fsyncfs"), "refresh", m.point])
    check(done.returncode != 0 and "hash=" in done.stderr, f"refresh from a master that names otherwise: {done.stderr}")
    equal(m.version(), version, "the version stays")
    equal(m.point.joinpath("tiny").read_bytes(), contents["tiny"], "what is here is shown")
    equal(m.point.joinpath("small").read_bytes(), contents["small"], "the master still finds it under the name it had")


@case("cat of a large file brings as much of it as is read, and a little more")
def cat_of_large(w):
    w.tree.mkdir(parents=True)
    (w.tree / "large").write_bytes(os.urandom(48 << 20))
    server = w.server(options=SHA)
    done = run(["sh", "-c", '"$1" cat "$2" -o "cache=$3" | head -c 1000 | wc -c', "sh", program("fsyncfs"), server.source(path="/large"), w.path("cache")])
    equal((done.stdout.strip(), done.stderr), ("1000", ""), "what was read")
    check(server.counter("fsyncfs_bytes_sent_total") < 40 << 20, "the rest of it stays where it is")


main()
