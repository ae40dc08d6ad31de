"""Large contents as programs use them: mapped, executed, linked, sparse; the worker killed in the middle of a piece; two mounts over one cache.

What is here is not fetched again, and each byte is right. FSYNCFS_TEST_SEED repeats what is chosen at random.
"""

import ctypes.util
import hashlib
import os
import random
import shutil
import sys
import time

from harness import FULL, case, check, equal, main, program, run_ok, say
import peers  # noqa: F401 (tests/peers on the path)
from counting_proxy import CountingProxy

MIB = 1 << 20
PIECE = 256 << 10
KILLS = 100 if FULL else 20
SEED = int(os.environ.get("FSYNCFS_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
# Beyond what is missing: pieces that were on their way to the disk, once each, and what the wire takes for itself.
SLACK = 8 * PIECE

# Reads ranges of the files of a tree until it fails or SECONDS are over; what it reads must be what the master has.
READER = r'''
import os, random, sys, time
point, tree, rng, until = sys.argv[1], sys.argv[2], random.Random(int(sys.argv[3])), time.monotonic() + float(sys.argv[4])
names = sorted(os.listdir(tree))
files = [(os.open(os.path.join(tree, n), os.O_RDONLY), os.path.join(point, n)) for n in names]
while time.monotonic() < until:
    known, path = rng.choice(files)
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            at = rng.randrange(os.fstat(known).st_size)
            for _ in range(rng.choice((1, 1, 1, 20))):
                got = os.pread(fd, 200_000, at)
                if got != os.pread(known, len(got), at):
                    sys.exit(f"WRONG BYTES in {path} at {at}")
                at += len(got)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
    except OSError as error:
        print(error, flush=True)
        break
print("done", flush=True)
'''


def make_files(tree, number, size, seed=1):
    tree.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for i in range(number):
        (tree / f"f{i}").write_bytes(rng.randbytes(size + i * 1000))
    return sum(path.stat().st_size for path in tree.iterdir())


def reader(w, m, seed, seconds):
    return w.spawn([sys.executable, "-c", READER, m.point, w.tree, str(seed), str(seconds)], f"reader{seed}.log")


def right(process):
    code = process.wait(60)
    check(code == 0 and "done" in process.output(), f"a reader: {process.output().strip()[-500:]}")


def same(point, tree):
    for path in sorted(tree.iterdir()):
        with open(path, "rb") as f, open(point / path.name, "rb") as g:
            equal(hashlib.file_digest(g, "sha256").digest(), hashlib.file_digest(f, "sha256").digest(), f"sha256 of {path.name}")


def here(cache):
    """The bytes of contents on the cache's disk, whole or in part."""
    return sum(os.stat(os.path.join(folder, name)).st_blocks * 512
               for folder, _, names in os.walk(cache / "blobs") for name in names)


def sound(cache):
    """Nothing is damaged, nothing was put aside, no stray file is left. Nothing is mounted from it."""
    run_ok([program("fsyncfs"), "cache", "verify", "--cache", cache])
    equal(os.listdir(cache / "quarantine"), [], "blobs in quarantine")
    equal(os.listdir(cache / "partial"), [], "partial contents left")
    names = [name for _, _, names in os.walk(cache / "blobs") for name in names]
    equal([name for name in names if len(name) != 30], [], "files beside the blobs")


@case(f"kill -9 in the middle of pieces, {KILLS} times: what was here is not fetched again, nothing is damaged or left behind")
def killed(w):
    say(f"seed {SEED} (FSYNCFS_TEST_SEED)")
    rng = random.Random(SEED)
    total = make_files(w.tree, 3, 8 * MIB)
    resumed = 0
    with CountingProxy(w.server().port, rate=60e6) as proxy:
        source = f"127.0.0.1:{proxy.port}:/spider"
        for number in range(KILLS):
            cache = w.path(f"cache{number // 4}")  # some rounds go on with what the last kills left, some begin anew
            m = w.mount(source, cache=cache, options=["prefetch=off"], point="mnt")
            process = reader(w, m, number, 60)
            time.sleep(rng.random() * 0.2)
            m.kill()
            right(process)
            if number % 4 == 3 or number == KILLS - 1:
                left = here(cache)
                resumed += left
                m = w.mount(source, cache=cache, point="mnt")
                before = proxy.down
                same(m.point, w.tree)
                came = proxy.down - before
                say(f"{left / MIB:.1f} MiB of {total / MIB:.1f} were here, {came / MIB:.1f} came")
                check(came <= total - left + SLACK, f"{came} bytes came although {left} of {total} were here")
                m.unmount()
                sound(cache)
                shutil.rmtree(cache)
    check(resumed > PIECE, "none of the kills found anything here")


@case("two mounts over one cache, random prefixes here already: read at random, each byte right, all of it fetched about once")
def shared(w):
    say(f"seed {SEED} (FSYNCFS_TEST_SEED)")
    rng = random.Random(SEED)
    total = make_files(w.tree, 6, 3 * MIB)
    server = w.server()
    first = w.mount(server, options=["prefetch=off"])
    for path in w.tree.iterdir():
        with open(first.point / path.name, "rb") as f:
            f.read(rng.randrange(path.stat().st_size))
    first.unmount()
    mounts = [w.mount(server, options=["prefetch=off"]) for _ in range(2)]
    readers = [reader(w, m, SEED + 2 * i + j, 2) for i, m in enumerate(mounts) for j in range(2)]
    for process in readers:
        right(process)
    for m in mounts:
        same(m.point, w.tree)
    sent = server.counter("fsyncfs_bytes_sent_total")
    say(f"{sent} bytes sent for {total}")
    check(sent <= total + SLACK, f"{sent} bytes sent for {total}")
    for m in mounts:
        m.unmount()
    sound(mounts[0].cache)


@case("two mounts over one cache, one of them killed while both read the same: the other goes on with what it was at")
def survivor(w):
    say(f"seed {SEED} (FSYNCFS_TEST_SEED)")
    rng = random.Random(SEED)
    total = make_files(w.tree, 3, 4 * MIB)
    with CountingProxy(w.server().port, rate=40e6) as proxy:
        source = f"127.0.0.1:{proxy.port}:/spider"
        left = w.mount(source, options=["prefetch=off"])
        for number in range(3):
            one = w.mount(source, options=["prefetch=off"], point="killed")
            readers = [w.spawn(["cat", m.point / f"f{number}"], f"cat{number}-{i}.txt") for i, m in enumerate((one, left))]
            time.sleep(rng.random() * 0.1)
            one.kill()
            readers[0].wait()
            equal(readers[1].wait(), 0, "exit code of who reads from the other")
        same(left.point, w.tree)
        say(f"{proxy.down} bytes came for {total}")
        check(proxy.down <= total + 3 * SLACK, f"{proxy.down} bytes came for {total}")
        left.unmount()
    sound(left.cache)


# ---- programs ----

@case("mapped by several processes at a time, cold")
def mapped(w):
    make_files(w.tree, 1, 20 * MIB)
    m = w.mount(w.server())
    script = ("import hashlib, mmap, random, sys\n"
              "with open(sys.argv[1], 'rb') as f, mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as m:\n"
              "    order = list(range(0, len(m), 65536))\n"
              "    random.Random(int(sys.argv[2])).shuffle(order)\n"
              "    parts = {at: bytes(m[at:at + 65536]) for at in order}\n"
              "    print(hashlib.sha256(b''.join(parts[at] for at in sorted(parts))).hexdigest(), flush=True)\n")
    jobs = [w.spawn([sys.executable, "-c", script, m.point / "f0", str(i)], f"mapped{i}.log") for i in range(4)]
    known = hashlib.sha256((w.tree / "f0").read_bytes()).hexdigest()
    for job in jobs:
        equal(job.wait(60), 0, f"exit code ({job.output()[-300:]})")
        equal(job.output().strip(), known, "sha256 of what is mapped")


@case("a program, a shared library and a script from the mount, cold: they run as they do natively")
def executed(w):
    point = w.path("mnt")
    library = next(p for p in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib")
                   if os.path.exists(os.path.join(p, ctypes.util.find_library("crypto"))))
    w.tree.mkdir(parents=True)
    shutil.copy(os.path.join(library, ctypes.util.find_library("crypto")), w.tree / "libcrypto.so")
    shutil.copy(os.path.realpath("/usr/bin/python3"), w.tree / "python3")
    script = "import ctypes, hashlib, sys\n" \
             "lib = ctypes.CDLL(sys.argv[1])\n" \
             "lib.SHA256.restype = ctypes.POINTER(ctypes.c_ubyte * 32)\n" \
             "print(bytes(lib.SHA256(b'abc', 3, None).contents).hex(), sys.executable)\n"
    (w.tree / "script").write_text(f"#!{point}/python3\n{script}")
    (w.tree / "script").chmod(0o755)
    m = w.mount(w.server(), point="mnt")
    equal(m.point, point, "where it is mounted")
    known = hashlib.sha256(b"abc").hexdigest()
    done = run_ok([m.point / "script", m.point / "libcrypto.so"])
    equal(done.stdout.split(), [known, str(m.point / "python3")], "what the script printed")
    equal(run_ok([m.point / "python3", "-c", "import json, decimal; print(decimal.Decimal(1) / 4)"]).stdout.strip(), "0.25", "a program")
    for name in ("python3", "libcrypto.so"):
        equal((m.point / name).read_bytes() == (w.tree / name).read_bytes(), True, name)
    m.unmount()


@case("a program that runs goes on when the master has another one in its place")
def replaced_program(w):
    w.tree.mkdir(parents=True)
    shutil.copy(os.path.realpath("/usr/bin/python3"), w.tree / "python3")
    m = w.mount(w.server(), point="mnt")
    equal((m.point / "python3").read_bytes() == (w.tree / "python3").read_bytes(), True, "the program")
    script = "import os, time\n" \
             "while not os.path.exists(%r): time.sleep(0.02)\n" \
             "import decimal, json, hashlib; print(decimal.Decimal(1) / 4)\n" % str(w.path("go"))
    job = w.spawn([m.point / "python3", "-c", script], "job.log")
    (w.tree / "new").write_bytes(b"#!/bin/sh\necho another\n" + bytes(MIB))
    (w.tree / "new").chmod(0o755)
    (w.tree / "new").rename(w.tree / "python3")
    m.refresh()
    w.path("go").touch()
    equal((job.wait(), job.output().strip()), (0, "0.25"), "what it printed")
    equal(run_ok([m.point / "python3"]).stdout.strip(), "another", "the other one")
    m.unmount()


# ---- sparse files ----

@case("a sparse file of 1 GiB: holes are zeros, and only what is read is sent")
def sparse(w):
    w.tree.mkdir(parents=True)
    size, data = 1 << 30, {at: random.Random(at).randbytes(10_000) for at in (5 * MIB - 5000, 300 * MIB + 7, (1 << 30) - 10_000)}
    with open(w.tree / "sparse", "wb") as f:
        f.truncate(size)
        for at, some in data.items():
            os.pwrite(f.fileno(), some, at)
    server = w.server()
    m = w.mount(server, options=["prefetch=off"])
    equal(os.stat(m.point / "sparse").st_size, size, "its size")
    fd = os.open(m.point / "sparse", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for at, some in data.items():
        equal(os.pread(fd, 10_000, at) == some, True, f"the data at {at}")
    for at in (0, 100 * MIB, 5 * MIB - 5000 - 4096, 900 * MIB + 1):
        equal(os.pread(fd, 4096, at) == bytes(4096), True, f"the hole at {at}")
    os.close(fd)
    sent = server.counter("fsyncfs_bytes_sent_total")
    say(f"{sent} bytes sent, {here(m.cache)} bytes in the cache for {sum(map(len, data.values()))} and four reads in holes")
    check(sent < 4 * MIB, f"{sent} bytes sent")
    with open(m.point / "sparse", "rb") as f, open(w.tree / "sparse", "rb") as g:
        length = size if FULL else 40 * MIB
        for at in range(0, length, MIB):
            equal(f.read(MIB) == g.read(MIB), True, f"the MiB at {at}")
    say(f"{server.counter('fsyncfs_bytes_sent_total') - sent} bytes sent, {here(m.cache)} in the cache after {length} were read in order")
    m.unmount()
    run_ok([program("fsyncfs"), "cache", "verify", "--cache", m.cache])


main()
